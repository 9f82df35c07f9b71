import { LINEAR_BUILTINS, LINEAR_INDEX, linearGrid, webgpuVariant } from '../webgpu.ts';
import { randomNormal } from './index.ts';

/** Each invocation makes two neighbours, since two halves may share a word. */
const portable = webgpuVariant(randomNormal, {
  name: 'portable',
  constants: { SCALE: 1 / Math.sqrt((2 ** 32 - 1) / 3) },
  workgroupSize: [64, 1, 1],
  workgroups: ({ block, width }) => linearGrid(Math.ceil((block * width) / 2), 64),
  body: /* wgsl */ `
fn pcg(value: u32) -> u32 {
  let state = value * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn halves(word: u32) -> u32 { return (word & 0xffffu) + (word >> 16u); }

fn normal(place: u32) -> f32 {
  let key = pcg(params.seed);
  let first = pcg(place ^ key);
  let second = pcg(first + key);
  let sum = i32(halves(first) + halves(second)) - 131070;
  return params.mean + params.deviation * (f32(sum) * SCALE);
}

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let i = 2u * (${LINEAR_INDEX});
  let count = params.block * params.width;
  let start = params.firstRow * params.width;
  if (i < count) { store_out(i, normal(start + i)); }
  if (i + 1u < count) { store_out(i + 1u, normal(start + i + 1u)); }
}`,
});

export const variants = [portable];
