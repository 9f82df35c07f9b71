import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { embeddedModel, readPolicy } from '../../guard/node/load.ts';
import { bundleForPage } from '../support/bundle.ts';
import { chromiumArguments, findChromium } from '../support/chromium.ts';
import { installPackage } from '../support/installed-package.ts';
import { type PageSite, servePages } from '../support/page-site.ts';
import { conversationOf, plainCases, policyOf, roleOf } from '../support/tiny-guard.ts';
import type { InPage, Judged, Question } from './page.ts';

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** A prompt, a response, an unsafe list of categories in another order, and what is not in ASCII. */
const cases = ['single-unsafe-violence', 'agent-refusal', 'two-categories-shuffled', 'unicode-emoji'].map(
  (name) => plainCases.find((plain) => plain.name === name)!,
);
const ownPolicy = await readPolicy(join(embeddedModel, 'policy.json'));
const questions: Question[] = cases.map((expected) => ({
  conversation: conversationOf(expected),
  role: roleOf(expected),
  policy: policyOf(ownPolicy, expected),
}));

let folder: string;
let files: ReadonlyMap<string, Uint8Array>;
let browser: Browser;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'guard-page-'));
  installPackage(folder);
  ({ files } = await bundleForPage(folder, { page: here('page.ts'), worker: here('worker.ts') }));
  browser = await chromium.launch({ executablePath: findChromium()!, args: [...chromiumArguments] });
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Opens the page of a site, once it is ready. @param before runs in it ahead of everything else */
async function openPage({ origin }: PageSite, before?: () => void): Promise<Page> {
  const page = await browser.newPage();
  if (before) await page.addInitScript(before);
  await page.goto(origin);
  await page.waitForFunction(() => 'inPage' in globalThis);
  return page;
}

/** Calls what the page has in readiness. */
const call = <Name extends keyof InPage>(page: Page, name: Name, ...request: Parameters<InPage[Name]>) =>
  page.evaluate(
    ([called, given]) =>
      (globalThis as unknown as { inPage: Record<string, (...request: unknown[]) => unknown> }).inPage[called]!(
        ...given,
      ),
    [name, request] as [string, unknown[]],
  ) as ReturnType<InPage[Name]>;

/** The largest difference from the reference's scores. */
const largestError = ({ assessments }: Judged): number =>
  Math.max(
    ...assessments.flatMap(({ score, unsafeProbability }, i) => [
      Math.abs(score - cases[i]!.p_unsafe_pair),
      Math.abs(unsafeProbability - cases[i]!.p_unsafe),
    ]),
  );

describe.each([true, false])('a page, cross-origin isolated: %s', (isolated) => {
  let site: PageSite;
  let page: Page;
  const errors: string[] = [];
  beforeAll(async () => {
    site = await servePages({ files, model: embeddedModel, isolated });
    page = await openPage(site);
    page.on('pageerror', ({ message }) => errors.push(message));
  });
  afterAll(async () => {
    await page?.close();
    await site?.[Symbol.asyncDispose]();
    expect(errors).toEqual([]);
  });

  it.each([
    ['f32', 1e-4],
    ['auto', 5e-3],
  ] as const)('judges as the reference does on cpu, dtype %s', async (dtype, most) => {
    const judged = await call(page, 'judge', '/model', { device: 'cpu', dtype, threads: 2 }, questions);
    expect(largestError(judged)).toBeLessThan(most);
    expect(judged).toMatchObject({ model: 'model', isolated, threads: isolated ? 2 : 1 });
    if (isolated)
      expect(judged).toMatchObject({
        device: expect.stringMatching(/^WebAssembly (relaxed )?SIMD on 2 threads$/),
        reason: 'asked for',
      });
    else {
      expect(judged.device).toContain('the calling thread');
      expect(judged.reason).toContain('Cross-Origin-Opener-Policy: same-origin');
    }
    // Weights came in parts, bit by bit.
    expect(judged.downloaded).toBe(0);
    expect(judged.progress.at(-1)).toBe(judged.totalBytes);
    expect(judged.progress.toSorted((a, b) => a - b)).toEqual(judged.progress);
  });

  const [dtype, most] = isolated ? (['f32', 1e-4] as const) : (['f16', 5e-3] as const);
  it(`judges as the reference does on WebGPU, dtype ${dtype}`, async () => {
    const judged = await call(page, 'judge', '/model', { device: 'webgpu', dtype }, questions);
    expect(judged.device).toMatch(/swiftshader/i);
    expect(largestError(judged)).toBeLessThan(most);
  });

  it('prefers the processor to a processor that plays a GPU', async () => {
    const { device, reason } = await call(page, 'judge', '/model', {}, []);
    expect(device).toContain('WebAssembly');
    expect(reason).toContain('a processor playing a GPU');
  });

  it('does not stand still during a check', async () => {
    const { took, stoodStill } = await call(page, 'standstill', '/model', { device: 'cpu' });
    expect(stoodStill).toBeLessThan(took / 3);
  });

  it('judges in a worker of its own', async () => {
    const judged = await call(
      page,
      'judgeInWorker',
      `${site.origin}/model`,
      { device: 'cpu', dtype: 'f32' },
      questions,
    );
    expect(largestError(judged)).toBeLessThan(1e-4);
    expect(judged.isolated).toBe(isolated);
  });

  it.each(['loading', 'checking'] as const)('ends %s once it is told to', async (when) => {
    expect(await call(page, 'abort', '/model', when)).toBe('enough');
  });
});

