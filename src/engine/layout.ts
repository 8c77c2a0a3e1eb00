/** Where everything stands in the machine's one WebAssembly memory. */
import { STATE_SIZE } from '../isa/state.ts';

/** Entries of one fast TLB (direct-mapped by linear page number) and bytes of one entry. */
export const FAST_TLB_ENTRIES = 1024;
export const FAST_TLB_ENTRY = 16;
/** Contexts with fast TLBs of their own: user, supervisor, supervisor with RFLAGS.AC, and one that is always empty. */
export const FAST_TLB_CONTEXTS = 4;
/** What a fast TLB is for. */
export const FAST_READ = 0;
export const FAST_WRITE = 1;
export const FAST_FETCH = 2;
export type FastAccess = typeof FAST_READ | typeof FAST_WRITE | typeof FAST_FETCH;
const FAST_TLB_KINDS = 3;
const FAST_TLB_BYTES = FAST_TLB_ENTRIES * FAST_TLB_ENTRY;
/** Address spaces (PCIDs) of a processor that have fast TLBs at a time, and bytes of those of one. */
export const FAST_SPACES = 4;
export const FAST_SPACE_BYTES = FAST_TLB_CONTEXTS * FAST_TLB_KINDS * FAST_TLB_BYTES;

/** Entries of the jump cache (linear address and context to decoded code) of one processor. */
export const JUMP_CACHE_ENTRIES = 4096;
export const JUMP_CACHE_ENTRY = 16;

/** Entries of the table that finds decoded code by where it stands in RAM, for all processors. */
export const CODE_TABLE_ENTRIES = 1 << 18;
export const CODE_TABLE_ENTRY = 16;

/** Bytes of a decoded instruction, and how many the arena holds. */
export const OP_SIZE = 64;
export const OP_COUNT = 1 << 18;

/** Bytes that arch may use per processor for its own tables (the architectural TLB: tlb.ts). */
export const ARCH_BYTES = 64 * 1024;

const PAGE = 0x10000;

export interface Layout {
  readonly cpus: number;
  readonly ramBytes: number;
  /** Offset of RAM's first byte; 64-KiB aligned. */
  readonly ram: number;
  /** Offset of the arena of decoded instructions. */
  readonly ops: number;
  /** Size of the WebAssembly memory in 64-KiB pages. */
  readonly pages: number;
  state(cpu: number): number;
  arch(cpu: number): number;
  /** Offset of the table that finds decoded code by where it stands in RAM. */
  readonly codeTable: number;
  jumpCache(cpu: number): number;
  /** The fast TLBs of one of FAST_SPACES address spaces; each space's stand together. */
  fastSpace(cpu: number, space: number): number;
}

/** Where the fast TLB of a context stands among those of its address space. */
export function fastTlbOffset(context: number, kind: FastAccess): number {
  return (context * FAST_TLB_KINDS + kind) * FAST_TLB_BYTES;
}

/** What the fast TLB at `offset` from the first of all is for. */
export function fastAccessAt(offset: number): FastAccess {
  return (Math.floor(offset / FAST_TLB_BYTES) % FAST_TLB_KINDS) as FastAccess;
}

/** @param ramBytes a multiple of 64 KiB, up to 3 GiB. */
export function layOut(cpus: number, ramBytes: number): Layout {
  const align = (n: number, to: number) => Math.ceil(n / to) * to;
  const state = 1024;
  const arch = align(state + cpus * STATE_SIZE, 4096);
  const tlbs = arch + cpus * ARCH_BYTES;
  const jumps = tlbs + cpus * FAST_SPACES * FAST_SPACE_BYTES;
  const codeTable = jumps + cpus * JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY;
  const ops = codeTable + CODE_TABLE_ENTRIES * CODE_TABLE_ENTRY;
  const ram = align(ops + OP_COUNT * OP_SIZE, PAGE);
  return {
    cpus,
    ramBytes,
    ram,
    ops,
    codeTable,
    pages: (ram + align(ramBytes, PAGE)) / PAGE,
    state: (cpu) => state + cpu * STATE_SIZE,
    arch: (cpu) => arch + cpu * ARCH_BYTES,
    jumpCache: (cpu) => jumps + cpu * JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY,
    fastSpace: (cpu, space) => tlbs + (cpu * FAST_SPACES + space) * FAST_SPACE_BYTES,
  };
}
