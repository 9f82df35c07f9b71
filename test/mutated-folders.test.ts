/** Folders whose fields a stranger changed: each opens and streams whole, or an error names what is wrong and where. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lookUp } from '../bench/make-model/catalogue.ts';
import type { HuggingFaceConfig } from '../bench/make-model/config.ts';
import { quantisedFormats, writeModelFolder } from '../bench/make-model/index.ts';
import { ModelError } from '../engine/errors.ts';
import { examineModel, type ModelFolder } from '../engine/model-folder.ts';
import { diskFolder, openModelFolder } from '../engine/node/disk-folder.ts';
import { Problems } from '../engine/problems.ts';
import { streamTensors } from '../engine/weight-stream.ts';
import { planWeights } from '../engine/weights.ts';
import { resolveDType } from '../guard/assemble.ts';
import { storedBytes } from '../kernels/contract.ts';
import { joinSafetensors } from './support/model-files.ts';

const config: HuggingFaceConfig = {
  ...lookUp('tiny-qwen2.5').config,
  hidden_size: 128,
  head_dim: 32,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 128,
  num_hidden_layers: 1,
  vocab_size: 64,
  bos_token_id: 1,
  eos_token_id: 2,
  tie_word_embeddings: false,
};

type Json = Record<string, unknown>;
/** A file of a folder: JSON, or the header of a safetensors file with its bytes behind it. */
type Content = { json: Json } | { header: Json; data: Uint8Array };
type Folder = Map<string, Content>;

let root: string;
const folders = new Map<string, Folder>();

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mutated-folders-'));
  for (const name of ['plain', 'sharded', ...Object.keys(quantisedFormats)]) {
    const folder = join(root, name);
    await writeModelFolder(folder, config, {
      ...(name in quantisedFormats ? { quantised: name as keyof typeof quantisedFormats } : {}),
      shards: name === 'sharded' ? 2 : 1,
    });
    folders.set(name, await readFolder(folder));
  }
});
afterAll(() => rm(root, { recursive: true }));

async function readFolder(folder: string): Promise<Folder> {
  const contents: Folder = new Map();
  for (const name of await readdir(folder)) {
    const bytes = await readFile(join(folder, name));
    if (name.endsWith('.json')) {
      contents.set(name, { json: JSON.parse(bytes.toString()) });
    } else {
      const start = 8 + Number(bytes.readBigUInt64LE(0));
      contents.set(name, { header: JSON.parse(bytes.subarray(8, start).toString()), data: bytes.subarray(start) });
    }
  }
  return contents;
}

async function writeFolder(folder: string, contents: Folder): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  for (const [name, content] of contents) {
    const bytes = 'json' in content ? JSON.stringify(content.json) : joinSafetensors(content.header, [content.data]);
    await writeFile(join(folder, name), bytes);
  }
}

/** What is done to one place of one file. */
type Edit = { readonly place: number; readonly does: { readonly set: unknown } | 'remove' | 'swap' | 'remove file' };

/** What a stranger might put into a field: anything, and what is nearly right. */
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(-1, 0, 1, 2, 3, 16, 31, 32, 64, 127, 129, 2 ** 31, 2 ** 53, 1e308, 0.5, null, true, false),
  fc.constantFrom(
    'F16',
    'I32',
    'I8',
    'U8',
    'F8_E4M3',
    'gptq',
    'awq',
    'compressed-tensors',
    'gelu',
    'model.safetensors',
  ),
  fc.array(fc.constantFrom(0, 1, 16, 64, 128, 4096, -1), { maxLength: 3 }),
);
const edit: fc.Arbitrary<Edit> = fc.record({
  place: fc.nat(),
  does: fc.oneof(
    { weight: 6, arbitrary: value.map((set) => ({ set })) },
    { weight: 2, arbitrary: fc.constantFrom('remove', 'swap') },
    { weight: 1, arbitrary: fc.constant('remove file') },
  ),
});

/** Every place of a JSON value that has a name, by the object or list that it is in. */
function placesOf(json: unknown): { readonly within: Json; readonly key: string }[] {
  if (typeof json !== 'object' || json === null) return [];
  return Object.entries(json).flatMap(([key, inner]) => [{ within: json as Json, key }, ...placesOf(inner)]);
}

function change(original: Folder, edits: readonly Edit[]): Folder {
  const contents = structuredClone(original);
  for (const { place, does } of edits) {
    // Of a header's fields hardly one may be otherwise; of config.json's many.
    const names = [...contents.keys(), 'config.json', 'config.json', 'config.json'];
    const name = names[place % names.length]!;
    const content = contents.get(name);
    if (!content) continue;
    if (does === 'remove file') {
      contents.delete(name);
      continue;
    }
    const places = placesOf('json' in content ? content.json : content.header);
    const found = places[Math.floor(place / 7) % places.length];
    if (!found) continue;
    const { within, key } = found;
    if (typeof does === 'object') within[key] = does.set;
    else if (does === 'remove') delete within[key];
    else {
      const keys = Object.keys(within);
      const other = keys[Math.floor(place / 11) % keys.length]!;
      [within[key], within[other]] = [within[other], within[key]];
    }
  }
  return contents;
}

/** All rows of all tensors, as a device would get them. */
async function streamed({ config, source, ...stored }: ModelFolder): Promise<void> {
  const plan = planWeights(config, resolveDType('auto', stored));
  const bytes = new Map<string, number>();
  for await (const { label, sections } of streamTensors(plan, source)) {
    bytes.set(
      label,
      sections.reduce((sum, { length }) => sum + length, bytes.get(label) ?? 0),
    );
  }
  for (const { label, dtype, shape } of plan) expect(bytes.get(label)).toBe(storedBytes(dtype, shape));
}

describe.each(['plain', 'sharded', ...Object.keys(quantisedFormats)])('a folder, %s', (name) => {
  it('is read as it was written', async () => {
    await using model = await openModelFolder(join(root, name));
    await streamed(model);
  });

  it('with fields that were changed is read to its end, or an error of a file and a field says why not', async () => {
    const folder = join(root, `${name} changed`);
    const outcomes = { read: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
        await writeFolder(folder, change(folders.get(name)!, edits));
        const problems = new Problems();
        await (await examineModel(diskFolder(folder), problems))[Symbol.asyncDispose]();
        for (const { message } of problems.errors) expect(message).toMatch(/config\.json|\.safetensors|model's files/);
        try {
          await using model = await openModelFolder(folder);
          expect(problems.errors).toEqual([]);
          await streamed(model);
          outcomes.read++;
        } catch (error) {
          if (!(error instanceof ModelError)) throw error;
          if (problems.errors.length > 0) expect(error.message).toBe(problems.errors[0]!.message);
          outcomes.refused++;
        }
      }),
      { numRuns: Number(process.env.MUTATIONS ?? 100) },
    );
    // Or the changes were not what they should be.
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(3);
  });
});
