import * as z from 'zod';
import { quote } from '../../kernels/json.ts';
import { invalid, readJson } from './read-json.ts';
import { addedToken, type TokenizerJson, type Workings } from './schema.ts';
import type { SpecialToken, Vocabulary } from './vocabulary.ts';

/**
 * The files of a model folder that say how its text becomes tokens, by name. What tokenizer.json leaves open, the next two
 * say; config.json is asked where neither is there.
 */
export interface HuggingFaceFiles {
  readonly 'tokenizer.json': Uint8Array;
  readonly 'tokenizer_config.json'?: Uint8Array | undefined;
  readonly 'special_tokens_map.json'?: Uint8Array | undefined;
  readonly 'config.json'?: Uint8Array | undefined;
}

/** What lies beside a tokenizer.json. */
export interface Settings {
  /** As they are spelt, or their ids where only config.json tells; undefined where there is none. */
  readonly bos: string | number | undefined;
  readonly eos: string | number | undefined;
  readonly unknown: string | undefined;
  /** Undefined where nobody says. */
  readonly addsBos: boolean | undefined;
  /** The tokens with a role of their own, as they are spelt. */
  readonly special: readonly string[];
  readonly added: readonly SpecialToken[];
}

const spelling = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]);
const roles = z.looseObject({
  bos_token: spelling.nullish(),
  eos_token: spelling.nullish(),
  unk_token: spelling.nullish(),
  additional_special_tokens: z.array(spelling).nullish(),
});
const tokenizerConfig = roles.extend({
  add_bos_token: z.boolean().nullish(),
  added_tokens_decoder: z.record(z.string().regex(/^\d{1,7}$/), addedToken).nullish(),
});
const id = z.int().nonnegative();
const modelConfig = z.looseObject({
  bos_token_id: id.nullish(),
  eos_token_id: z.union([id, z.array(id).min(1)]).nullish(),
});

/** @throws {TokenizerError} `tokenizer-invalid` */
export function readSettings(files: HuggingFaceFiles): Settings {
  const read = <Shape extends z.ZodType>(name: keyof HuggingFaceFiles, shape: Shape) =>
    files[name] === undefined ? undefined : readJson(name, files[name], shape);
  const config = read('tokenizer_config.json', tokenizerConfig);
  const map = read('special_tokens_map.json', roles);
  const model = config || map ? undefined : read('config.json', modelConfig);
  /** A role that the first file gives nobody stays so, whatever the second one says. */
  const role = (name: 'bos_token' | 'eos_token' | 'unk_token') => {
    const said = config?.[name];
    return (said === undefined ? map?.[name] : said) ?? undefined;
  };
  const decoder = Object.entries(config?.added_tokens_decoder ?? {});
  return {
    bos: role('bos_token') ?? model?.bos_token_id ?? undefined,
    eos: role('eos_token') ?? [model?.eos_token_id].flat()[0] ?? undefined,
    unknown: role('unk_token'),
    addsBos: config?.add_bos_token ?? undefined,
    special: [config, map].flatMap((tokens) => (tokens ? rolesIn(tokens) : [])),
    added: decoder.map(([key, token]) => ({ ...token, id: Number(key) })),
  };
}

/** The spellings of `pad_token` and the like. */
function rolesIn(tokens: z.infer<typeof roles>): string[] {
  const single = Object.entries(tokens).flatMap(([name, value]) => {
    const { success, data } = spelling.safeParse(value);
    return success && name.endsWith('_token') ? [data] : [];
  });
  return [...single, ...(tokens.additional_special_tokens ?? [])];
}

/**
 * The added tokens of a tokenizer.json with those that lie beside it, and whatever has a role of its own.
 *
 * @throws {TokenizerError} `tokenizer-invalid` where two do not go together
 */
export function gatherAdded(json: TokenizerJson, settings: Settings, { model }: Workings): SpecialToken[] {
  const byContent = new Map<string, SpecialToken>();
  for (const token of json.added_tokens) {
    if (byContent.has(token.content)) throw invalid('tokenizer.json', 'added_tokens', `has ${token.content} twice`);
    byContent.set(token.content, token);
  }
  for (const token of settings.added) {
    const own = byContent.get(token.content);
    if (own && own.id !== token.id) {
      const why = `says that ${token.content} is ${token.id}, and tokenizer.json ${own.id}`;
      throw invalid('tokenizer_config.json', 'added_tokens_decoder', why);
    }
    byContent.set(token.content, { ...(own ?? token), special: token.special || own?.special === true });
  }
  for (const content of [...settings.special, model.unk_token ?? '']) {
    const own = byContent.get(content);
    const id = own?.id ?? json.model.vocab[content];
    if (content !== '' && typeof id === 'number') byContent.set(content, { ...own, content, id, special: true });
  }
  return [...byContent.values()];
}

/** The tokens that have a part of their own. */
export interface Roles {
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly unknownId: number | undefined;
  /** What is put in front of prompts. */
  readonly front: number | undefined;
}

/** @throws {TokenizerError} `tokenizer-invalid` for a role that no token has */
export function readRoles({ added, idOf }: Vocabulary, settings: Settings, workings: Workings): Roles {
  const find = (role: string, token: string | number | undefined): number | undefined => {
    const id = typeof token === 'string' ? idOf.get(token) : token;
    if (id === undefined ? token === undefined : added.has(id)) return id;
    throw invalid('tokenizer.json', 'added_tokens', `has no ${role} token ${quote(token)}, which other files name`);
  };
  const bosId = find('BOS', settings.bos);
  const template = find('first', templateFront(workings));
  const toldFront = settings.addsBos ? bosId : undefined;
  // Nothing is unknown to these tokenizers: a name that is nobody's does no harm.
  const unknownId = idOf.get(workings.model.unk_token ?? settings.unknown ?? '');
  return {
    bosId: bosId ?? template,
    eosId: find('EOS', settings.eos),
    unknownId,
    // As transformers do, which make the template anew by what tokenizer_config.json says, where it says something.
    front: settings.addsBos === undefined || bosId === undefined ? template : toldFront,
  };
}

/** The token that a post-processor puts in front of texts. @throws {TokenizerError} `tokenizer-invalid` */
function templateFront({ post_processor: processor }: Pick<Workings, 'post_processor'>): number | undefined {
  const steps = processor?.type === 'Sequence' ? processor.processors : processor ? [processor] : [];
  const template = steps.find((step) => step.type === 'TemplateProcessing');
  if (!template) return undefined;
  const text = template.single.findIndex((item) => 'Sequence' in item);
  const front = template.single.slice(0, Math.max(0, text)).flatMap((item) => ('SpecialToken' in item ? [item] : []));
  const ids = front.flatMap(({ SpecialToken }) => template.special_tokens[SpecialToken.id]?.ids ?? [-1]);
  if (text === -1 || ids.length > 1 || ids.includes(-1)) {
    throw invalid(
      'tokenizer.json',
      'post_processor.single',
      'must be a text with one special token before it, or none',
    );
  }
  return ids[0];
}
