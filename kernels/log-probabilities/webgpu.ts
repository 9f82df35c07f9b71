import { linearGrid, webgpuVariant } from '../webgpu.ts';
import { logProbabilities } from './index.ts';

/** One workgroup a row: each invocation reduces its share of the vocabulary, a tree joins the shares. */
const portable = webgpuVariant(logProbabilities, {
  name: 'portable',
  workgroupSize: [256, 1, 1],
  workgroups: ({ rows }) => linearGrid(rows, 1),
  body: /* wgsl */ `
// Below every finite logit; WGSL has no literal for infinities.
const LOWEST = -0x1.fffffep+127f;
var<workgroup> shares: array<f32, WORKGROUP_SIZE.x>;

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) { return; }
  let start = row * params.vocabulary;

  var largest = LOWEST;
  for (var v = lane; v < params.vocabulary; v += WORKGROUP_SIZE.x) { largest = max(largest, logits[start + v]); }
  shares[lane] = largest;
  workgroupBarrier();
  for (var half = WORKGROUP_SIZE.x / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shares[lane] = max(shares[lane], shares[lane + half]); }
    workgroupBarrier();
  }
  largest = shares[0];
  workgroupBarrier();

  var sum = 0.0;
  for (var v = lane; v < params.vocabulary; v += WORKGROUP_SIZE.x) { sum += exp(logits[start + v] - largest); }
  shares[lane] = sum;
  workgroupBarrier();
  for (var half = WORKGROUP_SIZE.x / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shares[lane] += shares[lane + half]; }
    workgroupBarrier();
  }
  let logSum = log(shares[0]);

  for (var pick = row * params.picks + lane; pick < (row + 1u) * params.picks; pick += WORKGROUP_SIZE.x) {
    out[pick] = logits[start + min(ids[pick], params.vocabulary - 1u)] - largest - logSum;
  }
}`,
});

export const variants = [portable];
