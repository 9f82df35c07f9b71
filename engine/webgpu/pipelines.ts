import type { DType } from '../../kernels/contract.ts';
import { type AnyVariant, assembleShader } from '../../kernels/webgpu.ts';
import { DeviceError } from '../errors.ts';

/** `GPUShaderStage.COMPUTE`. */
const COMPUTE = 0x4;

export interface Kernel {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Bind groups by the buffers they name. */
  readonly bindGroups: Map<string, GPUBindGroup>;
}

/** Compiled kernels of one device, keyed by their final source, which determines the layout too. */
export class Pipelines {
  created = 0;
  readonly #device: GPUDevice;
  readonly #features: ReadonlySet<string>;
  readonly #bySource = new Map<string, Kernel>();
  /** Saves assembling the source at every dispatch. */
  readonly #byVariant = new Map<AnyVariant, Map<string, Kernel>>();

  constructor(device: GPUDevice, features: ReadonlySet<string>) {
    this.#device = device;
    this.#features = features;
  }

  get(variant: AnyVariant, dtypes: Readonly<Record<string, DType>>): Kernel {
    const key = Object.values(dtypes).join();
    const known = this.#byVariant.get(variant)?.get(key);
    if (known) return known;
    const source = assembleShader(variant, dtypes, this.#features);
    const kernel = this.#bySource.get(source) ?? this.#create(variant, source);
    this.#remember(variant, key, source, kernel);
    return kernel;
  }

  /** Compiles ahead, all at once. @throws DeviceError `device-failure` with line, column and source of a mistake. */
  async compile(wanted: readonly { variant: AnyVariant; dtypes: Readonly<Record<string, DType>> }[]): Promise<void> {
    const started = new Set<string>();
    await Promise.all(
      wanted.map(async ({ variant, dtypes }) => {
        const source = assembleShader(variant, dtypes, this.#features);
        if (this.#bySource.has(source) || started.has(source)) return;
        started.add(source);
        const { module, descriptor, layout } = this.#describe(variant, source);
        try {
          const pipeline = await this.#device.createComputePipelineAsync(descriptor);
          this.#remember(variant, Object.values(dtypes).join(), source, { pipeline, layout, bindGroups: new Map() });
          this.created++;
        } catch (cause) {
          throw new DeviceError('device-failure', await explain(module, variant, source), { cause });
        }
      }),
    );
  }

  clear(): void {
    this.#bySource.clear();
    this.#byVariant.clear();
  }

  #create(variant: AnyVariant, source: string): Kernel {
    const { descriptor, layout } = this.#describe(variant, source);
    this.created++;
    return { pipeline: this.#device.createComputePipeline(descriptor), layout, bindGroups: new Map() };
  }

  #remember(variant: AnyVariant, key: string, source: string, kernel: Kernel): void {
    const byDTypes = this.#byVariant.get(variant) ?? new Map<string, Kernel>();
    this.#byVariant.set(variant, byDTypes.set(key, kernel));
    this.#bySource.set(source, kernel);
  }

  #describe(variant: AnyVariant, source: string) {
    const label = `${variant.operation.name}/${variant.name}`;
    const module = this.#device.createShaderModule({ label, code: source });
    const layout = this.#device.createBindGroupLayout({
      label,
      entries: [
        { binding: 0, visibility: COMPUTE, buffer: { type: 'uniform', hasDynamicOffset: true } },
        ...Object.values(variant.operation.tensors as Record<string, { access: string }>).map(({ access }, i) => ({
          binding: i + 1,
          visibility: COMPUTE,
          buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) },
        })),
      ],
    });
    const descriptor: GPUComputePipelineDescriptor = {
      label,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: 'main' },
    };
    return { module, descriptor, layout };
  }
}

/** What the compiler said, each message with the line of source it points at. */
async function explain(module: GPUShaderModule, variant: AnyVariant, source: string): Promise<string> {
  const lines = source.split('\n');
  const { messages } = await module.getCompilationInfo();
  const told = messages.map((m) => `${m.lineNum}:${m.linePos} ${m.message}\n    ${lines[m.lineNum - 1] ?? ''}`);
  return [`The kernel ${variant.operation.name}/${variant.name} does not compile:`, ...told].join('\n');
}
