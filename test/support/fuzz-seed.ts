/** What lands a change must not depend on chance: properties are tried on the same inputs every time, on others by `FUZZ_SEED`. */
import fc from 'fast-check';

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env.FUZZ_SEED ?? 20260101) });
