import type { FormatName } from './data.ts';
import type { Evaluation } from './figures.ts';
import type { Run } from './run.ts';

/** A figure that someone published: for reference beside results, never as one. */
export interface PublishedFigure {
  readonly system: string;
  readonly auprc: number;
  readonly source: string;
}

/** What was published of a set, and what of the set it was measured on. */
interface PublishedSet {
  /** All of its samples. */
  readonly samples: number;
  /** Whether samples of unknown label were taken for safe. */
  readonly assumeSafe: boolean;
  readonly figures: readonly PublishedFigure[];
}

const llamaGuardPaper = 'arXiv 2312.06674';

/** AUPRC of the overall binary question on the whole public set, by the authors and with the models that they name. */
const publishedSets: Partial<Readonly<Record<FormatName, PublishedSet>>> = {
  'openai-moderation': {
    samples: 1680,
    assumeSafe: true,
    figures: [
      { system: 'Llama Guard, own policy', auprc: 0.837, source: llamaGuardPaper },
      { system: "Llama Guard, the set's categories, zero-shot", auprc: 0.847, source: llamaGuardPaper },
      { system: "Llama Guard, the set's categories, few-shot", auprc: 0.872, source: llamaGuardPaper },
      { system: 'OpenAI API (2023)', auprc: 0.856, source: llamaGuardPaper },
      { system: 'Perspective API', auprc: 0.787, source: llamaGuardPaper },
      { system: 'ShieldGemma', auprc: 0.907, source: 'arXiv 2407.21772' },
    ],
  },
  // The test split, which is labelled throughout.
  toxicchat: {
    samples: 5083,
    assumeSafe: false,
    figures: [
      { system: 'Llama Guard', auprc: 0.626, source: llamaGuardPaper },
      { system: 'OpenAI API (2023)', auprc: 0.588, source: llamaGuardPaper },
      { system: 'Perspective API', auprc: 0.532, source: llamaGuardPaper },
      { system: 'ToxicChat-T5', auprc: 0.885, source: 'lmsys/toxic-chat' },
    ],
  },
};

/** Published figures that a run may stand beside, or why it may not; undefined of a set that none are known of. */
export function publishedBeside(
  { data }: Pick<Run, 'data'>,
  { samples: { safe, unsafe } }: Pick<Evaluation, 'samples'>,
): readonly PublishedFigure[] | string | undefined {
  const set = publishedSets[data.format];
  if (set === undefined) return undefined;
  const { samples, assumeSafe, figures } = set;
  const labelled = safe + unsafe;
  if (labelled === samples && (data.assumeSafe || !assumeSafe)) return figures;
  const protocol = assumeSafe ? ', with what no known label calls unsafe taken for safe (--assume-safe)' : '';
  return (
    `Published figures are not shown beside this run's: they are of all ${samples} samples of the set${protocol}, and ` +
    `this run has ${labelled} of known label.`
  );
}
