import { type Adapter, adapterOf } from './adapter.ts';
import { parseAdapterConfig } from './adapter-config.ts';
import type { LlamaConfig } from './config.ts';
import { type Folder, type FolderFile, listFiles, notFound, openFiles, readConfig } from './folder.ts';
import { SafetensorsSource } from './safetensors/source.ts';

/** A PEFT folder whose configuration and matrices were found to fit each other and a model. Disposing it closes its files. */
export interface AdapterFolder extends Adapter, AsyncDisposable {
  readonly folder: Folder;
}

const configName = 'adapter_config.json';
const weightsName = 'adapter_model.safetensors';

/**
 * Opens the folder of a low-rank adapter as PEFT saves it: `adapter_config.json` with `adapter_model.safetensors`. Reads
 * the header alone; the matrices stream from `source` later.
 *
 * @param model the model that it is to change
 * @throws ModelError `model-not-found` where something is not there, `config-invalid` where it is no JSON, with what to do about it; else what
 *   `parseAdapterConfig` and `adapterOf` throw, and `safetensors-invalid`
 */
export async function openAdapter(folder: Folder, model: LlamaConfig): Promise<AdapterFolder> {
  const files = await listFiles(folder, `an adapter's folder must hold ${configName} and ${weightsName}`);
  const paths = { config: folder.locate(configName), weights: folder.locate(weightsName) };
  const absent = (name: string) =>
    notFound(`${folder.location}: an adapter's folder must hold ${name}, but this one has none.${adviceOn(files)}`);
  const json = await readConfig(folder, configName);
  if (json === undefined) throw absent(configName);
  const [weights] = await openFiles(folder, [weightsName]);
  if (!weights) throw absent(weightsName);
  const source = await SafetensorsSource.open([weights]);
  const dispose = () => source[Symbol.asyncDispose]();
  try {
    const config = parseAdapterConfig(json, paths.config);
    return { ...adapterOf(config, source, model, paths), folder, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Opens the folders of several adapters, all or none. @throws ModelError as `openAdapter` does */
export async function openAdapters(
  folders: Readonly<Record<string, Folder>>,
  model: LlamaConfig,
): Promise<AsyncDisposable & { readonly adapters: Readonly<Record<string, AdapterFolder>> }> {
  const opened: [name: string, adapter: AdapterFolder][] = [];
  const dispose = async () => {
    for (const [, adapter] of opened) await adapter[Symbol.asyncDispose]();
  };
  try {
    for (const [name, folder] of Object.entries(folders)) opened.push([name, await openAdapter(folder, model)]);
    return { adapters: Object.fromEntries(opened), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

function adviceOn(files: readonly FolderFile[]): string {
  const has = (name: string) => files.some((file) => file.name === name);
  if (has('adapter_model.bin')) {
    return (
      ' It has "adapter_model.bin": PyTorch pickles are not read, since loading one runs code. Save the adapter anew ' +
      'with PEFT: `save_pretrained(DIR, safe_serialization=True)`.'
    );
  }
  return has('config.json') ? ' It has "config.json": a whole model is given as the model.' : '';
}
