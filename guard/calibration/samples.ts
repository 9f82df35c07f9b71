import { seededRandom } from '../../kernels/random.ts';
import type { Labelled } from '../evaluation/metrics.ts';
import { type Role, roles } from '../messages.ts';
import type { Material } from './method.ts';

/** What a guard said of one sample, and what people say. */
export interface Scored {
  /** Where it stands in its file, from 1. */
  readonly line: number;
  readonly role: Role;
  readonly score: number;
  /** By code, where category scores were asked for. */
  readonly categoryScores?: Readonly<Record<string, number>> | undefined;
  /** null where it is not known. */
  readonly unsafe: 0 | 1 | null;
  /** By code; absent where it is not known. */
  readonly categories: Readonly<Record<string, 0 | 1>>;
}

/** Scores of one kind: of a role's whole policy, or of one category under it. Each kind is calibrated by itself. */
export interface ScoreSet extends Omit<Material, 'contentFree'> {
  readonly role: Role;
  /** Absent of the whole policy. */
  readonly code?: string;
  /** What messages call it. */
  readonly what: string;
}

/** The kinds of scores that samples have, the whole policy first, then the categories in their order. */
export function scoreSets(samples: readonly Scored[]): ScoreSet[] {
  return roles.flatMap((role) => {
    const own = samples.filter((sample) => sample.role === role);
    if (own.length === 0) return [];
    const what = `the ${own.length} samples of role ${role} (line ${own[0]!.line} first)`;
    const overall = setOf(
      own,
      ({ score }) => score,
      ({ unsafe }) => unsafe,
    );
    const codes = [...new Set(own.flatMap(({ categoryScores = {} }) => Object.keys(categoryScores)))];
    return [
      { role, what, ...overall },
      ...codes.map((code) => ({
        role,
        code,
        what: `category ${code} in ${what}`,
        ...setOf(
          own,
          ({ categoryScores }) => categoryScores?.[code],
          ({ categories }) => categories[code] ?? null,
        ),
      })),
    ];
  });
}

function setOf(
  samples: readonly Scored[],
  scoreOf: (sample: Scored) => number | undefined,
  labelOf: (sample: Scored) => 0 | 1 | null,
): Pick<ScoreSet, 'scores' | 'labels'> {
  const scored = samples.flatMap((sample) => {
    const score = scoreOf(sample);
    return score === undefined ? [] : [{ score, label: labelOf(sample) }];
  });
  const labels = scored.flatMap(({ score, label }): Labelled[] => (label === null ? [] : [{ score, label }]));
  return { scores: scored.map(({ score }) => score), labels };
}

/**
 * Parts samples at random, equal seeds alike: a share to fit on and the rest to report on. Each role and label is
 * parted by itself, so that few unsafe samples do not all end up on one side.
 */
export function split<S extends Pick<Scored, 'role' | 'unsafe'>>(
  samples: readonly S[],
  share: number,
  seed: number,
): { readonly fit: S[]; readonly rest: S[] } {
  const random = seededRandom(seed);
  const kindOf = ({ role, unsafe }: S) => `${role} ${unsafe}`;
  const chosen = new Set<S>();
  for (const kind of new Set(samples.map(kindOf))) {
    const drawn = samples
      .filter((sample) => kindOf(sample) === kind)
      .map((sample) => ({ sample, key: random() }))
      .sort((a, b) => a.key - b.key);
    for (const { sample } of drawn.slice(0, Math.round(share * drawn.length))) chosen.add(sample);
  }
  return { fit: samples.filter((sample) => chosen.has(sample)), rest: samples.filter((sample) => !chosen.has(sample)) };
}
