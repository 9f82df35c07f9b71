import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../guard/cli/main.ts', import.meta.url));

/**
 * Starts the program as a process of its own.
 * @param stdio standard input, output and error: pipes unless told
 * @param first a module that is loaded before it
 */
export const startCli = (args: readonly string[], stdio: StdioOptions = 'pipe', first?: string): ChildProcess =>
  spawn(process.execPath, ['--import', 'tsx', ...(first ? ['--import', first] : []), main, ...args], { stdio });

/** Runs the program to its end; that it ends by itself is part of what is tested. */
export function runCli(args: readonly string[], input = ''): Promise<Ended> {
  const child = startCli(args);
  child.stdin!.end(input);
  return ended(child);
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a process that was started says to its end. */
export function ended(child: ChildProcess): Promise<Ended> {
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) => {
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
