import { divideUp, type Scalars } from '../contract.ts';
import {
  type DeviceTraits,
  f16Matrices,
  type SubgroupMatrixConfig,
  unrolled,
  type WebGpuFamily,
  type WebGpuVariant,
  webgpuVariant,
} from '../webgpu.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';

/** How results of the device's shape make up a tile: `down` by `across` of them in each of some subgroups, side by side. */
interface Tile {
  readonly down: number;
  readonly across: number;
  readonly subgroups: number;
}

/** The default first. With results of 16 by 16: 64 x 128 outputs, in eight or four subgroups, 128 x 128 and 32 x 128. */
const tiles: readonly Tile[] = [
  { down: 4, across: 1, subgroups: 8 },
  { down: 4, across: 2, subgroups: 4 },
  { down: 8, across: 2, subgroups: 4 },
  { down: 2, across: 2, subgroups: 4 },
];

/** Products of the device's depth in a step, between two barriers. */
const productsPerStep = 2;
/** Halves between two rows in workgroup memory, which put the rows of a matrix into different banks. */
const padding = 8;
/** Where `few-rows` ends. Below, most of a tile would be empty. */
const fewestRows = 17;

/**
 * Products of matrices that a subgroup computes as one (tensor cores): f16 by f16, accumulated in f32.
 *
 * Activations are rounded to f16 and staged in workgroup memory for all subgroups, in two panels by turns: while one is
 * multiplied with, the next is fetched. Each subgroup owns columns, and reads their weights straight from storage, a
 * step ahead too. Nothing has bounds to check: rows beyond the last repeat it, the last step fetches its own panels
 * again, and a matrix that would reach beyond the last column is moved back to end with it.
 */
export const subgroupMatrix = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): WebGpuFamily<MatmulTensors, S> => ({
  kind: 'webgpu-family',
  operation,
  name: 'subgroup-matrix',
  instantiate: (traits) =>
    f16Matrices(traits.subgroupMatrixConfigs).flatMap((config) =>
      tiles.flatMap((tile) => member(operation, epilogue, traits, config, tile) ?? []),
    ),
});

