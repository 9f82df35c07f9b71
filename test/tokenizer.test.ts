import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assertFits, MAX_TEXT_BYTES, SentencePieceTokenizer } from '../tokenizer/index.ts';
import { PieceType, parseSentencePieceModel, type SentencePieceModel } from '../tokenizer/model-proto.ts';
import { anyTextWith } from './support/any-text.ts';
import { shared } from './support/shared.ts';

interface Oracle {
  readonly by: string;
  readonly sha256: string;
  readonly vocabularySize: number;
  readonly special: { readonly bos: number; readonly eos: number; readonly unknown: number };
  readonly encode: readonly (readonly [text: string, ids: number[], decoded: string])[];
  readonly decode: readonly (readonly [ids: number[], text: string])[];
}

const TINY = 'guard/models/tiny-guard/tokenizer.model';
const models = {
  llama2: shared.llama2Tokenizer,
  'tiny-guard': TINY,
  unigram: 'test/oracles/tokenizer-unigram.model',
};

const anyText = anyTextWith('<s>', '</s>', '<unk>', '<mask>', '[INST]');

/** The Llama 2 tokenizer may be missing, which the run then says. */
const present = Object.entries(models).filter(([, path]) => existsSync(path));

describe.each(present)('tokenizer of %s', (name, path) => {
  let oracle: Oracle;
  let model: SentencePieceModel;
  let tokenizer: SentencePieceTokenizer;

  beforeAll(async () => {
    const bytes = await readFile(path);
    oracle = JSON.parse(await readFile(`test/oracles/tokenizer-${name}.json`, 'utf8'));
    expect(createHash('sha256').update(bytes).digest('hex'), 'the oracle was made for another model').toBe(
      oracle.sha256,
    );
    model = parseSentencePieceModel(bytes);
    tokenizer = await SentencePieceTokenizer.fromBytes(bytes);
  });
  afterAll(() => tokenizer?.[Symbol.dispose]());

  const isText = (id: number): boolean => {
    const type = model.pieces[id]?.type;
    return type !== undefined && type !== PieceType.control;
  };

  it('has the special ids and the size of the reference', () => {
    const { vocabularySize, bosId, eosId, unknownId } = tokenizer;
    expect({ bos: bosId, eos: eosId, unknown: unknownId }).toEqual(oracle.special);
    expect(vocabularySize).toBe(oracle.vocabularySize);
  });

  it('encodes and decodes awkward texts as the reference does', () => {
    for (const [text, ids, decoded] of oracle.encode) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
      expect(tokenizer.count(text)).toBe(ids.length);
      expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded);
    }
  });

  it('decodes ids that no text encodes to as the reference does', () => {
    for (const [ids, text] of oracle.decode) expect(tokenizer.decode(ids), String(ids)).toBe(text);
  });

  it('takes any string for text, and nothing but text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const ids = tokenizer.encode(text);
        expect(ids.every(isText)).toBe(true);
        expect(tokenizer.count(text)).toBe(ids.length);
        expect(ids).toEqual(tokenizer.encode(text.toWellFormed()));
        // Llama's vocabularies lose nothing, except that U+2581 and a space are one.
        if (name !== 'unigram') expect(tokenizer.decode(ids)).toBe(text.toWellFormed().replaceAll('\u2581', ' '));
      }),
      { numRuns: 500 },
    );
  });

  it('encodes a text the same in any company', () => {
    fc.assert(
      fc.property(fc.array(anyText, { maxLength: 5 }), (texts) => {
        expect(tokenizer.encodeMany(texts)).toEqual(texts.map((text) => tokenizer.encode(text)));
      }),
      { numRuns: 50 },
    );
  });

  it('decodes any ids', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(model.pieces.length - 1)), (ids) => {
        expect(tokenizer.decode(ids).isWellFormed()).toBe(true);
      }),
    );
  });

  it('finds every piece by its spelling', () => {
    const pieces = model.pieces.map((_, id) => tokenizer.pieceOf(id));
    expect(pieces.map((piece) => tokenizer.idOf(piece))).toEqual([...pieces.keys()]);
    expect(tokenizer.idOf('no such piece')).toBeUndefined();
  });
});

