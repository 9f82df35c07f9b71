import { divideUp } from '../contract.ts';
import { webgpuVariant } from '../webgpu.ts';
import { slotOf, startOf, vectorQuads, windowOf } from './blocks.ts';
import { attention } from './index.ts';

/** Lines of a tile: a line is a query row and one of the heads that share a key-value head. */
const tileLines = 16;
/** Elements of the values that a workgroup weighs at most: longer heads are divided over several. */
const slice = 128;

/**
 * Flash attention as in `webgpu.ts`, with the neighbours of a quad (four invocations of a subgroup) passing each other
 * what they read: 32 invocations take 16 lines and 64 keys at a time. For the scores each invocation has two keys, and
 * a quad reads four queries at a time; for the values each quad takes some keys, its invocations four elements each.
 */
export const subgroups = webgpuVariant(attention, {
  name: 'subgroups',
  needs: ['subgroups'],
  fits: ({ headDim }) => headDim % 4 === 0,
  vectors: ['queries', 'keys', 'values'],
  constants: { LINES: tileLines, KEYS: 64, SLICE: slice },
  workgroupSize: [32, 1, 1],
  workgroups: ({ heads, keyValueHeads, headDim, sequences }, { longest }) => {
    const tiles = divideUp(longest * (heads / keyValueHeads), tileLines);
    return [tiles * divideUp(headDim, slice), keyValueHeads, sequences];
  },
  body: /* wgsl */ `
${vectorQuads}
${slotOf}
${startOf}
${windowOf}
// Lower than any score, yet finite: its difference from itself has to be zero.
const LOWEST = -1e30f;
const GROUPS = LINES / 4u; // lines go in groups of four, a group a vector
const QUADS = WORKGROUP_SIZE.x / 4u;

var<workgroup> quads_seen: atomic<u32>;
var<workgroup> slots: array<u32, KEYS>;
var<workgroup> shares: array<vec4<f32>, QUADS * GROUPS>; // (quads, lines)
var<workgroup> weight_tile: array<vec4<f32>, KEYS * GROUPS>; // (keys, lines)
var<workgroup> results: array<vec4<f32>, WORKGROUP_SIZE.x * LINES>; // (lines, parts, elements)

// What the four neighbours hold, as columns.
fn of_quad(own: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(quadBroadcast(own, 0u), quadBroadcast(own, 1u), quadBroadcast(own, 2u), quadBroadcast(own, 3u));
}

fn largest_of_quad(own: vec4<f32>) -> vec4<f32> {
  let pair = max(own, quadSwapX(own));
  return max(pair, quadSwapY(pair));
}

fn sum_of_quad(own: vec4<f32>) -> vec4<f32> {
  let pair = own + quadSwapX(own);
  return pair + quadSwapY(pair);
}

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> { return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b); }

fn scaled(s: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(s[0] * by.x, s[1] * by.y, s[2] * by.z, s[3] * by.w);
}

fn masked(scores: vec4<f32>, key: u32, positions: vec4<u32>) -> vec4<f32> {
  return select(vec4<f32>(LOWEST), scores, seen(positions, vec4<u32>(key)));
}

fn exp_of(s: mat4x4<f32>, largest: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(exp(s[0] - largest[0]), exp(s[1] - largest[1]), exp(s[2] - largest[2]), exp(s[3] - largest[3]));
}

fn put_weights(key: u32, weights: mat4x4<f32>) {
  weight_tile[key * GROUPS] = weights[0];
  weight_tile[key * GROUPS + 1u] = weights[1];
  weight_tile[key * GROUPS + 2u] = weights[2];
  weight_tile[key * GROUPS + 3u] = weights[3];
}

fn put_results(group: u32, place: u32, sums: mat4x4<f32>) {
  let at = 4u * group * WORKGROUP_SIZE.x + place;
  results[at] = sums[0];
  results[at + WORKGROUP_SIZE.x] = sums[1];
  results[at + 2u * WORKGROUP_SIZE.x] = sums[2];
  results[at + 3u * WORKGROUP_SIZE.x] = sums[3];
}

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
  let sequence = 5u * group.z;
  let first_row = sequences[sequence];
  let row_count = sequences[sequence + 1u];
  let first_position = sequences[sequence + 2u];
  let first_span = sequences[sequence + 3u];
  let span_count = sequences[sequence + 4u];
  let sharers = params.heads / params.keyValueHeads;
  let slices = (params.headDim + SLICE - 1u) / SLICE;
  let first_line = group.x / slices * LINES;
  let line_count = row_count * sharers;
  if (first_line >= line_count) { return; }

  // Quads are numbered as they come: WebGPU does not say how subgroups divide a workgroup.
  let neighbour = subgroup_lane % 4u;
  var ticket = 0u;
  if (neighbour == 0u) { ticket = atomicAdd(&quads_seen, 1u); }
  let quad = quadBroadcast(ticket, 0u);
  let place = 4u * quad + neighbour;

  // This invocation reads lines neighbour + (0, 4, 8, 12); lines beyond the last repeat it and are not stored.
  let own = min(first_line + neighbour + vec4<u32>(0u, 4u, 8u, 12u), vec4<u32>(line_count - 1u));
  let starts = vec4<u32>(
    start_of(own.x, first_row, group.y, sharers), start_of(own.y, first_row, group.y, sharers),
    start_of(own.z, first_row, group.y, sharers), start_of(own.w, first_row, group.y, sharers));
  let last = vec4<u32>(line_count - 1u);
  let lines = first_line + vec4<u32>(0u, 1u, 2u, 3u);
  let positions0 = first_position + min(lines, last) / sharers;
  let positions1 = first_position + min(lines + 4u, last) / sharers;
  let positions2 = first_position + min(lines + 8u, last) / sharers;
  let positions3 = first_position + min(lines + 12u, last) / sharers;
  let key_count = first_position + min(first_line + LINES - 1u, line_count - 1u) / sharers + 1u;

  // For the values, invocations stand side by side over the elements, as many times as there is room.
  let first_element = group.x % slices * SLICE;
  let elements = min(params.headDim - first_element, SLICE);
  let across = select(select(32u, 16u, elements <= 64u), 8u, elements <= 32u);
  let parts = WORKGROUP_SIZE.x / across;
  let part = place / across;
  let element = first_element + 4u * (place % across);
  let scale = inverseSqrt(f32(params.headDim));

  var largest = vec4<f32>(LOWEST); // of the neighbour's own group of lines
  var total0 = vec4<f32>(); // over this invocation's keys, by group of lines
  var total1 = vec4<f32>();
  var total2 = vec4<f32>();
  var total3 = vec4<f32>();
  var sums0 = mat4x4<f32>(); // over this part's keys
  var sums1 = mat4x4<f32>();
  var sums2 = mat4x4<f32>();
  var sums3 = mat4x4<f32>();
  for (var first_key = oldest_of(first_position + first_line / sharers); first_key < key_count; first_key += KEYS) {
    // Keys beyond the last repeat it and weigh nothing.
    let key0 = first_key + place;
    let key1 = key0 + WORKGROUP_SIZE.x;
    let slot0 = slot_of(min(key0, key_count - 1u), first_span, span_count);
    let slot1 = slot_of(min(key1, key_count - 1u), first_span, span_count);
    slots[place] = slot0;
    slots[place + WORKGROUP_SIZE.x] = slot1;
    let start0 = (slot0 * params.keyValueHeads + group.y) * params.headDim;
    let start1 = (slot1 * params.keyValueHeads + group.y) * params.headDim;
    var scores0 = mat4x4<f32>(); // (groups, lines) of the first key
    var scores1 = mat4x4<f32>();
    for (var i = 0u; i < params.headDim; i += 4u) {
      let keys0 = keys_quad(start0, i);
      let keys1 = keys_quad(start1, i);
      let queries0 = of_quad(queries_quad(starts.x, i));
      let queries1 = of_quad(queries_quad(starts.y, i));
      let queries2 = of_quad(queries_quad(starts.z, i));
      let queries3 = of_quad(queries_quad(starts.w, i));
      scores0 += mat4x4<f32>(keys0 * queries0, keys0 * queries1, keys0 * queries2, keys0 * queries3);
      scores1 += mat4x4<f32>(keys1 * queries0, keys1 * queries1, keys1 * queries2, keys1 * queries3);
    }
    scores0 = mat4x4<f32>(
      masked(scale * scores0[0], key0, positions0), masked(scale * scores0[1], key0, positions1),
      masked(scale * scores0[2], key0, positions2), masked(scale * scores0[3], key0, positions3));
    scores1 = mat4x4<f32>(
      masked(scale * scores1[0], key1, positions0), masked(scale * scores1[1], key1, positions1),
      masked(scale * scores1[2], key1, positions2), masked(scale * scores1[3], key1, positions3));

    let best0 = largest_of_quad(max(scores0[0], scores1[0]));
    let best1 = largest_of_quad(max(scores0[1], scores1[1]));
    let best2 = largest_of_quad(max(scores0[2], scores1[2]));
    let best3 = largest_of_quad(max(scores0[3], scores1[3]));
    if (neighbour == 0u) {
      shares[quad * GROUPS] = best0;
      shares[quad * GROUPS + 1u] = best1;
      shares[quad * GROUPS + 2u] = best2;
      shares[quad * GROUPS + 3u] = best3;
    }
    workgroupBarrier();
    var now_largest = largest;
    for (var q = 0u; q < QUADS; q++) { now_largest = max(now_largest, shares[q * GROUPS + neighbour]); }
    let rescale = of_quad(exp(largest - now_largest));
    largest = now_largest;

    let of_lines = of_quad(largest);
    let weights0 = exp_of(scores0, of_lines);
    let weights1 = exp_of(scores1, of_lines);
    put_weights(place, weights0);
    put_weights(place + WORKGROUP_SIZE.x, weights1);
    total0 = total0 * rescale[0] + weights0[0] + weights1[0];
    total1 = total1 * rescale[1] + weights0[1] + weights1[1];
    total2 = total2 * rescale[2] + weights0[2] + weights1[2];
    total3 = total3 * rescale[3] + weights0[3] + weights1[3];
    sums0 = scaled(sums0, rescale[0]);
    sums1 = scaled(sums1, rescale[1]);
    sums2 = scaled(sums2, rescale[2]);
    sums3 = scaled(sums3, rescale[3]);
    workgroupBarrier();

    let end = min(KEYS, key_count - first_key);
    for (var first = 0u; first < end; first += parts) {
      let key = first + part;
      let weights = of_quad(weight_tile[key * GROUPS + neighbour]);
      let value = values_quad((slots[key] * params.keyValueHeads + group.y) * params.headDim, element);
      sums0 += outer(weights[0], value);
      sums1 += outer(weights[1], value);
      sums2 += outer(weights[2], value);
      sums3 += outer(weights[3], value);
    }
    workgroupBarrier();
  }

  put_results(0u, place, sums0);
  put_results(1u, place, sums1);
  put_results(2u, place, sums2);
  put_results(3u, place, sums3);
  total0 = sum_of_quad(total0);
  total1 = sum_of_quad(total1);
  total2 = sum_of_quad(total2);
  total3 = sum_of_quad(total3);
  if (neighbour == 0u) {
    shares[quad * GROUPS] = total0;
    shares[quad * GROUPS + 1u] = total1;
    shares[quad * GROUPS + 2u] = total2;
    shares[quad * GROUPS + 3u] = total3;
  }
  workgroupBarrier();

  // Neighbours write what is next to each other.
  for (var n = 0u; n < LINES && first_line + n < line_count; n++) {
    var total = 0.0;
    for (var q = 0u; q < QUADS; q++) { total += shares[q * GROUPS + n / 4u][n % 4u]; }
    let start = start_of(first_line + n, first_row, group.y, sharers) + first_element;
    for (var e = place; e < elements; e += WORKGROUP_SIZE.x) {
      var sum = 0.0;
      for (var p = 0u; p < parts; p++) { sum += results[n * WORKGROUP_SIZE.x + p * across + e / 4u][e % 4u]; }
      out[start + e] = sum / total;
    }
  }
}`,
});
