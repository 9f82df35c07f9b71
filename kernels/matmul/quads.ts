/**
 * WGSL that reads four inputs of a row at once, zeros beyond the row's end: all that differs between kernels that
 * serve any number of inputs and those that need it to be divisible by four.
 */
export const scalarQuads = /* wgsl */ `
fn x_quad(row: u32, i: u32) -> vec4<f32> {
  let at = row * params.inputs + i;
  let quad = vec4<f32>(load_x(at), load_x(at + 1u), load_x(at + 2u), load_x(at + 3u));
  return select(vec4<f32>(), quad, vec4<u32>(i, i + 1u, i + 2u, i + 3u) < vec4<u32>(params.inputs));
}

fn weight_quad(row: u32, i: u32) -> vec4<f32> {
  let at = row * params.inputs + i;
  let quad = vec4<f32>(load_weight(at), load_weight(at + 1u), load_weight(at + 2u), load_weight(at + 3u));
  return select(vec4<f32>(), quad, vec4<u32>(i, i + 1u, i + 2u, i + 3u) < vec4<u32>(params.inputs));
}
`;

/** For tensors bound as arrays of four elements. */
export const vectorQuads = /* wgsl */ `
fn x_quad(row: u32, i: u32) -> vec4<f32> {
  return select(vec4<f32>(), load_x((row * params.inputs + i) / 4u), i < params.inputs);
}

fn weight_quad(row: u32, i: u32) -> vec4<f32> {
  return select(vec4<f32>(), load_weight((row * params.inputs + i) / 4u), i < params.inputs);
}
`;
