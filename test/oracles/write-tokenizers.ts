/** Writes the tokenizers that make_tokenizer_json_oracle.py reads, a folder each, into the folder that is named. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { familyNames, fixtureFiles } from '../support/tokenizer-fixtures.ts';

const [out] = process.argv.slice(2) as [string];
for (const family of familyNames) {
  await mkdir(join(out, family), { recursive: true });
  for (const [name, text] of await fixtureFiles(family)) await writeFile(join(out, family, name), text);
}
