import { elementwise, LINEAR_BUILTINS, LINEAR_INDEX, webgpuVariant } from '../webgpu.ts';
import { embedding } from './index.ts';

const body = /* wgsl */ `
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let i = ${LINEAR_INDEX};
  let width = params.hidden / STEP;
  let token = i / width;
  if (token >= params.tokens) { return; }
  // Ids before the block wrap around to rows far beyond it.
  let row = ids[token] - params.firstId;
  if (row >= params.block) { return; }
  out[i] = load_table(row * width + i % width);
}`;

const vec4 = webgpuVariant(embedding, {
  ...elementwise(4, ({ tokens, hidden }) => tokens * hidden),
  fits: ({ hidden }) => hidden % 4 === 0,
  vectors: ['table', 'out'],
  body,
});

const portable = webgpuVariant(embedding, { ...elementwise(1, ({ tokens, hidden }) => tokens * hidden), body });

/** In order of preference. */
export const variants = [vec4, portable];
