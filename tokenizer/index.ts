/**
 * Text to token ids and back. `loadTokenizer`, which reads a model folder, needs Node.js and so lives apart, in
 * `load.node.ts`; everything here runs in a page too.
 */
export { TokenizerError } from './errors.ts';
export type { HuggingFaceFiles } from './hugging-face/settings.ts';
export { HuggingFaceTokenizer } from './hugging-face/tokenizer.ts';
export type { PromptPart } from './prompt.ts';
export { type SentencePieceOptions, SentencePieceTokenizer } from './sentencepiece.ts';
export { assertFits, type Tokenizer } from './tokenizer.ts';
export { MAX_TEXT_BYTES } from './utf8.ts';
