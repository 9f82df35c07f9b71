import { elementwise, LINEAR_BUILTINS, LINEAR_INDEX, webgpuVariant } from '../webgpu.ts';
import { gatherRows } from './index.ts';

const body = /* wgsl */ `
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let i = ${LINEAR_INDEX};
  let width = params.width / STEP;
  let pick = i / width;
  if (pick >= params.picks) { return; }
  let row = min(rows[pick], params.tokens - 1u);
  out[i] = x[row * width + i % width];
}`;

const vec4 = webgpuVariant(gatherRows, {
  ...elementwise(4, ({ picks, width }) => picks * width),
  fits: ({ width }) => width % 4 === 0,
  vectors: ['x', 'out'],
  body,
});

const portable = webgpuVariant(gatherRows, { ...elementwise(1, ({ picks, width }) => picks * width), body });

/** In order of preference. */
export const variants = [vec4, portable];
