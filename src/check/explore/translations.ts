/**
 * Translations that a processor still has and the page tables no longer give (SDM vol. 3A 4.10.4): two states with equal memory then
 * go different ways. They come of writes to page tables alone, so a run without any needs no look.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { currentPcid, inspectPage } from '../../arch/paging.ts';
import { TLB_GLOBAL, TLB_USER, TLB_WRITABLE } from '../../arch/tlb.ts';

const PAGE = 4096;
const PRESENT = 1;
const PAGE_SIZE = 0x80;
const ENTRIES = 512;

/** A number for the translations of the address space in use that give another page than the tables, or rights that they do not; 0: none. */
export function staleTranslations(cpu: Cpu): number {
  const inUse = currentPcid(cpu);
  let number = 0;
  cpu.tlb.forEach((linear, physical, pcid, flags) => {
    if (pcid !== inUse && (flags & TLB_GLOBAL) === 0) return;
    const page = inspectPage(cpu, BigInt.asUintN(64, BigInt.asIntN(48, BigInt(linear))));
    const stale =
      page === null ||
      page.physical !== physical ||
      ((flags & TLB_WRITABLE) !== 0 && !page.writable) ||
      ((flags & TLB_USER) !== 0 && !page.user);
    // The order in which they stand in the TLB is no matter.
    if (stale)
      number += 1 + ((Math.imul(linear / PAGE, 0x9e37_79b1) ^ Math.imul(physical / PAGE, 0x85eb_ca6b)) >>> 0);
  });
  return number;
}

/**
 * Numbers of the physical pages that hold the paging structures of 4-level paging.
 * @param roots physical addresses of PML4 tables
 * @param ram all RAM, in dwords
 */
export function tablePages(roots: Iterable<number>, ram: Uint32Array): Set<number> {
  const pages = new Set<number>();
  const add = (address: number, level: number) => {
    const number = Math.floor(address / PAGE);
    if (pages.has(number) || address + PAGE > ram.byteLength) return;
    pages.add(number);
    if (level === 1) return;
    for (let i = 0; i < ENTRIES; i++) {
      const low = ram[address / 4 + 2 * i];
      const high = ram[address / 4 + 2 * i + 1];
      if ((low & PRESENT) === 0 || (level < 4 && low & PAGE_SIZE)) continue;
      add((high & 0xf_ffff) * 2 ** 32 + ((low & 0xffff_f000) >>> 0), level - 1);
    }
  };
  for (const root of roots) add(root, 4);
  return pages;
}
