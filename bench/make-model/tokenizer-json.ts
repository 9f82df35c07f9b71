/**
 * Hugging Face tokenizers in the layouts that models are published with, for any vocabulary: special tokens, steps and
 * files are the published ones, pieces are trained.
 */
import { openPipeline } from '../../tokenizer/hugging-face/pipeline.ts';
import { spaceSymbol, workings } from '../../tokenizer/hugging-face/schema.ts';
import { byteLetters, byteNames } from '../../tokenizer/hugging-face/vocabulary.ts';
import { jsonText } from './config.ts';
import { flags, type TokenizerFamily } from './tokenizer-families.ts';
import { trainPieces } from './train-pieces.ts';
import { trainingText } from './training-text.ts';

/**
 * The files of a tokenizer whose ids, with those that the family leaves unused, fill a vocabulary.
 *
 * @param maxLength tokens that the model was made for
 * @returns undefined where the vocabulary has no room for bytes and special tokens
 */
export async function tokenizerFiles(
  family: TokenizerFamily,
  vocabularySize: number,
  maxLength: number,
): Promise<ReadonlyMap<string, string> | undefined> {
  const { first, last, unused, work, front, pairs, config, specialTokensMap } = family;
  const taken = new Set([...first, ...last].map(({ content }) => content));
  const room = vocabularySize - first.length - last.length - unused;
  const ofBytes = work.model.byte_fallback !== true;
  const { words, alphabet } = await trainingWords(family, withoutAny(taken, trainingText), ofBytes);
  const named = ofBytes ? [] : byteNames;
  if (room < alphabet.length + named.length) return undefined;
  const { pieces, merges } = trainPieces({
    words,
    alphabet,
    count: room - named.length,
    // No published piece of SentencePiece's holds the end of a word and the beginning of the next.
    joins: (left, right) =>
      !taken.has(left + right) && (ofBytes || !right.includes(spaceSymbol) || left.replaceAll(spaceSymbol, '') === ''),
  });
  // SentencePiece numbers bytes first, then what was merged, then characters.
  const characters = ofBytes ? pieces : [...pieces.slice(alphabet.length), ...alphabet];
  const spelt = [...first.map(({ content }) => content), ...named, ...characters];
  const added = [
    ...first.map((token, id) => ({ id, ...token })),
    ...last.map((token, i) => ({ id: spelt.length + i, ...token })),
  ];
  const idOf = (content: string) => added.find((token) => token.content === content)!.id;
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added.map(({ id, content, special }) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special,
    })),
    normalizer: work.normalizer,
    pre_tokenizer: work.pre_tokenizer,
    post_processor: front === undefined ? byteLevelOffsets : template(front, idOf(front)),
    decoder: work.decoder,
    model: {
      ...work.model,
      vocab: Object.fromEntries(spelt.map((piece, id) => [piece, id])),
      merges: pairs ? merges : merges.map((pair) => pair.join(' ')),
    },
  };
  return new Map([
    ['tokenizer.json', JSON.stringify(tokenizer, null, 2)],
    [
      'tokenizer_config.json',
      jsonText({
        ...config,
        added_tokens_decoder: Object.fromEntries(
          added.map(({ id, content, special }) => [id, { content, special, ...flags }]),
        ),
        model_max_length: maxLength,
      }),
    ],
    ['special_tokens_map.json', jsonText(specialTokensMap)],
  ]);
}

const byteLevelOffsets = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };

function template(token: string, id: number) {
  const own = { SpecialToken: { id: token, type_id: 0 } };
  const text = { Sequence: { id: 'A', type_id: 0 } };
  const second = [{ SpecialToken: { id: token, type_id: 1 } }, { Sequence: { id: 'B', type_id: 1 } }];
  return {
    type: 'TemplateProcessing',
    single: [own, text],
    pair: [own, text, ...second],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

/** What a text is without the spellings of added tokens, so that no piece is spelt like one. */
const withoutAny = (taken: ReadonlySet<string>, text: string): string =>
  [...taken].reduce((rest, content) => rest.replaceAll(content, ''), text);

/** The words that a text comes apart into, as symbols, and what they are made of. */
async function trainingWords(family: TokenizerFamily, text: string, ofBytes: boolean) {
  if (ofBytes) {
    const pipeline = await openPipeline('tokenizer.json', workings.parse(family.work));
    const utf8 = new TextEncoder();
    const lettersOf = (word: string) => Array.from(utf8.encode(word), (byte) => byteLetters[byte]!);
    // GPT-2 numbers bytes so: those that print as themselves first.
    return { words: counted(pipeline.split(text, true), lettersOf), alphabet: [...byteLetters].sort() };
  }
  // No published piece of SentencePiece's holds a line feed, and rare characters have none.
  const parts = text.replaceAll(' ', spaceSymbol).match(new RegExp(`${spaceSymbol}*[^\\n\\t${spaceSymbol}]+`, 'g'))!;
  const frequent = [...counted([...parts.join('')], (character) => [character])].filter(([, times]) => times > 1);
  const alphabet = [...new Set([spaceSymbol, ...frequent.map(([[character]]) => character!)])];
  const known = parts.filter((part) => [...part].every((character) => alphabet.includes(character)));
  return { words: counted(known, (word) => [...word]), alphabet };
}

/** How often each word is there, by its symbols. */
function counted(words: readonly string[], symbolsOf: (word: string) => readonly string[]) {
  const times = new Map<string, number>();
  for (const word of words) times.set(word, (times.get(word) ?? 0) + 1);
  return new Map(Array.from(times, ([word, count]) => [symbolsOf(word), count]));
}
