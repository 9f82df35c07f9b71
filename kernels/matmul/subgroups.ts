import { divideUp, type Scalars } from '../contract.ts';
import { type DeviceTraits, unrolled, type WebGpuFamily, type WebGpuVariant, webgpuVariant } from '../webgpu.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { vectorQuads } from './quads.ts';

/** Rows of the tile that a workgroup computes. */
const tileRows = 16;

/**
 * A workgroup computes 16 rows, each invocation four neighbouring outputs of them. Weights go from storage straight into
 * registers; of x, neighbours in a subgroup each read another row and pass it on: no workgroup memory, no barrier. How
 * many pass on to each other, and how wide a tile is, goes by the device's subgroups.
 */
export const subgroups = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): WebGpuFamily<MatmulTensors, S> => ({
  kind: 'webgpu-family',
  operation,
  name: 'subgroups',
  instantiate: (traits) => [member(operation, epilogue, traits)],
});

function member<S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
  { minSubgroupSize, maxSubgroupSize }: DeviceTraits,
): WebGpuVariant<MatmulTensors, S> {
  // WebGPU's subgroups have at least four invocations.
  const neighbours = [16, 8].find((count) => count <= minSubgroupSize) ?? 4;
  // Narrow subgroups are a processor's vectors, which gain nothing from company.
  const invocations = maxSubgroupSize <= 16 ? 16 : 32;
  const eachBlock = (line: (block: number) => string) => unrolled(tileRows / 4, line);
  return webgpuVariant(operation, {
    name: 'subgroups',
    needs: ['subgroups'],
    fits: ({ inputs }) => inputs % 4 === 0,
    vectors: ['x', 'weight'],
    constants: { TILE_ROWS: tileRows, TILE_OUTPUTS: 4 * invocations, NEIGHBOURS: neighbours },
    workgroupSize: [invocations, 1, 1],
    workgroups: ({ rows, block }) => [divideUp(block, 4 * invocations), divideUp(rows, tileRows), 1],
    body: /* wgsl */ `
${vectorQuads}
${epilogue.wgsl}
const QUAD = vec4<u32>(0u, 1u, 2u, 3u);

// The products of four rows with four outputs, (rows, outputs); 'x' holds a row in each neighbour from the given one on.
${unrolled(
  neighbours / 4,
  (n) => `fn products_from_${4 * n}(x: vec4<f32>, weights: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    subgroupBroadcast(x, ${4 * n}u) * weights,
    subgroupBroadcast(x, ${4 * n + 1}u) * weights,
    subgroupBroadcast(x, ${4 * n + 2}u) * weights,
    subgroupBroadcast(x, ${4 * n + 3}u) * weights);
}`,
)}

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
  let rows = min(row + neighbour % NEIGHBOURS + NEIGHBOURS * QUAD, vec4<u32>(params.rows - 1u));
  ${eachBlock((b) => `var sums${b} = mat4x4<f32>();`)}
  for (var i = 0u; i < params.inputs; i += 4u) {
    let weights = mat4x4<f32>(
      weight_quad(own.x, i), weight_quad(own.y, i), weight_quad(own.z, i), weight_quad(own.w, i));
    ${unrolled(tileRows / neighbours, (q) => `let x${q} = x_quad(rows[${q}], i);`)}
    ${eachBlock((b) => `sums${b} += products_from_${(4 * b) % neighbours}(x${Math.floor((4 * b) / neighbours)}, weights);`)}
  }
  ${eachBlock((b) => `write_block(row + ${4 * b}u, column, sums${b});`)}
}`,
  });
}
