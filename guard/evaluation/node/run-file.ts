import { parseRun, type Run } from '../run.ts';
import { readJsonFile } from './lines.ts';

/** Reads what `llama-guard eval` kept. @throws EvaluationError `data-not-found`, `run-invalid` */
export const readRun = async (file: string): Promise<Run> => parseRun(await readJsonFile(file, 'run-invalid'), file);
