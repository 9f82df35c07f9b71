import { elementwise, LINEAR_BUILTINS, LINEAR_INDEX, webgpuVariant } from '../webgpu.ts';
import { ropeAndCache } from './index.ts';

/** An invocation takes a pair (or four) of a head's elements, whether it has to be turned or only moved. */
const body = /* wgsl */ `
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let pair = ${LINEAR_INDEX};
  let half = params.half / STEP;
  let per_token = params.heads + 2u * params.keyValueHeads;
  let token = pair / half / per_token;
  if (token >= params.tokens) { return; }
  let head = pair / half % per_token;
  let i = pair % half;
  let first = 2u * (pair - i) + i;
  let a = load_projections(first);
  let b = load_projections(first + half);

  let angle = min(positions[token], params.contextLength - 1u) * half + i;
  let c = load_cos(angle);
  let s = load_sin(angle);
  if (head < params.heads) {
    let to = (token * params.heads + head) * 2u * half + i;
    queries[to] = a * c - b * s;
    queries[to + half] = b * c + a * s;
    return;
  }
  let slot = slots[token];
  if (slot >= params.capacity) { return; }
  let other = head - params.heads;
  if (other < params.keyValueHeads) {
    let to = (slot * params.keyValueHeads + other) * 2u * half + i;
    keys[to] = a * c - b * s;
    keys[to + half] = b * c + a * s;
    return;
  }
  let to = (slot * params.keyValueHeads + other - params.keyValueHeads) * 2u * half + i;
  values[to] = a;
  values[to + half] = b;
}`;

const pairs = ({ tokens, width }: { readonly tokens: number; readonly width: number }) => (tokens * width) / 2;

const vec4 = webgpuVariant(ropeAndCache, {
  ...elementwise(4, pairs),
  fits: ({ half }) => half % 4 === 0,
  vectors: ['projections', 'cos', 'sin', 'queries', 'keys', 'values'],
  body,
});

const portable = webgpuVariant(ropeAndCache, { ...elementwise(1, pairs), body });

/** In order of preference. */
export const variants = [vec4, portable];
