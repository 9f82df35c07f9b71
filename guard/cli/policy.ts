import Table from 'cli-table3';
import { Command, Option } from 'commander';
import { sizesOf } from '../../engine/memory-needs.ts';
import { openModelFolder } from '../../engine/node/disk-folder.ts';
import { loadTokenizer } from '../../tokenizer/load.node.ts';
import { PolicyError } from '../errors.ts';
import { folderFormat } from '../folder-format.ts';
import { assertAskable } from '../formats/chat-template.ts';
import { instructionHash, policyHash } from '../identity.ts';
import { instructionOf, renderTurns } from '../instruction.ts';
import { type Role, roles } from '../messages.ts';
import { embeddedModel, policyNamed } from '../node/load.ts';
import { builtInPolicies } from '../policies/index.ts';
import { assertDistinguishable } from '../policy.ts';
import { lintPolicy } from '../policy-lint.ts';
import { addPartFlags, exitCodes, partOf, promptFormatFlag, type SharedFlags } from './options.ts';

interface PolicyFlags extends Pick<SharedFlags, 'include' | 'exclude' | 'detail'> {
  readonly model: string;
  readonly promptFormat?: string;
  readonly role: Role;
  readonly json?: true;
}

export function policyCommand(): Command {
  const command = new Command('policy').description('look at policies: list, lint, show');
  command
    .command('list')
    .description('the policies that come with this package')
    .action(() => {
      for (const [name, { categories }] of Object.entries(builtInPolicies)) {
        print(`${name.padEnd(18)} ${categories.map(({ code, name }) => `${code} ${name}`).join(', ')}`);
      }
    });
  withFlags(command.command('lint'))
    .description('what may not work as meant, and the tokens that each category takes; exits with 2 on errors')
    .action(lint);
  withFlags(command.command('show')).description('the exact instruction, its parts marked, and its hash').action(show);
  return command;
}

const withFlags = (command: Command): Command =>
  addPartFlags(
    command
      .argument('<policy>', `a file, or one of ${Object.keys(builtInPolicies).join(', ')}`)
      .addOption(
        new Option('--model <dir>', 'model folder whose prompt format and tokenizer are used').default(
          embeddedModel,
          'the embedded demonstration model',
        ),
      )
      .addOption(promptFormatFlag())
      .addOption(new Option('--role <role>', 'whose messages are judged').choices(roles).default('user')),
  ).option('--json', 'one JSON object');

async function lint(nameOrFile: string, { model, promptFormat, role, json, ...part }: PolicyFlags): Promise<void> {
  await using folder = await openModelFolder(model);
  using tokenizer = await loadTokenizer(model);
  try {
    const policy = partOf(await policyNamed(nameOrFile), part);
    const format = await folderFormat(folder, promptFormat);
    assertAskable(format, policy);
    assertDistinguishable(policy, (text) => tokenizer.encode(text), tokenizer.unknownId, format.answer.list?.written);
    const { findings, budget } = lintPolicy(policy, {
      tokenizer,
      contextLength: sizesOf(folder.config, {}).contextLength,
      role,
      format,
    });
    if (json) {
      print(JSON.stringify({ errors: [], findings, budget }));
      return;
    }
    for (const { kind, message } of findings) print(`warning  ${kind}: ${message}`);
    const table = new Table({
      head: ['what', 'tokens'],
      colAligns: ['left', 'right'],
      style: { head: [], border: [], compact: true },
    });
    table.push(
      ['frame', budget.frame],
      ...budget.categories.map(({ code, tokens }) => [code, tokens]),
      ['kept for the answer', budget.answer],
      ['left for the conversation', budget.conversation],
      ['context', budget.context],
    );
    print(table.toString());
    print(findings.length === 0 ? 'Nothing found.' : `Warnings: ${findings.length}, errors: none.`);
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    if (json)
      print(JSON.stringify({ errors: [{ code: error.code, message: error.message }], findings: [], budget: null }));
    else print(`error    ${error.code}: ${error.message}`);
    process.exitCode = exitCodes.badInput;
  }
}

async function show(nameOrFile: string, { model, promptFormat, role, json, ...part }: PolicyFlags): Promise<void> {
  await using folder = await openModelFolder(model);
  const format = await folderFormat(folder, promptFormat);
  const policy = partOf(await policyNamed(nameOrFile), part);
  assertAskable(format, policy);
  const frame = format.frame(policy, role);
  const instruction = instructionOf(frame, []);
  const { prefix, suffix } = instruction;
  const hashes = { policy: await policyHash(policy), instruction: await instructionHash(instruction) };
  if (json) {
    print(JSON.stringify({ prefix, suffix, hashes }));
    return;
  }
  print(`── before the conversation: kept between checks ──\n${prefix}`);
  const shown = renderTurns(frame, [
    { speaker: 'User', text: '...', messageIndex: 0 },
    { speaker: 'Agent', text: '...', messageIndex: 1 },
  ]);
  print(`── the conversation ──\n${shown}`);
  print(`── after it ──${suffix}\n── end ──`);
  print(`instruction ${hashes.instruction}\npolicy      ${hashes.policy}`);
}

const print = (line: string) => process.stdout.write(`${line}\n`);
