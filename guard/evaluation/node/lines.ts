import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { parseJsonText } from '../../../kernels/json.ts';
import { EvaluationError } from '../../errors.ts';

/**
 * The lines of a text file, without their ends; one whose name ends in `.gz` is unpacked on the way.
 * @throws EvaluationError `data-not-found`
 */
export async function* readLines(file: string): AsyncGenerator<string, void, void> {
  const source = createReadStream(file);
  try {
    yield* linesOf(file.endsWith('.gz') ? pipeline(source, createGunzip(), () => {}) : source);
  } catch (cause) {
    throw notFound(file, cause as Error);
  }
}

/** Looks whether a file can be read, before what takes long. @throws EvaluationError `data-not-found` */
export async function assertReadable(file: string): Promise<void> {
  for await (const _ of readLines(file)) return;
}

/** The lines of a text in UTF-8, without their ends. @throws what the stream does: `node:readline` would end without a word */
export async function* linesOf(stream: AsyncIterable<unknown>): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk as Buffer, { stream: true })).split(/\r?\n/);
    rest = lines.pop()!;
    yield* lines;
  }
  rest += decoder.decode();
  if (rest !== '') yield rest;
}

/** Reads and parses a JSON file that a person named. @throws EvaluationError `data-not-found`, or the given code */
export const readJsonFile = async (file: string, invalid: EvaluationError['code']): Promise<unknown> =>
  parseJson(await readText(file), file, invalid);

/** @throws EvaluationError `data-not-found` */
export const readText = (file: string): Promise<string> =>
  readFile(file, 'utf8').catch((cause) => {
    throw notFound(file, cause);
  });

/** @throws EvaluationError of the given code, naming the file */
export function parseJson(text: string, file: string, invalid: EvaluationError['code']): unknown {
  try {
    return parseJsonText(text);
  } catch (cause) {
    throw new EvaluationError(invalid, `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

const notFound = (file: string, cause: Error) =>
  new EvaluationError('data-not-found', `${file} cannot be read: ${cause.message}`, { cause });
