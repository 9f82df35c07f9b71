import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openModelFolder } from '../engine/node/disk-folder.ts';
import { canonicalJson, instructionHash, modelHash, policyHash } from '../guard/identity.ts';
import { buildInstruction, defaultPolicy, selectCategories } from '../guard/index.ts';
import { smallConfig, writeModelFolder, writeSafetensors } from './support/model-files.ts';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('canonicalJson', () => {
  it('sorts by UTF-16 units, digits too, as RFC 8785 does in its own example', () => {
    const example = { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\ud83d\ude00': 5, '\u0080': 6, '\u00f6': 7 };
    expect(canonicalJson(example)).toBe('{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\ud83d\ude00":5,"\ufb33":3}');
    expect(canonicalJson({ 9: 1, 10: 2 })).toBe('{"10":2,"9":1}');
  });

  it('is one text for equal values, and keeps the value', () => {
    const reversed = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(reversed);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([name, member]) => [name, reversed(member)]),
      );
    };
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(canonicalJson(reversed(value))).toBe(canonicalJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

describe('the hashes of policy and instruction', () => {
  it('are SHA-256 of the canonical JSON, and of the text with an empty conversation', async () => {
    expect(await policyHash(defaultPolicy)).toBe(sha256(canonicalJson(defaultPolicy)));
    const instruction = buildInstruction({ policy: defaultPolicy, role: 'user', turns: [] });
    expect(await instructionHash(instruction)).toBe(sha256(instruction.text));
  });

  it('tell apart what differs, and the conversation does not count', async () => {
    const turns = [{ speaker: 'User', text: 'Hello', messageIndex: 0 }] as const;
    const hashOf = (role: 'user' | 'agent', policy = defaultPolicy, said: typeof turns | [] = []) =>
      instructionHash(buildInstruction({ policy, role, turns: said }));
    expect(await hashOf('user', defaultPolicy, turns)).toBe(await hashOf('user'));
    expect(await hashOf('agent')).not.toBe(await hashOf('user'));
    const swapped = selectCategories(defaultPolicy, ['O2', 'O1', 'O3', 'O4', 'O5', 'O6']);
    expect(await hashOf('user', swapped)).not.toBe(await hashOf('user'));
    expect(await policyHash(swapped)).not.toBe(await policyHash(defaultPolicy));
    expect(await policyHash({ name: undefined, ...defaultPolicy })).toBe(await policyHash(defaultPolicy));
  });
});

describe('the hash of a model', () => {
  const config = smallConfig();
  const tokenizer = { 'tokenizer.model': new Uint8Array([1, 2, 3]) };
  let root: string;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'guard-identity-'));
  });
  afterAll(() => rm(root, { recursive: true }));

  const hashOf = async (name: string, files: Record<string, Uint8Array> = tokenizer) => {
    await using model = await openModelFolder(join(root, name));
    return await modelHash({ config: model.config, source: model.source, tokenizer: files });
  };

  it('does not depend on the shards, but on weights, sizes and tokenizer', async () => {
    await writeModelFolder(join(root, 'one'), config);
    await writeModelFolder(join(root, 'sharded'), config, { shards: 3 });
    await writeModelFolder(join(root, 'other-weights'), config, { seed: 2 });
    await writeModelFolder(join(root, 'other-theta'), { ...config, ropeTheta: 20_000 });
    await writeModelFolder(join(root, 'other-dtype'), config, { dtype: 'F32' });
    const one = await hashOf('one');
    expect(one).toMatch(/^[0-9a-f]{64}$/);
    expect(await hashOf('sharded')).toBe(one);
    for (const other of ['other-weights', 'other-theta', 'other-dtype'])
      expect(await hashOf(other), other).not.toBe(one);
    expect(await hashOf('one', { 'tokenizer.model': new Uint8Array([1, 2, 4]) })).not.toBe(one);
  });

  it('sees a change of one tensor alone', async () => {
    const weights = await writeModelFolder(join(root, 'tuned'), config);
    const before = await hashOf('tuned');
    await using model = await openModelFolder(join(root, 'tuned'));
    const name = 'model.layers.1.self_attn.q_proj.weight';
    const tensors = [...weights].map(([tensor, data]) => {
      const { shape } = model.source.tensors.get(tensor)!;
      return [tensor, { dtype: 'F16', shape, data: tensor === name ? data.map((w) => 1.01 * w) : data }] as const;
    });
    await writeSafetensors(join(root, 'tuned', 'model.safetensors'), Object.fromEntries(tensors));
    expect(await hashOf('tuned')).not.toBe(before);
  });
});
