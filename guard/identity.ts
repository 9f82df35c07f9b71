/**
 * Names for what a score depends on: SHA-256 in lower-case hexadecimal, over what decides the result and nothing else.
 * Equal hashes mean equal questions; where two runs are compared, or a calibration is used, they are held side by side.
 */
import type { Adapter, LlamaConfig } from '../engine/index.ts';
import type { TensorSource } from '../engine/safetensors/source.ts';
import { sha256 } from '../engine/sha256.ts';
import type { Calibration } from './calibration/calibration.ts';
import { mapInOrder } from './in-order.ts';
import type { Instruction } from './instruction.ts';
import type { Role } from './messages.ts';
import { atDetail, type Detail, type Policy } from './policy.ts';

/** What a model's scores come from. */
export interface ModelParts {
  readonly config: LlamaConfig;
  readonly source: TensorSource;
  /** The files of the tokenizer and the chat template, by name. */
  readonly tokenizer: Readonly<Record<string, Uint8Array>>;
}

/** What a guard's scores depend on. */
export interface Hashes {
  readonly model: string;
  readonly policy: string;
  /** The question that is put about either role. */
  readonly instruction: Readonly<Record<Role, string>>;
  /** `null` without one. */
  readonly calibration: string | null;
}

/** Bytes that are hashed of each tensor, from its beginning. */
const sampledBytes = 16 * 1024;
/** Each may be a request to a server. */
const samplesAtOnce = 16;

/** The hash of a policy: of its canonical JSON, so that neither spaces nor the order of fields count. */
export const policyHash = (policy: Policy): Promise<string> => sha256(canonicalJson(policy));

/** The hash of an instruction: of its text with an empty conversation, as UTF-8. */
export const instructionHash = ({ prefix, suffix }: Pick<Instruction, 'prefix' | 'suffix'>): Promise<string> =>
  sha256(prefix + suffix);

/** The hash of a calibration: of its canonical JSON. */
export const calibrationHash = (calibration: object): Promise<string> => sha256(canonicalJson(calibration));

/**
 * The hash of a model: of its configuration as the engine reads it, the tokenizer's files, and of every tensor its
 * name, dtype, shape and first 16 KiB. How tensors are spread over files does not count. Training changes every matrix
 * it reaches nearly everywhere, so a fine-tuned or merged model has another hash; an edit of single numbers further
 * back in a tensor is not seen, which is the price of not reading all weights twice.
 */
export async function modelHash({ config, source, tokenizer }: ModelParts): Promise<string> {
  const tensors = await sampleOf(source);
  const files = await Promise.all(
    Object.entries(tokenizer).map(async ([name, bytes]) => [name, await sha256(bytes)] as const),
  );
  return sha256(canonicalJson({ config, tokenizer: Object.fromEntries(files), tensors }));
}

/**
 * The hash of a model, known by its own, with a low-rank adapter, merged or kept apart: of what the adapter adds to each
 * matrix, its tensors sampled as those of a model are.
 */
export async function adaptedHash(model: string, { updates, source }: Adapter): Promise<string> {
  return sha256(canonicalJson({ model, updates: Object.fromEntries(updates), tensors: await sampleOf(source) }));
}

/** A guard, as far as its hashes go. */
interface Identified {
  modelHashOf(adapter?: string): string;
  readonly policy: Policy;
  readonly calibration: Calibration | undefined;
  instruction(conversation: string, options: { readonly role: Role; readonly policy: Policy }): Instruction;
}

/**
 * The hashes of all that a guard's scores depend on, with an adapter or without, by as much of the policy that it was
 * loaded with as its checks tell the model.
 */
export async function hashesOf(guard: Identified, adapter?: string, detail: Detail = 'examples'): Promise<Hashes> {
  const { calibration } = guard;
  const policy = atDetail(guard.policy, detail);
  const ofRole = (role: Role) => instructionHash(guard.instruction('', { role, policy }));
  return {
    model: guard.modelHashOf(adapter),
    policy: await policyHash(policy),
    instruction: { user: await ofRole('user'), agent: await ofRole('agent') },
    calibration: calibration ? await calibrationHash(calibration) : null,
  };
}

/**
 * JSON in one spelling (RFC 8785): no spaces, the members of objects sorted by the UTF-16 units of their names, those
 * that are `undefined` left out. Numbers and strings are as JSON.stringify writes them, which is what the RFC took
 * over.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

/** What is hashed of each tensor, by name. */
async function sampleOf(source: TensorSource): Promise<Record<string, unknown>> {
  const tensors: Record<string, unknown> = {};
  const samples = mapInOrder(source.tensors.keys(), samplesAtOnce, async (name) => {
    return [name, await sha256(await firstBytes(source, name))] as const;
  });
  for await (const [name, sample] of samples) {
    const { dtype, shape } = source.tensors.get(name)!;
    tensors[name] = { dtype, shape, sha256: sample };
  }
  return tensors;
}

async function firstBytes(source: TensorSource, name: string): Promise<Uint8Array> {
  for await (const chunk of source.read(name, { chunkBytes: sampledBytes, onlyFirst: true })) return chunk.slice();
  return new Uint8Array();
}
