import { seededRandom } from '../kernels/random.ts';
import { SessionError } from './errors.ts';

export interface SamplingOptions {
  /** 0, the default, always takes the most probable token. */
  readonly temperature?: number;
  /** Only the `topK` most probable tokens are drawn from; all by default. */
  readonly topK?: number;
  /** Only the most probable tokens whose probabilities first add up to `topP` (Holtzman et al., arXiv 1904.09751). */
  readonly topP?: number;
  /** The same seed gives the same tokens. */
  readonly seed?: number;
}

/** Draws one token id from a row of logits. */
export type Sampler = (logits: Float32Array) => number;

/** @throws SessionError `invalid-argument` */
export function createSampler(options: SamplingOptions = {}): Sampler {
  const { temperature = 0, topK = Number.POSITIVE_INFINITY, topP = 1, seed = 0 } = options;
  if (!(temperature >= 0 && topK >= 1 && topP > 0 && topP <= 1)) {
    throw new SessionError(
      'invalid-argument',
      `Sampling needs temperature >= 0, topK >= 1 and 0 < topP <= 1, but got ${temperature}, ${topK} and ${topP}.`,
    );
  }
  if (temperature === 0) return argmax;
  const random = seededRandom(seed);
  return (logits) => {
    const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]!);
    const largest = logits[order[0]!]!;
    const weights = order.slice(0, topK).map((id) => Math.exp((logits[id]! - largest) / temperature));
    const total = weights.reduce((a, b) => a + b, 0);
    let nucleus = 0;
    let count = 0;
    while (count < weights.length && nucleus < topP * total) nucleus += weights[count++]!;
    let draw = random() * nucleus;
    for (let i = 0; i < count; i++) {
      draw -= weights[i]!;
      if (draw < 0) return order[i]!;
    }
    return order[count - 1]!;
  };
}

/** The lowest id of the largest logit. */
function argmax(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}
