/**
 * An ONNX model of one matrix product, written as the protobuf that it is (onnx.proto3 of the ONNX specification). The
 * input is a single number that the activations are multiplied by, and `corner` a single number of the product: on a
 * GPU nothing but these crosses the bus, so that the product is what is timed.
 */

/** `TensorProto.DataType`. */
export const onnxDType = { f32: 1, f16: 10 } as const;
export type OnnxDType = keyof typeof onnxDType;
const int64 = 7;

const irVersion = 8;
const opsetVersion = 17;

/** Bytes of a tensor that is part of the model, little-endian. */
export interface Constant {
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** `product = (x scale) weight` of an x (rows, inputs) and a weight (inputs, outputs), and `corner`, its first element. */
export function matmulGraph(x: Constant, weight: Constant, dtype: OnnxDType): Uint8Array {
  const [rows, outputs] = [x.shape[0]!, weight.shape[1]!];
  const type = onnxDType[dtype];
  const zeros = { shape: [2], bytes: new Uint8Array(BigInt64Array.of(0n, 0n).buffer) };
  const ones = { shape: [2], bytes: new Uint8Array(BigInt64Array.of(1n, 1n).buffer) };
  const graph = [
    message(1, node('Mul', ['x', 'scale'], 'scaled')),
    message(1, node('MatMul', ['scaled', 'weight'], 'product')),
    message(1, node('Slice', ['product', 'start', 'end'], 'corner')),
    text(2, 'matmul'),
    message(5, tensor('x', type, x)),
    message(5, tensor('weight', type, weight)),
    message(5, tensor('start', int64, zeros)),
    message(5, tensor('end', int64, ones)),
    message(11, valueInfo('scale', type, [1])),
    message(12, valueInfo('product', type, [rows, outputs])),
    message(12, valueInfo('corner', type, [1, 1])),
  ];
  return Buffer.concat([integer(1, irVersion), message(7, graph), message(8, [text(1, ''), integer(2, opsetVersion)])]);
}

/** `NodeProto` */
const node = (operator: string, inputs: readonly string[], output: string) => [
  ...inputs.map((input) => text(1, input)),
  text(2, output),
  text(4, operator),
];

/** `TensorProto` */
const tensor = (name: string, type: number, { shape, bytes }: Constant) => [
  ...shape.map((size) => integer(1, size)),
  integer(2, type),
  text(8, name),
  message(9, [bytes]),
];

/** `ValueInfoProto`, down to the sizes of its shape. */
const valueInfo = (name: string, type: number, shape: readonly number[]) => [
  text(1, name),
  message(2, [
    message(1, [
      integer(1, type),
      message(
        2,
        shape.map((size) => message(1, [integer(1, size)])),
      ),
    ]),
  ]),
];

const text = (field: number, value: string) => message(field, [Buffer.from(value)]);
const integer = (field: number, value: number) => Buffer.concat([varint(field << 3), varint(value)]);

/** A field of bytes, of text or of fields: all are a length and what follows. */
function message(field: number, parts: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(parts);
  return Buffer.concat([varint((field << 3) | 2), varint(body.length), body]);
}

/** Seven bits a byte, least significant first. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Uint8Array.from([...bytes, rest]);
}
