/**
 * What must hold of ministacks wherever processors have come back to user mode: each one's own is mapped at every alias
 * to one page, the kernel writes that page, no two have bytes in common, no TLB knows better, and no page that was taken
 * for the tables is lost.
 *
 * SDM vol. 3A 4.5 (4-level paging), 4.10.4.3 (a translation that was replaced may stay in use).
 */
import type { Cpu } from '../../arch/cpu.ts';
import { currentPcid, inspectPage, linearNumber } from '../../arch/paging.ts';
import type { Machine } from '../../machine/machine.ts';
import type { Violation } from '../finding.ts';
import { hex } from '../properties/property.ts';

/** Where the kernel keeps what it knows of a processor's ministack, and where that is to be. */
export interface MinistackPlan {
  readonly cpu: number;
  /** The lowest alias; the others differ from it in bits 31:16. */
  readonly address: bigint;
  readonly size: number;
  /** Linear addresses of the kernel's pointers to the lowest alias and to where it writes; they are zero before set-up. */
  readonly aliasPointer: bigint;
  readonly writePointer: bigint;
}

/** The pages from which the kernel takes tables and ministacks, one after another. */
export interface PagePool {
  /** Physical. */
  readonly start: bigint;
  /** Linear address of the physical address of the next page to be taken. */
  readonly next: bigint;
}

const PAGE = 4096;
const PRESENT = 1n;
const FRAME = 0x000f_ffff_ffff_f000n;
const IN_PAGE = 0xfffn;
const ALIASES = 0x1_0000;
/** Of the kernel's PGD slot for aliases. */
const SLOT_SHIFT = 39n;

/** All that is wrong with them, each kind once. */
export function judgeMinistacks(
  machine: Machine,
  plans: readonly MinistackPlan[],
  pool: PagePool | undefined,
): Violation[] {
  const violations: Violation[] = [];
  const found = (what: string, ...details: string[]) => {
    const known = violations.find((violation) => violation.what === what);
    if (known) (known.details as string[]).push(...details);
    else violations.push({ property: 'ministack', what, details });
  };
  const tables = new Tables(machine);
  const slots: { cpu: number; start: bigint; end: bigint }[] = [];
  for (const { cpu, address, size, aliasPointer, writePointer } of plans) {
    const processor = machine.cpus[cpu];
    const alias = read(machine, aliasPointer);
    const write = read(machine, writePointer);
    if (alias !== address || write === 0n) {
      found(
        'a processor is back in user mode without a ministack',
        `CPU ${cpu}: aliases at ${hex(alias)}, written at ${hex(write)}`,
      );
      continue;
    }
    const pages = tables.aliases(processor, address);
    const mapped = [...pages.values()].reduce((sum, count) => sum + count, 0);
    if (mapped < ALIASES)
      found('a ministack is not mapped at all of its aliases', `CPU ${cpu}: at ${mapped} of ${ALIASES}`);
    if (pages.size > 1)
      found(
        'the aliases of a ministack lead to different pages',
        `CPU ${cpu}: ${[...pages].map(([page, count]) => `${count} to ${hex(page)}`).join(', ')}`,
      );
    const written = inspectPage(processor, write);
    if (!written?.writable) found('the kernel cannot write a ministack', `CPU ${cpu}: at ${hex(write)}`);
    const frame = [...pages.keys()][0];
    if (written && frame !== undefined) {
      const physical = frame + (address & IN_PAGE);
      if (BigInt(written.physical) !== physical)
        found(
          'frames are written to one page and taken from another',
          `CPU ${cpu}: written at ${hex(written.physical)}, taken at ${hex(physical)}`,
        );
      slots.push({ cpu, start: physical, end: physical + BigInt(size) });
    }
    const stale = staleTranslations(processor, address);
    if (stale > 0)
      found(
        'a processor has stale translations of its ministack',
        `CPU ${cpu}: ${stale} of its TLB's entries differ from the page tables`,
      );
  }
  for (const [i, a] of slots.entries())
    for (const b of slots.slice(i + 1))
      if (a.start < b.end && b.start < a.end)
        found('two processors have one ministack', `CPU ${a.cpu} and CPU ${b.cpu} at ${hex(a.start)}`);
  if (pool && plans.length > 0) {
    const taken = Number(read(machine, pool.next) - pool.start) / PAGE;
    const used = tables.pages(machine.cpus[plans[0].cpu], plans[0].address);
    if (taken > used)
      found(
        'pages of a set-up that was overwritten are lost',
        `${taken} were taken, ${used} are in the tables`,
      );
  }
  return violations;
}

function read(machine: Machine, linear: bigint): bigint {
  const bytes = machine.readMemory(linear, 8);
  return new DataView(bytes.buffer).getBigUint64(0, true);
}

/** Paging structures, each read once. */
class Tables {
  readonly #machine: Machine;
  readonly #tables = new Map<bigint, BigUint64Array>();

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** By physical page, how many aliases of `address` lead there. */
  aliases(cpu: Cpu, address: bigint): Map<bigint, number> {
    let entries = new Map([[cpu.cr3 & FRAME, 1]]);
    // Alias bits 31:16 are bits 31:30 of the directory pointer's index, all of the directory's, 20:16 of the table's.
    for (const [shift, free] of [
      [SLOT_SHIFT, 0n],
      [30n, 3n],
      [21n, 0x1ffn],
      [12n, 0x1f0n],
    ] as const) {
      const index = (address >> shift) & 0x1ffn & ~free;
      const next = new Map<bigint, number>();
      for (const [table, times] of entries) {
        const content = this.#table(table);
        for (let i = 0n; i < 512n; i++) {
          if ((i & ~free) !== index) continue;
          const entry = content[Number(i)];
          if ((entry & PRESENT) === 0n) continue;
          const frame = entry & FRAME;
          next.set(frame, (next.get(frame) ?? 0) + times);
        }
      }
      entries = next;
    }
    return entries;
  }

  /** Pages that the top-level entry of `address` leads to: tables and others. */
  pages(cpu: Cpu, address: bigint): number {
    const seen = new Set<bigint>();
    const root = this.#table(cpu.cr3 & FRAME)[Number((address >> SLOT_SHIFT) & 0x1ffn)];
    let level = (root & PRESENT) === 0n ? [] : [root & FRAME];
    for (let depth = 3; level.length > 0; depth--) {
      const next = new Set<bigint>();
      for (const page of level) {
        if (seen.has(page)) continue;
        seen.add(page);
        if (depth > 0) for (const entry of this.#table(page)) if (entry & PRESENT) next.add(entry & FRAME);
      }
      level = [...next];
    }
    return seen.size;
  }

  #table(physical: bigint): BigUint64Array {
    let table = this.#tables.get(physical);
    if (!table) {
      table = new BigUint64Array(this.#machine.readPhysical(Number(physical), PAGE).buffer);
      this.#tables.set(physical, table);
    }
    return table;
  }
}

/** TLB entries of a ministack's aliases that say otherwise than the paging structures. */
function staleTranslations(cpu: Cpu, address: bigint): number {
  let stale = 0;
  const pcid = currentPcid(cpu);
  const lowest = linearNumber(address);
  for (let high = 0; high < ALIASES; high++) {
    const at = lowest + high * ALIASES;
    const entry = cpu.tlb.find(at, pcid);
    if (entry < 0) continue;
    if (cpu.tlb.physical(entry, at) !== inspectPage(cpu, address | (BigInt(high) << 16n))?.physical) stale++;
  }
  return stale;
}
