import * as z from 'zod';
import { isObject } from '../../kernels/json.ts';
import { linearPatterns } from './patterns.ts';

/**
 * What of a tokenizer.json is computed here, as the serialisation of Hugging Face's tokenizers names it. What it says
 * beyond that, even in a field, is refused: it would change ids.
 */

/** How a space is written inside a piece: U+2581. */
export const spaceSymbol = '\u2581';

const oneOf = <const Options extends readonly [z.core.$ZodTypeDiscriminable, ...z.core.$ZodTypeDiscriminable[]]>(
  names: string,
  options: Options,
) => z.discriminatedUnion('type', options, { error: `its type must be ${names}` });

const nfc = z.strictObject({ type: z.literal('NFC') });
const prepend = z.strictObject({ type: z.literal('Prepend'), prepend: z.literal(spaceSymbol) });
const replaceSpaces = z.strictObject({
  type: z.literal('Replace'),
  pattern: z.strictObject({ String: z.literal(' ') }),
  content: z.literal(spaceSymbol),
});
const simpleNormalizers = [nfc, prepend, replaceSpaces] as const;

const normalizer = oneOf('NFC, Prepend, Replace or Sequence', [
  ...simpleNormalizers,
  z.strictObject({
    type: z.literal('Sequence'),
    normalizers: z.array(oneOf('NFC, Prepend or Replace', simpleNormalizers)),
  }),
]);

const byteLevel = z.strictObject({
  type: z.literal('ByteLevel'),
  add_prefix_space: z.literal(false, { error: 'a space put before texts is not supported' }),
  // Of offsets, which are not kept.
  trim_offsets: z.boolean().optional(),
  use_regex: z.boolean().default(true),
});
const split = z
  .strictObject({
    type: z.literal('Split'),
    pattern: z.strictObject({
      Regex: z.string().refine((regex) => linearPatterns.has(regex), {
        error: `patterns are taken from strangers only where they are known to run in linear time: those of ${[...linearPatterns.values()].join(', ')}`,
      }),
    }),
    behavior: z.enum(['Isolated', 'Removed']),
    invert: z.boolean(),
  })
  // Known patterns match all of a text, so that both keep every match and drop nothing.
  .refine(({ behavior, invert }) => invert === (behavior === 'Removed'), {
    error: "'behavior' must be Isolated, or Removed and inverted: others drop text",
  });
const metaspace = z.strictObject({
  type: z.literal('Metaspace'),
  replacement: z.literal(spaceSymbol),
  prepend_scheme: z.enum(['always', 'first', 'never']),
  split: z.literal(false, { error: 'texts that are split at spaces are not supported' }),
});

const preTokenizer = oneOf('ByteLevel, Metaspace or Sequence', [
  byteLevel,
  metaspace,
  z.strictObject({
    type: z.literal('Sequence'),
    pretokenizers: z
      .array(oneOf('Split or ByteLevel', [split, byteLevel]))
      .refine((steps) => steps.findIndex(({ type }) => type === 'ByteLevel') === steps.length - 1, {
        error: 'ByteLevel must be the last step, and no other',
      }),
  }),
]);

const sequenceId = z.strictObject({ id: z.enum(['A', 'B']), type_id: z.number() });
const tokenId = z.strictObject({ id: z.string(), type_id: z.number() });
const templateItem = z.union([z.strictObject({ SpecialToken: tokenId }), z.strictObject({ Sequence: sequenceId })]);
const template = z.strictObject({
  type: z.literal('TemplateProcessing'),
  single: z.array(templateItem),
  // For two texts at once, which guards do not have.
  pair: z.unknown(),
  special_tokens: z.record(
    z.string(),
    z.strictObject({ id: z.string(), ids: z.array(z.int()), tokens: z.array(z.string()) }),
  ),
});
// Here it only says how offsets are trimmed.
const byteLevelOffsets = z.looseObject({ type: z.literal('ByteLevel') });
const postProcessor = oneOf('ByteLevel, TemplateProcessing or Sequence', [
  byteLevelOffsets,
  template,
  z.strictObject({
    type: z.literal('Sequence'),
    processors: z.array(oneOf('ByteLevel or TemplateProcessing', [byteLevelOffsets, template])),
  }),
]);

const decoder = oneOf('ByteLevel or Sequence', [
  byteLevelOffsets,
  z.strictObject({
    type: z.literal('Sequence'),
    decoders: z.array(
      oneOf('Replace, ByteFallback, Fuse or Strip', [
        z.strictObject({
          type: z.literal('Replace'),
          pattern: z.strictObject({ String: z.literal(spaceSymbol) }),
          content: z.literal(' '),
        }),
        z.strictObject({ type: z.literal('ByteFallback') }),
        z.strictObject({ type: z.literal('Fuse') }),
        z.strictObject({
          type: z.literal('Strip'),
          content: z.literal(' '),
          start: z.literal(1),
          stop: z.literal(0),
        }),
      ]),
    ),
  }),
]);

const noAffix = z.literal('').nullish();

/** All but the vocabulary, its merges and the added tokens. */
export const workings = z.object({
  normalizer: normalizer.nullish(),
  pre_tokenizer: preTokenizer.nullish(),
  post_processor: postProcessor.nullish(),
  decoder: decoder,
  model: z.object({
    // Files from before 2021 do not name it.
    type: z.literal('BPE').optional(),
    dropout: z.literal(0).nullish(),
    unk_token: z.string().nullish(),
    continuing_subword_prefix: noAffix,
    end_of_word_suffix: noAffix,
    byte_fallback: z.boolean().default(false),
    ignore_merges: z.boolean().default(false),
  }),
});
export type Workings = z.infer<typeof workings>;

const words = z.string().min(1).max(256);

export const addedToken = z.object({
  content: words.refine((text) => text.isWellFormed(), { error: 'it must be text' }),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  single_word: z.literal(false, { error: 'tokens that must be words by themselves are not supported' }).default(false),
  special: z.boolean().default(false),
});

/** As they come: they are checked entry by entry where they are read, and there are hundreds of thousands of them. */
const vocab = z.custom<Readonly<Record<string, unknown>>>(isObject, { error: 'it must be an object' });
const merges = z.custom<readonly unknown[]>(Array.isArray, { error: 'it must be an array' });

export const tokenizerJson = z.looseObject({
  added_tokens: z.array(addedToken.extend({ id: z.int().nonnegative() })).default([]),
  model: z.looseObject({ vocab, merges }),
});
export type TokenizerJson = z.infer<typeof tokenizerJson>;
