import type { Normalizer, PreTokenizer } from '@huggingface/tokenizers';
import { TokenizerError } from '../errors.ts';
import { orderMarks } from './marks.ts';
import { byteLevelSplit } from './patterns.ts';
import { unsupported } from './read-json.ts';
import type { Workings } from './schema.ts';

/** How a text comes apart into the words whose symbols are merged. */
export interface Pipeline {
  /** What is merged first: bytes, or characters with bytes for those that have no piece. */
  readonly symbols: 'bytes' | 'characters';
  /** Whether the first space of decoded text is not its own. */
  readonly stripsSpace: boolean;
  /**
   * @param atStart whether a prompt begins with the text
   * @throws {TokenizerError} `text-too-long`
   */
  split(text: string, atStart: boolean): readonly string[];
}

/**
 * What a tokenizer.json does with a text before its pieces are merged. The steps are those of @huggingface/tokenizers, but
 * for bytes, which are dealt with where they are merged.
 *
 * @throws {TokenizerError} `tokenizer-unsupported` for steps that do not go together
 */
export async function openPipeline(file: string, workings: Workings): Promise<Pipeline> {
  const normalizers = stepsOf(workings.normalizer);
  const steps = stepsOf(workings.pre_tokenizer);
  const symbols = steps.some(({ type }) => type === 'ByteLevel') ? 'bytes' : 'characters';
  assertLossless(file, symbols, workings);

  const splits = steps.flatMap((step): Step[] => {
    if (step.type !== 'ByteLevel') return [step];
    if (!step.use_regex) return [];
    return [{ type: 'Split', ...byteLevelSplit }];
  });
  const { SequenceNormalizer, SequencePreTokenizer } = await import('@huggingface/tokenizers');
  const normalizer: Normalizer = new SequenceNormalizer({ normalizers });
  const preTokenizer: PreTokenizer = new SequencePreTokenizer({ pretokenizers: splits });
  const composes = normalizers.some(({ type }) => type === 'NFC');
  return {
    symbols,
    stripsSpace: stepsOf(workings.decoder).some(({ type }) => type === 'Strip'),
    split(text, atStart) {
      try {
        const normalised = normalizer.normalize(composes ? orderMarks(text) : text);
        return preTokenizer.pre_tokenize(normalised, { section_index: atStart ? 0 : 1 });
      } catch (cause) {
        // A regular expression's stack has room for some millions of characters in one word.
        if (!(cause instanceof RangeError)) throw cause;
        throw new TokenizerError(
          'text-too-long',
          `a text of ${text.length} characters is more than regular expressions can split; split it into parts`,
          { cause },
        );
      }
    },
  };
}

/** A part of a tokenizer.json. */
interface Step {
  readonly type: string;
  readonly use_regex?: boolean;
}

/** The steps of a sequence; a step alone is one. */
function stepsOf(step: Step | null | undefined): readonly Step[] {
  if (!step) return [];
  return step.type === 'Sequence' ? (Object.values(step).find(Array.isArray) as Step[]) : [step];
}

/** Two ways keep all of a text: GPT-2's, and SentencePiece's as transformers convert it. */
function assertLossless(file: string, symbols: Pipeline['symbols'], workings: Workings): void {
  const names = (steps: readonly Step[]) => steps.map(({ type }) => type).join(', ') || 'nothing';
  const before = names(stepsOf(workings.normalizer).filter(({ type }) => type !== 'NFC'));
  const after = names(stepsOf(workings.decoder));
  const expect = (field: string, came: string, ways: readonly string[]) => {
    if (ways.includes(came)) return;
    throw unsupported(file, field, `is ${came}, but with these other steps it must be ${ways.join(' or ')}`);
  };
  if (symbols === 'bytes') {
    expect('normalizer', before, ['nothing']);
    expect('decoder', after, ['ByteLevel']);
    expect('model.byte_fallback', String(workings.model.byte_fallback), ['false']);
    return;
  }
  const ownSpaces = workings.pre_tokenizer?.type === 'Metaspace';
  expect('normalizer', before, ownSpaces ? ['nothing'] : ['Prepend, Replace', 'Replace']);
  expect('decoder', after, ['Replace, ByteFallback, Fuse, Strip', 'Replace, ByteFallback, Fuse']);
  expect('model.byte_fallback', String(workings.model.byte_fallback), ['true']);
}
