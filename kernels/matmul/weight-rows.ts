import { type DType, type QuantisedDType, quantBlock, quantisedFormats } from '../contract.ts';
import type { FunctionBuilder } from '../wasm/function.ts';
import { f16ToF32, f16ToF32x4 } from '../wasm/mathematics.ts';
import { type Address, F32, I32 } from '../wasm/scalars.ts';
import { F32x4, I16x8, I32x4 } from '../wasm/vectors.ts';

/** One row of a weight `(rows, inputs)`, read as f32 whatever its storage. */
export interface WeightRow {
  /** Inputs i to i + 3. */
  quad(i: I32): F32x4;
  one(i: I32): F32;
}

export interface WeightPlace {
  readonly weight: Address;
  readonly row: I32;
  readonly rows: I32;
  readonly inputs: I32;
}

/** Whether a weight is scale * quant + minimum, and not scale * quant. */
export const hasMinima = (dtype: DType): boolean => dtype === 'q4';

/** The rows of a quantised weight block by block, as they lie. */
export function openBlocks(f: FunctionBuilder, dtype: DType, { weight, rows, inputs }: Omit<WeightPlace, 'row'>) {
  const { bits, parameters } = quantisedFormats[dtype as QuantisedDType];
  const blockBytes = (quantBlock * bits) / 8;
  const parameterBytes = 2 * parameters;
  const blocks = f.let(inputs.div(quantBlock));
  const firstParameter = f.let(weight.add(rows.mul(blocks).mul(blockBytes)));
  return {
    /** In a row. */
    blocks,
    /** Of the quants of a block, and of its parameters. */
    blockBytes,
    parameterBytes,
    /** Where those of a row begin; beyond the last row, those of the last. */
    of(row: I32) {
      const first = f.let(row.min(rows.sub(1)).mul(blocks));
      const quants = f.let(weight.add(first.mul(blockBytes)));
      return { quants, parameters: f.let(firstParameter.add(first.mul(parameterBytes))) };
    },
  };
}

/** Puts the addresses of a row into variables. How each dtype is stored is said in dtypes.ts. */
export function openRow(f: FunctionBuilder, dtype: DType, { weight, row, rows, inputs }: WeightPlace): WeightRow {
  const first = row.mul(inputs);
  /** The f16 parameters of the block that input i is in, `parameters` to a block, behind quants of so many bits. */
  const block = (bits: number, parameters: number) => {
    const bytes = f.let(inputs.div(quantBlock).mul(2 * parameters));
    const begin = f.let(weight.add(rows.mul(inputs).div(8 / bits)).add(row.mul(bytes)));
    return (i: I32, which: number) => {
      const address = begin.add(i.div(quantBlock).mul(2 * parameters));
      return f.let(f16ToF32x4(f, I32x4.splat(I32.load16Signed(address, 2 * which))));
    };
  };
  switch (dtype) {
    case 'f16': {
      const begin = f.let(weight.add(first.shl(1)));
      return {
        quad: (i) => f16ToF32x4(f, I32x4.load16x4(begin.add(i.shl(1)))),
        one: (i) => f16ToF32(f, I32.load16Signed(begin.add(i.shl(1)))),
      };
    }
    case 'q8': {
      const begin = f.let(weight.add(first));
      const parameter = block(8, 1);
      const quad = (i: I32) => I16x8.load8x8(begin.add(i)).extendLow().toF32x4().mul(parameter(i, 0));
      return { quad, one: (i) => quad(i).lane(0) };
    }
    case 'q4': {
      const begin = f.let(weight.add(first.shr(1)));
      const parameter = block(4, 2);
      // Four quants in 16 bits: each lane keeps its own four and divides by where they stand.
      const quad = (i: I32) => {
        const quants = I32x4.splat(I32.load16(begin.add(i.shr(1)))).and(I32x4.of(0xf, 0xf0, 0xf00, 0xf000));
        const small = quants.toF32x4().mul(F32x4.of(1, 2 ** -4, 2 ** -8, 2 ** -12));
        return small.mul(parameter(i, 0)).add(parameter(i, 1));
      };
      return { quad, one: (i) => quad(i).lane(0) };
    }
    default: {
      const begin = f.let(weight.add(first.shl(2)));
      return { quad: (i) => F32x4.load(begin.add(i.shl(2))), one: (i) => F32.load(begin.add(i.shl(2))) };
    }
  }
}
