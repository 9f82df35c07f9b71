/** Tokenizers as families of models are published with them, but for their pieces. */
import { linearPatterns } from '../../tokenizer/hugging-face/patterns.ts';

export interface Token {
  readonly content: string;
  readonly special: boolean;
}

/** What the tokenizers of a family of models have in common. */
export interface TokenizerFamily {
  /** Added tokens with the first ids. */
  readonly first: readonly Token[];
  /** Added tokens behind all pieces. */
  readonly last: readonly Token[];
  /** Rows of the embeddings behind the last token. */
  readonly unused: number;
  /** The fields of `tokenizer.json` that say how text is dealt with, the model's but for its pieces. */
  readonly work: Readonly<Record<'normalizer' | 'pre_tokenizer' | 'decoder', unknown>> & {
    readonly model: Readonly<Record<string, unknown>>;
  };
  /** Put in front of texts. */
  readonly front?: string;
  /** Merges as pairs, or as texts with a space between both. */
  readonly pairs: boolean;
  /** `tokenizer_config.json`, but for its added tokens. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly specialTokensMap: Readonly<Record<string, unknown>>;
}

const special = (...contents: readonly string[]): Token[] => contents.map((content) => ({ content, special: true }));
const plain = (...contents: readonly string[]): Token[] => contents.map((content) => ({ content, special: false }));
/** How added tokens are found. */
export const flags = { lstrip: false, normalized: false, rstrip: false, single_word: false } as const;
const patternOf = (owner: string): string => [...linearPatterns].find(([, name]) => name === owner)![0];

const byteModel = {
  type: 'BPE',
  dropout: null,
  unk_token: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
};
const splitAndBytes = (pattern: string, trimOffsets: boolean) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: patternOf(pattern) }, behavior: 'Isolated', invert: false },
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: trimOffsets, use_regex: false },
  ],
});
const reserved = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `<|reserved_special_token_${from + i}|>`);

/** Llama 3.1's 256 tokens, of which Llama 3 calls some by other names. */
const llama3: TokenizerFamily = {
  first: [],
  last: special(
    '<|begin_of_text|>',
    '<|end_of_text|>',
    ...reserved(0, 2),
    '<|finetune_right_pad_id|>',
    ...reserved(2, 3),
    '<|start_header_id|>',
    '<|end_header_id|>',
    '<|eom_id|>',
    '<|eot_id|>',
    '<|python_tag|>',
    ...reserved(3, 248),
  ),
  unused: 0,
  work: {
    normalizer: null,
    pre_tokenizer: splitAndBytes('Llama 3', true),
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { ...byteModel, ignore_merges: true },
  },
  front: '<|begin_of_text|>',
  pairs: false,
  config: {
    bos_token: '<|begin_of_text|>',
    clean_up_tokenization_spaces: true,
    eos_token: '<|eot_id|>',
    model_input_names: ['input_ids', 'attention_mask'],
    tokenizer_class: 'PreTrainedTokenizerFast',
  },
  specialTokensMap: {
    bos_token: { content: '<|begin_of_text|>', ...flags },
    eos_token: { content: '<|eot_id|>', ...flags },
  },
};

const qwenRoles = [
  ...['<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>', '<|box_start|>', '<|box_end|>'],
  ...['<|quad_start|>', '<|quad_end|>', '<|vision_start|>', '<|vision_end|>', '<|vision_pad|>', '<|image_pad|>'],
  '<|video_pad|>',
];
/** Qwen3's; Qwen2.5 has all but the last four tokens. */
const qwen: TokenizerFamily = {
  first: [],
  last: [
    ...special('<|endoftext|>', ...qwenRoles),
    ...plain('<tool_call>', '</tool_call>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>', '<|fim_pad|>'),
    ...plain('<|repo_name|>', '<|file_sep|>', '<tool_response>', '</tool_response>', '<think>', '</think>'),
  ],
  unused: 267,
  work: {
    normalizer: { type: 'NFC' },
    pre_tokenizer: splitAndBytes('Qwen', false),
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: { ...byteModel, continuing_subword_prefix: '', end_of_word_suffix: '', ignore_merges: false },
  },
  pairs: true,
  config: {
    add_bos_token: false,
    add_prefix_space: false,
    additional_special_tokens: qwenRoles,
    bos_token: null,
    clean_up_tokenization_spaces: false,
    eos_token: '<|im_end|>',
    errors: 'replace',
    pad_token: '<|endoftext|>',
    split_special_tokens: false,
    tokenizer_class: 'Qwen2Tokenizer',
    unk_token: null,
  },
  specialTokensMap: {
    additional_special_tokens: qwenRoles,
    eos_token: { content: '<|im_end|>', ...flags },
    pad_token: { content: '<|endoftext|>', ...flags },
  },
};

const mistralRoles = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' };
const mistral: TokenizerFamily = {
  first: special('<unk>', '<s>', '</s>', '[INST]', '[/INST]'),
  last: [],
  unused: 0,
  work: {
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'first', split: false },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: { ...byteModel, unk_token: '<unk>', fuse_unk: true, byte_fallback: true, ignore_merges: false },
  },
  front: '<s>',
  pairs: true,
  config: {
    ...mistralRoles,
    add_bos_token: true,
    add_eos_token: false,
    add_prefix_space: true,
    clean_up_tokenization_spaces: false,
    legacy: false,
    pad_token: null,
    sp_model_kwargs: {},
    spaces_between_special_tokens: false,
    tokenizer_class: 'LlamaTokenizer',
    use_default_system_prompt: false,
  },
  specialTokensMap: Object.fromEntries(
    Object.entries(mistralRoles).map(([role, content]) => [role, { content, ...flags }]),
  ),
};

export const tokenizerFamilies = {
  'llama-3': llama3,
  qwen,
  /** Mistral 7B v0.3: spaces are added where a prompt begins. */
  mistral,
  /** As v0.1 and Llama 2 were published: spaces are added by a normalizer, to every text between special tokens. */
  'mistral-v0.1': {
    ...mistral,
    first: mistral.first.slice(0, 3),
    pairs: false,
    work: {
      ...mistral.work,
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '\u2581' },
          { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
        ],
      },
      pre_tokenizer: null,
    },
    config: { ...mistral.config, legacy: true },
  },
  /** Mistral Nemo. */
  tekken: {
    ...llama3,
    first: special('<unk>', '<s>', '</s>', '[INST]', '[/INST]'),
    last: [],
    work: { ...llama3.work, pre_tokenizer: splitAndBytes('Mistral (Tekken)', true) },
    front: '<s>',
    config: { ...mistralRoles, add_bos_token: true, tokenizer_class: 'PreTrainedTokenizerFast' },
    specialTokensMap: mistral.specialTokensMap,
  },
} as const satisfies Record<string, TokenizerFamily>;
