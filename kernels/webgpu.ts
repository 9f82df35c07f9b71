import {
  type Dims,
  type DType,
  type DTypes,
  divideUp,
  isQuantised,
  type Operation,
  parameters,
  type QuantisedDType,
  quantBlock,
  quantisedFormats,
  type Scalars,
  type ScalarValues,
  type TensorContract,
  type Tensors,
} from './contract.ts';

/** Optional WebGPU features that a kernel may ask for, by their names in the specification. */
export type Feature = 'shader-f16' | 'subgroups' | 'chromium-experimental-subgroup-matrix';

/** A product that a subgroup computes as one: (M, K) by (K, N) added to (M, N). Component types are 'f16', 'f32', ... */
export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Of the products that a device offers, those of f16 that are added up in f32. */
export const f16Matrices = (configs: readonly SubgroupMatrixConfig[]): SubgroupMatrixConfig[] =>
  configs.filter(({ componentType, resultComponentType }) => componentType === 'f16' && resultComponentType === 'f32');

/** What an open device offers, as far as kernels are made to measure for it. */
export interface DeviceTraits {
  readonly features: ReadonlySet<string>;
  /** Empty without `chromium-experimental-subgroup-matrix`. */
  readonly subgroupMatrixConfigs: readonly SubgroupMatrixConfig[];
  /** Invocations of the smallest subgroup and of the largest. */
  readonly minSubgroupSize: number;
  readonly maxSubgroupSize: number;
  readonly maxInvocationsPerWorkgroup: number;
  /** Bytes of workgroup memory. */
  readonly maxWorkgroupStorage: number;
}

/** Extensions of WGSL itself: a platform has them or not, whatever the device. */
export type LanguageFeature = 'packed_4x8_integer_dot_product';

/** Sizes of a workgroup or of a dispatch. */
export type Extent = readonly [x: number, y: number, z: number];

/**
 * One way to compute an operation in WGSL.
 *
 * The body is plain WGSL holding `fn main`; what stands before it is generated from the operation's contract:
 * - `params.NAME`: every dimension (u32) and scalar of the operation;
 * - one binding per tensor, under its own name, in the contract's order;
 * - `load_NAME(i) -> f32` (`vec4<f32>` for a tensor in `vectors`) for each floating-point tensor that is read,
 *   whatever its storage: f16 is read natively where the device can and unpacked from u32 where it cannot, quantised
 *   weights are decoded;
 * - `scale_NAME(block)` for a quantised tensor, bound as its words: the parameters of a block of 32 inputs, counted
 *   through the matrix;
 * - `store_NAME(i, value)`, likewise, for each that is written; of an f16 tensor that is no vector one invocation has to
 *   write both elements 2 n and 2 n + 1, which may share a word;
 * - each entry of `constants` as a `const`, u32 unless it has a fraction.
 */
export interface WebGpuVariant<T extends Tensors = Tensors, S extends Scalars = Scalars> {
  readonly kind: 'webgpu';
  readonly operation: Operation<T, S>;
  readonly name: string;
  readonly needs: readonly (Feature | LanguageFeature)[];
  /** Whether this variant can serve these sizes and dtypes; the portable variant of an operation serves all. */
  fits(dims: Dims<T>, dtypes: DTypes<T>): boolean;
  /** Tensors bound as arrays of four elements; `fits` has to see to it that their rows are divisible by four. */
  readonly vectors: readonly (keyof T & string)[];
  readonly constants: Readonly<Record<string, number>>;
  readonly workgroupSize: Extent;
  workgroups(dims: Dims<T>, scalars: ScalarValues<S>): Extent;
  /** The operation's tolerance, larger where this variant rounds its inputs to fewer bits. */
  readonly tolerance: number;
  /** Whether it computes with fewer bits than its tensors are stored in; then it is chosen only where it is named. */
  readonly approximate: boolean;
  readonly body: string;
}

// biome-ignore lint/suspicious/noExplicitAny: a variant of any operation; its parameters make it invariant
export type AnyVariant = WebGpuVariant<any, any>;

/** Variants made to measure: how many there are, and of what shape, depends on the device. */
export interface WebGpuFamily<T extends Tensors = Tensors, S extends Scalars = Scalars> {
  readonly kind: 'webgpu-family';
  readonly operation: Operation<T, S>;
  readonly name: string;
  /** The members for a device, the default first; each has a name of its own, which begins with the family's. */
  instantiate(traits: DeviceTraits): readonly WebGpuVariant<T, S>[];
}

