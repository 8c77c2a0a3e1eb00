/**
 * The pages of RAM that user mode can reach, by the paging structures in memory.
 *
 * SDM vol. 3A 4.3 to 4.5 (32-bit, PAE and 4-level paging), 4.6 (a page is a user page if every entry on the way says so).
 */
import type { Cpu } from '../arch/cpu.ts';
import type { Machine } from '../machine/machine.ts';

const PRESENT_USER = 5;
const LARGE = 0x80n;
const FRAME = 0x000f_ffff_ffff_f000n;
const PAGE = 4096;

/** A user page: where user mode sees it first. */
export interface UserPage {
  readonly linear: bigint;
  readonly writable: boolean;
}

/** Physical page number of each user page of the present CR3 within RAM. */
export function userPages(machine: Machine, index: number): Map<number, UserPage> {
  const cpu: Cpu = machine.cpus[index];
  const pages = new Map<number, UserPage>();
  const ram = machine.configuration.ramBytes;
  const add = (physical: bigint, linear: bigint, size: number, writable: boolean) => {
    for (let offset = 0; offset < size && physical + BigInt(offset) < BigInt(ram); offset += PAGE) {
      const page = Number(physical) / PAGE + offset / PAGE;
      if (!pages.has(page)) pages.set(page, { linear: linear + BigInt(offset), writable });
    }
  };
  const read = (address: bigint, bytes: 4 | 8): DataView | undefined => {
    if (address + BigInt(PAGE) > BigInt(ram)) return undefined;
    const raw = machine.readPhysical(Number(address), bytes === 8 ? PAGE : PAGE);
    return new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  };
  const wide = (table: bigint, level: number, linear: bigint, entries: number, writable: boolean) => {
    const view = read(table & ~0xfffn, 8);
    if (!view) return;
    const first = Number(table & 0xfffn) / 8;
    const shift = BigInt(12 + 9 * (level - 1));
    for (let i = 0; i < entries; i++) {
      const pointer = level === 3 && entries === 4;
      const needed = pointer ? 1 : PRESENT_USER;
      // Most entries are not present, or the kernel's: they are told without a BigInt.
      if ((view.getUint32(8 * (first + i), true) & needed) !== needed) continue;
      const entry = view.getBigUint64(8 * (first + i), true);
      let at = linear | (BigInt(i) << shift);
      if (level === 4 && i >= 256) at |= 0xffff_0000_0000_0000n;
      const may = writable && (pointer || (entry & 2n) !== 0n);
      const leaf = level === 1 || (level < 4 && !pointer && (entry & LARGE) !== 0n);
      if (leaf) add(entry & FRAME & ~((1n << shift) - 1n), at, 1 << Number(shift), may);
      else wide(entry & FRAME, level - 1, at, 512, may);
    }
  };
  if ((cpu.cr0 & (1n << 31n)) === 0n) return pages;
  if (cpu.longMode) wide(cpu.cr3 & FRAME, 4, 0n, 512, true);
  else if (cpu.cr4 & (1n << 5n)) wide(cpu.cr3 & 0xffff_ffe0n, 3, 0n, 4, true);
  else {
    const directory = read(cpu.cr3 & 0xffff_f000n, 4);
    for (let i = 0; directory && i < 1024; i++) {
      const entry = directory.getUint32(4 * i, true);
      if ((entry & 5) !== 5) continue;
      const linear = BigInt(i) << 22n;
      if (entry & 0x80) {
        add(BigInt(entry & 0xffc0_0000) & 0xffff_ffffn, linear, 1 << 22, (entry & 2) !== 0);
        continue;
      }
      const table = read(BigInt(entry >>> 12) << 12n, 4);
      for (let j = 0; table && j < 1024; j++) {
        const page = table.getUint32(4 * j, true);
        if ((page & 5) === 5)
          add(BigInt(page >>> 12) << 12n, linear | (BigInt(j) << 12n), PAGE, (page & entry & 2) !== 0);
      }
    }
  }
  return pages;
}
