import { linearGrid, webgpuVariant } from '../webgpu.ts';
import { normHeads } from './index.ts';

/** One workgroup a head of a token: each invocation sums its share of the squares, a tree adds the shares. */
const kernel = (step: 1 | 4) =>
  ({
    name: step === 4 ? 'vec4' : 'portable',
    constants: { STEP: step },
    workgroupSize: [32, 1, 1],
    workgroups: (
      { tokens }: { readonly tokens: number },
      { heads, keyValueHeads }: { readonly heads: number; readonly keyValueHeads: number },
    ) => linearGrid(tokens * (heads + keyValueHeads), 1),
    body: /* wgsl */ `
alias Step = ${step === 4 ? 'vec4<f32>' : 'f32'};

var<workgroup> shares: array<Step, WORKGROUP_SIZE.x>;

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = group.y * groups.x + group.x;
  let token = index / (params.heads + params.keyValueHeads);
  if (token >= params.tokens) { return; }
  let head = index % (params.heads + params.keyValueHeads);
  let size = params.headDim / STEP;
  let start = token * (params.width / STEP) + head * size;
  var squares = Step();
  for (var i = lane; i < size; i += WORKGROUP_SIZE.x) {
    let value = projections[start + i];
    squares += value * value;
  }
  shares[lane] = squares;
  workgroupBarrier();
  for (var half = WORKGROUP_SIZE.x / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shares[lane] += shares[lane + half]; }
    workgroupBarrier();
  }
  let sum = ${step === 4 ? 'dot(shares[0], vec4<f32>(1.0))' : 'shares[0]'};
  let scale = inverseSqrt(sum / f32(params.headDim) + params.epsilon);
  for (var i = lane; i < size; i += WORKGROUP_SIZE.x) {
    let weight = select(load_keyNorm(i), load_queryNorm(i), head < params.heads);
    projections[start + i] *= scale * weight;
  }
}`,
  }) as const;

export const vec4 = webgpuVariant(normHeads, {
  ...kernel(4),
  fits: ({ headDim }) => headDim % 4 === 0,
  vectors: ['queryNorm', 'keyNorm', 'projections'],
});

export const portable = webgpuVariant(normHeads, kernel(1));
