import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ModelError, SessionError } from '../engine/errors.ts';
import { decodeToF16, decodeToF32, floatDTypes } from '../engine/safetensors/convert.ts';
import { bitsPerElement, parseHeader, readDataStart } from '../engine/safetensors/header.ts';
import { type ByteFile, SafetensorsSource } from '../engine/safetensors/source.ts';
import { ContractError } from '../kernels/errors.ts';
import { f16ToF32, f32ToF16 } from '../kernels/f16.ts';
import { seededRandom } from '../kernels/random.ts';
import { encodeFloats, encodeSafetensors, joinSafetensors, normals } from './support/model-files.ts';
import { readWithPeer } from './support/safetensors-peer.ts';

const parse = (bytes: Uint8Array) => parseHeader(bytes, bytes.length, 'x.safetensors');
const bytesOf = (count: number) => Uint8Array.from({ length: count }, (_, i) => i);

/** A file of one header and `dataBytes` bytes of tensors. */
function fileOf(header: unknown, dataBytes = 16): Uint8Array {
  return joinSafetensors(header, [bytesOf(dataBytes)]);
}

const entry = (begin: number, end: number, dtype = 'F32', shape: unknown = [(end - begin) / 4]) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe('a valid header', () => {
  test('gives names, dtypes, shapes, places in the file and metadata', () => {
    const bytes = encodeSafetensors(
      {
        'a.weight': { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) },
        scalar: { dtype: 'BF16', shape: [], data: new Float32Array(1) },
        empty: { dtype: 'F16', shape: [0, 5], data: new Float32Array(0) },
      },
      { metadata: { format: 'pt' } },
    );
    const { tensors, metadata, dataStart } = parse(bytes);
    expect(dataStart % 8).toBe(0);
    expect(metadata).toEqual({ format: 'pt' });
    expect([...tensors.values()]).toEqual([
      { name: 'a.weight', dtype: 'F32', shape: [2, 3], begin: dataStart, end: dataStart + 24 },
      { name: 'scalar', dtype: 'BF16', shape: [], begin: dataStart + 24, end: dataStart + 26 },
      { name: 'empty', dtype: 'F16', shape: [0, 5], begin: dataStart + 26, end: dataStart + 26 },
    ]);
  });

  test('may list the tensors in any order; they come in the order of their bytes', () => {
    expect([...parse(fileOf({ b: entry(8, 16), a: entry(0, 8) })).tensors.keys()]).toEqual(['a', 'b']);
  });

  test('may hold no tensor', () => {
    expect(parse(fileOf({}, 0)).tensors.size).toBe(0);
  });

  test('may use every dtype of the format, those of less than a byte too', () => {
    for (const [dtype, bits] of Object.entries(bitsPerElement)) {
      expect(parse(fileOf({ a: entry(0, bits, dtype, [8]) }, bits)).tensors.get('a')?.dtype).toBe(dtype);
    }
  });

  test('needs no more than the beginning of the file', () => {
    const bytes = fileOf({ a: entry(0, 16) });
    expect(parseHeader(bytes.subarray(0, -16), bytes.length, 'x').tensors.get('a')?.end).toBe(bytes.length);
  });

  test('may name a tensor as JavaScript names its own things', () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
    const header = `{${names.map((name, i) => `"${name}":${JSON.stringify(entry(4 * i, 4 * i + 4))}`).join()}}`;
    const { tensors, metadata } = parse(fileOf(header));
    expect([...tensors.keys()]).toEqual(names);
    expect(tensors.get('__proto__')?.shape).toEqual([1]);
    expect(metadata).toEqual({});
    expect(({} as Record<string, unknown>).shape).toBeUndefined();
  });
});

function lengthFirst(length: bigint, rest = '{}'): Uint8Array {
  const bytes = new Uint8Array(8 + rest.length);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  bytes.set(Buffer.from(rest), 8);
  return bytes;
}

