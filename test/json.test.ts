import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readJson } from '../guard/cli/options.ts';
import { readJsonFile } from '../guard/evaluation/node/lines.ts';
import { readCalibration, readPolicy } from '../guard/node/load.ts';
import { parseJson, parseJsonText } from '../kernels/json.ts';

describe('a byte order mark, as some editors put it first', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'json-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const marked = async (value: unknown) => {
    const file = join(folder, 'marked.json');
    await writeFile(file, `\ufeff${JSON.stringify(value)}`);
    return file;
  };

  it('is skipped, once and nowhere else', () => {
    expect(parseJsonText('\ufeff{"a":"\ufeff"}')).toEqual({ a: '\ufeff' });
    expect(parseJson(new TextEncoder().encode('\ufeff{"a":"\ufeff"}'), 1)).toEqual({ a: '\ufeff' });
    for (const text of ['\ufeff\ufeff1', '1\ufeff']) {
      expect(() => parseJsonText(text)).toThrow(SyntaxError);
      expect(() => parseJson(new TextEncoder().encode(text), 1)).toThrow(SyntaxError);
    }
  });

  it('is skipped in every file that a person writes', async () => {
    const policy = { categories: [{ code: 'P1', name: 'Fraud' }] };
    expect(await readPolicy(await marked(policy))).toEqual(policy);
    expect(await readJson(await marked([1]))).toEqual([1]);
    expect(await readJsonFile(await marked([1]), 'run-invalid')).toEqual([1]);
    // What is wrong with it is not that it is no JSON.
    await expect(readCalibration(await marked({}))).rejects.toThrow(/marked\.json: format: /);
  });
});

it('a file that cannot be read is told of with the cause', async () => {
  await expect(readPolicy(tmpdir())).rejects.toThrow(/cannot be read: EISDIR.*no built-in policy has that name/);
  await expect(readCalibration(tmpdir())).rejects.toThrow(/cannot be read: EISDIR/);
});
