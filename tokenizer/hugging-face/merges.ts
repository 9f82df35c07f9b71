import { quote } from '../../kernels/json.ts';
import { invalid } from './read-json.ts';
import { ID_LIMIT, type Vocabulary } from './vocabulary.ts';

/** Symbols of a word are fewer: a text is 8 MiB at most, which its normal form can be three times of. */
const POSITIONS = 2 ** 25;

const keyOf = (left: number, right: number) => left * ID_LIMIT + right;

/**
 * Byte-pair encoding: which two neighbours become one, the pairs of lower rank first, and of a pair the leftmost.
 *
 * Ours rather than the library's, whose pairs are texts: a word of a megabyte takes it 15 seconds and 900 MB, and this a
 * tenth of the time.
 */
export class Merges {
  /** By both ids. */
  readonly #ranks = new Map<number, number>();
  /** What a pair becomes, by rank. */
  readonly #merged: number[] = [];

  /**
   * Pairs that would make an added token, or a byte by name, out of text are left out: SentencePiece has none, and what
   * converts its models to tokenizer.json makes some up.
   *
   * @param pairs `['a', 'b']` or `'a b'`, in the order of their ranks
   * @throws {TokenizerError} `tokenizer-invalid`
   */
  constructor(file: string, pairs: readonly unknown[], { idOf, textIds }: Vocabulary) {
    if (pairs.length > ID_LIMIT) throw invalid(file, 'model.merges', `has more than ${ID_LIMIT} entries`);
    for (let rank = 0; rank < pairs.length; rank++) {
      const [left, right] = partsOf(pairs[rank]) ?? [];
      if (left === undefined || right === undefined) {
        throw invalid(file, `model.merges[${rank}]`, `must be two pieces, but is ${quote(pairs[rank])}`);
      }
      const [leftId, rightId, merged] = [textIds.get(left), textIds.get(right), textIds.get(left + right)];
      this.#merged.push(merged ?? -1);
      if (leftId !== undefined && rightId !== undefined && merged !== undefined) {
        this.#ranks.set(keyOf(leftId, rightId), rank);
        continue;
      }
      const missing = [left, right, left + right].find((piece) => !idOf.has(piece));
      if (missing === undefined) continue;
      throw invalid(file, `model.merges[${rank}]`, `needs ${quote(missing)}, which is not in the vocabulary`);
    }
  }

  /** What is left of a word's symbols when nothing more can be merged. Time grows with n log n. */
  apply(symbols: readonly number[]): number[] {
    const length = symbols.length;
    if (length < 2) return [...symbols];
    const ids = Int32Array.from(symbols);
    const next = Int32Array.from(ids, (_, at) => at + 1);
    const previous = Int32Array.from(ids, (_, at) => at - 1);
    const queue = new Queue();
    const offer = (at: number) => {
      const right = next[at]!;
      if (right >= length) return;
      const rank = this.#ranks.get(keyOf(ids[at]!, ids[right]!));
      if (rank !== undefined) queue.push(rank * POSITIONS + at);
    };
    for (let at = 0; at < length; at++) offer(at);
    for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
      const rank = Math.floor(key / POSITIONS);
      const at = key - rank * POSITIONS;
      const right = next[at]!;
      if (ids[at]! < 0 || right >= length) continue;
      // The pair may be another by now. One that makes the same piece counts, as in the reference.
      const now = this.#ranks.get(keyOf(ids[at]!, ids[right]!));
      if (now === undefined || this.#merged[now] !== this.#merged[rank]) continue;
      ids[at] = this.#merged[rank]!;
      ids[right] = -1;
      next[at] = next[right]!;
      if (next[at]! < length) previous[next[at]!] = at;
      if (previous[at]! >= 0) offer(previous[at]!);
      offer(at);
    }
    const left: number[] = [];
    for (let at = 0; at < length; at = next[at]!) left.push(ids[at]!);
    return left;
  }
}

function partsOf(pair: unknown): [left: string, right: string] | undefined {
  if (typeof pair === 'string') {
    const space = pair.indexOf(' ');
    return space === -1 || pair.includes(' ', space + 1) ? undefined : [pair.slice(0, space), pair.slice(space + 1)];
  }
  if (!Array.isArray(pair) || pair.length !== 2) return undefined;
  const [left, right] = pair as unknown[];
  return typeof left === 'string' && typeof right === 'string' ? [left, right] : undefined;
}

/** Numbers, of which the smallest comes out first: a binary heap. */
class Queue {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(value);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= value) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const smallest = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return smallest;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= last) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return smallest;
  }
}
