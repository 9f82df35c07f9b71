/** `onnxruntime-node`: a graph of one product, by its WebGPU provider (a Dawn of its own) or on the processor. */
import { InferenceSession, listSupportedBackends, Tensor } from 'onnxruntime-node';
import { decodeF16, encodeF16, f32ToF16 } from '../../kernels/f16.ts';
import { contest, type FloatDType, makeProblem, type PeerMethod, peerThreads, shapes, transpose } from './matmul.ts';
import { type Constant, matmulGraph } from './onnx-graph.ts';
import { deviceName, openOurs } from './ours.ts';
import { serve } from './session.ts';

const name = 'onnxruntime-node';

const bytesOf = (numbers: Float32Array, dtype: FloatDType) => {
  const stored = dtype === 'f16' ? encodeF16(numbers) : numbers;
  return new Uint8Array(stored.buffer);
};

const scale = (dtype: FloatDType) =>
  dtype === 'f16' ? new Tensor('float16', Uint16Array.of(f32ToF16(1)), [1]) : new Tensor('float32', [1], [1]);

const method = (provider: 'webgpu' | 'cpu'): PeerMethod => ({
  async prepare({ rows, inputs, outputs, dtype, x, weight }) {
    const constants: [x: Constant, weight: Constant] = [
      { shape: [rows, inputs], bytes: bytesOf(x, dtype) },
      { shape: [inputs, outputs], bytes: bytesOf(transpose(weight, outputs, inputs), dtype) },
    ];
    const session = await InferenceSession.create(matmulGraph(...constants, dtype), {
      executionProviders: [provider],
      intraOpNumThreads: peerThreads,
      logSeverityLevel: 3,
    });
    const feeds = { scale: scale(dtype) };
    return {
      async run(times) {
        for (let i = 0; i < times; i++) await session.run(feeds, ['corner']);
      },
      async result() {
        const { data } = (await session.run(feeds, ['product'])).product!;
        if (dtype === 'f32') return data as Float32Array;
        const decoded = new Float32Array(data.length);
        decodeF16(data as Uint16Array, decoded);
        return decoded;
      },
      [Symbol.asyncDispose]: () => session.release(),
    };
  },
});

await serve(async (provider, report) => {
  const kind = provider === 'webgpu' ? 'webgpu' : 'cpu';
  if (!listSupportedBackends().some((backend) => backend.name === kind)) {
    throw new Error(`the package for this platform has no ${kind} provider`);
  }
  const backend = await openOurs(kind);
  const session = `${name} (${kind})`;
  const peer = {
    session,
    peer: name,
    device: deviceName(backend.description),
    ...(kind === 'cpu' ? { threads: peerThreads } : {}),
  };
  for (const dtype of kind === 'webgpu' ? (['f32', 'f16'] as const) : (['f32'] as const)) {
    for (const shape of dtype === 'f32' ? [...shapes.named, ...shapes.layers] : shapes.named) {
      await contest(backend, makeProblem(shape, dtype), [method(kind)], peer, report);
    }
  }
});
