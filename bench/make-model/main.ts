/** `npm run make-model -- --like NAME --out DIR`: a folder of random weights in the layout of a published model. */
import { readdir, readFile } from 'node:fs/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { FloatDType } from '../../engine/safetensors/convert.ts';
import { LlamaGuardError } from '../../kernels/errors.ts';
import { wholeNumber } from '../measurement.ts';
import { catalogue } from './catalogue.ts';
import { type MadeFolder, makeAdapter, makeModel, type QuantisedFormatName, quantisedFormats } from './index.ts';
import { type LoraOptions, parseLoraOptions } from './lora.ts';
import { sentencePieceTokenizer } from './tokenizer-files.ts';

const dtypes = { bf16: 'BF16', f16: 'F16', f32: 'F32' } as const satisfies Record<string, FloatDType>;

interface Flags {
  readonly like: string;
  readonly out: string;
  readonly scale: number;
  readonly seed: number;
  readonly dtype?: keyof typeof dtypes;
  readonly shards?: number;
  readonly quant?: QuantisedFormatName;
  readonly lora?: LoraOptions;
  readonly tokenizer?: string;
  readonly chatTemplate?: string;
}

const number = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
};

function loraOptions(text: string): LoraOptions {
  try {
    return parseLoraOptions(text);
  } catch (error) {
    throw new InvalidArgumentError((error as RangeError).message);
  }
}

const program = new Command('make-model')
  .description('Writes a folder of random weights in the exact layout of a published model.')
  .addOption(new Option('--like <name>', 'the model to imitate').choices(Object.keys(catalogue)).makeOptionMandatory())
  .requiredOption('--out <folder>', 'where it goes; it must be empty or not there yet')
  .addOption(
    new Option('--scale <x>', 'widths, heads, layers and vocabulary times this, up to 1').argParser(number).default(1),
  )
  .addOption(new Option('--seed <n>', 'the same seed gives the same bytes').argParser(number).default(1))
  .addOption(
    new Option('--dtype <dtype>', 'how weights are stored (default: as published)').choices(Object.keys(dtypes)),
  )
  .addOption(new Option('--shards <n>', 'files of weights (default: as published)').argParser(wholeNumber))
  .addOption(new Option('--quant <format>', 'projections in fewer bits').choices(Object.keys(quantisedFormats)))
  .addOption(
    new Option(
      '--lora <settings>',
      'a PEFT adapter for the model instead: rank=8,alpha=16,targets=q_proj+v_proj[,rslora]',
    )
      .argParser(loraOptions)
      .conflicts(['dtype', 'shards', 'quant', 'tokenizer', 'chatTemplate']),
  )
  .option(
    '--tokenizer <file>',
    "a tokenizer.model to copy (default: the embedded model's or a trained tokenizer.json, where the vocabulary has room)",
  )
  .option(
    '--chat-template <file>',
    "a template to put into tokenizer_config.json (default: one of the shape of the model's, where it has one)",
  )
  .parse();

async function make({ out, scale, seed, lora, tokenizer, chatTemplate, ...flags }: Flags): Promise<MadeFolder> {
  const { like, dtype, shards, quant: quantised } = flags;
  const there = await readdir(out).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (there.length > 0) throw new RangeError(`${out} must be empty, but holds ${there[0]}. Name another folder.`);
  if (lora) return makeAdapter(out, { like, scale, seed, lora });
  let bytes = 0;
  const made = await makeModel(out, {
    like,
    scale,
    seed,
    ...(dtype === undefined ? {} : { dtype: dtypes[dtype] }),
    ...(shards === undefined ? {} : { shards }),
    ...(quantised === undefined ? {} : { quantised }),
    ...(tokenizer === undefined ? {} : { makeTokenizer: sentencePieceTokenizer(tokenizer) }),
    ...(chatTemplate === undefined ? {} : { chatTemplate: await readFile(chatTemplate, 'utf8') }),
    progress: (more) => {
      bytes += more;
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${(bytes / 2 ** 20).toFixed()} MiB`);
    },
  });
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  if (!made.hasTokenizer)
    console.error(`No tokenizer that fits: there are none of ${like}'s kind and vocabulary here.`);
  return made;
}

try {
  const start = performance.now();
  const { folder, files } = await make(program.opts<Flags>());
  const seconds = (performance.now() - start) / 1000;
  for (const [name, size] of files) console.log(`${String(size).padStart(14)}  ${name}`);
  const total = [...files.values()].reduce((sum, size) => sum + size, 0);
  console.log(`${total} bytes in ${folder}, ${seconds.toFixed(1)} s, ${(total / seconds / 1e6).toFixed()} MB/s`);
} catch (error) {
  if (!(error instanceof RangeError || error instanceof LlamaGuardError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
