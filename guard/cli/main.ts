#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { packageVersion } from '../version.ts';
import { calibrateCommand } from './calibrate.ts';
import { checkCommand } from './check.ts';
import { devicesCommand } from './devices.ts';
import { evalCommand } from './eval.ts';
import { inspectCommand } from './inspect.ts';
import { exitCodeOf, exitCodes, explain } from './options.ts';
import { policyCommand } from './policy.ts';

const program = new Command('llama-guard')
  .description('Judges conversations by a safety policy, with a Llama Guard that runs in this process.')
  .version(packageVersion)
  // A command sees its arguments in their order: eval and its own command compare share flags.
  .enablePositionalOptions()
  .addHelpText(
    'after',
    `
Examples:
  llama-guard check "How do I kill a process in Linux?"
  llama-guard check --file chat.json --json
  llama-guard check --model ./LlamaGuard-7b --categories joint < conversations.jsonl

Exit codes: 0 done (and safe), 1 unsafe (with check --fail), 2 bad input, 3 model, device or standard output failure.`,
  );
const commands = [checkCommand, evalCommand, calibrateCommand, policyCommand, inspectCommand, devicesCommand];
for (const make of commands) program.addCommand(make());
explainUsage(program);

/** Errors of usage are thrown instead of ending the process, so that exit codes are this program's own. */
function explainUsage(command: Command): void {
  command.exitOverride().showHelpAfterError('Run with --help to see what there is.');
  for (const own of command.commands) explainUsage(own);
}

// What was not told was not found to be safe. With EPIPE whoever read the answers wants no more of them, as `head` does.
process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  if (code !== 'EPIPE') process.stderr.write(`Standard output cannot be written: ${message}.\n`);
  process.exit(exitCodes.failure);
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? exitCodes.done : exitCodes.badInput;
  } else {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = exitCodeOf(error);
  }
}
