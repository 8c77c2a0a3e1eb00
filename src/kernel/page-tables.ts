/** Four-level and PAE page tables built while the image is (SDM Vol. 3A, Sections 4.4 and 4.5). */

/** Bits of a page-table entry (SDM Vol. 3A, Table 4-20). */
export const pte = {
  present: 1n,
  write: 1n << 1n,
  user: 1n << 2n,
  cacheDisable: 1n << 4n,
  accessed: 1n << 5n,
  dirty: 1n << 6n,
  large: 1n << 7n,
  noExecute: 1n << 63n,
} as const;

const ADDRESS = 0x000f_ffff_ffff_f000n;
const PAGE = 4096;

/** Permissions of a mapping. Mappings are readable; `write`, `execute` and `user` add to that. */
export interface Permissions {
  readonly write?: boolean;
  readonly execute?: boolean;
  readonly user?: boolean;
  readonly cacheDisable?: boolean;
}

function leafBits(p: Permissions): bigint {
  // Accessed and dirty are set beforehand, so that the tables do not change as the kernel runs.
  let bits = pte.present | pte.accessed | pte.dirty;
  if (p.write) bits |= pte.write;
  if (p.user) bits |= pte.user;
  if (p.cacheDisable) bits |= pte.cacheDisable;
  if (!p.execute) bits |= pte.noExecute;
  return bits;
}

/** A growing run of page-table pages at consecutive physical addresses. */
export class PageTables {
  readonly #base: bigint;
  readonly #levels: 3 | 4;
  readonly #pages: BigUint64Array[] = [];

  /** Table pages will lie from this physical address on. PAE paging has 3 levels. */
  constructor(base: bigint, levels: 3 | 4 = 4) {
    this.#base = base;
    this.#levels = levels;
  }

  /** A new empty table; gives its physical address. */
  newTable(): bigint {
    this.#pages.push(new BigUint64Array(512));
    return this.#base + BigInt(PAGE * (this.#pages.length - 1));
  }

  /** The entries of the table at a physical address. */
  table(physical: bigint): BigUint64Array {
    const page = this.#pages[Number(physical - this.#base) / PAGE];
    if (page === undefined) throw new RangeError(`no page table at 0x${physical.toString(16)}`);
    return page;
  }

  /** The entry for `linear` in the table at `level` (the root has the highest), making tables on the way. */
  #entry(root: bigint, linear: bigint, level: 1 | 2): { table: BigUint64Array; index: number } {
    let table = this.table(root);
    for (let at: number = this.#levels; ; at--) {
      const index = Number((linear >> BigInt(12 + 9 * (at - 1))) & 0x1ffn);
      if (at === level) return { table, index };
      if ((table[index] & pte.present) === 0n)
        // Most bits of a PAE page-directory-pointer-table entry are reserved (SDM Vol. 3A, Table 4-8).
        table[index] =
          this.newTable() |
          pte.present |
          (at === 3 && this.#levels === 3 ? 0n : pte.write | pte.user | pte.accessed);
      if ((table[index] & pte.large) !== 0n)
        throw new RangeError(`0x${linear.toString(16)} is in a large page`);
      table = this.table(table[index] & ADDRESS);
    }
  }

  /** Maps `size` bytes from `linear` to `physical` by 4 KiB pages. */
  map(root: bigint, linear: bigint, physical: bigint, size: number, permissions: Permissions): void {
    for (let offset = 0n; offset < BigInt(size); offset += 4096n) {
      const { table, index } = this.#entry(root, linear + offset, 1);
      if (table[index] !== 0n) throw new RangeError(`0x${(linear + offset).toString(16)} is mapped twice`);
      table[index] = (physical + offset) | leafBits(permissions);
    }
  }

  /** Maps `size` bytes by 2 MiB pages; all of it must be aligned to them. */
  mapLarge(root: bigint, linear: bigint, physical: bigint, size: number, permissions: Permissions): void {
    for (let offset = 0n; offset < BigInt(size); offset += 0x20_0000n) {
      const { table, index } = this.#entry(root, linear + offset, 2);
      table[index] = (physical + offset) | leafBits(permissions) | pte.large;
    }
  }

  /** All table pages, as they go into memory. */
  bytes(): Uint8Array {
    const bytes = new Uint8Array(PAGE * this.#pages.length);
    const view = new DataView(bytes.buffer);
    for (const [i, page] of this.#pages.entries())
      for (const [j, entry] of page.entries()) view.setBigUint64(PAGE * i + 8 * j, entry, true);
    return bytes;
  }
}
