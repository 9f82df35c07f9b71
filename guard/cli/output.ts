import { constants } from 'node:fs';
import { access, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { OptionError } from '../errors.ts';

/**
 * Makes sure that a file can be written, before the hours that may lie between asking for it and writing it.
 * @param flag by which it was named
 * @throws OptionError `option-invalid`
 */
export async function assertWritable(file: string, flag: string): Promise<void> {
  await access(dirname(file), constants.W_OK).catch((cause) => {
    throw unwritable(file, flag, cause);
  });
  const there = await stat(file).catch(() => undefined);
  if (there?.isDirectory()) throw unwritable(file, flag, new Error('it is a folder'));
}

/** @throws OptionError `option-invalid` */
export async function writeOutput(file: string, flag: string, text: string): Promise<void> {
  await writeFile(file, text).catch((cause) => {
    throw unwritable(file, flag, cause);
  });
}

const unwritable = (file: string, flag: string, cause: Error) =>
  new OptionError('option-invalid', `${file} cannot be written: ${cause.message}; name another file (${flag}).`, {
    cause,
  });
