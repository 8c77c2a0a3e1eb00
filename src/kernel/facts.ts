/** What a built kernel knows of itself and a checker would have to find out: stacks, ministacks, GS bases, handlers. */

import {
  ESPFIX_ALIASES,
  ESPFIX_BASE,
  ESPFIX_STACK_SIZE,
  ist,
  KERNEL_BASE,
  PAGE_SIZE,
  PGD_SLOT_SIZE,
  PHYSICAL_MAP,
} from './layout.ts';
import type { Variant } from './variants/variant.ts';

/** A kernel stack: linear addresses, end excluded. */
export interface StackFacts {
  readonly name: string;
  readonly start: bigint;
  readonly end: bigint;
  /** Vectors that arrive at its end whatever RSP was (IST). */
  readonly vectors: readonly number[];
}

/** A CPU's ministack once it is set up as meant. */
export interface MinistackFacts {
  /** Its lowest alias; the others differ from it in `aliasBits`. */
  readonly address: bigint;
  readonly aliasBits: bigint;
  /** Bytes that are this CPU's own. */
  readonly size: number;
  /** Where it lies in physical memory, and the linear address through which the kernel may write it. */
  readonly physical: bigint;
  readonly writable: bigint;
  /** Whether the processor may push an exception frame on it, by the kernel's design. */
  readonly takesFrames: boolean;
}

export interface CpuFacts {
  /** GS base while the kernel runs: the CPU's own area. User space begins with 0. */
  readonly gsBase: bigint;
  readonly stacks: readonly StackFacts[];
  readonly ministack: MinistackFacts | undefined;
}

export interface KernelFacts {
  /** By CPU. */
  readonly cpus: readonly CpuFacts[];
  /** The linear addresses of all ministacks, end excluded. */
  readonly espfixRegion: { readonly start: bigint; readonly end: bigint } | undefined;
  /**
   * Labels of the instructions that may fault because user space asked for what cannot be: the kernel's last on the
   * way to user mode.
   */
  readonly mayFault: readonly string[];
  /** Label of the first instruction that does the work of a vector, for vectors whose work must not be lost. */
  readonly work: Readonly<Record<number, string>>;
  /**
   * Vectors that do not come while one of them is being served on its interrupt stack. The processor sees to it for
   * NMI and, as long as IA32_MCG_STATUS.MCIP is set, for #MC; for #DB the kernel does, which sets no breakpoints in
   * code that serves it.
   */
  readonly notInsideThemselves: readonly number[];
}

/** Bits 31:16 of an address. */
const ALIAS_BITS = BigInt(ESPFIX_ALIASES - 1) << 16n;
/** Pages that are taken from the pool before the one of the ministacks: a table for each level. */
const TABLES = 3n;

/** The facts of a linked image. */
export function kernelFacts(image: {
  readonly variant: Variant;
  /** By CPU. */
  readonly stacks: readonly (readonly {
    readonly name: string;
    readonly range: { readonly start: bigint; readonly end: bigint };
  }[])[];
  /** Interrupt stack table entries by vector. */
  readonly interruptStacks: Readonly<Record<number, number>>;
  readonly ministacks: readonly bigint[];
  readonly percpu: (cpu: number) => bigint;
  readonly symbols: ReadonlyMap<string, bigint>;
}): KernelFacts {
  const { variant, symbols } = image;
  const byStack = new Map<string, number[]>();
  for (const [vector, index] of Object.entries(image.interruptStacks)) {
    const name = istStacks[index];
    if (name !== undefined) byStack.set(name, [...(byStack.get(name) ?? []), Number(vector)]);
  }
  const pool = symbols.get('page_pool');
  const page = pool === undefined ? 0n : pool - KERNEL_BASE + TABLES * BigInt(PAGE_SIZE);
  return {
    cpus: image.stacks.map((stacks, cpu) => {
      const address = image.ministacks.at(cpu);
      const physical = page + ((address ?? 0n) & BigInt(PAGE_SIZE - 1));
      return {
        gsBase: image.percpu(cpu),
        stacks: stacks.map(({ name, range }) => ({ name, ...range, vectors: byStack.get(name) ?? [] })),
        ministack:
          address === undefined
            ? undefined
            : {
                address,
                aliasBits: ALIAS_BITS,
                size: variant.ministackSize ?? ESPFIX_STACK_SIZE,
                physical,
                writable: variant.ministacksTakeFrames ? address : PHYSICAL_MAP + physical,
                takesFrames: variant.ministacksTakeFrames ?? false,
              },
      };
    }),
    espfixRegion:
      image.ministacks.length === 0 ? undefined : { start: ESPFIX_BASE, end: ESPFIX_BASE + PGD_SLOT_SIZE },
    mayFault: [...new Set([...variant.userIretLabels, 'iretq.espfix'])].filter((label) => symbols.has(label)),
    work: { 2: variant.handlers?.[2] ?? 'handle_event', 18: 'handle_machine_check' },
    notInsideThemselves: [1, 2, 18],
  };
}

/** Names of stacks by interrupt stack table entry. */
const istStacks: Readonly<Record<number, string>> = {
  [ist.doubleFault]: 'double-fault',
  [ist.nmi]: 'nmi',
  [ist.debug]: 'debug',
  [ist.machineCheck]: 'machine-check',
  [ist.standIn]: 'stand-in',
};
