import { type Answer, logSum } from './answer.ts';
import type { Label } from './formats/index.ts';
import type { MessageSuspicion } from './hostile/index.ts';
import type { Role } from './messages.ts';
import type { OrderSpread } from './orders.ts';
import type { Action } from './policy.ts';

/** What the first verdict token says. */
export interface Score {
  /** unsafe / (safe + unsafe): what thresholds and calibration work on. */
  readonly score: number;
  /** Softmax over the whole vocabulary at the unsafe token. */
  readonly unsafeProbability: number;
  /** safe + unsafe over the whole vocabulary: near 1 where the model answered the question at all. */
  readonly mass: number;
  /**
   * The probability that the model would have written what was put into its mouth before the verdict; low where the
   * prompt is not in the format that it was trained on. Absent where nothing was.
   */
  readonly forced?: number;
  /** The probability of each verdict, where there are more than two. */
  readonly labels?: Readonly<Record<string, number>>;
}

/** Scores from the log-probabilities of the verdicts under the softmax over the whole vocabulary. */
export function scoreOf({ forced, labels }: Answer): Score {
  const of = (means: Label['means']) => logSum(labels.filter(({ label }) => label.means === means).map(logOf));
  const [logSafe, logUnsafe] = [of('safe'), of('unsafe')];
  const unsafeProbability = Math.exp(logUnsafe);
  return {
    score: 1 / (1 + Math.exp(logSafe - logUnsafe)),
    unsafeProbability,
    mass: Math.exp(logSafe) + unsafeProbability,
    ...(forced === undefined ? {} : { forced }),
    ...(labels.length > 2
      ? { labels: Object.fromEntries(labels.map((each) => [each.label.name, Math.exp(logOf(each))])) }
      : {}),
  };
}

const logOf = ({ logProbability }: Answer['labels'][number]): number => logProbability;

export interface CategoryScore {
  readonly code: string;
  readonly name: string;
  readonly score: number;
  /** The score after calibration; absent where the category has none. */
  readonly calibrated?: number;
  readonly violated: boolean;
  /** Where the policy says what to do by category. */
  readonly action?: Action;
}

/** A stretch of a conversation. Offsets are UTF-16 units of the messages as they came. */
export interface Excerpt {
  readonly from: { readonly messageIndex: number; readonly offset: number };
  /** Behind its last character. */
  readonly to: { readonly messageIndex: number; readonly offset: number };
}

/** The score of a conversation whose words are disguised: as it was written, and with its words normalised. */
export interface Disguise {
  readonly written: number;
  readonly normalised: number;
}

/** The answer to one check; the fields of `llama-guard check --json`. */
export interface Assessment extends Score {
  /**
   * Whether `calibrated ?? score` reaches the threshold; under a policy with thresholds or actions of its own, whether
   * `action` is other than `allow`.
   */
  readonly flagged: boolean;
  /** What the policy says to do, where it says so by category. */
  readonly action?: Action;
  /** The score after calibration; null where there is none. */
  readonly calibrated: number | null;
  readonly threshold: number;
  readonly role: Role;
  /** Empty where categories were not asked for. */
  readonly categories: readonly CategoryScore[];
  /** How far several orders of the categories disagree, where they were asked for; the scores are then means. */
  readonly orders?: OrderSpread;
  /** How many windows the conversation was read in; the worst decided. */
  readonly windows: number;
  /** What that one shows, where there are several. */
  readonly worstWindow?: Excerpt;
  /** Where words were disguised: what either spelling scores. The worse one decided. */
  readonly disguise?: Disguise;
  /** What the text tried. */
  readonly suspicions: readonly MessageSuspicion[];
  readonly model: string;
  /** The name of the adapter that it was judged with, where one was asked for. */
  readonly adapter?: string;
  readonly device: 'webgpu' | 'cpu';
  /** Tokens of all windows and spellings, and how many of them were not computed because an earlier prompt began with them. */
  readonly tokens: { readonly prompt: number; readonly cached: number };
  /** From the call to the answer, waiting for other checks included. */
  readonly milliseconds: { readonly total: number };
}
