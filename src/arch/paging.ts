/**
 * Paging: linear to physical addresses. SDM vol. 3A chapter 4.
 *
 * 32-bit paging (4.3, with PSE and PSE-36), PAE paging (4.4) and 4-level paging (4.5); access rights (4.6),
 * page-fault exceptions (4.7), accessed and dirty flags (4.8), caching of translations (4.10).
 *
 * Physical addresses have MAXPHYADDR = 40 bits and are JavaScript numbers.
 */
import { AC } from '../isa/flags.ts';
import { offsetOf } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { Fault, gp, PF } from './fault.ts';
import {
  type PageBytes,
  TLB_DIRTY,
  TLB_GLOBAL,
  TLB_HALF,
  TLB_NO_EXECUTE,
  TLB_USER,
  TLB_WRITABLE,
} from './tlb.ts';

/** Bits of a physical address, as CPUID.80000008H:EAX[7:0] reports. */
export const MAXPHYADDR = 40;

/** An access as paging judges it (SDM vol. 3A 4.6). */
export interface PageAccess {
  /** User-mode: made at CPL 3, and not implicit. */
  readonly user: boolean;
  /** To a system structure, by the processor itself: RFLAGS.AC does not lift SMAP. */
  readonly implicit: boolean;
  readonly write: boolean;
  readonly fetch: boolean;
}

const accesses: PageAccess[] = Array.from({ length: 16 }, (_, bits) => ({
  user: (bits & 1) !== 0,
  implicit: (bits & 2) !== 0,
  write: (bits & 4) !== 0,
  fetch: (bits & 8) !== 0,
}));

/** The one object that stands for an access of these properties: nothing is allocated. */
export function pageAccess(user: boolean, implicit: boolean, write: boolean, fetch: boolean): PageAccess {
  return accesses[(user ? 1 : 0) | (implicit ? 2 : 0) | (write ? 4 : 0) | (fetch ? 8 : 0)];
}

const CR0_WP = 1 << 16;
const CR0_PG = 1 << 31;
const CR4_PSE = 1 << 4;
const CR4_PAE = 1 << 5;
const CR4_PGE = 1 << 7;
const CR4_PCIDE = 1 << 17;
const CR4_SMEP = 1 << 20;
const CR4_SMAP = 1 << 21;
const RFLAGS_AC = Number(AC);
const EFER_LMA = 1 << 10;
const EFER_NXE = 1 << 11;

/** Bits of the low dword of a paging-structure entry (SDM vol. 3A tables 4-5 to 4-20). */
const PRESENT = 1 << 0;
const WRITABLE = 1 << 1;
const USER = 1 << 2;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
const PAGE_SIZE = 1 << 7;
const GLOBAL = 1 << 8;
/** Bit 63, in the high dword. */
const NO_EXECUTE = 1 << 31;

/** Reserved bits of the high dword: 51:MAXPHYADDR in 4-level paging, 62:MAXPHYADDR in PAE paging. */
const RESERVED_LONG = 0x000f_ff00;
const RESERVED_PAE = 0x7fff_ff00;
/** Reserved bits of the low dword of entries that map a page of 1 GByte, 2 MBytes and 4 MBytes. */
const RESERVED_1G = 0x3fff_e000;
const RESERVED_2M = 0x001f_e000;
const RESERVED_4M = 0x0020_0000;

/** Bits of a page-fault error code (SDM vol. 3A figure 4-12). */
const ERROR_PRESENT = 1;
const ERROR_WRITE = 2;
const ERROR_USER = 4;
const ERROR_RESERVED = 8;
const ERROR_FETCH = 16;

/** Low dwords of state fields are read as numbers: translation is too frequent for BigInt. */
const CR0 = offsetOf('cr0');
const CR3 = offsetOf('cr3');
const CR4 = offsetOf('cr4');
const EFER = offsetOf('efer');
const RFLAGS = offsetOf('flagsRest');

function low(cpu: Cpu, offset: number): number {
  return cpu.tlb.memory[(cpu.address + offset) >>> 2];
}

/** Outcome of a walk. */
const MAPPED = 0;
const NOT_PRESENT = 1;
const RESERVED = 2;

/** What the latest walk found: the page's physical address and size, its rights as TLB flags, and its leaf entry. */
let frame = 0;
let pageBytes: PageBytes = 0x1000;
let rights = 0;
let leafAddress = 0;
let leafLow = 0;

/** The high dword of the entry that `readEntry` read last. */
let entryHigh = 0;

