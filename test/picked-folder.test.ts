/** Model folders that the user of a page picked. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pickedFolder } from '../engine/browser/index.ts';
import { openModel } from '../engine/index.ts';
import { embeddedModel } from '../guard/node/load.ts';

/** A file as `<input type="file" webkitdirectory>` gives it. */
const fileAt = (path: string, bytes: Uint8Array<ArrayBuffer> = new Uint8Array()): File =>
  Object.assign(new File([bytes], path.split('/').at(-1)!), { webkitRelativePath: path });

const model = () =>
  readdirSync(embeddedModel).map((name) =>
    fileAt(`tiny/${name}`, Uint8Array.from(readFileSync(join(embeddedModel, name)))),
  );

/** A handle as `showDirectoryPicker()` gives it. */
const handleOf = (files: readonly File[], refuse = new DOMException('not there', 'NotFoundError')) =>
  ({
    name: 'tiny',
    async *values() {
      yield { kind: 'directory', name: 'deeper' };
      for (const file of files) yield { kind: 'file', name: file.name, getFile: async () => file };
    },
    getFileHandle: async (name: string) => {
      const file = files.find((one) => one.name === name);
      if (!file) throw refuse;
      return { getFile: async () => file };
    },
  }) as unknown as FileSystemDirectoryHandle;

describe.each([
  ['files', (files: readonly File[]) => pickedFolder(files)],
  ['handle', (files: readonly File[]) => pickedFolder(handleOf(files))],
])('picked as %s, a folder', (_, pick) => {
  it('is a model', async () => {
    await using opened = await openModel(pick(model()));
    expect(opened.folder.name).toBe('tiny');
    expect(opened.files.map(({ name }) => name)).toEqual(readdirSync(embeddedModel).sort());
    for await (const chunk of opened.source.read('model.norm.weight')) expect(chunk.length).toBeGreaterThan(0);
  });

  it('has nothing that is not there, and nothing too large', async () => {
    const folder = pick([fileAt('tiny/config.json', new Uint8Array(20))]);
    expect(await folder.read('tokenizer.json', 100)).toBeUndefined();
    expect(await folder.open('model.safetensors')).toBeUndefined();
    await expect(folder.read('config.json', 10)).rejects.toThrow('it must be at most 10 bytes, but has 20');
    await expect(openModel(pick([fileAt('tiny/model.gguf')]))).rejects.toMatchObject({
      code: 'model-not-found',
      message: expect.stringMatching(/^tiny: .*GGUF is not read/),
    });
  });
});

it('of picked files those of folders inside are left out', async () => {
  const folder = pickedFolder([fileAt('tiny/original/config.json'), fileAt('tiny/a.json')]);
  expect(await folder.list()).toEqual([{ name: 'a.json', bytes: 0 }]);
  expect(await folder.read('config.json', 10)).toBeUndefined();
});

it('a folder whose files may no longer be read says so', async () => {
  const refused = new DOMException('The user withdrew it', 'NotAllowedError');
  await expect(openModel(pickedFolder(handleOf([], refused)))).rejects.toMatchObject({
    code: 'model-not-found',
    message: expect.stringContaining('The user withdrew it'),
  });
});
