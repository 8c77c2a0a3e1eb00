/**
 * Names by address. A name with a size covers that many bytes; one without (a label) reaches to the next name, as far as
 * `limit` lets it.
 */

export interface Name {
  readonly name: string;
  readonly address: bigint;
  /** Bytes covered; 0 for a label. */
  readonly size: bigint;
  /** Where a label's reach ends at the latest: the end of its section. */
  readonly limit: bigint;
  /** The higher of two at the same address is shown. */
  readonly rank: number;
}

export interface Place {
  readonly name: string;
  /** Bytes from the name's address. */
  readonly offset: bigint;
}

export class NameTable {
  /** In ascending order of address, then size downwards (what lies within follows), then rank. */
  readonly #sized: readonly Name[];
  /** The highest end of all sized names up to each: where the search for a covering one may stop. */
  readonly #ends: readonly bigint[];
  /** Every name, in ascending order of address, then rank. */
  readonly #labels: readonly Name[];

  constructor(names: readonly Name[]) {
    this.#sized = names
      .filter(({ size }) => size > 0n)
      .sort((a, b) => compare(a.address, b.address) || compare(b.size, a.size) || a.rank - b.rank);
    const ends: bigint[] = [];
    let end = 0n;
    for (const { address, size } of this.#sized) {
      if (address + size > end) end = address + size;
      ends.push(end);
    }
    this.#ends = ends;
    this.#labels = [...names].sort((a, b) => compare(a.address, b.address) || a.rank - b.rank);
  }

  /** The innermost sized name that covers an address, else the nearest label before it; undefined where none reaches. */
  at(address: bigint): Place | undefined {
    const sized = this.#sized;
    const last = lastAtOrBelow(sized.length, (i) => sized[i].address, address);
    for (let i = last; i >= 0 && this.#ends[i] > address; i--) {
      const { name, address: start, size } = sized[i];
      if (address < start + size) return { name, offset: address - start };
    }
    // A sized name that ends before the address hides the labels before it: they reach to the next name only.
    const labels = this.#labels;
    const i = lastAtOrBelow(labels.length, (n) => labels[n].address, address);
    if (i < 0) return undefined;
    const { name, address: start, size, limit } = labels[i];
    if (size > 0n || address >= limit) return undefined;
    return { name, offset: address - start };
  }
}

/** Index of the last of `count` ascending addresses that is at or below another, -1 where there is none. */
export function lastAtOrBelow(count: number, addressOf: (index: number) => bigint, address: bigint): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (addressOf(middle) <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
