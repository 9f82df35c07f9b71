import type { DeviceChoice, OpenDeviceOptions } from '../engine/device-choice.ts';
import type { OnProgress, OnTuning, WeightDType } from '../engine/index.ts';
import type { LlamaGuardError } from '../kernels/errors.ts';
import type { Calibration } from './calibration/calibration.ts';
import type { Message, Role } from './messages.ts';
import type { Detail, Policy } from './policy.ts';
import type { Assessment } from './score.ts';

/** What was said: messages in order, or the text of a single one by the user. */
export type Conversation = string | readonly Message[];

/** Category scores: none; `joint`, read off one written list; `single`, a pass a category with a policy of it alone. */
export const categoryModes = ['none', 'joint', 'single'] as const;
export type CategoryMode = (typeof categoryModes)[number];

export interface CheckOptions {
  /** How much of the policy's categories the model is told; by default all, its examples too. */
  readonly detail?: Detail;
  /** Averages over so many orders of the categories and tells how far they disagree (`orders`); 1 by default. */
  readonly shuffleCategories?: number;
  /** Whose messages are judged; by default who spoke last. */
  readonly role?: Role;
  readonly policy?: Policy;
  /** The name of the adapter to judge with, of those that the guard was loaded with; by default none. */
  readonly adapter?: string;
  /**
   * From which `calibrated ?? score` a conversation, or a category, is flagged. By default the threshold that the
   * calibration was given by its data, each category its own, and 0.5 where there is none.
   */
  readonly threshold?: number;
  /** By default `none`, or `joint` under a policy with thresholds or actions by category. */
  readonly categories?: CategoryMode;
  readonly signal?: AbortSignal;
}

export interface CheckManyOptions extends CheckOptions {
  /** Conversations that are taken ahead and judged side by side, as far as the cache has room; 64 by default. */
  readonly concurrency?: number;
}

export const tunings = ['use', 'measure', 'ignore'] as const;

/** @typeParam Place where folders are: paths in Node.js */
export interface LoadOptions<Place = string> extends Omit<OpenDeviceOptions, 'tuning' | 'memoryNeeded'> {
  /**
   * Kernel choices that were measured on this adapter: `use` them where there are some (the default), `measure` what is
   * not known of this model yet and keep it for the next load, or `ignore` them.
   */
  readonly tuning?: (typeof tunings)[number];
  readonly device?: DeviceChoice;
  /** How weights are held; `auto` keeps what the checkpoint has, q8 and q4 quantise it while loading. */
  readonly dtype?: 'auto' | WeightDType;
  /** The folder of a low-rank adapter, as PEFT saves it, to merge into the weights while loading. */
  readonly mergedAdapter?: Place;
  /** Folders of adapters to keep beside the weights, on top of a merged one, by the names that checks ask for them by. */
  readonly adapters?: Readonly<Record<string, Place>>;
  /**
   * Used where a check names none, or made of what is used by default: the model folder's own `policy.json`, else the
   * default policy.
   */
  readonly policy?: Policy | ((own: Policy) => Policy);
  /** The name of a prompt format, where it is not to be the model folder's own; see `promptFormats`. */
  readonly promptFormat?: string;
  /**
   * Turns scores into probabilities; it is of this model, or of it with one of its adapters, and dtype, and of the policy
   * and roles that are judged.
   */
  readonly calibration?: Calibration;
  /** Tokens of the longest prompt; by default the model's own limit, at most 8,192. */
  readonly contextLength?: number;
  /**
   * Bytes for the keys and values of prompts: of those that are being judged, which bounds how many are side by side, and
   * of earlier ones, whose beginnings need not be computed again. By default room for two prompts of the longest.
   */
  readonly cacheMemory?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  readonly onTuning?: OnTuning;
}

/** A conversation among many. */
export interface CheckRequest<Id = string | number> {
  /** Carried over to the answer. */
  readonly id?: Id;
  readonly role?: Role;
  readonly messages: Conversation;
}

/** An answer among many: an assessment, or why there is none. */
export type CheckAnswer<Id = string | number> = { readonly id?: Id } & (
  | { readonly assessment: Assessment; readonly error?: never }
  | { readonly error: LlamaGuardError; readonly assessment?: never }
);
