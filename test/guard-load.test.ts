import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultPolicy, Guard } from '../guard/index.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { smallConfig, writeModelFolder } from './support/model-files.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'guard-load-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A model folder with random weights and a tokenizer from elsewhere. */
async function modelWith(tokenizer: string, vocabularySize: number): Promise<string> {
  const model = await mkdtemp(join(folder, 'model-'));
  await writeModelFolder(model, smallConfig({ vocabularySize, maxPositionEmbeddings: 1024 }));
  await cp(tokenizer, join(model, 'tokenizer.model'));
  return model;
}

const load = (model: string) => Guard.load(model, { device: 'cpu' });

describe('Guard.load refuses', () => {
  it('a tokenizer with more pieces than the model has rows', async () => {
    const model = await modelWith(join(embeddedModel, 'tokenizer.model'), 4095);
    await expect(load(model)).rejects.toMatchObject({
      code: 'tokenizer-mismatch',
      message: expect.stringMatching(/4096 pieces.*4095 rows/),
    });
  });

  it('a tokenizer that has no single token for a verdict', async () => {
    const model = await modelWith('test/oracles/tokenizer-unigram.model', 4096);
    await expect(load(model)).rejects.toMatchObject({
      code: 'tokenizer-mismatch',
      message: expect.stringMatching(/no single token ' (un)?safe', which verdicts are read from/),
    });
  });

  it('a folder without a tokenizer', async () => {
    const model = await modelWith(join(embeddedModel, 'tokenizer.model'), 4096);
    await rm(join(model, 'tokenizer.model'));
    await expect(load(model)).rejects.toMatchObject({ code: 'tokenizer-not-found' });
  });

  it('to go on once it is told to stop', async () => {
    const stop = new AbortController();
    const loading = Guard.load(undefined, {
      device: 'cpu',
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('enough')),
    });
    await expect(loading).rejects.toThrow('enough');
    await expect(Guard.load(undefined, { signal: AbortSignal.abort(new Error('never')) })).rejects.toThrow('never');
  });
});

it('a folder without a policy of its own is judged by the default one', async () => {
  await using guard = await load(await modelWith(join(embeddedModel, 'tokenizer.model'), 4100));
  expect(guard.policy).toEqual(defaultPolicy);
  const { score, mass } = await guard.check('Hello');
  expect(score).toBeGreaterThan(0);
  expect(score).toBeLessThan(1);
  // Random weights have not learned what to answer, and the mass tells.
  expect(mass).toBeLessThan(0.5);
});
