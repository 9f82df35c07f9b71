import { TokenizerError } from './errors.ts';

/**
 * The longest text that is encoded, in bytes of UTF-8. SentencePiece needs some 90 to 150 bytes of WebAssembly heap for
 * each byte of text, never gives them back, and dies at 2 GiB: measured, 8 MiB take up to 1.2 GiB and about ten seconds.
 */
export const MAX_TEXT_BYTES = 8 * 2 ** 20;

const REPLACEMENT = '\ufffd';
const utf8 = new TextEncoder();

/**
 * The UTF-8 of a text that is to be encoded; `TextEncoder` writes lone surrogates as U+FFFD.
 *
 * @throws {TokenizerError} `text-too-long`
 * @throws {TypeError} if `text` is not a string
 */
export function encodeUtf8(text: string): Uint8Array {
  if (typeof text !== 'string') throw new TypeError(`expected a string to encode, got ${typeof text}`);
  // No UTF-16 unit takes less than a byte: a text that is surely too long is refused before it is copied.
  const bytes = text.length > MAX_TEXT_BYTES ? undefined : utf8.encode(text);
  if (bytes === undefined || bytes.length > MAX_TEXT_BYTES) {
    throw new TokenizerError(
      'text-too-long',
      `a text of ${bytes?.length ?? `at least ${text.length}`} bytes is longer than the ${MAX_TEXT_BYTES} that are ` +
        'encoded at once; split it into parts',
    );
  }
  return bytes;
}

/**
 * UTF-8 to text, one U+FFFD for each byte that no well-formed character claims. `TextDecoder` would write one for each
 * maximal subpart (E2 82 gives one, not two) and so differ from the reference SentencePiece.
 */
export function decodeUtf8(bytes: readonly number[]): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at]!);
    const codePoint = codePointAt(bytes, at, length);
    text += codePoint === undefined ? REPLACEMENT : String.fromCodePoint(codePoint);
    at += codePoint === undefined ? 1 : length;
  }
  return text;
}

/** How many bytes the character takes that begins with `lead`; 0 where none begins so. */
function sequenceLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/** The character of `length` bytes at `at`, or `undefined` if it is cut short, overlong, a surrogate or past U+10FFFF. */
function codePointAt(bytes: readonly number[], at: number, length: number): number | undefined {
  if (length === 0 || at + length > bytes.length) return undefined;
  if (length === 1) return bytes[at]!;
  let codePoint = bytes[at]! & (0x7f >> length);
  for (let offset = 1; offset < length; offset++) {
    const byte = bytes[at + offset]!;
    if ((byte & 0xc0) !== 0x80) return undefined;
    codePoint = (codePoint << 6) | (byte & 0x3f);
  }
  const smallest = length === 2 ? 0x80 : length === 3 ? 0x800 : 0x10000;
  const isSurrogate = codePoint >= 0xd800 && codePoint <= 0xdfff;
  return codePoint < smallest || isSurrogate || codePoint > 0x10ffff ? undefined : codePoint;
}
