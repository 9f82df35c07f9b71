import { getLlama, type LlamaContextSequence, LlamaLogLevel, type LlamaModel, type Token } from 'node-llama-cpp';
import { peerThreads } from './matmul.ts';

/** Tokens of the longest prompt measured, on both sides. */
export const contextTokens = 1024;
/** Tokens that one pass of llama.cpp takes, as one of ours does. */
const passTokens = 512;

/** A GGUF file in llama.cpp's prebuilt binaries, with one sequence whose keys and values stay from call to call. */
export class LlamaCppModel implements AsyncDisposable {
  /** The GPU's name; undefined on the processor. */
  readonly gpuName: string | undefined;
  readonly #model: LlamaModel;
  readonly #sequence: LlamaContextSequence;

  private constructor(model: LlamaModel, sequence: LlamaContextSequence, gpuName: string | undefined) {
    this.#model = model;
    this.#sequence = sequence;
    this.gpuName = gpuName;
  }

  /** @throws Error where there is no binary for this platform, or no such GPU */
  static async load(file: string, gpu: 'vulkan' | false): Promise<LlamaCppModel> {
    const llama = await getLlama({ gpu, build: 'never', skipDownload: true, logLevel: LlamaLogLevel.error });
    const [gpuName] = gpu ? await llama.getGpuDeviceNames() : [];
    // Without a device the Vulkan build computes on the processor and says nothing.
    if (gpu && !gpuName) throw new Error('its Vulkan build finds no GPU here');
    const model = await llama.loadModel({ modelPath: file, gpuLayers: gpu ? 'max' : 0 });
    const sizes = { contextSize: contextTokens, batchSize: passTokens, threads: peerThreads };
    const context = await model.createContext(sizes);
    return new LlamaCppModel(model, context.getSequence(), gpuName);
  }

  /** The ids of a prompt, BOS first. */
  tokenize(prompt: string): Token[] {
    return [this.#model.tokens.bos!, ...this.#model.tokenize(prompt)];
  }

  /** The probability of `pick` after `ids`, of which only those are computed that do not continue what was there. */
  async nextProbability(ids: readonly number[], pick: number): Promise<{ probability: number; computed: number }> {
    await this.#sequence.adaptStateToTokens(ids as Token[]);
    const rest = ids.slice(this.#sequence.nextTokenIndex) as Token[];
    const generateNext = {
      // `includeMax` leaves the largest logit out in 3.22.1; the first of the top is the same.
      logits: { filter: { tokens: [pick as Token], includeTop: 1 } },
      totalLogitWeight: true,
    };
    const results = await this.#sequence.controlledEvaluate([...rest.slice(0, -1), [rest.at(-1)!, { generateNext }]]);
    const { logits, totalLogitWeight } = results.at(-1)!.next;
    const probability = Math.exp(logits!.get(pick as Token)! - Math.max(...logits!.values())) / totalLogitWeight!;
    return { probability, computed: rest.length };
  }

  /** Empties the sequence. */
  forget(): Promise<void> {
    return this.#sequence.clearHistory();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#model.dispose();
  }
}
