import fc from 'fast-check';

/** Any string that JavaScript can hold: all planes, lone surrogates, and `marks`, which look like tokens. */
export const anyTextWith = (...marks: readonly string[]): fc.Arbitrary<string> =>
  fc
    .array(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
        fc.constantFrom(' ', '\n', '\0', '\u2581', '\ud83d', '\ude00', '\ufeff', '<0x0A>'),
        fc.constantFrom(...marks),
      ),
    )
    .map((parts) => parts.join(''));
