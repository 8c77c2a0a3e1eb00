/** The shadow of physical memory, byte by byte. */
import { extract, type Label, make, type Shadow, union } from '../../engine/taint/shadow.ts';

const PAGE = 4096;

class ShadowPage {
  /** Bytes that have been written, or whose first read has been seen: 1. */
  readonly touched = new Uint8Array(PAGE);
  /** Tainted bits of each byte. */
  readonly masks = new Uint8Array(PAGE);
  /** Labels, eight a byte; made when the first is needed. */
  labels: Int32Array | undefined;
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

  /** Tainted bits of the byte at `address`. */
  mask(address: number): number {
    return this.#pages.get(Math.floor(address / PAGE))?.masks[address % PAGE] ?? 0;
  }

  label(address: number, bit: number): Label {
    return this.#pages.get(Math.floor(address / PAGE))?.labels?.[(address % PAGE) * 8 + bit] ?? 0;
  }

  /** The shadow of `bytes` (1 to 8) from `address`, all in one page. */
  load(address: number, bytes: number): Shadow | null {
    const page = this.#pages.get(Math.floor(address / PAGE));
    if (page === undefined) return null;
    const at = address % PAGE;
    let mask = 0n;
    for (let i = bytes - 1; i >= 0; i--) mask = (mask << 8n) | BigInt(page.masks[at + i]);
    const { labels } = page;
    return labels === undefined ? null : make(mask, (bit) => labels[at * 8 + bit]);
  }

  /** Gives `bytes` from `address` the shadow `shadow`, from its bit `from` on. All in one page. */
  store(address: number, bytes: number, shadow: Shadow | null, from = 0): void {
    const page = this.#page(address);
    const at = address % PAGE;
    page.touched.fill(1, at, at + bytes);
    page.masks.fill(0, at, at + bytes);
    if (shadow === null) return;
    page.labels ??= new Int32Array(PAGE * 8);
    for (let bit = 0; bit < bytes * 8; bit++) {
      const label = shadow.at(from + bit);
      page.labels[at * 8 + bit] = label;
      if (label !== 0) page.masks[at + (bit >> 3)] |= 1 << (bit & 7);
    }
  }

  /** As `store`, but what is tainted stays so. */
  add(address: number, bytes: number, shadow: Shadow | null, from = 0): void {
    this.store(address, bytes, union(extract(shadow, from, 8 * bytes), this.load(address, bytes)));
  }

  /** Physical addresses of all tainted bytes, by page. */
  *tainted(): Generator<{ readonly page: number; readonly addresses: readonly number[] }> {
    for (const [page, { masks, labels }] of this.#pages) {
      if (labels === undefined) continue;
      const addresses: number[] = [];
      for (let i = 0; i < PAGE; i++) if (masks[i] !== 0) addresses.push(page * PAGE + i);
      if (addresses.length > 0) yield { page, addresses };
    }
  }
}
