import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import * as z from 'zod';
import type { ModelFolder } from '../../engine/node/model-folder.ts';
import { parseJson } from '../../kernels/json.ts';
import { FormatError } from '../errors.ts';
import { type ChatTemplate, withChatTemplate } from '../formats/chat-template.ts';
import { formatNamed, type PromptFormat, recogniseFormat } from '../formats/index.ts';

type Folder = Pick<ModelFolder, 'folder' | 'files'>;

const maxBytes = 64 * 2 ** 20;
const maxDepth = 64;

/** A template alone, or several by name. */
const templates = z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]);
const token = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]);
const tokenizerConfig = z.looseObject({ chat_template: templates.nullish() });

/**
 * How the model of a folder is asked: in the frame of its own chat template, where it has one, in the way of the format
 * that the template speaks for; or in a format that is named, as this package knows it.
 * @throws FormatError `format-unknown`, `template-invalid`, `template-unsupported`
 */
export async function folderFormat(opened: Folder, named?: string): Promise<PromptFormat> {
  if (named !== undefined) return formatNamed(named);
  const template = await chatTemplateOf(opened);
  const format = recogniseFormat({ template: template?.text, name: basename(resolve(opened.folder)) });
  return template ? withChatTemplate(format, template) : format;
}

/**
 * The chat template of a folder: a file of its own goes before the tokenizer's configuration, as in transformers.
 * @throws FormatError `template-invalid`
 */
export async function chatTemplateOf({ folder, files }: Folder): Promise<ChatTemplate | undefined> {
  const has = (name: string) => files.some((file) => file.name === name);
  const config = has('tokenizer_config.json')
    ? await readShape(folder, 'tokenizer_config.json', tokenizerConfig)
    : { chat_template: undefined };
  const tokens = Object.fromEntries(
    Object.entries(config).flatMap(([name, value]) => {
      const { success, data } = token.safeParse(value);
      return success && name.endsWith('_token') ? [[name, data]] : [];
    }),
  );
  if (has('chat_template.jinja')) {
    const source = join(folder, 'chat_template.jinja');
    return { source, text: await readFile(source, 'utf8'), tokens };
  }
  if (has('chat_template.json')) {
    const { chat_template: text } = await readShape(
      folder,
      'chat_template.json',
      z.object({ chat_template: templates }),
    );
    return { source: join(folder, 'chat_template.json'), text: defaultOf(text), tokens };
  }
  const text = config.chat_template;
  return text == null ? undefined : { source: join(folder, 'tokenizer_config.json'), text: defaultOf(text), tokens };
}

/** Of several templates the one for plain conversations. */
function defaultOf(text: z.infer<typeof templates>): string {
  if (typeof text === 'string') return text;
  return (text.find(({ name }) => name === 'default') ?? text[0])?.template ?? '';
}

async function readShape<Shape extends z.ZodType>(folder: string, name: string, shape: Shape): Promise<z.infer<Shape>> {
  const source = join(folder, name);
  try {
    const bytes = await readFile(source);
    if (bytes.length > maxBytes) throw new RangeError(`it has ${bytes.length} bytes, more than ${maxBytes}`);
    return shape.parse(parseJson(bytes, maxDepth));
  } catch (cause) {
    const why =
      cause instanceof z.ZodError
        ? cause.issues.map(({ path, message }) => `'${path.join('.')}': ${message}`).join('; ')
        : (cause as Error).message;
    throw new FormatError('template-invalid', `${source}: ${why}.`, { cause });
  }
}
