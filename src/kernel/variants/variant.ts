/** What a 64-bit variant may add to the common kernel, or change of it. */

import type { Assembler } from '../assembler.ts';
import type { Case } from '../cases.ts';
import type { ImageName } from './gallery/names.ts';

/** What an image is built for. */
export interface Build {
  readonly cpus: number;
  /** Moves what a kernel would place at random. */
  readonly seed: number;
  /** Place of CPU 0's ministack among those of its page, where that is not left to the variant; others follow. */
  readonly slot: number | undefined;
}

/** What the test tasks do before their cases. */
export interface Tasks {
  /** They are threads of one process: one LDT, for which only CPU 0's calls modify_ldt. */
  readonly sharedLdt?: boolean;
  /** Each returns to a 16-bit stack as soon as its LDT is filled, whatever other CPUs are at. */
  readonly returnEarly?: boolean;
}

/** A variant is its return to user mode, and what that needs elsewhere. All code is 64-bit. */
export interface Variant {
  readonly name: ImageName;

  /**
   * Emits the end of the return to user mode, at `return_to_user` after all general registers are restored:
   * RSP points at the IRETQ frame, GS is the kernel's, interrupts are off. Every IRETQ to user mode must have a
   * label, named in `userIretLabels`, so that a fault there can be told from a bug.
   */
  emitReturn(a: Assembler): void;
  readonly userIretLabels: readonly string[];

  /** Emits functions and data of the variant. `ministacks` are the lowest aliases, by CPU. */
  emitFunctions?(a: Assembler, build: Build & { readonly ministacks: readonly bigint[] }): void;

  /** Emits set-up on CPU 0 before the others run, in line; RBX must be preserved. */
  emitBootSetup?(a: Assembler, build: Build & { readonly ministacks: readonly bigint[] }): void;

  /** Emits what modify_ldt does once per call before it answers, in line. */
  emitModifyLdt?(a: Assembler): void;

  /**
   * Emits what an exception from kernel mode does before it saves registers: on the stack are the vector, the
   * error code and the processor's frame, GS is unknown, all registers are the interrupted code's.
   */
  emitKernelExceptionEntry?(a: Assembler): void;

  /**
   * Emits what a double fault in kernel mode does before it is called an oops: RDI points at the saved
   * registers, GS is the kernel's. A fix-up edits the saved registers and executes RET.
   */
  emitDoubleFault?(a: Assembler): void;

  /** The lowest alias of a CPU's ministack, for variants that have them. */
  ministack?(cpu: number, build: Build): bigint;
  /** Bytes of a ministack that are its CPU's own; ESPFIX_STACK_SIZE unless given. */
  readonly ministackSize?: number;
  /** Exception frames are meant to be pushed on ministacks, which are written through their aliases. */
  readonly ministacksTakeFrames?: boolean;

  // What follows are ways in which kernels have gone wrong. Where absent, the common kernel does the sound thing.

  /** Interrupt stack table entries by vector, where they are not the common ones; 0 for none. */
  readonly interruptStacks?: Readonly<Record<number, number>>;
  /** Labels to which vectors go once vector and error code are pushed, where they are not the common ones. */
  readonly entries?: Readonly<Record<number, string>>;
  /** Labels of handlers by vector, where they are not the common ones. */
  readonly handlers?: Readonly<Record<number, string>>;
  /** Vectors whose paranoid entry takes it that kernel mode has the kernel's GS base. */
  readonly gsBySavedCs?: readonly number[];
  /** NMIs from user mode are served on the NMI stack, and return from there. */
  readonly nmiStaysOnItsStack?: boolean;
  /** #DB and #MC return by IRETQ even to an NMI handler. */
  readonly nmiUnblockedInside?: boolean;
  /** Label of the return to user mode for system calls that SYSRET cannot end. */
  readonly systemCallReturn?: string;
  /** SYSRET is used whatever RIP is. */
  readonly sysretToAnyRip?: boolean;
  /** Descriptors of the GDT behind the common ones that modify_ldt fills, as entries LDT_ENTRIES and above. */
  readonly tlsSlots?: number;
  /** What the tasks do besides the cases, for the difference to show. */
  readonly tasks?: Tasks;
  /** Cases that show the difference and that others need not have. */
  extraCases?(build: Build): readonly Case[];
}
