/** PyTorch and transformers, where this machine's Python has them: torch_reference.py, run and read. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Report, Row } from './rows.ts';
import { reasonOf } from './session.ts';

const run = promisify(execFile);
const name = 'torch';
const longestMs = 20 * 60_000;

/** What torch_reference.py prints. */
interface TorchResult {
  readonly config: string;
  readonly dtype: string;
  readonly device: string;
  readonly threads: number | null;
  readonly versions: { readonly torch: string; readonly transformers: string };
  readonly results: readonly {
    readonly tokens: number;
    readonly batch: number;
    readonly work: 'prefill' | 'cached forward' | 'generate';
    readonly median?: number;
    readonly p90?: number;
    readonly runs?: number;
    readonly tokensPerSecond?: number;
    readonly failed?: string;
  }[];
}

/** @returns why it could not be run, if so */
export async function runTorch(
  python: string,
  arguments_: readonly string[],
  report: Report,
): Promise<string | undefined> {
  try {
    await run(python, ['-c', 'import torch, transformers']);
  } catch {
    return `${python} has no torch and transformers`;
  }
  try {
    const script = fileURLToPath(new URL('./torch_reference.py', import.meta.url));
    const { stdout } = await run(python, [script, ...arguments_], { timeout: longestMs, maxBuffer: 2 ** 24 });
    for (const row of rowsOf(JSON.parse(stdout))) report(row);
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}

function rowsOf({ config, dtype, device, threads, versions, results }: TorchResult): Row[] {
  return results.map(({ tokens, batch, failed, ...figures }) => ({
    session: name,
    peer: name,
    shape: `${config}, ${batch === 1 ? '' : `${batch} x `}${tokens} tokens`,
    dtype,
    device,
    ...(threads === null ? {} : { threads }),
    ...figures,
    note: failed ?? `torch ${versions.torch}, transformers ${versions.transformers}`,
  }));
}