/** Reads a paging-structure entry of 8 bytes: gives its low dword, and the high one in `entryHigh`. */
function readEntry(cpu: Cpu, address: number): number {
  const at = cpu.bus.ramOffset(address);
  if (at >= 0) {
    const memory = cpu.tlb.memory;
    entryHigh = memory[(at >>> 2) + 1];
    return memory[at >>> 2];
  }
  const value = cpu.bus.read(address, 8);
  entryHigh = Number(value >> 32n);
  return Number(value & 0xffff_ffffn);
}

function setFlags(cpu: Cpu, address: number, low: number, flags: number): void {
  if ((low & flags) === flags) return;
  cpu.hooks.access?.(cpu, address, 4, true);
  cpu.bus.write(address, 4, BigInt((low | flags) >>> 0));
}

/**
 * Walks the paging structures for `linear` (bits 47:0).
 * @param mark set the accessed flags of the entries that refer to another paging structure, as they are used.
 */
function walk(cpu: Cpu, linear: number, mark: boolean): number {
  const cr4 = low(cpu, CR4);
  const efer = low(cpu, EFER);
  if (efer & EFER_LMA) {
    const root = (low(cpu, CR3 + 4) & 0xff) * 0x1_0000_0000 + ((low(cpu, CR3) & 0xffff_f000) >>> 0);
    return walkWide(cpu, linear, 4, root, cr4, efer, RESERVED_LONG, mark);
  }
  if (cr4 & CR4_PAE) {
    const pdpte = cpu.pdpte[Math.floor(linear / 0x4000_0000) & 3];
    if ((pdpte & 1n) === 0n) return NOT_PRESENT;
    return walkWide(cpu, linear, 2, Number(pdpte & 0xff_ffff_f000n), cr4, efer, RESERVED_PAE, mark);
  }
  return walk32(cpu, linear, cr4, mark);
}

/** Bytes of linear address space that an entry of each level covers; level 0 is no level. */
const COVERED = [0, 0x1000, 0x20_0000, 0x4000_0000, 0x80_0000_0000] as const;

/** 4-level paging from level 4 (the PML4), and PAE paging from level 2 (the page directory). */
function walkWide(
  cpu: Cpu,
  linear: number,
  levels: number,
  root: number,
  cr4: number,
  efer: number,
  reserved: number,
  mark: boolean,
): number {
  const reservedHigh = efer & EFER_NXE ? reserved : reserved | NO_EXECUTE;
  let table = root;
  let allowed = WRITABLE | USER;
  let forbidden = 0;
  for (let level = levels; ; level--) {
    const covered = COVERED[level];
    const address = table + (Math.floor(linear / covered) & 0x1ff) * 8;
    const entry = readEntry(cpu, address);
    const high = entryHigh;
    if (mark) cpu.hooks.access?.(cpu, address, 8, false);
    if ((entry & PRESENT) === 0) return NOT_PRESENT;
    if (high & reservedHigh) return RESERVED;
    allowed &= entry;
    forbidden |= high & NO_EXECUTE;
    const target = (high & 0xff) * 0x1_0000_0000 + ((entry & 0xffff_f000) >>> 0);
    if (level === 1 || entry & PAGE_SIZE) {
      if (level === 4) return RESERVED;
      if (level === 3 && (entry & RESERVED_1G || !cpu.has('pdpe1gb'))) return RESERVED;
      if (level === 2 && entry & RESERVED_2M) return RESERVED;
      pageBytes = covered as PageBytes;
      frame = target - (target & (covered - 1));
      leafAddress = address;
      leafLow = entry;
      rights =
        (allowed & USER ? TLB_USER : 0) |
        (allowed & WRITABLE ? TLB_WRITABLE : 0) |
        (forbidden ? TLB_NO_EXECUTE : 0) |
        (entry & DIRTY ? TLB_DIRTY : 0) |
        (entry & GLOBAL && cr4 & CR4_PGE ? TLB_GLOBAL : 0);
      return MAPPED;
    }
    if (mark) setFlags(cpu, address, entry, ACCESSED);
    table = target;
  }
}

