import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { tokenizerIn } from './load.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Loads the tokenizer of a model folder on a disk. @throws {TokenizerError} as `tokenizerIn` does */
export function loadTokenizer(folder: string): Promise<Tokenizer> {
  const locate = (name: string) => join(folder, name);
  return tokenizerIn({
    location: folder,
    locate,
    read: async (name, maxBytes) => {
      const entry = await stat(locate(name)).catch(() => undefined);
      if (!entry?.isFile()) return undefined;
      if (entry.size > maxBytes) throw new RangeError(`it has ${entry.size} bytes, more than ${maxBytes}`);
      return readFile(locate(name));
    },
  });
}
