/** The shadow of physical memory, byte by byte. */
import { extract, forEachBit, type Label, make, type Shadow, union } from '../../engine/taint/shadow.ts';
import { ones } from '../../isa/integers.ts';

const PAGE = 4096;
/** Bytes whose labels are kept together. */
const BLOCK = 64;

class ShadowPage {
  /** Bytes that have been written, or whose first read has been seen: 1. */
  readonly touched = new Uint8Array(PAGE);
  /** Tainted bits of each byte. */
  readonly masks = new Uint8Array(PAGE);
  /** Labels, eight a byte, by block; made when the first is needed. */
  readonly #blocks: (Int32Array | undefined)[] = [];
  /** A byte of the page has been tainted. */
  tainted = false;

  label(at: number, bit: number): Label {
    return this.#blocks[(at / BLOCK) | 0]?.[(at % BLOCK) * 8 + bit] ?? 0;
  }

  setLabel(at: number, bit: number, label: Label): void {
    const number = (at / BLOCK) | 0;
    let block = this.#blocks[number];
    if (block === undefined) {
      block = new Int32Array(BLOCK * 8);
      this.#blocks[number] = block;
      this.tainted = true;
    }
    block[(at % BLOCK) * 8 + bit] = label;
  }
}

export class ShadowMemory {
  readonly #pages = new Map<number, ShadowPage>();

  #page(address: number): ShadowPage {
    const number = Math.floor(address / PAGE);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = new ShadowPage();
      this.#pages.set(number, page);
    }
    return page;
  }

  /** Whether the byte at physical `address` has been written, or its first read been seen. */
  touched(address: number): boolean {
    return this.#pages.get(Math.floor(address / PAGE))?.touched[address % PAGE] === 1;
  }

  /** The shadow of `bytes` (1 to 8) from `address`, all in one page. */
  load(address: number, bytes: number): Shadow | null {
    const page = this.#pages.get(Math.floor(address / PAGE));
    if (page === undefined || !page.tainted) return null;
    const at = address % PAGE;
    let mask = 0n;
    for (let i = bytes - 1; i >= 0; i--) mask = (mask << 8n) | BigInt(page.masks[at + i]);
    return make(mask, (bit) => page.label(at + (bit >> 3), bit & 7));
  }

  /** Gives `bytes` from `address` the shadow `shadow`, from its bit `from` on. All in one page. */
  store(address: number, bytes: number, shadow: Shadow | null, from = 0): void {
    const page = this.#page(address);
    const at = address % PAGE;
    page.touched.fill(1, at, at + bytes);
    page.masks.fill(0, at, at + bytes);
    if (shadow === null) return;
    forEachBit((shadow.mask >> BigInt(from)) & ones(8 * bytes), (bit) => {
      page.setLabel(at + (bit >> 3), bit & 7, shadow.at(from + bit));
      page.masks[at + (bit >> 3)] |= 1 << (bit & 7);
    });
  }

  /** As `store`, but what is tainted stays so. */
  add(address: number, bytes: number, shadow: Shadow | null, from = 0): void {
    this.store(address, bytes, union(extract(shadow, from, 8 * bytes), this.load(address, bytes)));
  }

  /** Physical addresses of all tainted bytes, by page. */
  *tainted(): Generator<{ readonly page: number; readonly addresses: readonly number[] }> {
    for (const [page, { masks, tainted }] of this.#pages) {
      if (!tainted) continue;
      const addresses: number[] = [];
      for (let i = 0; i < PAGE; i++) if (masks[i] !== 0) addresses.push(page * PAGE + i);
      if (addresses.length > 0) yield { page, addresses };
    }
  }
}
