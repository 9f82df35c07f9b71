/**
 * The parts of @huggingface/tokenizers 0.2 that we use: its own declarations import one another without the file
 * extensions that ECMAScript modules are resolved by. Configurations are those of a tokenizer.json.
 */
declare module '@huggingface/tokenizers' {
  export interface Normalizer {
    normalize(text: string): string;
  }
  export interface PreTokenizer {
    /** @param options `section_index` is 0 for the text that a prompt begins with */
    pre_tokenize(text: string, options?: { readonly section_index?: number }): string[];
  }
  export const SequenceNormalizer: new (config: { readonly normalizers: readonly object[] }) => Normalizer;
  /** All of it at once, which tests compare ours with. */
  export const Tokenizer: new (
    tokenizer: object,
    config: object,
  ) => {
    encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: number[] };
  };
  export const SequencePreTokenizer: new (config: { readonly pretokenizers: readonly object[] }) => PreTokenizer;
}
