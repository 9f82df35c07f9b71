import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { embeddedModel } from '../../guard/node/load.ts';
import { parseSentencePieceModel } from '../../tokenizer/model-proto.ts';
import { jsonText } from './config.ts';
import { tokenizerFamilies } from './tokenizer-families.ts';
import { tokenizerFiles } from './tokenizer-json.ts';

/** Which tokenizer a model comes with. */
export type TokenizerKind = 'sentencepiece' | 'llama-3' | 'qwen';

/** What a tokenizer has to fit. */
export interface TokenizerRequest {
  readonly kind: TokenizerKind;
  /** Rows of the embeddings: ids are below it. */
  readonly vocabularySize: number;
  /** Tokens that the model was made for. */
  readonly maxLength: number;
}

/** A folder's files by name. */
export type Files = ReadonlyMap<string, string | Uint8Array>;

/** Makes the tokenizer's files, `tokenizer_config.json` among them; undefined where it has none that fits. */
export type MakeTokenizer = (request: TokenizerRequest) => Promise<Files | undefined>;

/**
 * What a vocabulary is scaled down to at most: the pieces of the embedded model's tokenizer, or the bytes and special
 * tokens of a trained one with some room for merges.
 */
export const smallestVocabularies: Readonly<Record<TokenizerKind, number>> = {
  sentencepiece: 4096,
  'llama-3': 1024,
  qwen: 1024,
};

/**
 * A `tokenizer.model` with the files that LlamaTokenizer puts beside it.
 *
 * @param path of the `tokenizer.model`
 * @returns what makes them for kind 'sentencepiece' where the vocabulary has room for its pieces
 * @throws TokenizerError where the file is none
 */
export const sentencePieceTokenizer =
  (path = join(embeddedModel, 'tokenizer.model')): MakeTokenizer =>
  async ({ kind, vocabularySize, maxLength }) => {
    if (kind !== 'sentencepiece') return undefined;
    const bytes = await readFile(path);
    const { pieces, bosId, eosId, unknownId } = parseSentencePieceModel(bytes);
    if (pieces.length > vocabularySize) return undefined;
    const special = { unk_token: unknownId, bos_token: bosId, eos_token: eosId };
    const shared = { lstrip: false, normalized: false, rstrip: false, single_word: false };
    const text = (id: number) => pieces[id]!.text;
    const each = <Value>(value: (id: number) => Value) =>
      Object.fromEntries(Object.entries(special).map(([role, id]) => [role, value(id)]));
    return new Map<string, string | Uint8Array>([
      ['tokenizer.model', bytes],
      [
        'tokenizer_config.json',
        jsonText({
          ...each(text),
          add_bos_token: true,
          add_eos_token: false,
          added_tokens_decoder: Object.fromEntries(
            Object.values(special).map((id) => [id, { content: text(id), special: true, ...shared }]),
          ),
          clean_up_tokenization_spaces: false,
          legacy: false,
          model_max_length: maxLength,
          pad_token: null,
          sp_model_kwargs: {},
          tokenizer_class: 'LlamaTokenizer',
        }),
      ],
      ['special_tokens_map.json', jsonText(each((id) => ({ content: text(id), ...shared })))],
    ]);
  };

/** Makes `tokenizer.json` and what lies beside it, with trained pieces, for the kinds that come so. */
export const trainedTokenizer: MakeTokenizer = async ({ kind, vocabularySize, maxLength }) =>
  kind === 'sentencepiece' ? undefined : tokenizerFiles(tokenizerFamilies[kind], vocabularySize, maxLength);

/** The first tokenizer that fits of several makers. */
export const firstOf =
  (...makers: readonly MakeTokenizer[]): MakeTokenizer =>
  async (request) => {
    for (const make of makers) {
      const files = await make(request);
      if (files) return files;
    }
    return undefined;
  };
