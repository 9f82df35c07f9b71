import type { Scalars } from '../contract.ts';
import { divideUp } from '../contract.ts';
import { webgpuVariant } from '../webgpu.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike } from './index.ts';
import { vectorQuads } from './quads.ts';

/** Outputs of a team, and teams in a workgroup. */
const outputsPerTeam = 4;
const teams = 4;

/** As `few-rows`, for one row: the next token's layers, and lm_head. */
export const oneRow = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) =>
  webgpuVariant(operation, {
    name: 'one-row',
    fits: ({ rows, inputs }) => rows === 1 && inputs % 4 === 0,
    vectors: ['x', 'weight'],
    constants: { OUTPUTS: outputsPerTeam, TEAM: 16 },
    workgroupSize: [64, 1, 1],
    workgroups: ({ block }) => [divideUp(block, teams * outputsPerTeam), 1, 1],
    body: /* wgsl */ `
${vectorQuads}
${epilogue.wgsl}
var<workgroup> shares: array<vec4<f32>, WORKGROUP_SIZE.x>; // each (outputs)

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let team = lane / TEAM;
  let column = (group.x * (WORKGROUP_SIZE.x / TEAM) + team) * OUTPUTS;
  let columns = min(vec4<u32>(0u, 1u, 2u, 3u) + column, vec4<u32>(params.block - 1u));

  var own = vec4<f32>();
  for (var i = 4u * (lane % TEAM); i < params.inputs; i += 4u * TEAM) {
    own += x_quad(0u, i) * mat4x4<f32>(
      weight_quad(columns.x, i), weight_quad(columns.y, i), weight_quad(columns.z, i), weight_quad(columns.w, i));
  }
  shares[lane] = own;
  workgroupBarrier();

  let c = 2u * (lane % TEAM);
  if (c >= OUTPUTS) { return; }
  var sums = vec2<f32>();
  for (var k = team * TEAM; k < (team + 1u) * TEAM; k++) { sums += vec2<f32>(shares[k][c], shares[k][c + 1u]); }
  write(0u, column + c, sums);
}`,
  });
