/** `npm start`: judges the bundled conversations with the embedded model and prints a table. */
import { readFileSync } from 'node:fs';
import Table from 'cli-table3';
import { progressBar } from '../cli/progress.ts';
import { Guard } from '../node/guard.ts';
import type { CheckRequest } from '../options.ts';

const conversations: CheckRequest[] = JSON.parse(
  readFileSync(new URL('./conversations.json', import.meta.url), 'utf8'),
);

const shorten = (text: string, length: number) => {
  const line = text.replace(/\s+/g, ' ');
  return line.length > length ? `${line.slice(0, length - 1)}…` : line;
};

const bar = progressBar('Loading the model');
await using guard = await Guard.load(undefined, { onProgress: bar.update });
bar.stop();

const table = new Table({
  head: ['role', 'last message', 'verdict', 'score', 'categories', 'ms'],
  colAligns: ['left', 'left', 'left', 'right', 'left', 'right'],
  style: { head: [], border: [], compact: true },
});
// One at a time, so that the milliseconds are what a conversation takes.
for await (const { assessment, error } of guard.checkMany(conversations, { categories: 'joint', concurrency: 1 })) {
  if (error) throw error;
  const messages = conversations[table.length]!.messages;
  const { content } = typeof messages === 'string' ? { content: messages } : messages.at(-1)!;
  const { flagged, score, role, categories, suspicions, milliseconds } = assessment;
  const violated = flagged ? categories.filter((category) => category.violated).map(({ code }) => code) : [];
  table.push([
    role,
    shorten(content, 58),
    `${flagged ? 'unsafe' : 'safe'}${suspicions.length > 0 ? ' (!)' : ''}`,
    score.toFixed(3),
    violated.join(', '),
    milliseconds.total.toFixed(0),
  ]);
}
const { device, reason } = guard.decision;
console.log(table.toString());
console.log('(!) the text tried to forge a part of the instruction; it was made harmless before it was read');
console.log(`Model: ${guard.model}, a demonstration of a few million parameters, weights in ${guard.llama.dtype}.`);
console.log(`Device: ${device.kind} (${device.name}), because ${reason}`);
