import { elementwise, LINEAR_BUILTINS, LINEAR_INDEX, webgpuVariant } from '../webgpu.ts';
import { addBias } from './index.ts';

const body = /* wgsl */ `
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let i = ${LINEAR_INDEX};
  let width = params.width / STEP;
  if (i / width >= params.rows) { return; }
  out[i] += load_bias(i % width);
}`;

const vec4 = webgpuVariant(addBias, {
  ...elementwise(4, ({ rows, width }) => rows * width),
  fits: ({ width }) => width % 4 === 0,
  vectors: ['bias', 'out'],
  body,
});

const portable = webgpuVariant(addBias, { ...elementwise(1, ({ rows, width }) => rows * width), body });

/** In order of preference. */
export const variants = [vec4, portable];