/** 32-bit paging (SDM vol. 3A 4.3). */
function walk32(cpu: Cpu, linear: number, cr4: number, mark: boolean): number {
  const directory = Number(cpu.cr3 & 0xffff_f000n);
  const pdeAddress = directory + (linear >>> 22) * 4;
  const pde = Number(cpu.bus.read(pdeAddress, 4));
  if (mark) cpu.hooks.access?.(cpu, pdeAddress, 4, false);
  if ((pde & PRESENT) === 0) return NOT_PRESENT;
  let allowed = pde & (WRITABLE | USER);
  if (pde & PAGE_SIZE && cr4 & CR4_PSE) {
    if (pde & RESERVED_4M) return RESERVED;
    leafAddress = pdeAddress;
    leafLow = pde;
    pageBytes = 0x20_0000;
    frame = ((pde >>> 13) & 0xff) * 0x1_0000_0000 + ((pde & 0xffc0_0000) >>> 0) + (linear & 0x20_0000);
    rights = TLB_HALF;
  } else {
    if (mark) setFlags(cpu, pdeAddress, pde, ACCESSED);
    leafAddress = ((pde & 0xffff_f000) >>> 0) + ((linear >>> 12) & 0x3ff) * 4;
    leafLow = Number(cpu.bus.read(leafAddress, 4));
    if (mark) cpu.hooks.access?.(cpu, leafAddress, 4, false);
    if ((leafLow & PRESENT) === 0) return NOT_PRESENT;
    allowed &= leafLow;
    pageBytes = 0x1000;
    frame = (leafLow & 0xffff_f000) >>> 0;
    rights = 0;
  }
  if (allowed & USER) rights |= TLB_USER;
  if (allowed & WRITABLE) rights |= TLB_WRITABLE;
  if (leafLow & DIRTY) rights |= TLB_DIRTY;
  if (leafLow & GLOBAL && cr4 & CR4_PGE) rights |= TLB_GLOBAL;
  return MAPPED;
}

/** Access rights (SDM vol. 3A 4.6.1) by a page's rights as TLB flags. */
function permits(cpu: Cpu, flags: number, access: PageAccess): boolean {
  if (access.fetch && flags & TLB_NO_EXECUTE) return false;
  if (access.user) {
    if ((flags & TLB_USER) === 0) return false;
    return !access.write || (flags & TLB_WRITABLE) !== 0;
  }
  if (flags & TLB_USER) {
    const cr4 = low(cpu, CR4);
    if (access.fetch) {
      if (cr4 & CR4_SMEP) return false;
    } else if (cr4 & CR4_SMAP && (access.implicit || (low(cpu, RFLAGS) & RFLAGS_AC) === 0)) return false;
  }
  if (access.write && (flags & TLB_WRITABLE) === 0) return (low(cpu, CR0) & CR0_WP) === 0;
  return true;
}

/** The current process-context identifier: CR3[11:0] where CR4.PCIDE, else 0 (SDM vol. 3A 4.10.1). */
export function currentPcid(cpu: Cpu): number {
  if ((low(cpu, CR4) & CR4_PCIDE) === 0) return 0;
  return low(cpu, CR3) & 0xfff;
}

const scratch = new BigUint64Array(1);
const scratchDwords = new Uint32Array(scratch.buffer);

/** Bits 47:0 of a linear address, as the TLB takes it. */
export function linearNumber(linear: bigint): number {
  scratch[0] = linear;
  return (scratchDwords[1] & 0xffff) * 0x1_0000_0000 + scratchDwords[0];
}

/**
 * The physical address of `linear` for `access`, by the TLB where it holds a translation that permits it, else by
 * the paging structures. Sets accessed and dirty flags. Raises #PF with CR2 set.
 * @param linear canonical in long mode, below 2^32 outside it.
 */
export function translate(cpu: Cpu, linear: bigint, access: PageAccess): number {
  const at = linearNumber(linear);
  if ((low(cpu, CR0) & CR0_PG) === 0) return at;
  const pcid = currentPcid(cpu);
  const tlb = cpu.tlb;
  const found = tlb.find(at, pcid);
  if (found >= 0) {
    const flags = tlb.flags(found);
    if ((!access.write || flags & TLB_DIRTY) && permits(cpu, flags, access)) return tlb.physical(found, at);
  }
  const outcome = walk(cpu, at, true);
  if (outcome !== MAPPED || !permits(cpu, rights, access)) throw pageFault(cpu, linear, outcome, access);
  if (access.write) rights |= TLB_DIRTY;
  setFlags(cpu, leafAddress, leafLow, access.write ? ACCESSED | DIRTY : ACCESSED);
  tlb.insert(at, pcid, pageBytes, frame, rights);
  return frame + (at & (pageBytes - 1));
}