describe('a page finds a model folder', () => {
  let site: PageSite;
  let page: Page;
  const [question] = questions as [Question];
  const judge = (place: Parameters<InPage['judge']>[0]) =>
    call(page, 'judge', place, { device: 'cpu', dtype: 'f32' }, [question]);
  beforeAll(async () => {
    site = await servePages({ files, model: embeddedModel, isolated: true });
    page = await openPage(site);
  });
  afterAll(async () => {
    await page?.close();
    await site?.[Symbol.asyncDispose]();
  });

  it('that its user picked', async () => {
    await page.setInputFiles('input', embeddedModel);
    const judged = await judge({ picked: 'files' });
    expect(judged.model).toBe('tiny-guard');
    expect(largestError(judged)).toBeLessThan(1e-4);
  });

  it('among its own files', async () => {
    const names = ['config.json', 'model.safetensors', 'tokenizer.model', 'tokenizer_config.json', 'policy.json'];
    await call(page, 'keep', '/model', names);
    expect(largestError(await judge({ picked: 'handle' }))).toBeLessThan(1e-4);
  });

  it('on a server that sends no parts of files', async () => {
    const judged = await judge('/whole');
    expect(largestError(judged)).toBeLessThan(1e-4);
    expect(judged.downloaded).toBeGreaterThan(judged.totalBytes!);
  });

  it('on a server that answers with a page what it does not have', async () => {
    expect(largestError(await judge('/application'))).toBeLessThan(1e-4);
  });

  it('or says why it does not', async () => {
    const fail = (place: string) => call(page, 'fail', place, { device: 'cpu' });
    const absent = { isTyped: true, name: 'ModelError', code: 'model-not-found' };
    expect(await fail('/nowhere')).toMatchObject({ ...absent, message: expect.stringContaining('config.json') });
    expect(await fail('/broken')).toMatchObject({ ...absent, message: expect.stringContaining('503') });
    expect(await fail('http://127.0.0.1:9/model')).toMatchObject({
      ...absent,
      message: expect.stringContaining('CORS'),
    });
    expect(await fail('http://[')).toMatchObject({ ...absent, message: expect.stringContaining('must be a URL') });
  });
});

it.each([
  ['threads of a blob', "worker-src 'self'", 'device-failure', 'worker-src blob:'],
  ['WebAssembly', "script-src 'self'", 'tokenizer-failed', 'SentencePiece needs WebAssembly'],
])('a page whose policy forbids %s is told so', async (_, policy, code, message) => {
  await using site = await servePages({ files, model: embeddedModel, isolated: true, policy });
  await using page = await openPage(site);
  const failure = await call(page, 'fail', '/model', { device: 'cpu' });
  expect(failure).toMatchObject({ isTyped: true, code, message: expect.stringContaining(message) });
});

it('a page runs in a browser that has no symbols for disposal', async () => {
  await using site = await servePages({ files, model: embeddedModel, isolated: true });
  await using page = await openPage(site, () => {
    // They cannot be taken away from the browser's own.
    const { dispose: _, asyncDispose: __, ...others } = Object.getOwnPropertyDescriptors(Symbol);
    const { prototype, ...rest } = others;
    const symbolOf = Symbol;
    const older = Object.defineProperties((description?: string) => symbolOf(description), rest);
    Object.defineProperty(older, 'prototype', { value: prototype.value });
    Object.assign(globalThis, { Symbol: older });
  });
  const judged = await call(page, 'judge', '/model', { device: 'cpu', dtype: 'f32' }, questions);
  expect(largestError(judged)).toBeLessThan(1e-4);
});
