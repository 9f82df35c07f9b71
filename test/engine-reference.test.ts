import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Llama, Session } from '../engine/index.ts';
import { openModelFolder } from '../engine/node/disk-folder.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { openTestDevice, testDevices } from './support/devices.ts';
import { largestDifference, reference } from './support/tiny-guard.ts';

/** The reference file has float64 results of the stored f16 weights. */
const bounds = {
  f32: { logits: 1e-3, score: 1e-4 },
  f16: { logits: 5e-3, score: 5e-3 },
};

for (const device of testDevices) {
  for (const dtype of ['f32', 'f16'] as const) {
    describe(`the embedded model on ${device} in ${dtype}`, () => {
      let llama: Llama;
      beforeAll(async () => {
        await using folder = await openModelFolder(embeddedModel);
        llama = await Llama.load(await openTestDevice(device), folder.config, folder.source, { dtype });
      });
      afterAll(() => llama[Symbol.asyncDispose]());

      it.each(reference.cases)('agrees with the reference: $name', async (expected) => {
        using session = new Session(llama);
        const logits = await session.prefill(expected.input_ids, 16);
        const own = expected.top20_ids.map((id) => logits[id]!);
        expect(largestDifference(own, expected.top20_logits)).toBeLessThan(bounds[dtype].logits);
        const { token_safe: safe, token_unsafe: unsafe } = reference;
        using context = llama.createContext();
        const [[row]] = (await llama.logProbabilities(
          [{ context, ids: expected.input_ids, wanted: [expected.input_ids.length - 1] }],
          [safe, unsafe],
        )) as [[Float32Array]];
        expect(Math.abs(Math.exp(row[1]!) - expected.p_unsafe)).toBeLessThan(bounds[dtype].score);
        const pair = 1 / (1 + Math.exp(row[0]! - row[1]!));
        expect(Math.abs(pair - expected.p_unsafe_pair)).toBeLessThan(bounds[dtype].score);
        const written = await session.generate({ maxTokens: 16 });
        expect([...written, llama.config.eosTokenIds[0]]).toEqual(expected.completion_ids);
      });

      it('agrees layer by layer', async () => {
        const { case: name, states, final_norm: finalNorm } = reference.hidden_states;
        const { input_ids: ids } = reference.cases.find((c) => c.name === name)!;
        using context = llama.createContext();
        const seen: Promise<ArrayLike<number>>[] = [];
        await llama.logits([{ context, ids, wanted: [ids.length - 1] }], (_point, _x, read) => {
          seen.push(read());
        });
        const width = llama.config.hiddenSize;
        const last = (await Promise.all(seen)).map((rows) => Array.from(rows).slice(-width));
        const expected = [...states, finalNorm];
        expect(last).toHaveLength(expected.length);
        last.forEach((row, i) => {
          const scale = Math.max(...expected[i]!.map(Math.abs));
          expect(largestDifference(row, expected[i]!) / scale, `point ${i}`).toBeLessThan(
            dtype === 'f32' ? 1e-4 : 5e-3,
          );
        });
      });
    });
  }
}