// biome-ignore lint/suspicious/noExplicitAny: as of any operation
export type AnyFamily = WebGpuFamily<any, any>;

/** The variants that a device has the features for, in the order given, families replaced by their members. */
export function availableVariants(kernels: readonly (AnyVariant | AnyFamily)[], traits: DeviceTraits): AnyVariant[] {
  return kernels
    .flatMap((kernel) => (kernel.kind === 'webgpu-family' ? kernel.instantiate(traits) : [kernel]))
    .filter(({ needs }) => needs.every((feature) => traits.features.has(feature)));
}

/** A variant of `operation`, with the parts that most leave alone filled in. */
export function webgpuVariant<T extends Tensors, S extends Scalars>(
  operation: Operation<T, S>,
  variant: Pick<WebGpuVariant<T, S>, 'name' | 'workgroupSize' | 'workgroups' | 'body'> &
    Partial<Pick<WebGpuVariant<T, S>, 'needs' | 'fits' | 'vectors' | 'constants' | 'tolerance' | 'approximate'>>,
): WebGpuVariant<T, S> {
  return {
    kind: 'webgpu',
    operation,
    needs: [],
    vectors: [],
    constants: {},
    tolerance: operation.tolerance,
    approximate: false,
    fits: () => true,
    ...variant,
  };
}

/** Lines of WGSL that a compiler is not left to unroll. */
export const unrolled = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n');

/** The whole WGSL module of a variant for tensors of these dtypes on a device with these features. */
export function assembleShader(
  variant: AnyVariant,
  dtypes: Readonly<Record<string, DType>>,
  features: ReadonlySet<string>,
): string {
  const nativeF16 = features.has('shader-f16');
  const usesF16 = nativeF16 && Object.values(dtypes).includes('f16');
  const bindings = Object.entries(variant.operation.tensors as Tensors).map(([name, contract], i) =>
    declare(name, contract, i + 1, dtypes[name]!, variant.vectors.includes(name), nativeF16),
  );
  return [
    ...(usesF16 || variant.needs.includes('shader-f16') ? ['enable f16;'] : []),
    ...(variant.needs.includes('subgroups') ? ['enable subgroups;'] : []),
    ...(variant.needs.includes('chromium-experimental-subgroup-matrix')
      ? ['enable chromium_experimental_subgroup_matrix;']
      : []),
    `// ${variant.operation.name}, variant '${variant.name}': ${variant.operation.formula}`,
    'struct Params {',
    ...parameters(variant.operation).map(({ name, type }) => `  ${name}: ${type},`),
    '}',
    '@group(0) @binding(0) var<uniform> params: Params;',
    ...bindings,
    ...Object.entries(variant.constants).map(([name, value]) =>
      Number.isInteger(value) ? `const ${name}: u32 = ${value}u;` : `const ${name}: f32 = ${value};`,
    ),
    `const WORKGROUP_SIZE: vec3u = vec3u(${variant.workgroupSize.join(', ')});`,
    '',
    variant.body.trim(),
    '',
  ].join('\n');
}

function declare(
  name: string,
  contract: TensorContract,
  binding: number,
  dtype: DType,
  vector: boolean,
  nativeF16: boolean,
): string {
  const access = contract.access === 'read' ? 'read' : 'read_write';
  const bind = (element: string) =>
    `@group(0) @binding(${binding}) var<storage, ${access}> ${name}: array<${element}>; // (${contract.axes.join(', ')})`;
  if (isQuantised(dtype)) return [bind('u32'), ...decoders(name, contract, dtype, vector)].join('\n');

  // Two halves of an f16 pair share a u32 where the device has no f16: four elements are two words.
  const packed = dtype === 'f16' && !nativeF16;
  const scalar = packed ? 'u32' : dtype;
  const element = vector ? (packed ? 'vec2<u32>' : `vec4<${scalar}>`) : scalar;
  const lines = [bind(element)];
  if (dtype !== 'u32' && contract.access !== 'write') {
    const result = vector ? 'vec4<f32>' : 'f32';
    const value = packed
      ? vector
        ? `vec4<f32>(unpack2x16float(${name}[i].x), unpack2x16float(${name}[i].y))`
        : `unpack2x16float(${name}[i / 2u])[i & 1u]`
      : `${result}(${name}[i])`;
    lines.push(`fn load_${name}(i: u32) -> ${result} { return ${value}; }`);
  }
  if (dtype !== 'u32' && contract.access !== 'read') {
    const statement = packed
      ? vector
        ? `${name}[i] = vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw))`
        : `${name}[i / 2u] = insertBits(${name}[i / 2u], pack2x16float(vec2<f32>(value)), 16u * (i & 1u), 16u)`
      : `${name}[i] = ${element}(value)`;
    lines.push(`fn store_${name}(i: u32, value: ${vector ? 'vec4<f32>' : 'f32'}) { ${statement}; }`);
  }
  return lines.join('\n');
}

