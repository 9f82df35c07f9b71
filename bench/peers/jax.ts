/** `@jax-js/jax` on the same Dawn adapter as ours, or in WebAssembly beside the processor's backend. */
import type * as Jax from '@jax-js/jax';
import { create, globals } from 'webgpu';
import {
  contest,
  makeProblem,
  type PeerMethod,
  type Problem,
  type Product,
  peerThreads,
  shapes,
  transpose,
} from './matmul.ts';
import { deviceName, openOurs } from './ours.ts';
import { serve } from './session.ts';
import { WebWorker } from './web-worker.ts';

const name = '@jax-js/jax';

/** Defines the globals of a page that the library looks for, before it is loaded. */
async function load(mode: string): Promise<typeof Jax> {
  const navigator: Record<string, unknown> = { userAgent: 'Node.js', hardwareConcurrency: peerThreads };
  if (mode === 'webgpu') {
    Object.assign(globalThis, globals);
    navigator.gpu = create([]);
  }
  if (mode === 'wasm on threads') Object.assign(globalThis, { Worker: WebWorker });
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
  return import('@jax-js/jax');
}

/** The weight as a checkpoint holds it, transposed by the expression; or transposed beforehand, as the library likes it. */
function methods({ numpy: np, blockUntilReady }: typeof Jax): PeerMethod[] {
  const dtypes = { f32: np.float32, f16: np.float16 };
  const upload = (numbers: Float32Array, shape: [number, number], dtype: Problem['dtype']) =>
    np.array(numbers).reshape(shape).astype(dtypes[dtype]);
  const method = (note: string, weightOf: (problem: Problem) => Jax.Array, multiply: typeof np.matmul): PeerMethod => ({
    note,
    async prepare(problem): Promise<Product> {
      const x = upload(problem.x, [problem.rows, problem.inputs], problem.dtype);
      const weight = weightOf(problem);
      await blockUntilReady([x, weight]);
      return {
        async run(times) {
          const products = Array.from({ length: times }, () => multiply(x.ref, weight.ref));
          await blockUntilReady(products);
          for (const product of products) product.dispose();
        },
        result: async () => (await multiply(x.ref, weight.ref).astype(np.float32).data()) as Float32Array,
        async [Symbol.asyncDispose]() {
          x.dispose();
          weight.dispose();
        },
      };
    },
  });
  return [
    method(
      'x Wᵀ',
      ({ weight, outputs, inputs, dtype }) => upload(weight, [outputs, inputs], dtype),
      (x, weight) => np.matmul(x, np.transpose(weight)),
    ),
    method(
      'x W, transposed beforehand',
      ({ weight, outputs, inputs, dtype }) => upload(transpose(weight, outputs, inputs), [inputs, outputs], dtype),
      np.matmul,
    ),
  ];
}

await serve(async (mode, report) => {
  const device = mode === 'webgpu' ? 'webgpu' : 'wasm';
  const jax = await load(mode);
  if (!(await jax.init(device)).includes(device)) throw new Error(`it finds no ${device} here`);
  jax.defaultDevice(device);
  const backend = await openOurs(device === 'webgpu' ? 'webgpu' : 'cpu');
  const threads = mode === 'wasm on threads' ? peerThreads : 1;
  const peer =
    device === 'webgpu'
      ? { session: `${name} (webgpu)`, peer: name, device: deviceName(backend.description) }
      : { session: `${name} (${mode})`, peer: name, device: 'cpu (wasm)', threads };
  const dtypes = device === 'webgpu' ? (['f32', 'f16'] as const) : (['f32'] as const);
  for (const dtype of dtypes) {
    for (const shape of dtype === 'f32' ? [...shapes.named, ...shapes.layers] : shapes.named) {
      await contest(backend, makeProblem(shape, dtype), methods(jax), peer, report);
    }
  }
});
