import type { Timing } from '../schema.ts';

/** One figure: who did which work, where, and in what time. The JSON result is a flat list of these. */
export interface Row extends Partial<Timing> {
  /** The peer in whose session this was measured; ours is measured beside each of them. */
  readonly session: string;
  /** `ours`, or the peer's package. */
  readonly peer: string;
  readonly work: 'matmul' | 'prefill' | 'uncached check' | 'cached check' | 'agreement' | 'generate' | 'cached forward';
  /** `rows x inputs x outputs` of a matmul; the model and its tokens of the rest. */
  readonly shape: string;
  readonly dtype: string;
  /** What computed; a processor that plays a GPU is called software. */
  readonly device: string;
  /** Of the processor; absent where a GPU computes. */
  readonly threads?: number;
  readonly gflops?: number;
  readonly tokensPerSecond?: number;
  /** How far the results are from ours or the reference, as `note` says. */
  readonly deviation?: number;
  readonly note?: string;
}

export type Report = (row: Row) => void;

/** What a session's process says to the one that started it. */
export type SessionMessage = { readonly row: Row } | { readonly unavailable: string };