describe('a malformed file', () => {
  const big = Number.MAX_SAFE_INTEGER;
  const a = (text: string) => fileOf(`{"a":${text}}`);
  test.each<[string, Uint8Array, RegExp]>([
    ['nothing at all', new Uint8Array(0), /only 0 bytes/],
    ['fewer bytes than the header length takes', new Uint8Array(7), /only 7 bytes/],
    ['a header longer than the file', lengthFirst(3n), /3 bytes long.*has 10/],
    ['a header longer than the format allows', lengthFirst(100_000_001n), /100000000/],
    ['a header length of 2^64 - 1', lengthFirst(2n ** 64n - 1n), /18446744073709551615/],
    ['an empty header', lengthFirst(0n), /begin with '\{'/],
    ['a Git LFS pointer', Buffer.from('version 1 of a pointer to a large file, not the file'), /git lfs pull/],
    ['a header that is no JSON', fileOf('{"a":'), /must be JSON/],
    ['a header that begins with a space', fileOf(' {}', 0), /begin with '\{'/],
    ['a list for a header', fileOf('[]', 0), /begin with '\{'/],
    ['text after the header', fileOf('{} x', 0), /must be JSON/],
    ['a header that is no UTF-8', joinSafetensors(`{"a":1}`, []).map((byte) => (byte === 0x61 ? 0xff : byte)), /UTF-8/],
    ['a name twice', a(`${JSON.stringify(entry(0, 16))},"a":${JSON.stringify(entry(0, 16))}`), /"a" twice/],
    [
      'a name twice, once escaped',
      a(`${JSON.stringify(entry(0, 16))},"\\u0061":${JSON.stringify(entry(0, 16))}`),
      /twice/,
    ],
    ['a field twice', a('{"dtype":"F32","shape":[4],"shape":[2],"data_offsets":[0,16]}'), /"shape" twice/],
    ['deep nesting', a(`${'['.repeat(1e6)}${']'.repeat(1e6)}`), /nested deeper/],
    ['a string that never ends', fileOf('{"a'), /must be JSON/],
    ['an entry that is no object', a('7'), /"a".*object.*7/],
    ['an entry of null', a('null'), /"a".*object.*null/],
    ['an unknown dtype', fileOf({ a: entry(0, 16, 'F128') }), /"a".*F64.*F128/],
    ['a dtype out of a prototype', fileOf({ a: entry(0, 16, 'toString') }), /"toString"/],
    ['no dtype', a('{"shape":[4],"data_offsets":[0,16]}'), /dtype.*nothing/],
    ['no shape', a('{"dtype":"F32","data_offsets":[0,16]}'), /shape.*nothing/],
    ['no offsets', a('{"dtype":"F32","shape":[4]}'), /data_offsets.*nothing/],
    ['a negative size', fileOf({ a: entry(0, 16, 'F32', [-4]) }), /shape.*-4/],
    ['a fractional size', fileOf({ a: entry(0, 16, 'F32', [3.5]) }), /shape.*3\.5/],
    ['a size that is a string', fileOf({ a: entry(0, 16, 'F32', ['4']) }), /shape.*"4"/],
    ['a shape that is no list', fileOf({ a: entry(0, 16, 'F32', 4) }), /shape.*4/],
    ['a size of 2^53', a(`{"dtype":"F32","shape":[${big + 1}],"data_offsets":[0,16]}`), /shape/],
    ['a shape whose product overflows', fileOf({ a: entry(0, 16, 'F32', [big, big, big]) }), /larger than any file/],
    [
      'a product that wraps to the right size in 64 bits',
      fileOf({ a: entry(0, 16, 'F32', [2 ** 32, 2 ** 32, 4]) }),
      /larger/,
    ],
    ['the wrong shape for the bytes', fileOf({ a: entry(0, 16, 'F32', [5]) }), /F32 of shape \[5\] takes 20.*span 16/],
    ['an odd count of half bytes', fileOf({ a: entry(0, 16, 'F4', [33]) }), /16\.5/],
    ['one offset', a('{"dtype":"F32","shape":[4],"data_offsets":[0]}'), /two whole numbers/],
    ['three offsets', a('{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}'), /two whole numbers/],
    ['a negative offset', fileOf({ a: entry(-16, 0) }), /two whole numbers.*-16/],
    ['offsets out of range', fileOf({ a: entry(0, 20) }), /out of range.*16 bytes/],
    ['offsets that run backwards', fileOf({ a: entry(16, 0, 'F32', [4]) }), /ends at byte 0, before/],
    ['overlapping tensors', fileOf({ a: entry(0, 12), b: entry(8, 16) }), /"b" overlaps "a"/],
    ['tensors at the same place', fileOf({ a: entry(0, 16), b: entry(0, 16) }), /overlaps/],
    ['a hole', fileOf({ a: entry(0, 4), b: entry(8, 16) }), /"b" leaves a hole after "a".*byte 4.*at 8/],
    ['a hole before the first', fileOf({ a: entry(4, 16) }), /hole after the header/],
    ['bytes after the last tensor', fileOf({ a: entry(0, 12) }), /4 bytes follow/],
    ['bytes but no tensor', fileOf({}), /16 bytes follow/],
    ['metadata that is no object', fileOf({ __metadata__: 'pt', a: entry(0, 16) }), /__metadata__.*"pt"/],
    ['metadata of numbers', fileOf({ __metadata__: { step: 3 }, a: entry(0, 16) }), /__metadata__.*strings/],
    ['metadata of null', fileOf({ __metadata__: null, a: entry(0, 16) }), /__metadata__.*null/],
  ])('is refused: %s', (_, bytes, message) => {
    let error: unknown;
    try {
      parse(bytes);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(ModelError);
    const { code, message: said } = error as ModelError;
    expect(code).toBe('safetensors-invalid');
    expect(said).toMatch(/^x\.safetensors: /);
    expect(said).toMatch(message);
    expect(said.length).toBeLessThan(600);
  });

  test('is refused however it is truncated', () => {
    const bytes = encodeSafetensors({ a: { dtype: 'F16', shape: [9], data: new Float32Array(9) } });
    for (let size = 0; size < bytes.length; size++) {
      expect(() => parse(bytes.subarray(0, size))).toThrow(ModelError);
    }
    const short = bytes.subarray(0, 20);
    expect(() => parseHeader(short, bytes.length, 'x')).toThrow(/only 20 bytes of it were read/);
  });

  test('is refused for a header beyond the limit of the format, however large the file', () => {
    const [most, more] = [100_000_000n, 100_000_001n].map((length) => lengthFirst(length).subarray(0, 8));
    expect(readDataStart(most!, 2 ** 30, 'x')).toBe(100_000_008);
    expect(() => readDataStart(more!, 2 ** 30, 'x')).toThrow(/100000001 bytes long.*allows 100000000/);
  });

  test('escapes control characters of a hostile name in the message', () => {
    expect(() => parse(fileOf({ 'a\u001b[2J': 1 }))).toThrow(/"a\\u001b\[2J"/);
  });
});

describe('whatever a file holds, its header is right or refused', () => {
  /** What every accepted header satisfies, whatever it was made from. */
  function expectSound(bytes: Uint8Array): void {
    let header: ReturnType<typeof parse>;
    try {
      header = parse(bytes);
    } catch (error) {
      expect(error).toBeInstanceOf(ModelError);
      expect((error as ModelError).code).toBe('safetensors-invalid');
      return;
    }
    let position = header.dataStart;
    for (const [name, { begin, end, shape, dtype, ...info }] of header.tensors) {
      expect(info.name).toBe(name);
      expect(begin).toBe(position);
      expect((end - begin) * 8).toBe(shape.reduce((x, y) => x * y, 1) * bitsPerElement[dtype]);
      position = end;
    }
    expect(position).toBe(bytes.length);
  }

  const valid = encodeSafetensors(
    {
      'model.norm.weight': { dtype: 'F32', shape: [4], data: new Float32Array(4) },
      'lm_head.weight': { dtype: 'F16', shape: [2, 3], data: new Float32Array(6) },
      empty: { dtype: 'BF16', shape: [0], data: new Float32Array(0) },
    },
    { metadata: { format: 'pt' } },
  );
  const headerEnd = parse(valid).dataStart;

  test('with bytes of the header replaced', () => {
    const edit = fc.tuple(
      fc.nat(headerEnd - 1),
      fc.oneof(fc.constantFrom(...Buffer.from('{}[]",:0129eE-.\\ ')), fc.nat(255)),
    );
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const bytes = valid.slice();
        for (const [at, value] of edits) bytes[at] = value;
        expectSound(bytes);
      }),
      { numRuns: 3000 },
    );
  });

  test('with bytes taken out, put in or doubled', () => {
    fc.assert(
      fc.property(fc.nat(valid.length), fc.nat(valid.length), fc.uint8Array({ maxLength: 9 }), (from, to, insert) => {
        expectSound(new Uint8Array([...valid.subarray(0, from), ...insert, ...valid.subarray(to)]));
      }),
      { numRuns: 1000 },
    );
  });

  test('with headers that are nearly right', () => {
    const number = fc.oneof(fc.nat(24), fc.constantFrom(-1, 0.5, 2 ** 53, 2 ** 32, -0, null, '4'));
    const tensor = fc.oneof(
      fc.record(
        {
          dtype: fc.constantFrom('F32', 'F16', 'U8', 'F4', 'f32', '__proto__', 3),
          shape: fc.oneof(fc.array(number, { maxLength: 3 }), number),
          data_offsets: fc.array(number, { maxLength: 3 }),
        },
        { requiredKeys: [] },
      ),
      fc.jsonValue({ maxDepth: 2 }),
    );
    const header = fc.dictionary(fc.constantFrom('a', 'b', '__proto__', '__metadata__'), tensor, { maxKeys: 3 });
    fc.assert(
      fc.property(header, fc.nat(24), (object, size) => expectSound(fileOf(object, size))),
      { numRuns: 3000 },
    );
  });

  test('with bytes at random', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), expectSound), { numRuns: 1000 });
  });

  test('and files of any tensors come back as they were written', () => {
    const tensor = fc.tuple(fc.constantFrom(...floatDTypes), fc.array(fc.nat(4), { maxLength: 3 }));
    fc.assert(
      fc.property(fc.dictionary(fc.string(), tensor, { maxKeys: 6 }), (specification) => {
        fc.pre(!Object.hasOwn(specification, '__metadata__'));
        const tensors = Object.fromEntries(
          Object.entries(specification).map(([name, [dtype, shape]]) => {
            const data = new Float32Array(shape.reduce((x, y) => x * y, 1));
            return [name, { dtype, shape, data }];
          }),
        );
        const bytes = encodeSafetensors(tensors);
        expectSound(bytes);
        const read = parse(bytes).tensors;
        expect(new Set(read.keys())).toEqual(new Set(Object.keys(tensors)));
        for (const [name, { dtype, shape }] of Object.entries(tensors))
          expect(read.get(name)).toMatchObject({ dtype, shape });
      }),
      { numRuns: 300 },
    );
  });
});

