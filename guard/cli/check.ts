import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import { Command } from 'commander';
import { LlamaGuardError } from '../../kernels/errors.ts';
import { parseConversation, parseJsonLine, requestOf } from '../conversation.ts';
import { ConversationError } from '../errors.ts';
import { linesOf } from '../evaluation/node/lines.ts';
import type { Guard } from '../guard.ts';
import { type Hashes, hashesOf } from '../identity.ts';
import { mapInOrder } from '../in-order.ts';
import type { CheckRequest } from '../options.ts';
import type { Assessment, Excerpt } from '../score.ts';
import {
  addSharedFlags,
  calibrationFlag,
  checkOptions,
  exitCodes,
  loadFromFlags,
  readJson,
  type SharedFlags,
  shuffleFlag,
} from './options.ts';

interface CheckFlags extends SharedFlags {
  readonly file?: string;
  readonly fail?: true;
  readonly verbose?: true;
}

export function checkCommand(): Command {
  return addSharedFlags(new Command('check'))
    .description('judge one conversation, or one a line from standard input')
    .argument('[text]', 'a single message of the user')
    .option(
      '--file <file>',
      'a conversation: [{"role": "user" | "assistant", "content": "..."}, ...], or what a line may be',
    )
    .addOption(calibrationFlag())
    .addOption(shuffleFlag())
    .option(
      '--verbose',
      'also the hashes of model, policy, instruction and calibration: with --json in every line, else on standard error',
    )
    .option('--fail', 'exit with 1 where a conversation is flagged')
    .addHelpText(
      'after',
      `
Without TEXT and --file, standard input is read as JSON Lines: each line an array of messages or
{"id"?, "role"?, "messages": [...]}. A bad line is answered by {"error": ..., "line": N} and the rest goes on.

Examples:
  llama-guard check "How do I kill a process in Linux?"
  llama-guard check --file chat.json --role agent --json
  echo '[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello!"}]' | llama-guard check --json`,
    )
    .action(check);
}

async function check(text: string | undefined, flags: CheckFlags): Promise<void> {
  if (text !== undefined && flags.file !== undefined) {
    throw new ConversationError('conversation-invalid', 'Give either TEXT or --file, not both.');
  }
  const said = text === undefined ? undefined : { messages: text };
  const request = flags.file === undefined ? said : await readRequest(flags.file);
  await using guard = await loadFromFlags(flags);
  const about = flags.verbose ? { hashes: await hashesOf(guard) } : {};
  if (about.hashes && !flags.json) process.stderr.write(describeHashes(about.hashes));
  const { flagged, bad } = request
    ? await checkOne(guard, request, flags, about)
    : await checkLines(guard, flags, about);
  process.exitCode = bad ? exitCodes.badInput : flagged && flags.fail ? exitCodes.unsafe : exitCodes.done;
}

/** Reads a file and looks at it, before the model is loaded. @throws ConversationError */
async function readRequest(file: string): Promise<CheckRequest<unknown>> {
  const json = await readJson(file);
  const request = typeof json === 'string' ? { messages: json } : requestOf(json, file);
  // Whether messages of the system or of tools can be shown is for the policy to say.
  parseConversation(request.messages, { roles: { system: 'User', tool: 'User' } });
  return request;
}

async function checkOne(guard: Guard, request: CheckRequest<unknown>, flags: CheckFlags, about: object) {
  const { answer, flagged } = await judge(guard, request, flags, about);
  await print(answer);
  return { flagged, bad: false };
}

/** @returns the line that answers a request, and whether it was flagged */
async function judge(guard: Guard, { id, role, messages }: CheckRequest<unknown>, flags: CheckFlags, about: object) {
  const assessment = await guard.check(messages, { ...checkOptions(flags), ...(role ? { role } : {}) });
  const told = { ...(id === undefined ? {} : { id }), ...assessment, ...about };
  return { answer: flags.json ? JSON.stringify(told) : describe(assessment), flagged: assessment.flagged };
}

/** Answers each line of standard input with a line, in order. */
async function checkLines(guard: Guard, flags: CheckFlags, about: object) {
  if (process.stdin.isTTY) process.stderr.write('Reading conversations from the terminal, one a line; Ctrl-D ends.\n');
  let flagged = false;
  let bad = false;
  const answers = mapInOrder(inputLines(), linesAtOnce, async ([line, number]) => {
    try {
      const judged = await judge(guard, parseJsonLine(line, number), flags, about);
      flagged ||= judged.flagged;
      return judged.answer;
    } catch (error) {
      if (!(error instanceof LlamaGuardError) || error.code.startsWith('device-')) throw error;
      bad = true;
      return JSON.stringify({ error: { code: error.code, message: error.message }, line: number });
    }
  });
  try {
    for await (const answer of answers) await print(answer);
  } finally {
    // Where a device failed, the next line may still be waited for, and would keep the process alive.
    process.stdin.destroy();
  }
  return { flagged, bad };
}

/** Lines that are read ahead and judged side by side. */
const linesAtOnce = 64;

/** The lines of standard input that are not blank, each with its number from 1. @throws ConversationError `json-invalid` */
async function* inputLines(): AsyncGenerator<[line: string, number: number]> {
  let number = 0;
  try {
    // Node.js takes a folder for an empty file.
    if (fstatSync(process.stdin.fd).isDirectory()) throw new Error('it is a folder');
    for await (const line of linesOf(process.stdin)) {
      number++;
      if (line.trim() !== '') yield [line, number];
    }
  } catch (cause) {
    throw new ConversationError('json-invalid', `Standard input cannot be read: ${(cause as Error).message}.`, {
      cause,
    });
  }
}

/** Waits for a reader that is slower than the guard, so that answers do not pile up. */
async function print(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
}

/** Hashes for a person, each on a line. */
function describeHashes({ model, policy, instruction, calibration }: Hashes): string {
  const named = {
    model,
    policy,
    'instruction about the user': instruction.user,
    'instruction about the agent': instruction.agent,
    ...(calibration === null ? {} : { calibration }),
  };
  return Object.entries(named)
    .map(([name, hash]) => `${name}: ${hash}\n`)
    .join('');
}

/** An assessment for a person, on one line. */
function describe(assessment: Assessment): string {
  const { flagged, action, score, calibrated, threshold, role, categories, orders } = assessment;
  const { windows, worstWindow, disguise, suspicions } = assessment;
  const violated = categories.filter((category) => category.violated).map(({ code, name }) => `${code} ${name}`);
  return [
    `${flagged ? 'unsafe' : 'safe'}  ${score.toFixed(4)}  (${role})`,
    ...(calibrated === null ? [] : [`${calibrated.toFixed(4)} calibrated, flagged from ${threshold.toFixed(4)}`]),
    ...(action ? [action] : []),
    ...(orders ? [`${orders.score.min.toFixed(4)} to ${orders.score.max.toFixed(4)} over ${orders.count} orders`] : []),
    ...(violated.length > 0 && flagged ? [violated.join(', ')] : []),
    ...(worstWindow ? [`worst of ${windows} windows, ${place(worstWindow.from)} to ${place(worstWindow.to)}`] : []),
    ...(disguise
      ? [`${disguise.written.toFixed(4)} as written, ${disguise.normalised.toFixed(4)} in plain letters`]
      : []),
    ...(suspicions.length > 0 ? [`suspicious: ${[...new Set(suspicions.map(({ kind }) => kind))].join(', ')}`] : []),
  ].join('  ');
}

const place = ({ messageIndex, offset }: Excerpt['from']) => `messages[${messageIndex}] at ${offset}`;
