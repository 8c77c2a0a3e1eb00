/** Conditions on the contents of physical memory: bits of dwords, and what they have to be. */
import type { PageTree } from '../../machine/page-tree.ts';

const PAGE = 4096;
const QUADWORD = 8;

/** Dwords of physical memory in the order of their numbers, and what the bits of a mask have to be in each. */
export interface Conditions {
  readonly dwords: Uint32Array;
  readonly masks: Uint32Array;
  readonly values: Uint32Array;
  /** Of each page with any: the first of its dwords, and the one after its last. */
  readonly pages: ReadonlyMap<number, { readonly from: number; readonly to: number }>;
}

/** The page of a dword. */
export const pageOf = (dword: number): number => Math.floor(dword / (PAGE / 4));

/** A dword of physical memory, by its number, in its page. */
export function dwordOf(page: Uint8Array, dword: number): number {
  const at = (dword * 4) % PAGE;
  return page[at] | (page[at + 1] << 8) | (page[at + 2] << 16) | (page[at + 3] << 24);
}

/** Conditions, by dword. */
export function asConditions(
  cells: ReadonlyMap<number, { readonly mask: number; readonly value: number }>,
): Conditions {
  const all = new Uint32Array(cells.size);
  let told = 0;
  for (const [dword, { mask }] of cells) if (mask !== 0) all[told++] = dword;
  const dwords = all.slice(0, told).sort();
  const masks = new Uint32Array(told);
  const values = new Uint32Array(told);
  const pages = new Map<number, { from: number; to: number }>();
  let range = { from: 0, to: 0 };
  let last = -1;
  for (let i = 0; i < told; i++) {
    const dword = dwords[i];
    const cell = cells.get(dword);
    if (cell) {
      masks[i] = cell.mask;
      values[i] = cell.value;
    }
    const page = pageOf(dword);
    if (page !== last) {
      range = { from: i, to: i };
      pages.set(page, range);
      last = page;
    }
    range.to = i + 1;
  }
  return { dwords, masks, values, pages };
}

/** Whether memory is as the conditions say. @param ram of all RAM, by dwords */
export function hold(conditions: Conditions, ram: Uint32Array): boolean {
  return holdFrom(conditions, ram, 0, conditions.dwords.length);
}

/** Whether a page of memory is. */
export function holdOn(conditions: Conditions, ram: Uint32Array, page: number): boolean {
  const range = conditions.pages.get(page);
  return range === undefined || holdFrom(conditions, ram, range.from, range.to);
}

function holdFrom(conditions: Conditions, ram: Uint32Array, from: number, to: number): boolean {
  const { dwords, masks, values } = conditions;
  for (let i = from; i < to; i++) if (((ram[dwords[i]] ^ values[i]) & masks[i]) !== 0) return false;
  return true;
}

/** The same of memory that was. */
export function heldIn({ dwords, masks, values, pages }: Conditions, memory: PageTree): boolean {
  for (const [number, { from, to }] of pages) {
    const page = memory.get(number);
    for (let i = from; i < to; i++)
      if ((((page ? dwordOf(page, dwords[i]) : 0) ^ values[i]) & masks[i]) !== 0) return false;
  }
  return true;
}

/** Calls `each` with every dword of [physical, physical + size), and which of its bits. */
export function eachDword(physical: number, size: number, each: (dword: number, mask: number) => void): void {
  if (physical % 4 === 0 && size === QUADWORD) {
    each(physical / 4, -1);
    each(physical / 4 + 1, -1);
    return;
  }
  const end = physical + size;
  for (let dword = Math.floor(physical / 4); dword * 4 < end; dword++) {
    const from = Math.max(physical - dword * 4, 0);
    const to = Math.min(end - dword * 4, 4);
    let mask = 0;
    for (let i = from; i < to; i++) mask |= 0xff << (8 * i);
    each(dword, mask);
  }
}