/** The kernel for a shape and a tile, or undefined where the device has no room for it. */
function member<S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
  traits: DeviceTraits,
  { M, N, K }: SubgroupMatrixConfig,
  { down, across, subgroups }: Tile,
): WebGpuVariant<MatmulTensors, S> | undefined {
  const tileRows = down * M;
  const tileOutputs = subgroups * across * N;
  const depth = productsPerStep * K;
  const pitch = depth + padding;
  const invocations = subgroups * traits.maxSubgroupSize;
  const quads = (tileRows * depth) / 4 / invocations;
  const storage = 2 * 2 * tileRows * pitch + 4 * M * tileOutputs;
  if (!Number.isInteger(quads) || invocations % (depth / 4) !== 0) return undefined;
  if (invocations > traits.maxInvocationsPerWorkgroup || storage > traits.maxWorkgroupStorage) return undefined;

  // Matrices can only be held in variables of their own: an array that is not indexed by constants leaves registers.
  const eachResult = (line: (r: number, c: number) => string) =>
    unrolled(down, (r) => unrolled(across, (c) => line(r, c)));
  const eachWeight = (line: (c: number, d: number) => string) =>
    unrolled(across, (c) => unrolled(productsPerStep, (d) => line(c, d)));
  const loadWeight = (c: number, d: number, i: string) =>
    `subgroupMatrixLoad<Right, col_major>(&weight, first${c} + ${i} + ${d}u * K, params.inputs)`;

  return webgpuVariant(operation, {
    name: `subgroup-matrix-${M}x${N}x${K}-${tileRows}x${tileOutputs}-by-${subgroups}`,
    needs: ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'],
    fits: ({ rows, inputs, block }, { weight }) =>
      weight === 'f16' && rows >= fewestRows && inputs % depth === 0 && block >= N,
    vectors: ['x'],
    constants: {
      M,
      N,
      K,
      TILE_ROWS: tileRows,
      TILE_OUTPUTS: tileOutputs,
      DEPTH: depth,
      PITCH: pitch,
      SUBGROUPS: subgroups,
    },
    workgroupSize: [invocations, 1, 1],
    workgroups: ({ rows, block }) => [divideUp(block, tileOutputs), divideUp(rows, tileRows), 1],
    // Each activation is rounded to f16, by 2^-11 of itself at most; roundings of a sum's terms rarely add up.
    tolerance: operation.tolerance + epilogue.factors * 2 ** -11,
    body: /* wgsl */ `
${epilogue.wgsl}
alias Left = subgroup_matrix_left<f16, K, M>;
alias Right = subgroup_matrix_right<f16, N, K>;
alias Result = subgroup_matrix_result<f32, N, M>;

const LARGEST_F16 = vec4<f32>(65504.0);
const PANEL = TILE_ROWS * PITCH;
// Rows of a panel that all invocations together stage at once.
const STRIDE = WORKGROUP_SIZE.x / (DEPTH / 4u);

var<workgroup> panels: array<f16, 2u * PANEL>; // two of (rows, inputs)
var<workgroup> band: array<f32, M * TILE_OUTPUTS>; // (rows, outputs)

fn x_quad(row: u32, i: u32) -> vec4<f32> {
  return load_x((min(row, params.rows - 1u) * params.inputs + i) / 4u);
}

fn stage(at: u32, quad: vec4<f32>) {
  // What is no number stays none: clamping would make one of it.
  let none = (bitcast<vec4<u32>>(quad) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
  let halves = vec4<f16>(select(clamp(quad, -LARGEST_F16, LARGEST_F16), quad, none));
  panels[at] = halves.x;
  panels[at + 1u] = halves.y;
  panels[at + 2u] = halves.z;
  panels[at + 3u] = halves.w;
}

fn write_band(row: u32, column: u32, lane: u32) {
  for (var at = 2u * lane; at < M * TILE_OUTPUTS; at += 2u * WORKGROUP_SIZE.x) {
    let c = at % TILE_OUTPUTS;
    if (column + c >= params.block) { continue; }
    // By how much this column's matrix was moved back.
    let end = column + c / N * N + N;
    let source = at + end - min(end, params.block);
    write(row + at / TILE_OUTPUTS, column + c, vec2<f32>(band[source], band[source + 1u]));
  }
}

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let row = group.y * TILE_ROWS;
  let column = group.x * TILE_OUTPUTS;
  // Where subgroups are smaller than the largest there are more of them than needed: some do the same.
  let strip = subgroup % SUBGROUPS * ${across}u * N;
${unrolled(across, (c) => `  let first${c} = min(column + strip + ${c}u * N, params.block - N) * params.inputs;`)}

  // What this invocation stages: ${quads} times four inputs of a row.
  let line = lane / (DEPTH / 4u);
  let depth = 4u * (lane % (DEPTH / 4u));
  let place = line * PITCH + depth;
${unrolled(quads, (q) => `  stage(place + ${q}u * STRIDE * PITCH, x_quad(row + line + ${q}u * STRIDE, depth));`)}
${eachWeight((c, d) => `  var weight${c}_${d} = ${loadWeight(c, d, '0u')};`)}
${eachResult((r, c) => `  var sum${r}_${c} = Result();`)}
  workgroupBarrier();

  var panel = 0u;
  for (var i = 0u; i < params.inputs; i += DEPTH) {
    let next = min(i + DEPTH, params.inputs - DEPTH);
${unrolled(quads, (q) => `    let quad${q} = x_quad(row + line + ${q}u * STRIDE, next + depth);`)}
${eachWeight((c, d) => `    let next${c}_${d} = ${loadWeight(c, d, 'next')};`)}
${unrolled(productsPerStep, (d) =>
  unrolled(
    down,
    (
      r,
    ) => `    let x${r}_${d} = subgroupMatrixLoad<Left, row_major>(&panels, panel + ${r}u * M * PITCH + ${d}u * K, PITCH);
${unrolled(across, (c) => `    sum${r}_${c} = subgroupMatrixMultiplyAccumulate(x${r}_${d}, weight${c}_${d}, sum${r}_${c});`)}`,
  ),
)}
    panel = PANEL - panel;
${unrolled(quads, (q) => `    stage(panel + place + ${q}u * STRIDE * PITCH, quad${q});`)}
${eachWeight((c, d) => `    weight${c}_${d} = next${c}_${d};`)}
    workgroupBarrier();
  }
${unrolled(
  down,
  (r) => `
${unrolled(across, (c) => `  subgroupMatrixStore<row_major>(&band, strip + ${c}u * N, sum${r}_${c}, TILE_OUTPUTS);`)}
  workgroupBarrier();
  write_band(row + ${r}u * M, column, lane);
  workgroupBarrier();`,
)}
}`,
  });
}
