import type { Guard } from '../guard.ts';
import type { CheckManyOptions, CheckRequest } from '../options.ts';
import type { Sample } from './data.ts';
import { type Scores, scoresOf } from './run.ts';

/** Where scores are kept as they come. */
export interface ScoreStore {
  has(sample: Sample): boolean;
  /** Resolves once they are kept for good. */
  add(sample: Sample, scores: Scores): Promise<void>;
}

/** A sample that could not be judged. */
export interface Failure {
  readonly id: string;
  readonly line: number;
  readonly code: string;
  readonly message: string;
}

/**
 * Judges the samples that the store does not have, some side by side, and keeps what comes. A sample that cannot be judged
 * is told and not kept; a failing device ends it with its error, and what was judged before is kept.
 *
 * @param onScored after each sample that was judged, or failed
 */
export async function scoreSamples(
  guard: Pick<Guard, 'checkMany'>,
  samples: AsyncIterable<Sample>,
  store: ScoreStore,
  { onScored, ...options }: CheckManyOptions & { readonly onScored?: () => void },
): Promise<Failure[]> {
  const failures: Failure[] = [];
  const asked: Sample[] = [];
  async function* requests(): AsyncGenerator<CheckRequest> {
    for await (const sample of samples) {
      if (store.has(sample)) continue;
      asked.push(sample);
      const { messages, role } = sample;
      yield { messages, ...(role ? { role } : {}) };
    }
  }
  for await (const { assessment, error } of guard.checkMany(requests(), options)) {
    // Answers come in the order of the requests.
    const sample = asked.shift()!;
    if (assessment) await store.add(sample, scoresOf(assessment));
    else failures.push({ id: sample.id, line: sample.line, code: error.code, message: error.message });
    onScored?.();
  }
  return failures;
}
