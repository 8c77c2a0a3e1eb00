/**
 * Where everything of the 32-bit kernel lies. User space, selectors, vectors and calls are those of the 64-bit
 * kernel (`../layout.ts`); what differs is above 3 GiB, and the width of a word.
 */

import { call } from '../layout.ts';
import { MAX_IMAGE_CPUS } from '../limits.ts';
import { mix } from '../seed.ts';

/** The kernel's code and data: linear = physical + KERNEL_BASE. */
export const KERNEL_BASE = 0xc000_0000n;
/** An address that is never mapped. */
export const UNMAPPED = 0xcfff_f000n;
/** Kernel stacks lie from here to F0000000H, each alone in a 64 KiB region so that bits 31:16 name it. */
export const STACKS_BASE = 0xd000_0000n;
/** The local APIC as the kernel sees it. */
export const LAPIC = 0xfffe_0000n;

/** Stacks of a CPU in the order of their 64 KiB regions. */
export const stackNames = ['main', 'child', 'double-fault'] as const;

/** 64 KiB regions for the stacks of one CPU, and for those of one seed. */
const STACKS = 8;
const REGIONS = MAX_IMAGE_CPUS * STACKS;

/** Linear address of the 64 KiB region of a kernel stack: different for every stack of every CPU. */
export function stackRegion(seed: number, cpu: number, stack: number): bigint {
  const block = mix(seed, 0) % (0x2000 / REGIONS);
  return STACKS_BASE + (BigInt(block * REGIONS + cpu * STACKS + stack) << 16n);
}

/** Selectors beyond those of `../layout.ts`. */
export const selector32 = {
  /** The CPU's own area, in FS while the kernel runs. */
  percpu: 0x08,
  /** The task that double faults switch to. */
  doubleFaultTask: 0x48,
} as const;
/** Bytes of the GDT. */
export const GDT_SIZE = 0x58;

/** Offsets of consecutive fields of 4 bytes. */
function words<const N extends readonly string[]>(
  names: N,
): Record<N[number], number> & { readonly size: number } {
  const offsets = Object.fromEntries(names.map((name, i) => [name, 4 * i]));
  return { ...(offsets as Record<N[number], number>), size: 4 * names.length };
}

/**
 * The registers of an interrupted task as the entry code leaves them on the stack, lowest address first. The
 * last five words are what the processor pushed; ESP and SS are there only if the task ran at CPL 3 (SDM
 * Vol. 3A, Figure 6-4). Selectors occupy the low half of their words.
 */
export const regs = words([
  'edi',
  'esi',
  'ebp',
  'ebx',
  'edx',
  'ecx',
  'eax',
  /** The stack segment that the entry code found itself on. */
  'stack',
  'gs',
  'fs',
  'es',
  'ds',
  'vector',
  'error',
  'eip',
  'cs',
  'eflags',
  'esp',
  'ss',
]);
/** The frame relative to ESP at IRETD to user mode. */
export const frame = words(['eip', 'cs', 'eflags', 'esp', 'ss']);
/** Bytes of the frame of an exception from kernel mode. */
export const KERNEL_FRAME_SIZE = 12;

/** What a signal leaves on the user's signal stack. */
export const signalFrame = { ...regs, cr2: regs.size, size: regs.size + 4 } as const;

/** The per-CPU area; FS points at it while the kernel runs. */
export const percpu = words([
  'self',
  /** Top of the running task's kernel stack. */
  'kernelStack',
  'id',
  /** Tops of the two task stacks. */
  'mainStack',
  'childStack',
  /** Saved registers of the task that waits for its child. */
  'parentRegs',
  /** The user pages of this CPU's task, and the kernel's alias of the page that user space only reads. */
  'userArea',
  'userCounters',
  'signalHandler',
  'signalStack',
  /** Where the task wants to go on when the kernel had to drop what it was doing. */
  'recovery',
  /** The event whose return is to load another CS:EIP and SS, zero if none. */
  'pokeCause',
  'pokeCs',
  'pokeSs',
  'pokeEip',
  /** EIP at which single-stepping ends. */
  'stepUntil',
  /** ESP to return to from a double fault that was asked for, zero if none was. */
  'faultStack',
  /** Faulting address as the entry code found it. */
  'cr2',
]);

/** Offsets in a CPU's per-CPU page of the tables that the processor reads. */
export const percpuPage = {
  gdt: 0x200,
  tss: 0x300,
  doubleFaultTss: 0x380,
  ldt: 0x400,
  size: 0x1000,
} as const;

/** Fields of the 32-bit TSS (SDM Vol. 3A, Figure 7-2). */
export const tss = {
  esp0: 4,
  ss0: 8,
  cr3: 28,
  eip: 32,
  eflags: 36,
  eax: 40,
  ecx: 44,
  edx: 48,
  ebx: 52,
  esp: 56,
  ebp: 60,
  esi: 64,
  edi: 68,
  es: 72,
  cs: 76,
  ss: 80,
  ds: 84,
  fs: 88,
  gs: 92,
  ldt: 96,
  ioMapBase: 102,
  size: 104,
} as const;

/** The common system calls and the one that only this kernel has. */
export const call32 = {
  ...call,
  /** double_fault(): the kernel loses its stack, and its task gate saves it. */
  doubleFault: Object.keys(call).length,
} as const;
