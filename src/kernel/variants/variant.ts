/** What a 64-bit variant may add to the common kernel. */

import type { Assembler } from '../assembler.ts';
import type { VariantName } from './index.ts';

/** A variant is its return to user mode, and what that needs elsewhere. All code is 64-bit. */
export interface Variant {
  readonly name: VariantName;

  /**
   * Emits the end of the return to user mode, at `return_to_user` after all general registers are restored:
   * RSP points at the IRETQ frame, GS is the kernel's, interrupts are off. Every IRETQ to user mode must have a
   * label, named in `userIretLabels`, so that a fault there can be told from a bug.
   */
  emitReturn(a: Assembler): void;
  readonly userIretLabels: readonly string[];

  /** Emits functions and data of the variant. */
  emitFunctions?(a: Assembler, build: { readonly cpus: number; readonly seed: number }): void;

  /** Emits set-up on CPU 0 before the others run, in line; RBX must be preserved. */
  emitBootSetup?(a: Assembler, cpus: number): void;

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
  ministack?(cpu: number, seed: number): bigint;
}
