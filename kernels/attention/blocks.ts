/**
 * WGSL on the block of scores that one invocation keeps: some lines of queries by four keys (or four elements of the
 * values). `Lines` holds a number for each line, `Block` four. This is all that differs between a kernel for many
 * query rows and one for few.
 */
export interface BlockAlgebra {
  readonly lines: 1 | 4;
  readonly wgsl: string;
}

export const fourLines: BlockAlgebra = {
  lines: 4,
  wgsl: /* wgsl */ `
alias Lines = vec4<f32>;
alias Block = mat4x4<f32>; // a column is a line

fn outer(a: Lines, b: vec4<f32>) -> Block { return Block(a.x * b, a.y * b, a.z * b, a.w * b); }
fn largest_of(a: vec4<f32>) -> f32 { return max(max(a.x, a.y), max(a.z, a.w)); }
fn largest_in(s: Block) -> Lines { return Lines(largest_of(s[0]), largest_of(s[1]), largest_of(s[2]), largest_of(s[3])); }
fn sum_in(s: Block) -> Lines { return vec4<f32>(1.0) * s; }
fn scaled(s: Block, by: Lines) -> Block { return Block(s[0] * by.x, s[1] * by.y, s[2] * by.z, s[3] * by.w); }
fn exp_of(s: Block, largest: Lines) -> Block {
  return Block(exp(s[0] - largest.x), exp(s[1] - largest.y), exp(s[2] - largest.z), exp(s[3] - largest.w));
}
fn by_key(s: Block) -> array<Lines, 4> {
  let t = transpose(s);
  return array<Lines, 4>(t[0], t[1], t[2], t[3]);
}
fn by_line(s: Block) -> array<vec4<f32>, LINES> { return array<vec4<f32>, LINES>(s[0], s[1], s[2], s[3]); }
fn as_block(s: array<vec4<f32>, LINES>) -> Block { return Block(s[0], s[1], s[2], s[3]); }
`,
};

export const oneLine: BlockAlgebra = {
  lines: 1,
  wgsl: /* wgsl */ `
alias Lines = f32;
alias Block = vec4<f32>;

fn outer(a: Lines, b: vec4<f32>) -> Block { return a * b; }
fn largest_in(s: Block) -> Lines { return max(max(s.x, s.y), max(s.z, s.w)); }
fn sum_in(s: Block) -> Lines { return dot(s, vec4<f32>(1.0)); }
fn scaled(s: Block, by: Lines) -> Block { return s * by; }
fn exp_of(s: Block, largest: Lines) -> Block { return exp(s - largest); }
fn by_key(s: Block) -> array<Lines, 4> { return array<Lines, 4>(s.x, s.y, s.z, s.w); }
fn by_line(s: Block) -> array<vec4<f32>, LINES> { return array<vec4<f32>, LINES>(s); }
fn as_block(s: array<vec4<f32>, LINES>) -> Block { return s[0]; }
`,
};

/** Four elements of a head, zeros beyond its end, from tensors bound element by element or four at a time. */
export const scalarQuads = ['queries', 'keys', 'values']
  .map(
    (name) => /* wgsl */ `
fn ${name}_quad(start: u32, i: u32) -> vec4<f32> {
  let at = start + i;
  let quad = vec4<f32>(load_${name}(at), load_${name}(at + 1u), load_${name}(at + 2u), load_${name}(at + 3u));
  return select(vec4<f32>(), quad, vec4<u32>(i, i + 1u, i + 2u, i + 3u) < vec4<u32>(params.headDim));
}`,
  )
  .join('\n');

export const vectorQuads = ['queries', 'keys', 'values']
  .map(
    (name) => /* wgsl */ `
fn ${name}_quad(start: u32, i: u32) -> vec4<f32> {
  return select(vec4<f32>(), load_${name}((start + i) / 4u), i < params.headDim);
}`,
  )
  .join('\n');

export const slotOf = /* wgsl */ `
// The slot of a sequence's key.
fn slot_of(key: u32, first_span: u32, span_count: u32) -> u32 {
  var left = key;
  for (var span = first_span; span < first_span + span_count; span++) {
    let length = spans[2u * span + 1u];
    if (left < length) { return min(spans[2u * span] + left, params.slots - 1u); }
    left -= length;
  }
  return 0u;
}
`;

export const windowOf = /* wgsl */ `
// The first key that the query at a position sees.
fn oldest_of(position: u32) -> u32 { return position + 1u - min(position + 1u, params.window); }

// Which keys the queries at some positions see. What lies after a query is, wrapped around, further off than any window.
fn seen(positions: vec4<u32>, keys: vec4<u32>) -> vec4<bool> { return positions - keys < vec4<u32>(params.window); }
`;

export const startOf = /* wgsl */ `
// Where a sequence's line starts in 'queries' and 'out'.
fn start_of(line: u32, first_row: u32, group: u32, sharers: u32) -> u32 {
  return ((first_row + line / sharers) * params.heads + group * sharers + line % sharers) * params.headDim;
}
`;
