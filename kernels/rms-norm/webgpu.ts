import { linearGrid, webgpuVariant } from '../webgpu.ts';
import { rmsNorm } from './index.ts';

/** One workgroup a row: each invocation sums its share of the squares, a tree adds the shares. */
const kernel = (step: 1 | 4) =>
  ({
    name: step === 4 ? 'vec4' : 'portable',
    constants: { STEP: step },
    workgroupSize: [32, 1, 1],
    workgroups: ({ rows }: { readonly rows: number }) => linearGrid(rows, 1),
    body: /* wgsl */ `
alias Step = ${step === 4 ? 'vec4<f32>' : 'f32'};

var<workgroup> shares: array<Step, WORKGROUP_SIZE.x>;

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) { return; }
  let width = params.hidden / STEP;
  let start = row * width;
  var squares = Step();
  for (var i = lane; i < width; i += WORKGROUP_SIZE.x) {
    let value = load_x(start + i);
    squares += value * value;
  }
  shares[lane] = squares;
  workgroupBarrier();
  for (var half = WORKGROUP_SIZE.x / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shares[lane] += shares[lane + half]; }
    workgroupBarrier();
  }
  let sum = ${step === 4 ? 'dot(shares[0], vec4<f32>(1.0))' : 'shares[0]'};
  let scale = inverseSqrt(sum / f32(params.hidden) + params.epsilon);
  for (var i = lane; i < width; i += WORKGROUP_SIZE.x) {
    out[start + i] = load_x(start + i) * scale * load_weight(i);
  }
}`,
  }) as const;

const vec4 = webgpuVariant(rmsNorm, {
  ...kernel(4),
  fits: ({ hidden }) => hidden % 4 === 0,
  vectors: ['x', 'weight', 'out'],
});

const portable = webgpuVariant(rmsNorm, kernel(1));

/** In order of preference. */
export const variants = [vec4, portable];
