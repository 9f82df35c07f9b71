import { TokenizerError } from './errors.ts';
import { asBytes, asFloat, asNumber, asText, WireError, type WireField, wireFields } from './protobuf.ts';

/** What a piece is for; the values are those of SentencePiece's `ModelProto.SentencePiece.Type`. */
export const PieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
export type PieceType = (typeof PieceType)[keyof typeof PieceType];

/** One entry of the vocabulary; its id is its place in `SentencePieceModel.pieces`. */
export interface Piece {
  readonly text: string;
  readonly score: number;
  readonly type: PieceType;
}

/** The part of a `tokenizer.model` that this package reads itself; the rest is for SentencePiece. */
export interface SentencePieceModel {
  readonly pieces: readonly Piece[];
  readonly idOfPiece: ReadonlyMap<string, number>;
  readonly unknownId: number;
  readonly bosId: number;
  readonly eosId: number;
  /** What an unknown token decodes to. */
  readonly unknownSurface: string;
  /** A space is put before the text when encoding, and taken off when decoding. */
  readonly addDummyPrefix: boolean;
  /** Runs of spaces are one space, and none is kept at either end. */
  readonly removeExtraWhitespaces: boolean;
}

/** Far above any tokenizer in use (Gemma's 256,000 pieces take 4 MB), and small enough to read without thought. */
export const MAX_MODEL_BYTES = 64 * 2 ** 20;

const UNIGRAM = 1;
const BPE = 2;

interface TrainerSpec {
  modelType: number;
  unknownSurface: string;
  unknownPiece: string;
  bosPiece: string;
  eosPiece: string;
}

/**
 * Reads a SentencePiece `ModelProto` and refuses what could not serve: anything malformed, and any vocabulary in which
 * plain text could spell a control token. What it accepts is safe to hand to the C++ library.
 *
 * Source: `sentencepiece_model.proto` of google/sentencepiece; the field numbers and defaults below are its own.
 *
 * @throws {TokenizerError} `tokenizer-invalid`
 */
export function parseSentencePieceModel(bytes: Uint8Array): SentencePieceModel {
  if (bytes.length === 0) throw invalid('it is empty');
  if (bytes.length > MAX_MODEL_BYTES) throw invalid(`it has ${bytes.length} bytes, more than ${MAX_MODEL_BYTES}`);
  try {
    return readModel(bytes);
  } catch (error) {
    throw error instanceof WireError ? invalid(error.message, error) : error;
  }
}

/** The error of a model that cannot be used; `reason` completes "not a usable SentencePiece model: ". */
export function invalid(reason: string, cause?: unknown): TokenizerError {
  return new TokenizerError(
    'tokenizer-invalid',
    `not a usable SentencePiece model: ${reason}; expected the tokenizer.model of a Llama-2-family model, whole and unchanged`,
    cause === undefined ? undefined : { cause },
  );
}

function readModel(bytes: Uint8Array): SentencePieceModel {
  const pieces: Piece[] = [];
  // Fields that the file leaves out have these values (proto2 defaults).
  const trainer: TrainerSpec = {
    modelType: UNIGRAM,
    unknownSurface: ' \u2047 ',
    unknownPiece: '<unk>',
    bosPiece: '<s>',
    eosPiece: '</s>',
  };
  const normalizer = { addDummyPrefix: true, removeExtraWhitespaces: true };
  const seen = new Set<number>();

  for (const field of wireFields(bytes)) {
    seen.add(field.number);
    if (field.number === 1) pieces.push(readPiece(asBytes(field), pieces.length));
    else if (field.number === 2) readTrainerSpec(asBytes(field), trainer);
    else if (field.number === 3) readNormalizerSpec(asBytes(field), normalizer);
    else if (field.number === 5) refuseDenormalizer(asBytes(field));
  }

  if (pieces.length === 0) throw invalid('it has no pieces');
  // Both are optional to protobuf, and both follow the pieces: without this, a file cut between two pieces would pass
  // for a smaller model.
  if (!seen.has(2) || !seen.has(3)) throw invalid('its trainer or normalizer spec is missing, as if cut short');
  // The WORD and CHAR models look whole words up among control pieces too, so that the text "<s>" would become BOS.
  if (trainer.modelType !== BPE && trainer.modelType !== UNIGRAM) {
    throw invalid(`its model type is ${trainer.modelType}, neither BPE (${BPE}) nor unigram (${UNIGRAM})`);
  }
  const idOfPiece = indexPieces(pieces);
  const find = (text: string, type: PieceType, role: string): number => {
    const id = idOfPiece.get(text);
    if (id === undefined || pieces[id]!.type !== type) throw invalid(`it has no ${role} piece ${quote(text)}`);
    return id;
  };
  return {
    pieces,
    idOfPiece,
    unknownId: find(trainer.unknownPiece, PieceType.unknown, 'unknown'),
    bosId: find(trainer.bosPiece, PieceType.control, 'control (BOS)'),
    eosId: find(trainer.eosPiece, PieceType.control, 'control (EOS)'),
    unknownSurface: trainer.unknownSurface,
    ...normalizer,
  };
}

