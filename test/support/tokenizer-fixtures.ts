import { tokenizerFamilies } from '../../bench/make-model/tokenizer-families.ts';
import { tokenizerFiles } from '../../bench/make-model/tokenizer-json.ts';
import { HuggingFaceTokenizer } from '../../tokenizer/hugging-face/tokenizer.ts';

export type FamilyName = keyof typeof tokenizerFamilies;
export const familyNames = Object.keys(tokenizerFamilies) as FamilyName[];

/** The files that the oracle was made with. */
export async function fixtureFiles(family: FamilyName): Promise<Map<string, string>> {
  return new Map(await tokenizerFiles(tokenizerFamilies[family], 2048, 8192));
}

const utf8 = new TextEncoder();

export const loadFiles = (files: ReadonlyMap<string, string>): Promise<HuggingFaceTokenizer> =>
  HuggingFaceTokenizer.fromFiles({
    'tokenizer.json': utf8.encode(files.get('tokenizer.json')),
    ...Object.fromEntries(Array.from(files, ([name, text]) => [name, utf8.encode(text)])),
  });
