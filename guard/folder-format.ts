import * as z from 'zod';
import type { Folder } from '../engine/folder.ts';
import type { ModelFolder } from '../engine/model-folder.ts';
import { parseJson } from '../kernels/json.ts';
import { FormatError } from './errors.ts';
import { type ChatTemplate, withChatTemplate } from './formats/chat-template.ts';
import { formatNamed, type PromptFormat, recogniseFormat } from './formats/index.ts';

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
export async function folderFormat({ folder }: Pick<ModelFolder, 'folder'>, named?: string): Promise<PromptFormat> {
  if (named !== undefined) return formatNamed(named);
  const template = await chatTemplateOf(folder);
  const format = recogniseFormat({ template: template?.text, name: folder.name });
  return template ? withChatTemplate(format, template) : format;
}

/**
 * The chat template of a folder: a file of its own goes before the tokenizer's configuration, as in transformers.
 * @throws FormatError `template-invalid`
 */
export async function chatTemplateOf(folder: Folder): Promise<ChatTemplate | undefined> {
  const config = await readShape(folder, 'tokenizer_config.json', tokenizerConfig);
  const tokens = Object.fromEntries(
    Object.entries(config ?? {}).flatMap(([name, value]) => {
      const { success, data } = token.safeParse(value);
      return success && name.endsWith('_token') ? [[name, data]] : [];
    }),
  );
  const found = (name: string, text: string) => ({ source: folder.locate(name), text, tokens });
  const plain = await naming(folder, 'chat_template.jinja', () => folder.read('chat_template.jinja', maxBytes));
  if (plain) return found('chat_template.jinja', new TextDecoder().decode(plain));
  const own = await readShape(folder, 'chat_template.json', z.object({ chat_template: templates }));
  if (own) return found('chat_template.json', defaultOf(own.chat_template));
  return config?.chat_template == null ? undefined : found('tokenizer_config.json', defaultOf(config.chat_template));
}

/** Of several templates the one for plain conversations. */
function defaultOf(text: z.infer<typeof templates>): string {
  if (typeof text === 'string') return text;
  return (text.find(({ name }) => name === 'default') ?? text[0])?.template ?? '';
}

async function readShape<Shape extends z.ZodType>(
  folder: Folder,
  name: string,
  shape: Shape,
): Promise<z.infer<Shape> | undefined> {
  return naming(folder, name, async () => {
    const bytes = await folder.read(name, maxBytes);
    return bytes && shape.parse(parseJson(bytes, maxDepth));
  });
}

/** Tells of a file that cannot be used. @throws FormatError `template-invalid` */
async function naming<T>(folder: Folder, name: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (cause) {
    const why =
      cause instanceof z.ZodError
        ? cause.issues.map(({ path, message }) => `'${path.join('.')}': ${message}`).join('; ')
        : (cause as Error).message;
    throw new FormatError('template-invalid', `${folder.locate(name)}: ${why}.`, { cause });
  }
}