test('a hostile header of many megabytes is refused in reasonable time', () => {
  const started = performance.now();
  expect(() => parse(fileOf(`{${'"a":['.repeat(2e6)}`))).toThrow(/nested deeper/);
  expect(() => parse(fileOf(`{"${'\\\\'.repeat(4e6)}`))).toThrow(/must be JSON/);
  expect(() => parse(fileOf(`{${'"a" '.repeat(2e6)}`))).toThrow(/must be JSON/);
  expect(performance.now() - started).toBeLessThan(20_000);
});

test('the reader `safetensors` of npm finds the same tensors and bytes', () => {
  const random = seededRandom(5);
  const bytes = encodeSafetensors({
    f32: { dtype: 'F32', shape: [3, 5], data: normals(15, random) },
    f16: { dtype: 'F16', shape: [7], data: normals(7, random) },
    bf16: { dtype: 'BF16', shape: [1, 2, 3], data: normals(6, random) },
    i64: { dtype: 'I64', shape: [2], data: bytesOf(16) },
  });
  const peer = readWithPeer(bytes);
  const { tensors } = parse(bytes);
  expect([...tensors.keys()].sort()).toEqual([...peer.keys()].sort());
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    expect(peer.get(name)).toEqual({ dtype, shape, bytes: bytes.subarray(begin, end) });
  }
});

