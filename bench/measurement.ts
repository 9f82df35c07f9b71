import { InvalidArgumentError, Option } from 'commander';
import type { DeviceKind, Sections } from './schema.ts';

/** What a measurement is asked for. */
export interface Flags {
  readonly device: 'auto' | 'webgpu' | 'cpu';
  /** Fewer runs and smaller cases, for a glance. */
  readonly quick: boolean;
  /** Whether there is a WebGPU adapter at all. */
  readonly hasAdapter: boolean;
  /** Shows what is under way. */
  readonly progress: (what: string) => void;
}

/** A flag of measurements that can compute on the processor. */
export interface ThreadFlags {
  readonly threads?: number;
}

/** A flag of measurements that have much to go through. */
export interface TimeFlags {
  /** After so many seconds nothing more is begun; what is left out is told. */
  readonly seconds: number;
}

/** A subcommand that measures; the module does it in its one function `run`. */
export interface Measurement<Own = unknown> {
  readonly name: string;
  readonly does: string;
  /** Flags of its own, beside the shared ones. */
  readonly options?: readonly Option[];
  load(): Promise<{ run(flags: Flags & Own): Promise<Sections> }>;
}

/** The devices to measure: the one that was asked for, else all that there are. */
export function devicesOf({ device, hasAdapter }: Pick<Flags, 'device' | 'hasAdapter'>): readonly DeviceKind[] {
  if (device !== 'auto') return [device];
  return hasAdapter ? ['webgpu', 'cpu'] : ['cpu'];
}

/** A flag's value. @throws InvalidArgumentError, which commander tells the user of */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!(Number.isInteger(value) && value > 0)) throw new InvalidArgumentError('It must be a whole number above 0.');
  return value;
}

export const threadsOption = new Option(
  '--threads <n>',
  'threads of the processor to compute on (default: the cores that may be used)',
).argParser(wholeNumber);
