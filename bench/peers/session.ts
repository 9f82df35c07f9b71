/** A session is a process of its own: a peer that crashes, or keeps the event loop busy, takes nothing else along. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Report, SessionMessage } from './rows.ts';

/** Longer than any session takes on two cores; a peer that hangs ends here. */
const longestSessionMs = 20 * 60_000;

export interface SessionOptions {
  /** Added to this process's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Of Node.js. */
  readonly flags?: readonly string[];
}

/**
 * Runs the script of a session, which ends in `serve`, with `argument`.
 * @returns why it could not be run to its end, if so; rows reported before stand
 */
export function runSession(
  script: string,
  argument: string,
  report: Report,
  { environment = {}, flags = [] }: SessionOptions = {},
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const file = fileURLToPath(new URL(script, import.meta.url));
    // What peers print goes to standard error, so that standard output carries the tables alone.
    const stdio = ['ignore', 2, 2, 'ipc'] as const;
    const child = fork(file, [argument], {
      execArgv: [...flags, '--import', 'tsx'],
      stdio: [...stdio],
      timeout: longestSessionMs,
      env: { ...process.env, ...environment },
    });
    let unavailable: string | undefined;
    child.on('message', (message: SessionMessage) => {
      if ('row' in message) report(message.row);
      else unavailable = message.unavailable;
    });
    child.on('error', ({ message }) => resolve(message));
    child.on('close', (code, signal) => {
      resolve(unavailable ?? (code === 0 ? undefined : `the process ended with ${signal ?? `exit code ${code}`}`));
    });
  });
}

/** The other end: runs a session's work, reports what it finds or why it cannot, and ends the process. */
export async function serve(work: (argument: string, report: Report) => Promise<void>): Promise<never> {
  const sent: Promise<unknown>[] = [];
  const send = (message: SessionMessage) => {
    sent.push(new Promise((resolve) => process.send!(message, resolve)));
  };
  try {
    await work(process.argv[2]!, (row) => send({ row }));
  } catch (error) {
    send({ unavailable: reasonOf(error) });
  }
  await Promise.all(sent);
  // Dawn and thread pools would keep the loop busy.
  process.exit(0);
}

/** The first line of what an error says. */
export function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}