/** Whether the TLB has the page of `linear` as a global one: found under every PCID, and kept when CR3 is loaded. */
export function isGlobal(cpu: Cpu, linear: bigint): boolean {
  if ((low(cpu, CR4) & CR4_PGE) === 0 || (low(cpu, CR0) & CR0_PG) === 0) return false;
  const found = cpu.tlb.find(linearNumber(linear), currentPcid(cpu));
  return found >= 0 && (cpu.tlb.flags(found) & TLB_GLOBAL) !== 0;
}

/** As {@link translate} where the TLB alone answers, else -1; nothing changes. */
export function cachedTranslation(cpu: Cpu, linear: bigint, access: PageAccess): number {
  const at = linearNumber(linear);
  if ((low(cpu, CR0) & CR0_PG) === 0) return at;
  const { tlb } = cpu;
  const found = tlb.find(at, currentPcid(cpu));
  if (found < 0) return -1;
  const flags = tlb.flags(found);
  return (!access.write || flags & TLB_DIRTY) && permits(cpu, flags, access) ? tlb.physical(found, at) : -1;
}

/**
 * Caches the translation of `linear`, as processors may at any time for a page that has been accessed (SDM vol. 3A 4.10.2.3).
 * Does nothing to a page that has not been.
 */
export function prefetchTranslation(cpu: Cpu, linear: bigint): void {
  if ((low(cpu, CR0) & CR0_PG) === 0) return;
  const at = linearNumber(linear);
  if (walk(cpu, at, false) !== MAPPED || (leafLow & ACCESSED) === 0) return;
  // Who observes accesses sees this walk as any other.
  walk(cpu, at, true);
  cpu.tlb.insert(at, currentPcid(cpu), pageBytes, frame, rights);
}

/** A page fault also drops the TLB's entries for its page, which may be stale (SDM vol. 3A 4.10.4.1). */
function pageFault(cpu: Cpu, linear: bigint, outcome: number, access: PageAccess): Fault {
  cpu.tlb.invalidatePage(linearNumber(linear), currentPcid(cpu), true);
  cpu.cr2 = linear;
  let code = outcome === NOT_PRESENT ? 0 : ERROR_PRESENT;
  if (outcome === RESERVED) code |= ERROR_RESERVED;
  if (access.write) code |= ERROR_WRITE;
  if (access.user) code |= ERROR_USER;
  if (access.fetch) {
    const cr4 = low(cpu, CR4);
    const noExecute = cr4 & CR4_PAE && low(cpu, EFER) & EFER_NXE;
    if (cr4 & CR4_SMEP || noExecute) code |= ERROR_FETCH;
  }
  return new Fault(PF, code);
}

/** A page as the paging structures in memory map it now. */
export interface PageView {
  readonly physical: number;
  /** Bytes of the page: 4 KiB, 2 MiB or 1 GiB (a 4-MByte page counts as two of 2 MBytes). */
  readonly size: number;
  readonly user: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
}

/**
 * How the paging structures map `linear`, or null where they do not: for debuggers and checkers. Neither reads nor
 * fills the TLB, and sets no flags.
 */
export function inspectPage(cpu: Cpu, linear: bigint): PageView | null {
  const at = linearNumber(linear);
  if ((low(cpu, CR0) & CR0_PG) === 0)
    return { physical: Number(linear), size: 0x1000, user: true, writable: true, executable: true };
  if (walk(cpu, at, false) !== MAPPED) return null;
  return {
    physical: frame + (at & (pageBytes - 1)),
    size: pageBytes,
    user: (rights & TLB_USER) !== 0,
    writable: (rights & TLB_WRITABLE) !== 0,
    executable: (rights & TLB_NO_EXECUTE) === 0,
  };
}

/** PDPTE bits that must be 0 where P is 1: 2:1, 8:5 and 63:MAXPHYADDR (SDM vol. 3A table 4-8). */
const PDPTE_RESERVED = 0xffff_ff00_0000_01e6n;

/**
 * Loads the page-directory-pointer-table registers of PAE paging from the table at CR3 `cr3` (SDM vol. 3A 4.4.1).
 * Raises #GP(0), having changed nothing, if a present entry has a reserved bit set.
 */
export function loadPdptes(cpu: Cpu, cr3: bigint): void {
  const table = Number(cr3 & 0xffff_ffe0n);
  const entries = [0, 1, 2, 3].map((i) => cpu.bus.read(table + i * 8, 8));
  for (const entry of entries) if (entry & 1n && entry & PDPTE_RESERVED) throw gp();
  for (const [i, entry] of entries.entries()) cpu.pdpte[i] = entry;
}
