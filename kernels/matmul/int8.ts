import { divideUp, quantBlock, type Scalars } from '../contract.ts';
import { webgpuVariant } from '../webgpu.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike } from './index.ts';

/** Rows and outputs of the tile that a workgroup computes. */
const tile = 64;

/**
 * Multiplies q8 weights as the whole numbers they are: x is rounded to blocks of q8 while it is staged, four products
 * of bytes are one instruction (`dot4I8Packed`), and the exact sum of a block is scaled and added in f32. 256
 * invocations, 16 by 16, compute four rows by four outputs each.
 *
 * Worth it for many rows alone: with few, reading the weights is what takes the time, and they are read alike.
 */
export const int8 = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) =>
  webgpuVariant(operation, {
    name: 'int8',
    approximate: true,
    needs: ['packed_4x8_integer_dot_product'],
    fits: ({ rows }, { weight }) => weight === 'q8' && rows > 16,
    vectors: ['x'],
    constants: { TILE: tile, SIDE: tile / 4, BLOCK: quantBlock, WORDS: quantBlock / 4, BLOCKS: 2 },
    workgroupSize: [256, 1, 1],
    workgroups: ({ rows, block }) => [divideUp(block, tile), divideUp(rows, tile), 1],
    // A block's step is its largest magnitude / 127: of 32 normally distributed numbers 2.4 deviations, give or take. Evenly
    // spread over a step, the error deviates by 1 / sqrt(12) of it, 0.55% of x and so of every sum. Among thousands of
    // sums the largest error is some 4.5 deviations, and of the dozens that the smallest case has, the largest sum is 2.
    tolerance: (epilogue.factors * 0.0055 * 4.5) / 2,
    body: /* wgsl */ `
${epilogue.wgsl}
var<workgroup> x_tile: array<u32, BLOCKS * WORDS * TILE>; // (blocks, words, rows)
var<workgroup> x_scales: array<f32, BLOCKS * TILE>; // (blocks, rows)
var<workgroup> weight_tile: array<u32, BLOCKS * WORDS * TILE>; // (blocks, words, outputs)
var<workgroup> weight_scales: array<f32, BLOCKS * TILE>; // (blocks, outputs)

// Rounds a block of a row of x to signed bytes of [-127, 127].
fn stage_x(row: u32, block: u32, at: u32, line: u32) {
  let start = (row * params.inputs + block * BLOCK) / 4u;
  // Magnitudes are in the order of their bits, above all others those of what is no number, which has to stay none.
  var largest = vec4<u32>();
  for (var k = 0u; k < WORDS; k++) {
    largest = max(largest, bitcast<vec4<u32>>(load_x(start + k)) & vec4<u32>(0x7fffffffu));
  }
  let magnitude = bitcast<f32>(max(max(largest.x, largest.y), max(largest.z, largest.w)));
  let inverse = select(0.0, 127.0 / magnitude, magnitude > 0.0);
  for (var k = 0u; k < WORDS; k++) {
    x_tile[(at * WORDS + k) * TILE + line] = pack4xI8(vec4<i32>(round(load_x(start + k) * inverse)));
  }
  x_scales[at * TILE + line] = magnitude / 127.0;
}

fn stage_weight(row: u32, block: u32, at: u32, line: u32) {
  let start = (row * params.inputs + block * BLOCK) / 4u;
  for (var k = 0u; k < WORDS; k++) { weight_tile[(at * WORDS + k) * TILE + line] = weight[start + k]; }
  weight_scales[at * TILE + line] = scale_weight(start / WORDS);
}

fn dots(x: u32, weights: vec4<u32>) -> vec4<i32> {
  return vec4<i32>(
    dot4I8Packed(x, weights.x), dot4I8Packed(x, weights.y), dot4I8Packed(x, weights.z), dot4I8Packed(x, weights.w));
}

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  // Half of the invocations stage x, half the weights: each one block of one line. Lines beyond a matrix repeat its last
  // one and are not stored.
  let line = lane % TILE;
  let at = lane / TILE % BLOCKS;
  let stages_x = lane < BLOCKS * TILE;
  let row = min(group.y * TILE + line, params.rows - 1u);
  let column = min(group.x * TILE + line, params.block - 1u);
  // Each computes four rows by two pairs of outputs, which lie apart, so that neighbours read and write neighbours.
  let rows = lane / SIDE + SIDE * vec4<u32>(0u, 1u, 2u, 3u);
  let columns = 2u * (lane % SIDE) + vec4<u32>(0u, 1u, 2u * SIDE, 2u * SIDE + 1u);
  var sums = mat4x4<f32>();

  let blocks = params.inputs / BLOCK;
  for (var first = 0u; first < blocks; first += BLOCKS) {
    if (first + at < blocks) {
      if (stages_x) { stage_x(row, first + at, at, line); } else { stage_weight(column, first + at, at, line); }
    }
    workgroupBarrier();
    for (var b = 0u; b < min(BLOCKS, blocks - first); b++) {
      var dots0 = vec4<i32>();
      var dots1 = vec4<i32>();
      var dots2 = vec4<i32>();
      var dots3 = vec4<i32>();
      for (var k = b * WORDS * TILE; k < (b + 1u) * WORDS * TILE; k += TILE) {
        let weights = vec4<u32>(
          weight_tile[k + columns.x], weight_tile[k + columns.y], weight_tile[k + columns.z], weight_tile[k + columns.w]);
        dots0 += dots(x_tile[k + rows.x], weights);
        dots1 += dots(x_tile[k + rows.y], weights);
        dots2 += dots(x_tile[k + rows.z], weights);
        dots3 += dots(x_tile[k + rows.w], weights);
      }
      let s = b * TILE;
      let scales = vec4<f32>(
        weight_scales[s + columns.x], weight_scales[s + columns.y],
        weight_scales[s + columns.z], weight_scales[s + columns.w]);
      sums[0] += vec4<f32>(dots0) * (x_scales[s + rows.x] * scales);
      sums[1] += vec4<f32>(dots1) * (x_scales[s + rows.y] * scales);
      sums[2] += vec4<f32>(dots2) * (x_scales[s + rows.z] * scales);
      sums[3] += vec4<f32>(dots3) * (x_scales[s + rows.w] * scales);
    }
    workgroupBarrier();
  }

  let top = group.y * TILE + rows;
  let left = group.x * TILE + columns;
  for (var r = 0u; r < 4u; r++) {
    write(top[r], left.x, sums[r].xy);
    write(top[r], left.z, sums[r].zw);
  }
}`,
  });
