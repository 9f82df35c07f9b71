import type { Dims, Scalars } from '../contract.ts';
import { divideUp } from '../contract.ts';
import { type Extent, webgpuVariant } from '../webgpu.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { scalarQuads, vectorQuads } from './quads.ts';

/** Rows and outputs of the tile that a workgroup computes. */
const tile = 64;

/**
 * 64 invocations, 8 by 8, compute a tile of 64 rows by 64 outputs; each keeps 8 by 8 sums in registers, so that every
 * number read from workgroup memory is used eight times. Both operands are staged transposed, 16 inputs at a time.
 * Lines of a tile that lie beyond the matrix repeat its last one and are not stored.
 */
const tiled = (epilogue: Epilogue, quads: string) => ({
  constants: { TILE_QUADS: tile / 4, HALF: tile / 2, DEPTH: 16, SIDE: 8 },
  workgroupSize: [64, 1, 1] as const,
  workgroups: ({ rows, block }: Dims<MatmulTensors>): Extent => [divideUp(block, tile), divideUp(rows, tile), 1],
  body: /* wgsl */ `
${quads}
${epilogue.wgsl}
var<workgroup> x_tile: array<vec4<f32>, DEPTH * TILE_QUADS>; // (inputs, rows)
var<workgroup> weight_tile: array<vec4<f32>, DEPTH * TILE_QUADS>; // (inputs, outputs)

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

// Writes the quarter of the tile that begins at (row, column), of which each invocation has four by four. It goes
// through workgroup memory, so that neighbours write what is next to each other.
fn write_quarter(row: u32, column: u32, lane: u32, sums: mat4x4<f32>) {
  let own = 4u * (lane / SIDE) * SIDE + lane % SIDE;
  workgroupBarrier();
  x_tile[own] = sums[0];
  x_tile[own + SIDE] = sums[1];
  x_tile[own + 2u * SIDE] = sums[2];
  x_tile[own + 3u * SIDE] = sums[3];
  workgroupBarrier();
  for (var at = 2u * lane; at < HALF * HALF; at += 2u * WORKGROUP_SIZE.x) {
    let quad = x_tile[at / 4u];
    write(row + at / HALF, column + at % HALF, select(quad.zw, quad.xy, at % 4u == 0u));
  }
}

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  // Each invocation stages four lines by four inputs of either operand ...
  let quad = lane / (DEPTH / 4u);
  let depth = 4u * (lane % (DEPTH / 4u));
  let lines = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad;
  let rows = min(lines + group.y * 4u * TILE_QUADS, vec4<u32>(params.rows - 1u));
  let columns = min(lines + group.x * 4u * TILE_QUADS, vec4<u32>(params.block - 1u));
  // ... and computes the rows and outputs of quads (down, down + SIDE) by (across, across + SIDE).
  let down = lane / SIDE;
  let across = lane % SIDE;
  var sums00 = mat4x4<f32>();
  var sums01 = mat4x4<f32>();
  var sums10 = mat4x4<f32>();
  var sums11 = mat4x4<f32>();

  for (var start = 0u; start < params.inputs; start += DEPTH) {
    let i = start + depth;
    let x_block = transpose(mat4x4<f32>(
      x_quad(rows.x, i), x_quad(rows.y, i), x_quad(rows.z, i), x_quad(rows.w, i)));
    let weight_block = transpose(mat4x4<f32>(
      weight_quad(columns.x, i), weight_quad(columns.y, i), weight_quad(columns.z, i), weight_quad(columns.w, i)));
    let at = depth * TILE_QUADS + quad;
    x_tile[at] = x_block[0];
    x_tile[at + TILE_QUADS] = x_block[1];
    x_tile[at + 2u * TILE_QUADS] = x_block[2];
    x_tile[at + 3u * TILE_QUADS] = x_block[3];
    weight_tile[at] = weight_block[0];
    weight_tile[at + TILE_QUADS] = weight_block[1];
    weight_tile[at + 2u * TILE_QUADS] = weight_block[2];
    weight_tile[at + 3u * TILE_QUADS] = weight_block[3];
    workgroupBarrier();

    // The bound is no constant, so compilers do not unroll: the body is long enough, and lavapipe would take seconds.
    let end = min(DEPTH, params.inputs - start) * TILE_QUADS;
    for (var k = 0u; k < end; k += TILE_QUADS) {
      let a0 = x_tile[k + down];
      let a1 = x_tile[k + down + SIDE];
      let b0 = weight_tile[k + across];
      let b1 = weight_tile[k + across + SIDE];
      sums00 += outer(a0, b0);
      sums01 += outer(a0, b1);
      sums10 += outer(a1, b0);
      sums11 += outer(a1, b1);
    }
    workgroupBarrier();
  }

  let row = group.y * 4u * TILE_QUADS;
  let column = group.x * 4u * TILE_QUADS;
  write_quarter(row, column, lane, sums00);
  write_quarter(row, column + HALF, lane, sums01);
  write_quarter(row + HALF, column, lane, sums10);
  write_quarter(row + HALF, column + HALF, lane, sums11);
}`,
});

export const portable = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) =>
  webgpuVariant(operation, { ...tiled(epilogue, scalarQuads), name: 'portable' });

export const vec4 = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) =>
  webgpuVariant(operation, {
    ...tiled(epilogue, vectorQuads),
    name: 'vec4',
    fits: ({ inputs }) => inputs % 4 === 0,
    vectors: ['x', 'weight'],
  });
