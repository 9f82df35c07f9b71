import { makeRun, type Row, type Run } from '../../guard/evaluation/run.ts';
import { seededRandom } from '../../kernels/random.ts';

const instruction = { user: 'c'.repeat(64), agent: 'e'.repeat(64) };
const hashes = { model: 'a'.repeat(64), policy: 'b'.repeat(64), instruction, calibration: null };
/** A run without samples, of names that a page must escape. */
export const emptyRun: Run = makeRun({
  identity: {
    model: 'tiny <script>alert(1)</script>',
    device: 'cpu',
    dtype: 'f32',
    scoring: 1,
    format: 'llama-guard-1',
    hashes,
    options: {},
  },
  data: { name: '"><img src=x>.jsonl', format: 'openai-moderation', assumeSafe: false, hash: 'd'.repeat(64) },
  categories: [
    { code: 'O1', name: 'Violence' },
    { code: 'O2', name: 'Sex & co' },
  ],
  threshold: 0.5,
  calibratedThreshold: 0.3,
  concurrency: 1,
  rows: [],
  failures: [],
});
/** A sample and what was said of it; safe unless told. */
export const rowOf = (id: string, fields: Partial<Row>): Row => ({
  id,
  line: 1,
  content: `text of ${id}`,
  unsafe: 0,
  categories: {},
  role: 'user',
  score: 0.1,
  unsafeProbability: 0.1,
  mass: 1,
  calibrated: null,
  windows: 1,
  milliseconds: 10,
  ...fields,
});

/** A run of many samples, the scores of which tell more or less of the labels. */
export function syntheticRun(size: number, signal: number, seed = 1): Run {
  const random = seededRandom(seed);
  const noise = seededRandom(seed + 100 * signal);
  const made = Array.from({ length: size }, (_, i) => {
    const unsafe = random() < 0.4 ? 1 : 0;
    const category = unsafe === 1 ? (random() < 0.5 ? 'O1' : 'O2') : undefined;
    const score = Math.min(1, Math.max(0, signal * (unsafe - 0.5) + noise()));
    return rowOf(`s${i}`, {
      unsafe,
      categories: { O1: category === 'O1' ? 1 : 0, O2: category === 'O2' ? 1 : 0 },
      score,
      unsafeProbability: score,
      calibrated: (score + 0.4) / 2,
      categoryScores: { O1: category === 'O1' ? score : score / 2, O2: category === 'O2' ? score : score / 3 },
      others: { api: noise(), 'severity 0-7': Math.floor(8 * noise()) },
    });
  });
  return { ...emptyRun, rows: made };
}
