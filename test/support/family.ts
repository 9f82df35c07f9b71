import fc from 'fast-check';
import { type ArchitectureName, architectures } from '../../engine/architectures.ts';
import type { LlamaConfig } from '../../engine/index.ts';

export const architectureNames = Object.keys(architectures) as ArchitectureName[];

const factor = fc.integer({ min: 1, max: 32 });
const ropeScaling: fc.Arbitrary<NonNullable<LlamaConfig['ropeScaling']>> = fc.oneof(
  fc.record({ type: fc.constant('linear' as const), factor }),
  fc
    .record({
      type: fc.constant('llama3' as const),
      factor,
      lowFrequencyFactor: fc.constantFrom(0.5, 1, 2),
      originalMaxPositionEmbeddings: fc.constantFrom(8, 20, 64, 300),
    })
    .map((scaling) => ({ ...scaling, highFrequencyFactor: 4 * scaling.lowFrequencyFactor })),
);
const window = fc.integer({ min: 1, max: 24 });

/** What a model of an architecture, or of any, has that Llama 2 has not, at random. */
export function traits(
  layers: number,
  names: readonly ArchitectureName[] = architectureNames,
): fc.Arbitrary<Partial<LlamaConfig>> {
  const sometimes = <T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(fields, { requiredKeys: [] });
  const everywhere = window.map((tokens) => new Array<number | null>(layers).fill(tokens));
  const inSome = fc
    .tuple(window, fc.array(fc.boolean(), { minLength: layers, maxLength: layers }))
    .map(([tokens, sliding]) => sliding.map((here) => (here ? tokens : null)))
    .filter((windows) => windows.some((tokens) => tokens !== null));
  const all = fc.constant('all' as const);
  const byName: Readonly<Record<ArchitectureName, fc.Arbitrary<Partial<LlamaConfig>>>> = {
    LlamaForCausalLM: sometimes({ ropeScaling, attentionBias: all }),
    MistralForCausalLM: sometimes({ ropeScaling, slidingWindows: everywhere }),
    Qwen2ForCausalLM: sometimes({ ropeScaling, slidingWindows: inSome }).map((own) => ({
      ...own,
      attentionBias: 'queryKeyValue' as const,
      bosTokenId: null,
    })),
    Qwen3ForCausalLM: sometimes({ ropeScaling, slidingWindows: inSome, attentionBias: all }).map((own) => ({
      ...own,
      normalisesHeads: true,
      bosTokenId: null,
    })),
  };
  return fc.oneof(...names.map((name) => byName[name]));
}

/** An architecture that can be all that `config` is. */
export function architectureFor(config: LlamaConfig): ArchitectureName {
  if (config.normalisesHeads) return 'Qwen3ForCausalLM';
  if (config.attentionBias === 'queryKeyValue') return 'Qwen2ForCausalLM';
  return config.slidingWindows ? 'MistralForCausalLM' : 'LlamaForCausalLM';
}