/** WGSL that reads the parameters of a block, and one number or four neighbours, of a quantised matrix; see dtypes.ts. */
function decoders(name: string, { axes }: TensorContract, dtype: QuantisedDType, vector: boolean): string[] {
  const { bits } = quantisedFormats[dtype];
  const perWord = 32 / bits;
  const size = axes.map((axis) => (typeof axis === 'number' ? `${axis}u` : `params.${axis}`)).join(' * ');
  const parameters = `${size} / ${perWord}u`;
  const scale = `scale_${name}(i / ${quantBlock / (vector ? 4 : 1)}u)`;
  if (dtype === 'q8') {
    const pair = `unpack2x16float(${name}[${parameters} + block / 2u])`;
    return [
      `fn scale_${name}(block: u32) -> f32 { return ${pair}[block & 1u]; }`,
      vector
        ? `fn load_${name}(i: u32) -> vec4<f32> {
  let quants = vec4<i32>(bitcast<i32>(${name}[i])) << vec4<u32>(24u, 16u, 8u, 0u);
  return ${scale} * vec4<f32>(quants >> vec4<u32>(24u));
}`
        : `fn load_${name}(i: u32) -> f32 {
  return ${scale} * f32(extractBits(bitcast<i32>(${name}[i / 4u]), 8u * (i & 3u), 8u));
}`,
    ];
  }
  return [
    `fn scale_${name}(block: u32) -> vec2<f32> { return unpack2x16float(${name}[${parameters} + block]); } // (scale, minimum)`,
    vector
      ? `fn load_${name}(i: u32) -> vec4<f32> {
  let scale = ${scale};
  let quants = vec4<u32>(${name}[i / 2u] >> (16u * (i & 1u))) >> vec4<u32>(0u, 4u, 8u, 12u);
  return scale.x * vec4<f32>(quants & vec4<u32>(15u)) + scale.y;
}`
      : `fn load_${name}(i: u32) -> f32 {
  let scale = ${scale};
  return scale.x * f32(extractBits(${name}[i / 8u], 4u * (i & 7u), 4u)) + scale.y;
}`,
  ];
}

/** A grid for one-dimensional work: x up to the limit of 65,535 workgroups, the rest in y. See `LINEAR_INDEX`. */
export function linearGrid(items: number, workgroupSize: number): Extent {
  const groups = divideUp(items, workgroupSize);
  const x = Math.min(groups, 65_535);
  return [x, divideUp(groups, x || 1), 1];
}

/**
 * The parts of a variant that has nothing but elements to go through, one or four at a time; `STEP` says which.
 * Memory is read and written best in vectors of four, so there is a variant of each.
 */
export function elementwise<D>(step: 1 | 4, elements: (dims: D) => number) {
  return {
    name: step === 4 ? 'vec4' : 'portable',
    constants: { STEP: step },
    fits: (dims: D) => elements(dims) % step === 0,
    workgroupSize: [64, 1, 1] as const,
    workgroups: (dims: D) => linearGrid(elements(dims) / step, 64),
  };
}

/** The WGSL expression for an invocation's place in a `linearGrid`; needs both builtins as parameters of `main`. */
export const LINEAR_INDEX = '(group.y * groups.x + group.x) * WORKGROUP_SIZE.x + lane';

/** The parameters of `main` that `LINEAR_INDEX` reads. */
export const LINEAR_BUILTINS =
  '@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32';