describe('a Llama tokenizer', () => {
  let tokenizer: SentencePieceTokenizer;
  beforeAll(async () => {
    tokenizer = await SentencePieceTokenizer.fromBytes(await readFile(TINY));
  });
  afterAll(() => tokenizer[Symbol.dispose]());

  it('gives the input ids that tiny-guard was evaluated with', async () => {
    const reference = JSON.parse(await readFile('guard/models/tiny-guard/reference.json', 'utf8'));
    expect(reference.cases.length).toBeGreaterThan(0);
    for (const { name, prompt, input_ids } of reference.cases) {
      expect([tokenizer.bosId, ...tokenizer.encode(prompt)], name).toEqual(input_ids);
    }
    expect(tokenizer.idOf('\u2581safe')).toBe(reference.token_safe);
    expect(tokenizer.idOf('\u2581unsafe')).toBe(reference.token_unsafe);
  });

  it.each(['<s>', '</s>', '<unk>', '<0x0A>', '<|eot_id|>'])('reads %s as text', (text) => {
    const ids = tokenizer.encode(text);
    expect(ids).not.toContain(tokenizer.idOf(text) ?? -1);
    expect(ids.length).toBeGreaterThan(1);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it('encodes the empty string to nothing', () => {
    expect(tokenizer.encode('')).toEqual([]);
    expect(tokenizer.count('')).toBe(0);
    expect(tokenizer.encodeMany([])).toEqual([]);
    expect(tokenizer.decode([])).toBe('');
  });

  it('reads a lone surrogate as U+FFFD and keeps a pair whole', () => {
    expect(tokenizer.encode('a\ud800b')).toEqual(tokenizer.encode('a\ufffdb'));
    expect(tokenizer.encode('\udc00\ud800')).toEqual(tokenizer.encode('\ufffd\ufffd'));
    expect(tokenizer.decode(tokenizer.encode('\ud83d\ude00'))).toBe('\u{1f600}');
  });

  it('joins byte tokens into characters, and marks what is cut short', () => {
    const bytes = (...values: number[]) =>
      values.map((value) => tokenizer.idOf(`<0x${value.toString(16).toUpperCase().padStart(2, '0')}>`)!);
    expect(tokenizer.decode(bytes(0xe2, 0x82, 0xac))).toBe('€');
    expect(tokenizer.decode(bytes(0xf0, 0x9f, 0x98, 0x80, 0x41))).toBe('\u{1f600}A');
    expect(tokenizer.decode(bytes(0xe2, 0x82))).toBe('\ufffd\ufffd');
    expect(tokenizer.decode(bytes(0xed, 0xa0, 0x80))).toBe('\ufffd\ufffd\ufffd');
    expect(tokenizer.decode(bytes(0xc0, 0x80, 0x0a))).toBe('\ufffd\ufffd\n');
    expect(tokenizer.decode([...bytes(0xe2), tokenizer.bosId, ...bytes(0x82, 0xac)])).toBe('\ufffd\ufffd\ufffd');
  });

  it.each([-1, 4096, 0.5, Number.NaN])('refuses id %d', (id) => {
    const error = expect.objectContaining({
      code: 'token-out-of-range',
      message: expect.stringContaining('0 to 4095'),
    });
    expect(() => tokenizer.decode([5, id])).toThrow(error);
    expect(() => tokenizer.pieceOf(id)).toThrow(error);
  });

  it.each([undefined, null, 7, {}, new Uint8Array(2)])('refuses to encode %o', (value) => {
    expect(() => tokenizer.encode(value as never)).toThrow(TypeError);
    expect(() => tokenizer.count(value as never)).toThrow('expected a string');
  });

  it('must not have more pieces than the model has rows', () => {
    expect(() => assertFits(tokenizer, 4096)).not.toThrow();
    expect(() => assertFits(tokenizer, 4100)).not.toThrow();
    expect(() => assertFits(tokenizer, 4095)).toThrow(
      expect.objectContaining({ code: 'tokenizer-mismatch', message: expect.stringMatching(/4096 pieces.*4095 rows/) }),
    );
  });
});

describe('resources', () => {
  it('takes a megabyte, in time that grows with its length', async () => {
    using tokenizer = await SentencePieceTokenizer.fromBytes(await readFile(present[0]![1]));
    const seconds = (text: string): number => {
      const start = performance.now();
      expect(tokenizer.count(text)).toBeGreaterThan(0);
      return (performance.now() - start) / 1000;
    };
    for (const unit of ['a', 'hello w\u00f6rld 12 ']) {
      const quarter = unit.repeat(2 ** 18 / unit.length);
      seconds(quarter);
      // Quadratic would be 16 times; the rest is for a busy machine.
      expect(seconds(quarter.repeat(4))).toBeLessThan(10 * seconds(quarter) + 0.5);
    }
    expect(tokenizer.heapBytes).toBeLessThan(300 * 2 ** 20);
  });

  it('refuses a text that WebAssembly could not hold, and goes on', async () => {
    using tokenizer = await SentencePieceTokenizer.fromBytes(await readFile(TINY));
    const error = expect.objectContaining({ code: 'text-too-long' });
    expect(() => tokenizer.encode('a'.repeat(MAX_TEXT_BYTES + 1))).toThrow(error);
    expect(() => tokenizer.encode('\u00e9'.repeat(MAX_TEXT_BYTES / 2 + 1))).toThrow(error);
    expect(tokenizer.decode(tokenizer.encode('still here'))).toBe('still here');
  });

  it('refuses everything after its disposal, which may be repeated', async () => {
    const tokenizer = await SentencePieceTokenizer.fromBytes(await readFile(TINY));
    tokenizer[Symbol.dispose]();
    tokenizer[Symbol.dispose]();
    const calls = [
      () => tokenizer.encode('a'),
      () => tokenizer.count('a'),
      () => tokenizer.encodeMany(['a']),
      () => tokenizer.decode([5]),
      () => tokenizer.pieceOf(5),
      () => tokenizer.idOf('a'),
    ];
    for (const call of calls) expect(call).toThrow(expect.objectContaining({ code: 'disposed' }));
  });

  it('leaves the handlers of the process as they were', async () => {
    const own = (reason: unknown) => {
      throw reason;
    };
    const handlers = () => [process.listeners('uncaughtException'), process.listeners('unhandledRejection')];
    process.on('unhandledRejection', own);
    try {
      const before = handlers();
      const bytes = await readFile(TINY);
      const tokenizers = await Promise.all([1, 2].map(() => SentencePieceTokenizer.fromBytes(bytes)));
      for (const tokenizer of tokenizers) tokenizer[Symbol.dispose]();
      expect(handlers()).toEqual(before);
    } finally {
      process.off('unhandledRejection', own);
    }
  });
});