describe('f16', () => {
  const u32 = new Uint32Array(1);
  const f32 = new Float32Array(u32.buffer);
  const fromBits = (bits: number) => {
    u32[0] = bits;
    return f32[0]!;
  };

  /** The value of a pattern, by the definition in IEEE 754. */
  function definition(bits: number): number {
    const sign = bits >> 15 ? -1 : 1;
    const [exponent, fraction] = [(bits >> 10) & 31, (bits & 1023) / 1024];
    if (exponent === 31) return fraction ? Number.NaN : sign * Infinity;
    return exponent === 0 ? sign * 2 ** -14 * fraction : sign * 2 ** (exponent - 15) * (1 + fraction);
  }
  // Patterns of positive finite numbers ascend with their values; 2^16 stands where the next number would.
  const ladder = [...Array.from({ length: 0x7c00 }, (_, bits) => definition(bits)), 2 ** 16];

  /** The nearest pattern, ties to even, by searching all values. */
  function nearest(value: number): number {
    const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0;
    const magnitude = Math.abs(value);
    if (magnitude >= 2 ** 16) return sign | 0x7c00;
    let [low, high] = [0, 0x7c00];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (ladder[middle]! <= magnitude) low = middle;
      else high = middle;
    }
    const difference = magnitude - ladder[low]! - (ladder[high]! - magnitude);
    return sign | (difference < 0 || (difference === 0 && low % 2 === 0) ? low : high);
  }

  test('all 65536 patterns decode as IEEE 754 defines, one by one and as a chunk', () => {
    const patterns = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
    const chunk = decodeToF32(new Uint8Array(patterns.buffer), 'F16');
    for (const bits of patterns) {
      const value = definition(bits);
      if (!Object.is(f16ToF32(bits), value) || !Object.is(chunk[bits], value)) {
        expect([bits, f16ToF32(bits), chunk[bits]]).toEqual([bits, value, value]);
      }
    }
  });

  test('all 65536 patterns come back from f32, any NaN as a quiet one', () => {
    for (let bits = 0; bits < 65_536; bits++) {
      const back = f32ToF16(f16ToF32(bits));
      const expected = (bits & 0x7fff) > 0x7c00 ? 0x7e00 : bits;
      if ((expected === 0x7e00 ? back & 0x7fff : back) !== expected) expect([bits, back]).toEqual([bits, expected]);
    }
  });

  test('rounds at, just below and just above every midpoint', () => {
    for (let low = 0; low < 0x7c00; low++) {
      const middle = Math.fround((ladder[low]! + ladder[low + 1]!) / 2);
      f32[0] = middle;
      const bits = u32[0]!;
      const even = low % 2 === 0 ? low : low + 1;
      const got = [fromBits(bits - 1), middle, fromBits(bits + 1), -middle].map(f32ToF16);
      const expected = [low, even, low + 1, 0x8000 | even];
      if (got.join() !== expected.join()) expect([middle, ...got]).toEqual([middle, ...expected]);
    }
  });

  test('rounds any f32 to the nearest, ties to even', () => {
    const anyBits = fc.oneof(fc.nat(0xffff_ffff), fc.integer({ min: 0x3200_0000, max: 0x4790_0000 }));
    fc.assert(
      fc.property(anyBits, (bits) => {
        const value = fromBits(bits);
        fc.pre(!Number.isNaN(value));
        expect(f32ToF16(value)).toBe(nearest(value));
      }),
      { numRuns: 20_000 },
    );
  });

  test('knows the ends of its range', () => {
    expect(f32ToF16(65504)).toBe(0x7bff);
    expect(f32ToF16(65519.996)).toBe(0x7bff);
    expect(f32ToF16(65520)).toBe(0x7c00);
    expect(f32ToF16(-Infinity)).toBe(0xfc00);
    expect(f32ToF16(-0)).toBe(0x8000);
    expect(f32ToF16(2 ** -24)).toBe(1);
    expect(f32ToF16(2 ** -25)).toBe(0);
    expect(f32ToF16(2 ** -149)).toBe(0);
    expect(f32ToF16(Number.NaN)).toBe(0x7e00);
  });
});

