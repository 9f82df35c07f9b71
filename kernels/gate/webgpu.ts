import { silu } from '../gated-matmul/silu.ts';
import { elementwise, LINEAR_BUILTINS, LINEAR_INDEX, webgpuVariant } from '../webgpu.ts';
import { gate } from './index.ts';

type Sizes = Readonly<Record<'rows' | 'width', number>>;
const elements = ({ rows, width }: Sizes) => rows * width;

const vec4 = webgpuVariant(gate, {
  ...elementwise(4, elements),
  vectors: ['x', 'out'],
  body: /* wgsl */ `
${silu.wgsl('vec4<f32>')}
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let i = ${LINEAR_INDEX};
  if (i >= params.rows * params.width / STEP) { return; }
  let low = load_x(2u * i);
  let high = load_x(2u * i + 1u);
  out[i] = silu(vec4<f32>(low.xz, high.xz)) * vec4<f32>(low.yw, high.yw);
}`,
});

const portable = webgpuVariant(gate, {
  ...elementwise(1, elements),
  body: /* wgsl */ `
${silu.wgsl('f32')}
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let i = ${LINEAR_INDEX};
  if (i >= params.rows * params.width) { return; }
  out[i] = silu(load_x(2u * i)) * load_x(2u * i + 1u);
}`,
});

/** In order of preference. */
export const variants = [vec4, portable];
