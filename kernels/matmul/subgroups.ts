import type { Scalars } from '../contract.ts';
import { divideUp, webgpuVariant } from '../webgpu.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike } from './index.ts';
import { vectorQuads } from './quads.ts';

/** Rows and outputs of the tile that a workgroup computes. */
const tileRows = 16;
const tileOutputs = 128;

/**
 * 32 invocations compute 16 rows by 128 outputs, four neighbouring outputs each. Weights go from storage straight into
 * registers; of x, four neighbours in a subgroup each read another row and pass it on: no workgroup memory, no barrier.
 * WebGPU's subgroups have at least four invocations, so this serves every width.
 */
export const subgroups = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) =>
  webgpuVariant(operation, {
    name: 'subgroups',
    needs: ['subgroups'],
    fits: ({ inputs }) => inputs % 4 === 0,
    vectors: ['x', 'weight'],
    constants: { TILE_ROWS: tileRows, TILE_OUTPUTS: tileOutputs },
    workgroupSize: [32, 1, 1],
    workgroups: ({ rows, block }) => [divideUp(block, tileOutputs), divideUp(rows, tileRows), 1],
    body: /* wgsl */ `
${vectorQuads}
${epilogue.wgsl}
const QUAD = vec4<u32>(0u, 1u, 2u, 3u);

// The rows' products with four outputs, (rows, outputs), of which 'x' holds one row in each of four neighbours.
fn products(x: vec4<f32>, weights: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    subgroupBroadcast(x, 0u) * weights,
    subgroupBroadcast(x, 1u) * weights,
    subgroupBroadcast(x, 2u) * weights,
    subgroupBroadcast(x, 3u) * weights);
}

fn write_block(row: u32, column: u32, sums: mat4x4<f32>) {
  for (var r = 0u; r < 4u; r++) {
    write(row + r, column, sums[r].xy);
    write(row + r, column + 2u, sums[r].zw);
  }
}

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_invocation_id) neighbour: u32,
) {
  let row = group.y * TILE_ROWS;
  let column = group.x * TILE_OUTPUTS + 4u * lane;
  // Lines beyond a matrix repeat its last one and are not stored.
  let own = min(column + QUAD, vec4<u32>(params.block - 1u));
  let rows = min(row + neighbour % 4u + 4u * QUAD, vec4<u32>(params.rows - 1u));
  var sums0 = mat4x4<f32>();
  var sums1 = mat4x4<f32>();
  var sums2 = mat4x4<f32>();
  var sums3 = mat4x4<f32>();
  for (var i = 0u; i < params.inputs; i += 4u) {
    let weights = mat4x4<f32>(
      weight_quad(own.x, i), weight_quad(own.y, i), weight_quad(own.z, i), weight_quad(own.w, i));
    sums0 += products(x_quad(rows.x, i), weights);
    sums1 += products(x_quad(rows.y, i), weights);
    sums2 += products(x_quad(rows.z, i), weights);
    sums3 += products(x_quad(rows.w, i), weights);
  }
  write_block(row, column, sums0);
  write_block(row + 4u, column, sums1);
  write_block(row + 8u, column, sums2);
  write_block(row + 12u, column, sums3);
}`,
  });
