import { divideUp } from '../contract.ts';
import { webgpuVariant } from '../webgpu.ts';
import {
  type BlockAlgebra,
  fourLines,
  oneLine,
  scalarQuads,
  slotOf,
  startOf,
  vectorQuads,
  windowOf,
} from './blocks.ts';
import { attention } from './index.ts';
import { lines } from './webgpu.lines.ts';
import { subgroups } from './webgpu.subgroups.ts';

/** Elements of the values that a workgroup weighs: longer heads are divided over several. */
const slice = 64;
/** Invocations along either side of a workgroup. */
const side = 8;

/**
 * Flash attention (Dao et al., arXiv 2205.14135) over spans.
 *
 * The query heads that share a key-value head are treated alike, so a "line" is a query row and one of those heads. 64
 * invocations, 8 by 8, take a tile of lines and pass over their context 32 keys at a time: scores of a block of lines
 * by four keys each, then values of the block's lines by twice four elements each. Every line keeps its largest score
 * so far and rescales what it has summed where a larger one comes (Milakov and Gimelshein, arXiv 1805.02867).
 */
function flash(name: string, { lines, wgsl }: BlockAlgebra, quads: string) {
  return {
    name,
    // As many invocations as elements in a slice: each stores one.
    constants: { LINES: lines, SIDE: side, SLICE: slice, KEYS: 4 * side, DEPTH: 32 },
    workgroupSize: [side * side, 1, 1] as const,
    workgroups: (
      { heads, keyValueHeads, headDim, sequences }: Record<'heads' | 'keyValueHeads' | 'headDim' | 'sequences', number>,
      { longest }: { readonly longest: number },
    ) => {
      const tiles = divideUp(longest * (heads / keyValueHeads), lines * side);
      return [tiles * divideUp(headDim, slice), keyValueHeads, sequences] as const;
    },
    body: /* wgsl */ `
${wgsl}
${quads}
${slotOf}
${startOf}
${windowOf}
// Lower than any score, yet finite: its difference from itself has to be zero.
const LOWEST = -1e30f;

var<workgroup> slots: array<u32, KEYS>;
var<workgroup> line_tile: array<Lines, DEPTH * SIDE>; // queries (elements, lines), then weights (keys, lines)
var<workgroup> tile: array<vec4<f32>, KEYS * SLICE / 4u>; // keys (elements, keys), then values (keys, elements)
var<workgroup> shares: array<Lines, SIDE * SIDE>; // (parts, lines)

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sequence = 5u * group.z;
  let first_row = sequences[sequence];
  let row_count = sequences[sequence + 1u];
  let first_position = sequences[sequence + 2u];
  let first_span = sequences[sequence + 3u];
  let span_count = sequences[sequence + 4u];
  let sharers = params.heads / params.keyValueHeads;
  let slices = (params.headDim + SLICE - 1u) / SLICE;
  let first_line = group.x / slices * (LINES * SIDE);
  let line_count = row_count * sharers;
  if (first_line >= line_count) { return; }

  let first_element = group.x % slices * SLICE;
  let beyond_half = params.headDim > first_element + SLICE / 2u;
  let key_count = first_position + min(first_line + LINES * SIDE - 1u, line_count - 1u) / sharers + 1u;
  let scale = inverseSqrt(f32(params.headDim));
  let down = lane / SIDE;
  let across = lane % SIDE;
  var starts: array<u32, LINES>; // of this invocation's lines
  var positions: array<u32, LINES>;
  for (var r = 0u; r < LINES; r++) {
    // Lines beyond the last repeat it and are not stored.
    let line = min(first_line + LINES * down + r, line_count - 1u);
    starts[r] = start_of(line, first_row, group.y, sharers);
    positions[r] = first_position + line / sharers;
  }

  var largest = Lines(LOWEST);
  var total = Lines(0.0); // over this invocation's keys
  var sums0 = Block();
  var sums1 = Block();
  for (var first_key = oldest_of(first_position + first_line / sharers); first_key < key_count; first_key += KEYS) {
    if (lane < KEYS) { slots[lane] = slot_of(min(first_key + lane, key_count - 1u), first_span, span_count); }
    workgroupBarrier();

    // Scores of this invocation's lines by keys first_key + 4 * across + (0, 1, 2, 3).
    var scores = Block();
    for (var start = 0u; start < params.headDim; start += DEPTH) {
      let element = start + 4u * across;
      var line_quads: array<vec4<f32>, LINES>;
      for (var r = 0u; r < LINES; r++) { line_quads[r] = queries_quad(starts[r], element); }
      let queries_by_element = by_key(as_block(line_quads));
      var key_quads: array<vec4<f32>, 4>;
      for (var k = 0u; k < 4u; k++) {
        key_quads[k] = keys_quad((slots[4u * down + k] * params.keyValueHeads + group.y) * params.headDim, element);
      }
      let keys_by_element = transpose(mat4x4<f32>(key_quads[0], key_quads[1], key_quads[2], key_quads[3]));
      for (var i = 0u; i < 4u; i++) {
        line_tile[(4u * across + i) * SIDE + down] = queries_by_element[i];
        tile[(4u * across + i) * SIDE + down] = keys_by_element[i];
      }
      workgroupBarrier();
      let end = min(DEPTH, params.headDim - start) * SIDE;
      for (var i = 0u; i < end; i += SIDE) { scores += outer(line_tile[i + down], tile[i + across]); }
      workgroupBarrier();
    }
    let keys_of_block = first_key + 4u * across + vec4<u32>(0u, 1u, 2u, 3u);
    var masked = by_line(scores);
    for (var r = 0u; r < LINES; r++) {
      masked[r] = select(vec4<f32>(LOWEST), masked[r] * scale, seen(vec4<u32>(positions[r]), keys_of_block));
    }
    scores = as_block(masked);

    // While the lines' largest scores are collected, values take the place of the keys.
    shares[across * SIDE + down] = largest_in(scores);
    for (var at = lane; at < KEYS * SLICE / 4u; at += WORKGROUP_SIZE.x) {
      let slot = slots[at / (SLICE / 4u)];
      tile[at] = values_quad(
        (slot * params.keyValueHeads + group.y) * params.headDim, first_element + 4u * (at % (SLICE / 4u)));
    }
    workgroupBarrier();
    var now_largest = largest;
    for (var part = 0u; part < SIDE; part++) { now_largest = max(now_largest, shares[part * SIDE + down]); }
    let rescale = exp(largest - now_largest);
    largest = now_largest;
    let weights = exp_of(scores, largest);
    total = total * rescale + sum_in(weights);
    let weights_by_key = by_key(weights);
    for (var k = 0u; k < 4u; k++) { line_tile[(4u * across + k) * SIDE + down] = weights_by_key[k]; }
    workgroupBarrier();

    // Values of this invocation's lines at elements first_element + 4 * across + (0, 1, 2, 3), and SLICE / 2 further.
    sums0 = scaled(sums0, rescale);
    sums1 = scaled(sums1, rescale);
    let end = min(KEYS, key_count - first_key);
    for (var k = 0u; k < end; k++) {
      let weight = line_tile[k * SIDE + down];
      sums0 += outer(weight, tile[k * (SLICE / 4u) + across]);
      if (beyond_half) { sums1 += outer(weight, tile[k * (SLICE / 4u) + SIDE + across]); }
    }
  }

  shares[across * SIDE + down] = total;
  workgroupBarrier();
  total = Lines(0.0);
  for (var part = 0u; part < SIDE; part++) { total += shares[part * SIDE + down]; }
  let results0 = by_line(scaled(sums0, 1.0 / total));
  let results1 = by_line(scaled(sums1, 1.0 / total));
  for (var r = 0u; r < LINES; r++) {
    let at = (LINES * down + r) * (SLICE / 4u) + across;
    tile[at] = results0[r];
    tile[at + SIDE] = results1[r];
  }
  workgroupBarrier();
  // Neighbours write what is next to each other.
  let element = first_element + lane;
  if (element >= params.headDim) { return; }
  for (var n = 0u; n < LINES * SIDE && first_line + n < line_count; n++) {
    out[start_of(first_line + n, first_row, group.y, sharers) + element] = tile[(n * SLICE + lane) / 4u][lane % 4u];
  }
}`,
  };
}

const portable = webgpuVariant(attention, flash('portable', fourLines, scalarQuads));

const vec4 = webgpuVariant(attention, {
  ...flash('vec4', fourLines, vectorQuads),
  fits: ({ headDim }) => headDim % 4 === 0,
  vectors: ['queries', 'keys', 'values'],
});

/** For decoding and short branches, where a tile of 32 lines would be mostly empty. */
const fewRows = webgpuVariant(attention, {
  ...flash('few-rows', oneLine, vectorQuads),
  fits: ({ headDim, tokens, sequences, heads, keyValueHeads }) =>
    headDim % 4 === 0 && tokens * heads <= side * sequences * keyValueHeads,
  vectors: ['queries', 'keys', 'values'],
});

/** In order of preference. */
export const variants = [lines, subgroups, fewRows, vec4, portable];
