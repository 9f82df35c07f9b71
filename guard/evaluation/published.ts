import type { FormatName } from './data.ts';

/** A figure that someone published: for reference beside results, never as one. */
export interface PublishedFigure {
  readonly system: string;
  readonly auprc: number;
  readonly source: string;
}

const llamaGuardPaper = 'arXiv 2312.06674';

/** AUPRC of the overall binary question on the whole public set, by the authors and with the models that they name. */
export const publishedFigures: Partial<Readonly<Record<FormatName, readonly PublishedFigure[]>>> = {
  'openai-moderation': [
    { system: 'Llama Guard, own policy', auprc: 0.837, source: llamaGuardPaper },
    { system: "Llama Guard, the set's categories, zero-shot", auprc: 0.847, source: llamaGuardPaper },
    { system: "Llama Guard, the set's categories, few-shot", auprc: 0.872, source: llamaGuardPaper },
    { system: 'OpenAI API (2023)', auprc: 0.856, source: llamaGuardPaper },
    { system: 'Perspective API', auprc: 0.787, source: llamaGuardPaper },
    { system: 'ShieldGemma', auprc: 0.907, source: 'arXiv 2407.21772' },
  ],
  toxicchat: [
    { system: 'Llama Guard', auprc: 0.626, source: llamaGuardPaper },
    { system: 'OpenAI API (2023)', auprc: 0.588, source: llamaGuardPaper },
    { system: 'Perspective API', auprc: 0.532, source: llamaGuardPaper },
    { system: 'ToxicChat-T5', auprc: 0.885, source: 'lmsys/toxic-chat' },
  ],
};
