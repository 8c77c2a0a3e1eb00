/** What a 32-bit variant may add to the common 32-bit kernel. */

import type { Assembler } from '../assembler.ts';
import type { VariantName } from '../variants/index.ts';

/** Emits the loading of all general and segment registers from the saved ones; ESP then points at `vector`. */
export type Restore = (a: Assembler) => void;

/** A variant is its return to user mode, and what that needs elsewhere. All code is 32-bit. */
export interface Variant32 {
  readonly name: VariantName;

  /**
   * Emits the return to user mode, at `return_to_user`: ESP points at the saved registers, FS at the per-CPU
   * area, interrupts are off. Every IRETD to user mode must have a label, named in `userIretLabels`, so that a
   * fault there can be told from a bug.
   */
  emitReturn(a: Assembler, restore: Restore): void;
  readonly userIretLabels: readonly string[];

  /**
   * Emits what an entry from kernel mode does before anything else: ESP points at the saved registers, DS, ES
   * and FS are the kernel's, EAX and EDX are free. Afterwards the stack must be flat.
   */
  emitKernelEntry?(a: Assembler): void;

  /** Emits the return to kernel code that was interrupted on another stack segment than the flat one. */
  emitKernelReturn?(a: Assembler, restore: Restore): void;
}
