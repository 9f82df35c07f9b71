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
  /** Whether a space within a word begins a new one: none is merged to what stands before it. */
  readonly partsAtSpaces: boolean;

  /**
   * Pairs that would make an added token, or a byte by name, out of text are left out: SentencePiece has none, and what
   * converts its models to tokenizer.json makes some up.
   *
   * @param pairs `['a', 'b']` or `'a b'`, in the order of their ranks
   * @param space how pieces write it
   * @throws {TokenizerError} `tokenizer-invalid`
   */
  constructor(file: string, pairs: readonly unknown[], { idOf, textIds }: Vocabulary, space: string) {
    if (pairs.length > ID_LIMIT) throw invalid(file, 'model.merges', `has more than ${ID_LIMIT} entries`);
    const glued = new RegExp(`[^${space}]${space}`, 'u');
    let parts = true;
    for (const [rank, pair] of pairs.entries()) {
      const field = `model.merges[${rank}]`;
      const [left, right] = partsOf(file, field, pair);
      for (const piece of [left, right, left + right]) {
        if (!idOf.has(piece)) throw invalid(file, field, `needs ${quote(piece)}, which is not in the vocabulary`);
      }
      const merged = textIds.get(left + right);
      const [leftId, rightId] = [textIds.get(left), textIds.get(right)];
      this.#merged.push(merged ?? -1);
      if (leftId === undefined || rightId === undefined || merged === undefined) continue;
      this.#ranks.set(keyOf(leftId, rightId), rank);
      parts &&= !glued.test(left + right);
    }
    this.partsAtSpaces = parts;
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

function partsOf(file: string, field: string, pair: unknown): [string, string] {
  const parts: unknown = typeof pair === 'string' ? pair.split(' ') : pair;
  const two = Array.isArray(parts) && parts.length === 2 && parts.every((part) => typeof part === 'string');
  if (!two) throw invalid(file, field, `must be two pieces, but is ${quote(pair)}`);
  return parts as [string, string];
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
