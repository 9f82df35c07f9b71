import { LINEAR_BUILTINS, LINEAR_INDEX, linearGrid, webgpuVariant } from '../webgpu.ts';
import { normHeads } from './index.ts';

/**
 * An invocation takes a head of a token: heads are short and many, so that none needs a workgroup to itself, and no
 * barrier, to be summed.
 */
const kernel = (step: 1 | 4) =>
  ({
    name: step === 4 ? 'vec4' : 'portable',
    constants: { STEP: step },
    workgroupSize: [64, 1, 1],
    workgroups: (
      { tokens }: { readonly tokens: number },
      { heads, keyValueHeads }: { readonly heads: number; readonly keyValueHeads: number },
    ) => linearGrid(tokens * (heads + keyValueHeads), 64),
    body: /* wgsl */ `
alias Step = ${step === 4 ? 'vec4<f32>' : 'f32'};

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let index = ${LINEAR_INDEX};
  let normed = params.heads + params.keyValueHeads;
  let token = index / normed;
  if (token >= params.tokens) { return; }
  let head = index % normed;
  let size = params.headDim / STEP;
  let start = token * (params.width / STEP) + head * size;
  var squares = Step();
  for (var i = 0u; i < size; i++) {
    let value = projections[start + i];
    squares += value * value;
  }
  let sum = ${step === 4 ? 'dot(squares, vec4<f32>(1.0))' : 'squares'};
  let scale = inverseSqrt(sum / f32(params.headDim) + params.epsilon);
  for (var i = 0u; i < size; i++) {
    projections[start + i] *= scale * select(load_keyNorm(i), load_queryNorm(i), head < params.heads);
  }
}`,
  }) as const;

const vec4 = webgpuVariant(normHeads, {
  ...kernel(4),
  fits: ({ headDim }) => headDim % 4 === 0,
  vectors: ['queryNorm', 'keyNorm', 'projections'],
});

const portable = webgpuVariant(normHeads, kernel(1));

/** In order of preference. */
export const variants = [vec4, portable];
