import { brier, type Labelled, logLoss, reliability } from './metrics.ts';
import { hasBoth } from './questions.ts';

/** Metrics that two systems are compared by, under the names that figures have everywhere. */
export const comparedMetrics = ['auprc', 'auroc', 'truePositiveRateAt1', 'f1', 'ece', 'brier', 'logLoss'] as const;
export type ComparedMetric = (typeof comparedMetrics)[number];

/** Two systems' scores of one sample. */
export interface Pair {
  readonly label: Labelled['label'];
  readonly before: number;
  readonly after: number;
  /** What each decides; where it is not told, nothing is flagged. */
  readonly flagged?: readonly [before: boolean, after: boolean];
}

/** Which of the two systems, as a place in what is laid out. */
export type SideIndex = 0 | 1;

/**
 * What two systems said of the same n samples, laid out so that all figures of a resample, or of a system mixed of both, are
 * two passes over plain numbers. Of a sample i, `labels[i]` is its label, and an array of either system's numbers has what
 * the first said at i and what the second said at n + i.
 */
export interface LaidOut {
  readonly labels: Uint8Array;
  /** Places as the scores of a system fall, equal scores at their mean place; which system's, they do not tell. */
  readonly ranks: Uint32Array;
  /** How many places there are. */
  readonly places: number;
  /** Null where scores of either are no probabilities. */
  readonly probability: {
    /** Whether the system flags it. */
    readonly flagged: Uint8Array;
    /** What the sample adds to the Brier score, and to the log loss. */
    readonly squared: Float64Array;
    readonly nats: Float64Array;
    /** The bin of ECE, and the score less the label. */
    readonly bins: Uint8Array;
    readonly gaps: Float64Array;
  } | null;
}

/** How often each sample occurs, and of which samples the two systems' answers are swapped (1). */
export interface Drawn {
  readonly counts: Uint16Array;
  readonly swapped: Uint8Array;
}

/** The samples as they are. */
export const undrawn = (size: number): Drawn => ({
  counts: new Uint16Array(size).fill(1),
  swapped: new Uint8Array(size),
});

export function layOut(pairs: readonly Pair[]): LaidOut {
  const of = (side: 'before' | 'after') => pairs.map((pair) => ({ label: pair.label, score: pair[side] }));
  const both: readonly Labelled[] = [...of('before'), ...of('after')];
  const flagged = (side: SideIndex) => pairs.map((pair) => Number(pair.flagged?.[side] ?? false));
  return {
    labels: Uint8Array.from(pairs, ({ label }) => label),
    ...compacted([...ranksOf(of('before')), ...ranksOf(of('after'))]),
    probability: both.every(({ score }) => score >= 0 && score <= 1)
      ? {
          flagged: Uint8Array.from([...flagged(0), ...flagged(1)]),
          squared: Float64Array.from(both, (sample) => brier([sample])!),
          nats: Float64Array.from(both, (sample) => logLoss([sample])!),
          bins: Uint8Array.from(both, (sample) => reliability([sample]).findIndex(({ count }) => count > 0)),
          gaps: Float64Array.from(both, ({ score, label }) => score - label),
        }
      : null,
  };
}

/** The metrics that the samples define: without both labels there is no ranking, and no F1; without any there is none. */
export function definedMetrics(
  pairs: readonly Pair[],
  { probability }: Pick<LaidOut, 'probability'>,
): ComparedMetric[] {
  const ranked: readonly ComparedMetric[] = hasBoth(pairs) ? comparedMetrics.slice(0, 3) : [];
  const probable: readonly ComparedMetric[] = ranked.length > 0 ? comparedMetrics.slice(3) : comparedMetrics.slice(4);
  return [...ranked, ...(probability && pairs.length > 0 ? probable : [])];
}

