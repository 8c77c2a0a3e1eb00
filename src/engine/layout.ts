/** Where everything stands in the machine's one WebAssembly memory. */
import { STATE_SIZE } from '../isa/state.ts';

/** Entries of one fast TLB (direct-mapped by linear page number) and bytes of one entry. */
export const FAST_TLB_ENTRIES = 512;
export const FAST_TLB_ENTRY = 16;
/** Contexts with fast TLBs of their own: user, supervisor, supervisor with RFLAGS.AC, and one that is always empty. */
export const FAST_TLB_CONTEXTS = 4;
const FAST_TLB_BYTES = FAST_TLB_ENTRIES * FAST_TLB_ENTRY;

/** Entries of the jump cache (linear address and context to decoded code) of one processor. */
export const JUMP_CACHE_ENTRIES = 4096;
export const JUMP_CACHE_ENTRY = 16;

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
  jumpCache(cpu: number): number;
  /** The fast TLB of a context, for reads or writes. */
  fastTlb(cpu: number, context: number, write: boolean): number;
}

/** @param ramBytes a multiple of 64 KiB, up to 3 GiB. */
export function layOut(cpus: number, ramBytes: number): Layout {
  const align = (n: number, to: number) => Math.ceil(n / to) * to;
  const state = 1024;
  const arch = align(state + cpus * STATE_SIZE, 4096);
  const tlbs = arch + cpus * ARCH_BYTES;
  const jumps = tlbs + cpus * FAST_TLB_CONTEXTS * 2 * FAST_TLB_BYTES;
  const ops = jumps + cpus * JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY;
  const ram = align(ops + OP_COUNT * OP_SIZE, PAGE);
  return {
    cpus,
    ramBytes,
    ram,
    ops,
    pages: (ram + align(ramBytes, PAGE)) / PAGE,
    state: (cpu) => state + cpu * STATE_SIZE,
    arch: (cpu) => arch + cpu * ARCH_BYTES,
    jumpCache: (cpu) => jumps + cpu * JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY,
    fastTlb: (cpu, context, write) =>
      tlbs + ((cpu * FAST_TLB_CONTEXTS + context) * 2 + (write ? 1 : 0)) * FAST_TLB_BYTES,
  };
}
