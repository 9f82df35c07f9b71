import { divideUp } from '../contract.ts';
import { unrolled, type WebGpuFamily, type WebGpuVariant, webgpuVariant } from '../webgpu.ts';
import { startOf, windowOf } from './blocks.ts';
import { attention } from './index.ts';

type Contract = typeof attention;
type Member = WebGpuVariant<Contract['tensors'], Contract['scalars']>;

/** Heads whose keys and values are few enough for the text to be unrolled over them. */
const headDims = [32, 64];
/** Invocations of the subgroups of a processor that plays a GPU: the lanes of its vectors. */
const lanes = 8;
/** Lines of an invocation, which share what is read of the keys and values. */
const ownLines = 4;
const tileLines = lanes * ownLines;

/**
 * Flash attention as in `webgpu.ts`, for a processor that plays a GPU. To it a barrier is dear, and so is gathering from
 * as many addresses as a vector has lanes. Here an invocation has some lines to itself from the first key to the last,
 * and what it reads of a key or value it passes on to its subgroup: each of four neighbours reads another key, and where
 * a subgroup has eight, four of them read the first half of the elements and four the second. No workgroup memory, no
 * barrier.
 */
export const lines: WebGpuFamily<Contract['tensors'], Contract['scalars']> = {
  kind: 'webgpu-family',
  operation: attention,
  name: 'lines',
  instantiate: ({ minSubgroupSize, maxSubgroupSize }) =>
    maxSubgroupSize <= lanes ? headDims.map((headDim) => member(headDim, minSubgroupSize < lanes ? 1 : 2)) : [],
};

/** @param parts into which neighbours divide the elements of what they read */
function member(headDim: number, parts: 1 | 2): Member {
  const eachQuad = (statement: (quad: number) => string) => unrolled(headDim / 4, statement);
  /** What an invocation reads of a key or value, quad by quad, and which neighbours read a quad of the whole. */
  const ownQuads = headDim / 4 / parts;
  const read = (tensor: 'keys' | 'values') =>
    unrolled(ownQuads, (quad) => `let ${tensor}${quad} = ${tensor}[at + ${quad}u];`);
  const passedOn = (tensor: 'keys' | 'values', quad: number) =>
    `of_neighbours_from_${4 * Math.floor(quad / ownQuads)}(${tensor}${quad % ownQuads})`;
  const eachLine = (statement: (line: number) => string) => unrolled(ownLines, statement);
  return webgpuVariant(attention, {
    name: `lines-${headDim}`,
    needs: ['subgroups'],
    // With fewer lines than a tile on average, most of the work would be for nothing.
    fits: (dims) =>
      dims.headDim === headDim && dims.tokens * dims.heads >= tileLines * dims.sequences * dims.keyValueHeads,
    vectors: ['queries', 'keys', 'values', 'out'],
    constants: { QUADS: headDim / 4, OWN_QUADS: ownQuads, LINES: tileLines },
    workgroupSize: [lanes, 1, 1],
    workgroups: ({ heads, keyValueHeads, sequences }, { longest }) => [
      divideUp(longest * (heads / keyValueHeads), tileLines),
      keyValueHeads,
      sequences,
    ],
    body: /* wgsl */ `
${startOf}
${windowOf}
// Lower than any score, yet finite: its difference from itself has to be zero.
const LOWEST = -1e30f;

// What four neighbours hold, as columns.
${unrolled(
  parts,
  (part) => `fn of_neighbours_from_${4 * part}(own: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    subgroupBroadcast(own, ${4 * part}u), subgroupBroadcast(own, ${4 * part + 1}u),
    subgroupBroadcast(own, ${4 * part + 2}u), subgroupBroadcast(own, ${4 * part + 3}u));
}`,
)}

// Element by element.
fn products(query: vec4<f32>, keys: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(query * keys[0], query * keys[1], query * keys[2], query * keys[3]);
}

fn masked(products: mat4x4<f32>, visible: vec4<bool>) -> vec4<f32> {
  return select(vec4<f32>(LOWEST), vec4<f32>(1.0) * products, visible);
}

fn largest_of(scores: vec4<f32>) -> f32 { return max(max(scores.x, scores.y), max(scores.z, scores.w)); }

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
  let sequence = 5u * group.z;
  let first_row = sequences[sequence];
  let row_count = sequences[sequence + 1u];
  let first_position = sequences[sequence + 2u];
  let first_span = sequences[sequence + 3u];
  let span_count = sequences[sequence + 4u];
  let sharers = params.heads / params.keyValueHeads;
  let first_line = group.x * LINES;
  let line_count = row_count * sharers;
  if (first_line >= line_count) { return; }

  let neighbour = subgroup_lane % 4u;
  let own_part = subgroup_lane / 4u % (QUADS / OWN_QUADS);
  let key_count = first_position + min(first_line + LINES - 1u, line_count - 1u) / sharers + 1u;
  let oldest = oldest_of(first_position + first_line / sharers);
  let scale = inverseSqrt(f32(4u * QUADS));
  // Lines beyond the last repeat it and are not stored.
      ${eachLine(
        (n) => `let line${n} = first_line + lane + ${lanes * n}u;
  let repeated${n} = min(line${n}, line_count - 1u);
  let start${n} = start_of(repeated${n}, first_row, group.y, sharers) / 4u;
  let position${n} = first_position + repeated${n} / sharers;
  var largest${n} = LOWEST;
  var total${n} = 0.0;
      ${eachQuad((q) => `let query${n}_${q} = scale * queries[start${n} + ${q}u];`)}
      ${eachQuad((q) => `var sum${n}_${q} = vec4<f32>();`)}`,
      )}

  var first_key = 0u; // of the span
  for (var span = first_span; span < first_span + span_count && first_key < key_count; span++) {
    let slot = spans[2u * span];
    let count = min(spans[2u * span + 1u], key_count - first_key);
    // Keys that no line sees any more are passed over.
    for (var n = min(max(oldest, first_key) - first_key, count); n < count; n += 4u) {
      // Keys beyond the last repeat it and weigh nothing.
      let next = n + vec4<u32>(0u, 1u, 2u, 3u);
      let read = min(slot + min(n + neighbour, count - 1u), params.slots - 1u);
      let at = (read * params.keyValueHeads + group.y) * QUADS + own_part * OWN_QUADS;
      let there = next < vec4<u32>(count);
      ${eachLine((n) => `var products${n} = mat4x4<f32>();`)}
      ${read('keys')}
      ${eachQuad(
        (q) => `{
        let four = ${passedOn('keys', q)};
        ${eachLine((n) => `products${n} += products(query${n}_${q}, four);`)}
      }`,
      )}
      ${eachLine(
        (n) => `let scores${n} = masked(products${n}, there & seen(vec4<u32>(position${n}), first_key + next));
      let now_largest${n} = max(largest${n}, largest_of(scores${n}));
      let rescale${n} = exp(largest${n} - now_largest${n});
      let weights${n} = exp(scores${n} - now_largest${n});
      largest${n} = now_largest${n};
      total${n} = total${n} * rescale${n} + dot(weights${n}, vec4<f32>(1.0));`,
      )}
      ${read('values')}
      ${eachQuad(
        (q) => `{
        let four = ${passedOn('values', q)};
        ${eachLine((n) => `sum${n}_${q} = sum${n}_${q} * rescale${n} + four * weights${n};`)}
      }`,
      )}
    }
    first_key += count;
  }

      ${eachLine(
        (n) => `if (line${n} < line_count) {
      ${eachQuad((q) => `out[start${n} + ${q}u] = sum${n}_${q} / total${n};`)}
  }`,
      )}
}`,
  });
}
