import type { Context } from './kv-cache.ts';

/** How often at most a beginning is passed over by eviction for having been reused. */
const mostChances = 8;

/** Token ids that follow on those of the parent, and a context of everything from the root to their end. */
export interface PrefixNode {
  readonly parent: PrefixNode | undefined;
  readonly children: ReadonlyMap<number, PrefixNode>;
  readonly context: Context;
}

interface Node extends PrefixNode {
  parent: Node | undefined;
  ids: readonly number[];
  context: Context;
  /** By their first id. */
  readonly children: Map<number, Node>;
  /** Readers that stand here or further down. */
  readers: number;
  /** How often eviction passes this node over: reuse earns it. */
  chances: number;
}

/**
 * A radix tree of the prompts that the cache holds (as in SGLang's RadixAttention, arXiv 2312.07104): prompts share a
 * node as far as their ids are the same, so the longest known beginning of a prompt is found in one walk along it. Keys
 * and values belong to the adapter that they were computed with, so each adapter has a root of its own.
 *
 * What nobody stands on can be evicted, the least recently used first and each prompt from its end, since beginnings are
 * what prompts share. What has been reused, as policies are, is passed over once for each reuse (the clock algorithm
 * with counts), so that conversations seen once go before it.
 */
export class PrefixTree implements Disposable {
  /** By the adapter's name. */
  readonly #roots: ReadonlyMap<string | undefined, Node>;
  /** All nodes but the roots by their last use, the oldest first; each comes after its children. */
  readonly #order = new Set<Node>();
  #evictable = 0;

  /** @param empty an empty context of each adapter, which the tree takes over */
  constructor(empty: readonly Context[]) {
    const rootOf = (context: Context): Node => {
      return { parent: undefined, ids: [], context, children: new Map(), readers: 0, chances: 0 };
    };
    this.#roots = new Map(empty.map((context) => [context.adapter, rootOf(context)]));
  }

  /** Tokens that can be evicted. */
  get evictable(): number {
    return this.#evictable;
  }

  /** Tokens of the path to a node that can be evicted as long as nobody stands on it. */
  evictableOn(node: PrefixNode): number {
    return this.#path(node).reduce((sum, { readers, ids }) => sum + (readers === 0 ? ids.length : 0), 0);
  }

  /** The longest beginning of the first `limit` ids that is known under an adapter: its node and its length. */
  find(
    ids: readonly number[],
    limit = ids.length,
    adapter?: string,
  ): { readonly node: PrefixNode; readonly length: number } {
    let node = this.#roots.get(adapter)!;
    let length = 0;
    while (length < limit) {
      const child = node.children.get(ids[length]!);
      if (!child) break;
      if (child.context.lost) {
        this.#drop(child);
        break;
      }
      let common = 1;
      while (common < child.ids.length && length + common < limit && child.ids[common] === ids[length + common])
        common++;
      length += common;
      node = common < child.ids.length ? this.#split(child, common) : child;
      if (node !== child) break;
    }
    return { node, length };
  }

  /** Adds `ids` below a node as a child that shares no beginning with others; takes `context` over. */
  insert(parent: PrefixNode, ids: readonly number[], context: Context): PrefixNode {
    const child: Node = { parent: parent as Node, ids, context, children: new Map(), readers: 0, chances: 0 };
    child.parent!.children.set(ids[0]!, child);
    this.#evictable += ids.length;
    this.#touch(child);
    return child;
  }

  /** Stands on a node: it and all above it stay until `leave`. */
  enter(node: PrefixNode): void {
    for (const each of this.#path(node)) if (each.readers++ === 0) this.#evictable -= each.ids.length;
  }

  leave(node: PrefixNode): void {
    for (const each of this.#path(node)) if (--each.readers === 0) this.#evictable += each.ids.length;
  }

  /** Notes that a prompt began like this. */
  reuse(node: PrefixNode): void {
    for (const each of this.#path(node)) each.chances = Math.min(each.chances + 1, mostChances);
    this.#touch(node as Node);
  }

  /** Evicts `tokens` tokens, or all that can be. */
  shrink(tokens: number): void {
    let left = tokens;
    // Nodes that get another chance are met again at the end.
    for (const node of this.#order) {
      if (left <= 0) return;
      if (node.readers > 0) continue;
      if (node.chances > 0) {
        node.chances--;
        this.#touch(node);
        continue;
      }
      const gone = Math.min(left, node.ids.length);
      left -= gone;
      if (gone === node.ids.length) this.#drop(node);
      else this.#trim(node, node.ids.length - gone);
    }
  }

  [Symbol.dispose](): void {
    for (const root of this.#roots.values()) {
      for (const child of [...root.children.values()]) this.#drop(child);
      root.context[Symbol.dispose]();
    }
  }

  /** From a node up to below its root. */
  #path(node: PrefixNode): Node[] {
    const path: Node[] = [];
    for (let at = node as Node; at.parent; at = at.parent) path.push(at);
    return path;
  }

  #touch(node: Node): void {
    for (const each of this.#path(node)) {
      this.#order.delete(each);
      this.#order.add(each);
    }
  }

  /** Cuts a node in two and returns the upper one, of its first `length` ids; the lower one stays who it is. */
  #split(node: Node, length: number): Node {
    const parent = node.parent!;
    const { readers, chances } = node;
    const context = node.context.fork(parent.context.length + length);
    const upper: Node = { parent, ids: node.ids.slice(0, length), context, children: new Map(), readers, chances };
    parent.children.set(node.ids[0]!, upper);
    node.ids = node.ids.slice(length);
    node.parent = upper;
    upper.children.set(node.ids[0]!, node);
    this.#touch(upper);
    return upper;
  }

  #trim(node: Node, length: number): void {
    const kept = node.context.fork(node.parent!.context.length + length);
    node.context[Symbol.dispose]();
    node.context = kept;
    this.#evictable -= node.ids.length - length;
    node.ids = node.ids.slice(0, length);
  }

  /** Takes a node and all below it out of the tree. */
  #drop(node: Node): void {
    for (const child of [...node.children.values()]) this.#drop(child);
    node.parent!.children.delete(node.ids[0]!);
    this.#order.delete(node);
    if (node.readers === 0) this.#evictable -= node.ids.length;
    node.context[Symbol.dispose]();
    // Who still stands on it leaves nothing to be evicted.
    node.ids = [];
  }
}
