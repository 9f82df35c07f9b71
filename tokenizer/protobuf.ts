/** The bytes are not a well-formed protocol buffer message. */
export class WireError extends Error {}

/** One field of a message: its number and its value as the wire carries it. */
export type WireField =
  | { readonly number: number; readonly wire: 'varint'; readonly value: number }
  | { readonly number: number; readonly wire: 'fixed64' | 'fixed32' | 'bytes'; readonly value: Uint8Array };

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/**
 * The fields of a protocol buffer message, in order; values are views into `message`.
 *
 * Every step consumes at least one byte, and a length that reaches past the end is refused, so the walk ends for any
 * bytes. Groups, which nothing has written for many years, are refused too.
 *
 * Source: https://protobuf.dev/programming-guides/encoding/
 *
 * @throws {WireError}
 */
export function* wireFields(message: Uint8Array): Generator<WireField, void, undefined> {
  let at = 0;

  /** Beyond 2^53 the value is rounded: such numbers occur only in fields that we skip, or as lengths, and are refused. */
  function varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) throw new WireError('it ends within a number');
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new WireError(`a number before byte ${at} is longer than 64 bits`);
  }

  function take(length: number): Uint8Array {
    if (length > message.length - at) {
      throw new WireError(`a field at byte ${at} needs ${length} bytes and ${message.length - at} are left`);
    }
    at += length;
    return message.subarray(at - length, at);
  }

  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    if (number < 1 || number >= 2 ** 29)
      throw new WireError(`field number ${number} before byte ${at} is out of range`);
    switch (tag % 8) {
      case VARINT:
        yield { number, wire: 'varint', value: varint() };
        break;
      case FIXED64:
        yield { number, wire: 'fixed64', value: take(8) };
        break;
      case BYTES:
        yield { number, wire: 'bytes', value: take(varint()) };
        break;
      case FIXED32:
        yield { number, wire: 'fixed32', value: take(4) };
        break;
      default:
        throw new WireError(`wire type ${tag % 8} before byte ${at} is not supported`);
    }
  }
}

/** A varint field's value. @throws {WireError} if the field is of another wire type */
export function asNumber(field: WireField): number {
  if (field.wire !== 'varint') throw new WireError(`field ${field.number} is ${field.wire} where a number belongs`);
  return field.value;
}

/** A bytes field's value. @throws {WireError} if the field is of another wire type */
export function asBytes(field: WireField): Uint8Array {
  if (field.wire !== 'bytes') throw new WireError(`field ${field.number} is ${field.wire} where bytes belong`);
  return field.value;
}

/** A float field's value. @throws {WireError} if the field is of another wire type */
export function asFloat(field: WireField): number {
  if (field.wire !== 'fixed32') throw new WireError(`field ${field.number} is ${field.wire} where a float belongs`);
  return new DataView(field.value.buffer, field.value.byteOffset, 4).getFloat32(0, true);
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A string field's value. @throws {WireError} if the field is of another wire type or not UTF-8 */
export function asText(field: WireField): string {
  const bytes = asBytes(field);
  try {
    return strictUtf8.decode(bytes);
  } catch (cause) {
    throw new WireError(`field ${field.number} is not UTF-8`, { cause });
  }
}
