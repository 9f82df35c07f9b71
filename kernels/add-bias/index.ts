import { operation, read, update } from '../contract.ts';

/** Adds a linear layer's bias to what the layer made, or to the residual stream that the layer was added to. */
export const addBias = operation({
  name: 'add-bias',
  formula: 'out[r, i] += bias[i]',
  tensors: {
    bias: read('f32', 'width'),
    out: update('f32', 'rows', 'width'),
  },
  scalars: {},
  slices: ['rows'],
  flops: ({ rows, width }) => rows * width,
  cases: [
    { dims: { rows: 1, width: 1 } },
    { dims: { rows: 3, width: 67 } },
    { dims: { rows: 33, width: 192 } },
    { dims: { rows: 2, width: 4608 } },
  ],
  benchmarks: [
    { label: 'Qwen2.5-0.5B prefill', dims: { rows: 294, width: 1152 } },
    { label: 'Qwen2.5-7B prefill', dims: { rows: 512, width: 4608 } },
    { label: 'Qwen2.5-7B decode', dims: { rows: 1, width: 4608 } },
  ],
  // One sum, rounded once.
  tolerance: 1e-7,
});