function readPiece(message: Uint8Array, id: number): Piece {
  let text = '';
  let score = 0;
  let type: number = PieceType.normal;
  for (const field of wireFields(message)) {
    if (field.number === 1) text = asText(field);
    else if (field.number === 2) score = asFloat(field);
    else if (field.number === 3) type = asNumber(field);
  }
  if (text === '') throw invalid(`piece ${id} is empty`);
  // Not-a-number compares with nothing: the merge order would be undefined.
  if (!Number.isFinite(score)) throw invalid(`the score of piece ${id} (${quote(text)}) is ${score}`);
  if (!isPieceType(type)) throw invalid(`the type of piece ${id} (${quote(text)}) is ${type}, not 1 to 6`);
  if (type === PieceType.byte && !/^<0x[0-9A-F]{2}>$/.test(text)) {
    throw invalid(`byte piece ${id} is ${quote(text)}, not of the form <0x0A>`);
  }
  // SentencePiece looks the single characters that no merge took up among control pieces too.
  if (type === PieceType.control && [...text].length === 1) {
    throw invalid(`control piece ${id} is the single character ${quote(text)}, which plain text can spell`);
  }
  return { text, score, type };
}

function isPieceType(type: number): type is PieceType {
  return type >= PieceType.normal && type <= PieceType.byte;
}

function readTrainerSpec(message: Uint8Array, spec: TrainerSpec): void {
  for (const field of wireFields(message)) {
    if (field.number === 3) spec.modelType = asNumber(field);
    else if (field.number === 24) refuseSuffixWhitespace(field);
    else if (field.number === 44) spec.unknownSurface = asText(field);
    else if (field.number === 45) spec.unknownPiece = asText(field);
    else if (field.number === 46) spec.bosPiece = asText(field);
    else if (field.number === 47) spec.eosPiece = asText(field);
  }
}

function readNormalizerSpec(
  message: Uint8Array,
  spec: { addDummyPrefix: boolean; removeExtraWhitespaces: boolean },
): void {
  for (const field of wireFields(message)) {
    if (field.number === 3) spec.addDummyPrefix = asNumber(field) !== 0;
    else if (field.number === 4) spec.removeExtraWhitespaces = asNumber(field) !== 0;
  }
}

/** Our decoder takes the dummy space off the front; no Llama model has it at the end. */
function refuseSuffixWhitespace(field: WireField): void {
  if (asNumber(field) !== 0) throw invalid('it treats whitespace as a suffix, which is not supported');
}

/** Our decoder applies no rules to the text it makes; no Llama model has any. */
function refuseDenormalizer(message: Uint8Array): void {
  for (const field of wireFields(message)) {
    if (field.number === 2 && asBytes(field).length > 0) {
      throw invalid('it has denormalization rules, which are not supported');
    }
  }
}

/** Duplicates are refused across all types: a normal piece spelled like a control piece would encode to its id. */
function indexPieces(pieces: readonly Piece[]): Map<string, number> {
  const idOfPiece = new Map<string, number>();
  pieces.forEach(({ text }, id) => {
    const first = idOfPiece.get(text);
    if (first !== undefined) throw invalid(`pieces ${first} and ${id} are both ${quote(text)}`);
    idOfPiece.set(text, id);
  });
  return idOfPiece;
}

/** A piece for an error message: escaped, and no longer than a line. */
function quote(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
