/** What is interleaved: some processors of a machine, each from where it stands in a snapshot to the end of its part. */
import type { Cpu } from '../../arch/cpu.ts';
import type { Machine } from '../../machine/machine.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import type { KernelStack } from '../subject.ts';

export interface Window {
  /** In a few words: where the processors stand and what they are about to do. */
  readonly title: string;
  readonly machine: Machine;
  readonly start: Snapshot;
  /** The processors that take part; the others stand still. */
  readonly cpus: readonly number[];
  /** Whether a processor has done its part: asked when it has come to user mode, and when it has halted. */
  isEnd(cpu: Cpu): boolean;
  /** Kernel stacks, whose dead parts do not tell states apart. */
  readonly stacks: readonly KernelStack[];
  /** Instructions that may fault by the kernel's own design. */
  readonly mayFault: readonly bigint[];
}

/** A processor runs by itself for so many instructions (and deliveries); then the next of the schedule does. */
export interface Turn {
  readonly cpu: number;
  readonly instructions: number;
}

/** A schedule: turns from the window's start on. */
export type Turns = readonly Turn[];

/** An exception that was delivered. */
export interface Exception {
  readonly cpu: number;
  readonly vector: number;
  readonly errorCode: number | undefined;
  readonly rip: bigint;
  readonly cpl: number;
  readonly cr2: bigint;
}
