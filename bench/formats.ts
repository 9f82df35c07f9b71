import { readFileSync } from 'node:fs';
import { Option } from 'commander';
import { memoryNeeds, type WeightDType } from '../engine/index.ts';
import { type CheckRequest, Guard, type Role } from '../guard/index.ts';
import { embeddedModel } from '../guard/node/load.ts';
import type { Flags } from './measurement.ts';
import type { FormatResult, Sections } from './schema.ts';

export interface FormatFlags {
  readonly data?: string;
}

export const options: readonly Option[] = [
  new Option('--data <file>', 'conversations beside the bundled ones: a {"messages", "role"?} a line'),
];

interface Format {
  readonly name: string;
  readonly dtype: WeightDType;
  readonly prefer?: Readonly<Record<string, string>>;
}

const formats: readonly Format[] = [
  { name: 'f16', dtype: 'f16' },
  { name: 'q8', dtype: 'q8' },
  {
    name: 'q8, activations in 8 bits too',
    dtype: 'q8',
    prefer: { matmul: 'int8', 'matmul-add': 'int8', 'gated-matmul': 'int8' },
  },
  { name: 'q4', dtype: 'q4' },
];

/** The conversations that come with the project: those of the demonstration, and the embedded model's reference prompts. */
export function bundledConversations(): CheckRequest[] {
  const parse = (url: URL | string) => JSON.parse(readFileSync(url, 'utf8'));
  const demo: CheckRequest[] = parse(new URL('../guard/demo/conversations.json', import.meta.url));
  const { cases } = parse(`${embeddedModel}/reference.json`) as {
    cases: { role: string; turns: { role: string; text: string }[] }[];
  };
  const roleOf = (role: string): Role => (role === 'User' ? 'user' : 'agent');
  const referenced = cases.map(({ role, turns }) => ({
    role: roleOf(role),
    messages: turns.map((turn) => ({ role: roleOf(turn.role), content: turn.text })),
  }));
  return [...demo, ...referenced];
}

/** The embedded model's scores in every format against those in f32, over the conversations at hand. */
export async function run({ device, hasAdapter, data, progress }: Flags & FormatFlags): Promise<Sections> {
  const onCpu = device === 'cpu' || !hasAdapter;
  const lines = data === undefined ? [] : readFileSync(data, 'utf8').trim().split('\n');
  const conversations = [...bundledConversations(), ...lines.map((line) => JSON.parse(line) as CheckRequest)];
  const scoreIn = (options: Pick<Format, 'dtype' | 'prefer'>) =>
    score(conversations, { ...options, device: onCpu ? 'cpu' : 'webgpu' });
  progress('f32');
  const exact = await scoreIn({ dtype: 'f32' });
  const results: FormatResult[] = [];
  for (const { name, dtype, prefer } of formats) {
    // The processor has no such kernel.
    if (prefer && onCpu) continue;
    progress(name);
    const { scores, weightBytes } = await scoreIn({ dtype, ...(prefer ? { prefer } : {}) });
    const errors = scores.map((value, i) => Math.abs(value - exact.scores[i]!));
    results.push({
      format: name,
      conversations: scores.length,
      meanError: errors.reduce((a, b) => a + b, 0) / errors.length,
      maxError: Math.max(...errors),
      flips: scores.filter((value, i) => value >= 0.5 !== exact.scores[i]! >= 0.5).length,
      weightBytes,
      saved: 1 - weightBytes / exact.weightBytes,
    });
  }
  return { formats: results };
}

async function score(conversations: readonly CheckRequest[], options: Parameters<typeof Guard.load>[1]) {
  await using guard = await Guard.load(undefined, options);
  const scores: number[] = [];
  for (const { messages, role } of conversations) {
    scores.push((await guard.check(messages, role ? { role } : {})).score);
  }
  const { config, dtype } = guard.llama;
  return { scores, weightBytes: memoryNeeds(config, { dtype }).weights };
}
