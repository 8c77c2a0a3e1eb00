/**
 * A subject: a kernel image, and what is known of it. All but the image may be missing: the rest is found by watching it run.
 */

import type { Snapshot } from '../machine/snapshot.ts';
import type { EventKind, FaultDetail } from './event.ts';
import type { Assertion } from './properties/assertion.ts';
import type { Ready } from './ready.ts';
import type { Declassification } from './taint/index.ts';

/** A range of linear addresses, end excluded. */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** A kernel stack. */
export interface KernelStack {
  readonly cpu: number;
  readonly name: string;
  readonly range: AddressRange;
  /** Where the range is a guess: the lowest address seen in use. */
  readonly lowest?: bigint;
}

/** A ministack: `size` bytes, seen at every linear address that equals `address` but for the bits of `aliasBits`. */
export interface Ministack {
  readonly cpu: number;
  readonly address: bigint;
  readonly aliasBits: bigint;
  readonly size: number;
  /** Whether the processor may push an exception frame there, by the kernel's design. */
  readonly takesFrames: boolean;
}

/** An instruction that may fault by the kernel's own design, and the faults to try there. */
export interface FaultableInstruction {
  readonly address: bigint;
  readonly faults: readonly FaultDetail[];
}

export interface Subject {
  /** As it is called in reports. */
  readonly name: string;
  readonly image: Uint8Array;
  readonly cpus: number;
  /** RAM in MiB. */
  readonly memory: number;
  /** The processors' model and features, as {@link Machine.create} takes them. */
  readonly cpu?: string;
  readonly commandLine?: string;
  readonly initrd?: Uint8Array;
  /** The machine with the image booted as far as where it is to be watched; default: it is booted. */
  readonly booted?: Snapshot;
  /** `symbol+0x12 (file:line)` of a linear address, or the address. */
  describe(address: bigint): string;
  /** Linear address of a symbol. */
  symbol(name: string): bigint | undefined;
  /** Events to try. */
  readonly events: readonly EventKind[];
  /** Vectors of `irq`. */
  readonly vectors: readonly number[];
  /** Vectors that have handlers, where that is known. */
  readonly handlers?: ReadonlySet<number>;
  readonly faultable: readonly FaultableInstruction[];
  /** What the kernel means to return to user space, and what of its memory is no secret. */
  readonly declassify: readonly Declassification[];
  /** Visits that execute one of these addresses are not explored: services that are not the subject of the check. */
  readonly leaveOut: readonly bigint[];
  /** By vector: the first instruction that does its work, for vectors whose work must not be lost. */
  readonly work: ReadonlyMap<number, bigint>;
  /** A visit without events that executes one of these addresses has failed: where the kernel panics. */
  readonly gaveUp: readonly bigint[];
  /**
   * Events that user mode waits for in visits of an entry (as `VisitSummary.entry`): one that comes earlier is that event.
   */
  readonly awaits: ReadonlyMap<string, EventKind>;
  /** Kernel stacks, where they are known. */
  readonly stacks?: readonly KernelStack[];
  readonly ministacks: readonly Ministack[];
  /** Memory that user space sees and that may differ after an event: counters of events. */
  readonly mayDiffer: readonly AddressRange[];
  /**
   * Kernel memory whose values make no difference to user mode by design, such as whose turn it is: states that differ
   * in nothing else count as equal.
   */
  readonly counters?: readonly AddressRange[];
  /** Registers of user mode that may differ after an event, by their names in reports. */
  readonly mayDifferIn?: readonly string[];
  /** What must hold of each run beyond the properties. */
  readonly assertions?: readonly Assertion[];
  /** When the watching begins; default: at power-on. */
  readonly ready?: Ready;
  /** Registers of user mode that visits of an entry (as `VisitSummary.entry`) leave as they are, unless the kernel gives up. */
  readonly keeps?: (entry: string) => readonly string[];
  /** The kernel may answer a debug exception of user mode, or an interrupt, by going on elsewhere in user mode. */
  readonly foreign: boolean;
  /** The same subject with its secrets elsewhere, for the second world. */
  readonly twin?: () => Subject;
  /** Instructions after which the subject has surely shown all of its visits, if it does not end before. */
  readonly watch: number;
}