/** What ranks: the numbers that metrics.ts gives of the samples one by one. What they do not define is NaN. */
export function rankingValues(
  { labels, ranks, places }: LaidOut,
  side: SideIndex,
  { counts, swapped }: Drawn,
): Pick<MetricValues, 'auprc' | 'auroc' | 'truePositiveRateAt1'> {
  const size = labels.length;
  const positivesAt = new Uint32Array(places);
  const negativesAt = new Uint32Array(places);
  let positives = 0;
  let negatives = 0;
  for (let i = 0; i < size; i++) {
    const count = counts[i]!;
    const rank = ranks[swapped[i] === side ? i : size + i]!;
    if (labels[i] === 1) {
      positivesAt[rank]! += count;
      positives += count;
    } else {
      negativesAt[rank]! += count;
      negatives += count;
    }
  }
  let [truePositives, falsePositives, precisions, area, truePositiveRateAt1] = [0, 0, 0, 0, 0];
  for (let rank = 0; rank < places; rank++) {
    const found = positivesAt[rank]!;
    const wrong = negativesAt[rank]!;
    if (found === 0 && wrong === 0) continue;
    // Of equal scores a positive stands above half of the negatives.
    area += wrong * (truePositives + found / 2);
    truePositives += found;
    falsePositives += wrong;
    if (found > 0) precisions += (found * truePositives) / (truePositives + falsePositives);
    if (falsePositives / negatives <= 0.01) truePositiveRateAt1 = truePositives / positives;
  }
  return { auprc: precisions / positives, auroc: area / (positives * negatives), truePositiveRateAt1 };
}

/** What takes scores for probabilities, likewise; NaN where they are none. */
export function probabilityValues(
  { labels, probability }: LaidOut,
  side: SideIndex,
  { counts, swapped }: Drawn,
): Pick<MetricValues, 'f1' | 'ece' | 'brier' | 'logLoss'> {
  if (!probability) return { f1: Number.NaN, ece: Number.NaN, brier: Number.NaN, logLoss: Number.NaN };
  const { flagged, squared, nats, bins, gaps } = probability;
  const size = labels.length;
  const gapsByBin = new Float64Array(binsAtMost);
  let [total, truePositives, flaggedOrPositive, brier, logLoss] = [0, 0, 0, 0, 0];
  for (let i = 0; i < size; i++) {
    const count = counts[i]!;
    if (count === 0) continue;
    const at = swapped[i] === side ? i : size + i;
    total += count;
    truePositives += count * (labels[i]! & flagged[at]!);
    flaggedOrPositive += count * (labels[i]! + flagged[at]!);
    brier += count * squared[at]!;
    logLoss += count * nats[at]!;
    gapsByBin[bins[at]!]! += count * gaps[at]!;
  }
  return {
    f1: flaggedOrPositive === 0 ? 0 : (2 * truePositives) / flaggedOrPositive,
    ece: gapsByBin.reduce((sum, gap) => sum + Math.abs(gap), 0) / total,
    brier: brier / total,
    logLoss: logLoss / total,
  };
}

export type MetricValues = Readonly<Record<ComparedMetric, number>>;

export const valuesOf = (laidOut: LaidOut, side: SideIndex, drawn: Drawn): MetricValues => ({
  ...rankingValues(laidOut, side, drawn),
  ...probabilityValues(laidOut, side, drawn),
});

const binsAtMost = 32;

/** Twice the mean place of each sample as the scores fall. */
function ranksOf(samples: readonly Labelled[]): number[] {
  const order = samples.map((_, i) => i).sort((a, b) => samples[b]!.score - samples[a]!.score);
  const ranks = samples.map(() => 0);
  for (let first = 0; first < order.length; ) {
    const { score } = samples[order[first]!]!;
    let end = first + 1;
    while (end < order.length && samples[order[end]!]!.score === score) end++;
    for (let place = first; place < end; place++) ranks[order[place]!] = first + end - 1;
    first = end;
  }
  return ranks;
}

/** The same order, without places that nothing has. */
function compacted(ranks: readonly number[]): Pick<LaidOut, 'ranks' | 'places'> {
  const occurring = [...new Set(ranks)].sort((a, b) => a - b);
  const placeOf = new Map(occurring.map((rank, place) => [rank, place]));
  return { ranks: Uint32Array.from(ranks, (rank) => placeOf.get(rank)!), places: occurring.length };
}