describe('decoding a chunk', () => {
  const values = Float32Array.of(0, -0, 1, -1.5, 1 / 3, 1e-7, 65504, Infinity, -Infinity, 3.3895313892515355e38);

  test('f32 is copied bit by bit', () => {
    expect(decodeToF32(encodeFloats(values, 'F32'), 'F32')).toEqual(values);
  });

  test('all 65536 patterns of bf16 are the upper halves of f32s', () => {
    const patterns = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
    const decoded = decodeToF32(new Uint8Array(patterns.buffer), 'BF16');
    expect(new Uint32Array(decoded.buffer)).toEqual(Uint32Array.from(patterns, (bits) => bits << 16));
    const halves = decodeToF16(new Uint8Array(patterns.buffer), 'BF16').bits;
    for (const bits of patterns) {
      const expected = f32ToF16(decoded[bits]!);
      if (Number.isNaN(decoded[bits])) expect(halves[bits]! & 0x7fff).toBe(0x7e00);
      else if (halves[bits] !== expected) expect([bits, halves[bits]]).toEqual([bits, expected]);
    }
  });

  test('f16 to f16 keeps every bit, NaN payloads too', () => {
    const patterns = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
    const { bits, outOfRange } = decodeToF16(new Uint8Array(patterns.buffer), 'F16');
    expect(bits).toEqual(patterns);
    expect(outOfRange).toBeUndefined();
  });

  test('tells of the first finite number beyond the range of f16, and not of infinities', () => {
    expect(decodeToF16(encodeFloats(values, 'F32'), 'F32').outOfRange).toBe(9);
    expect(decodeToF16(encodeFloats(values, 'BF16'), 'BF16').outOfRange).toBe(6); // 65504 is 65536 in bf16.
    expect(decodeToF16(encodeFloats(values.subarray(0, 9), 'F32'), 'F32').outOfRange).toBeUndefined();
    const many = Float32Array.of(1, -65520, 1, 65520, Number.NaN);
    expect(decodeToF16(encodeFloats(many, 'F32'), 'F32').outOfRange).toBe(1);
  });

  test.each(floatDTypes)('%s may begin at any byte and go into a larger target', (dtype) => {
    const bytes = encodeFloats(values, dtype);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const target = new Float32Array(values.length + 2).fill(7);
    expect(decodeToF32(shifted.subarray(1), dtype, target)).toEqual(decodeToF32(bytes, dtype));
    expect([...target.subarray(values.length)]).toEqual([7, 7]);
    const halves = new Uint16Array(values.length + 2).fill(7);
    expect(decodeToF16(shifted.subarray(1), dtype, halves).bits).toEqual(decodeToF16(bytes, dtype).bits);
    expect([...halves.subarray(values.length)]).toEqual([7, 7]);
  });

  test('refuses a broken element and a target too short', () => {
    expect(() => decodeToF32(bytesOf(6), 'F32')).toThrow(ContractError);
    expect(() => decodeToF16(bytesOf(3), 'BF16')).toThrow(ContractError);
    expect(() => decodeToF32(bytesOf(8), 'F32', new Float32Array(1))).toThrow(ContractError);
    expect(() => decodeToF16(bytesOf(8), 'F16', new Uint16Array(3))).toThrow(ContractError);
  });
});

