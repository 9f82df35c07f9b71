import type { Scalars } from '../contract.ts';
import { divideUp } from '../contract.ts';
import { webgpuVariant } from '../webgpu.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike } from './index.ts';
import { vectorQuads } from './quads.ts';

/** Rows that a workgroup multiplies with the weights it reads. */
const rowsAtOnce = 4;
/** Outputs of a team, and teams in a workgroup. */
const outputsPerTeam = 4;
const teams = 4;

/**
 * For so few rows that a tile would be mostly empty and reading the weights is what takes the time. A team of 16
 * invocations shares four outputs: each sums every sixteenth quad of the inputs, so that neighbours read what is next
 * to each other; the shares are joined through workgroup memory.
 */
export const fewRows = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) =>
  webgpuVariant(operation, {
    name: 'few-rows',
    fits: ({ rows, inputs }) => rows <= 16 && inputs % 4 === 0,
    vectors: ['x', 'weight'],
    constants: { ROWS: rowsAtOnce, OUTPUTS: outputsPerTeam, TEAM: 16 },
    workgroupSize: [64, 1, 1],
    workgroups: ({ rows, block }) => [divideUp(block, teams * outputsPerTeam), divideUp(rows, rowsAtOnce), 1],
    body: /* wgsl */ `
${vectorQuads}
${epilogue.wgsl}
var<workgroup> shares: array<mat4x4<f32>, WORKGROUP_SIZE.x>; // each (rows, outputs)

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let team = lane / TEAM;
  let row = group.y * ROWS;
  let column = (group.x * (WORKGROUP_SIZE.x / TEAM) + team) * OUTPUTS;
  let rows = min(vec4<u32>(0u, 1u, 2u, 3u) + row, vec4<u32>(params.rows - 1u));
  let columns = min(vec4<u32>(0u, 1u, 2u, 3u) + column, vec4<u32>(params.block - 1u));

  var own = mat4x4<f32>();
  for (var i = 4u * (lane % TEAM); i < params.inputs; i += 4u * TEAM) {
    // (outputs) as columns; a row vector times it gives the row's four products.
    let weights = mat4x4<f32>(
      weight_quad(columns.x, i), weight_quad(columns.y, i), weight_quad(columns.z, i), weight_quad(columns.w, i));
    own[0] += x_quad(rows.x, i) * weights;
    own[1] += x_quad(rows.y, i) * weights;
    own[2] += x_quad(rows.z, i) * weights;
    own[3] += x_quad(rows.w, i) * weights;
  }
  shares[lane] = own;
  workgroupBarrier();

  // Half of a team's invocations join the shares of two neighbouring outputs each.
  let r = 2u * (lane % TEAM) / OUTPUTS;
  let c = 2u * (lane % TEAM) % OUTPUTS;
  if (r >= ROWS) { return; }
  var sums = vec2<f32>();
  for (var k = team * TEAM; k < (team + 1u) * TEAM; k++) { sums += vec2<f32>(shares[k][r][c], shares[k][r][c + 1u]); }
  write(row + r, column + c, sums);
}`,
  });