describe('a source', () => {
  /** A file in memory that gives at most `most` bytes at once, and counts. */
  class MemoryFile implements ByteFile {
    readonly name = 'memory.safetensors';
    readonly size: number;
    closed = 0;
    positions: number[] = [];
    bytes: Uint8Array;
    readonly most: number;
    constructor(bytes: Uint8Array, most = Number.POSITIVE_INFINITY) {
      this.bytes = bytes;
      this.size = bytes.length;
      this.most = most;
    }
    async read(target: Uint8Array, position: number): Promise<number> {
      this.positions.push(position);
      const part = this.bytes.subarray(position, position + Math.min(target.length, this.most));
      await this.pause();
      target.set(part);
      return part.length;
    }
    pause: () => Promise<void> = () => Promise.resolve();
    async close(): Promise<void> {
      this.closed++;
    }
  }

  const data = normals(1000, seededRandom(3));
  const file = encodeSafetensors({
    small: { dtype: 'F16', shape: [3], data: data.subarray(0, 3) },
    empty: { dtype: 'F32', shape: [0], data: new Float32Array(0) },
    large: { dtype: 'F32', shape: [1000], data },
  });
  const large = encodeFloats(data, 'F32');

  async function collect(chunks: AsyncIterable<Uint8Array>): Promise<{ sizes: number[]; bytes: Uint8Array }> {
    const parts: Uint8Array[] = [];
    for await (const chunk of chunks) parts.push(chunk.slice());
    return { sizes: parts.map((part) => part.length), bytes: new Uint8Array(Buffer.concat(parts)) };
  }

  test('streams a tensor in whole elements, in order, whatever the chunk and however little a read gives', async () => {
    await using source = await SafetensorsSource.open([new MemoryFile(file, 7)]);
    expect(source.totalBytes).toBe(4006);
    for (const chunkBytes of [1, 4, 10, 999, 4000, 1e9]) {
      const { sizes, bytes } = await collect(source.read('large', { chunkBytes }));
      expect(bytes).toEqual(large);
      const whole = Math.min(4000, Math.max(4, chunkBytes - (chunkBytes % 4)));
      expect(sizes.slice(0, -1).every((size) => size === whole)).toBe(true);
    }
    expect((await collect(source.read('small'))).bytes).toEqual(encodeFloats(data.subarray(0, 3), 'F16'));
    expect((await collect(source.read('empty'))).sizes).toEqual([]);
  });

  test('fills any targets from anywhere in a tensor, whatever the file gives at once', async () => {
    /** That takes several targets, of which it may fill a part. */
    class ManyFile extends MemoryFile {
      calls = 0;
      async readMany(targets: readonly Uint8Array[], position: number): Promise<number> {
        this.calls++;
        let done = 0;
        for (const target of targets) {
          const part = this.bytes.subarray(
            position + done,
            position + done + Math.min(target.length, this.most - done),
          );
          target.set(part);
          done += part.length;
          if (part.length < target.length) break;
        }
        return done;
      }
    }
    for (const most of [1, 7, 100, Number.POSITIVE_INFINITY]) {
      for (const opened of [new MemoryFile(file, most), new ManyFile(file, most)]) {
        await using source = await SafetensorsSource.open([opened]);
        const memory = new Uint8Array(1000);
        const targets = [0, 300, 300, 310].map((begin, i) => memory.subarray(begin, begin + [200, 0, 10, 90][i]!));
        await source.pieces.read('large', 40, targets);
        expect(memory.subarray(0, 200)).toEqual(large.subarray(40, 240));
        expect(memory.subarray(300, 400)).toEqual(large.subarray(240, 340));
        expect(memory.subarray(200, 300).every((byte) => byte === 0)).toBe(true);
        if (opened instanceof ManyFile) expect(opened.calls).toBeGreaterThan(0);
        // The header's length, the header, and all targets together.
        else if (most > 10_000) expect(opened.positions).toHaveLength(3);
        await expect(source.pieces.read('none', 0, targets)).rejects.toMatchObject({ code: 'tensor-missing' });
      }
    }
    const short = new ManyFile(file);
    await using source = await SafetensorsSource.open([short]);
    short.bytes = file.subarray(0, -100);
    const whole = [new Uint8Array(3900), new Uint8Array(100)];
    await expect(source.pieces.read('large', 0, whole)).rejects.toMatchObject({ code: 'safetensors-invalid' });
  });

  test('reads one chunk ahead, and no further', async () => {
    const memory = new MemoryFile(file);
    await using source = await SafetensorsSource.open([memory]);
    const reader = source.read('large', { chunkBytes: 400 })[Symbol.asyncIterator]();
    memory.positions.length = 0;
    await reader.next();
    expect(memory.positions).toHaveLength(2);
    await reader.next();
    expect(memory.positions).toHaveLength(3);
    await reader.return?.();
  });

  test('uses two buffers for all tensors that are read one after another', async () => {
    await using source = await SafetensorsSource.open([new MemoryFile(file)]);
    const buffers = new Set<ArrayBufferLike>();
    for (let round = 0; round < 5; round++) {
      for await (const chunk of source.read('large', { chunkBytes: 512 })) buffers.add(chunk.buffer);
    }
    expect(buffers.size).toBe(2);
  });

  test('serves several readers at once, and others after one left early', async () => {
    await using source = await SafetensorsSource.open([new MemoryFile(file)]);
    for await (const _ of source.read('large', { chunkBytes: 40 })) break;
    const readers = Array.from({ length: 4 }, (_, i) => collect(source.read('large', { chunkBytes: 64 + 4 * i })));
    for (const { bytes } of await Promise.all(readers)) expect(bytes).toEqual(large);
  });

  test('gives no buffer to another reader that a slow file is still filling', async () => {
    const memory = new MemoryFile(file);
    await using source = await SafetensorsSource.open([memory]);
    let resume = () => {};
    memory.pause = () =>
      memory.positions.length > 3 ? new Promise((resolve) => (resume = resolve)) : Promise.resolve();
    memory.positions = [0, 0];
    const left = (async () => {
      for await (const _ of source.read('large', { chunkBytes: 400 })) break;
    })();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(memory.positions).toHaveLength(4); // The second chunk has not come when the loop is left.
    memory.pause = () => Promise.resolve();
    const other = source.read('large', { chunkBytes: 400 });
    const first = (await other.next()).value!;
    const before = first.slice();
    resume();
    await left;
    expect(first).toEqual(before);
    await other.return();
  });

  test('keeps the failure of a chunk read ahead until it is asked for', async () => {
    const memory = new MemoryFile(file);
    await using source = await SafetensorsSource.open([memory]);
    const reader = source.read('large', { chunkBytes: 2000 });
    memory.bytes = file.subarray(0, source.tensors.get('large')!.begin + 2000);
    await reader.next();
    // Node.js ends a process over a rejection that nobody handles by now.
    await new Promise((resolve) => setTimeout(resolve, 20));
    await expect(reader.next()).rejects.toMatchObject({ code: 'safetensors-invalid' });
  });

  test('names a tensor that it does not have', async () => {
    await using source = await SafetensorsSource.open([new MemoryFile(file)]);
    await expect(collect(source.read('none'))).rejects.toMatchObject({ code: 'tensor-missing' });
    await expect(collect(source.read('large', { chunkBytes: 0 }))).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(collect(source.read('large', { chunkBytes: Number.NaN }))).rejects.toBeInstanceOf(SessionError);
  });

  test('stops when it is told to, with the reason given', async () => {
    await using source = await SafetensorsSource.open([new MemoryFile(file)]);
    const reason = new Error('enough');
    await expect(collect(source.read('large', { signal: AbortSignal.abort(reason) }))).rejects.toBe(reason);
    const abort = new AbortController();
    let chunks = 0;
    const reading = async () => {
      for await (const _ of source.read('large', { signal: abort.signal, chunkBytes: 100 })) {
        if (++chunks === 3) abort.abort(reason);
      }
    };
    await expect(reading()).rejects.toBe(reason);
    expect(chunks).toBe(3);
  });

  test('tells of a file that was cut short after it was opened', async () => {
    const memory = new MemoryFile(file);
    await using source = await SafetensorsSource.open([memory]);
    memory.bytes = file.subarray(0, file.length - 1001);
    const reading = collect(source.read('large', { chunkBytes: 256 }));
    await expect(reading).rejects.toMatchObject({ code: 'safetensors-invalid' });
    await expect(reading).rejects.toThrow(/memory\.safetensors: it ended at byte \d+.*"large"/);
  });

  test('tells of a failing read, and keeps its cause', async () => {
    const memory = new MemoryFile(file);
    await using source = await SafetensorsSource.open([memory]);
    const cause = new Error('EIO');
    memory.read = () => Promise.reject(cause);
    await expect(collect(source.read('large'))).rejects.toMatchObject({ code: 'read-failed', cause });
  });

  test('closes its files once, and is of no use after that', async () => {
    const memory = new MemoryFile(file);
    const source = await SafetensorsSource.open([memory]);
    const reader = source.read('large', { chunkBytes: 400 })[Symbol.asyncIterator]();
    await reader.next();
    await source[Symbol.asyncDispose]();
    await source[Symbol.asyncDispose]();
    expect(memory.closed).toBe(1);
    await expect(reader.next()).rejects.toMatchObject({ code: 'disposed' });
    await expect(collect(source.read('small'))).rejects.toMatchObject({ code: 'disposed' });
  });

  test('refuses a tensor in two files, and closes both', async () => {
    const files = [new MemoryFile(file), new MemoryFile(file)];
    await expect(SafetensorsSource.open(files)).rejects.toThrow(/"small" must be in one file/);
    expect(files.map(({ closed }) => closed)).toEqual([1, 1]);
  });
});
