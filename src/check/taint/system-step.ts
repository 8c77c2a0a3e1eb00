/** What the rule of a system instruction works with: the state before it, and what it leaves where. */

import type { Cpu } from '../../arch/cpu.ts';
import type { Shadow } from '../../engine/taint/shadow.ts';
import type { Evaluation } from '../../engine/taint/taint-builder.ts';
import type { Instruction } from '../../isa/instruction.ts';
import type { BirthKind } from './births.ts';
import type { Location } from './location.ts';
import type { RegisterShadows } from './register-shadows.ts';

/** State that rules need of the time before the instruction, when they look at the time after it. */
export interface Before {
  readonly rip: bigint;
  readonly cpl: number;
  readonly gpr: BigUint64Array;
  /** RFLAGS. */
  readonly flags: number;
  /** Selectors and bases of ES CS SS DS FS GS LDTR TR. */
  readonly selectors: Uint16Array;
  readonly bases: BigUint64Array;
  readonly mode64: boolean;
  readonly longMode: boolean;
  readonly realAddressing: boolean;
  readonly virtual8086: boolean;
}

/** A place that a rule knows by its linear address or by name. */
export type Place =
  | Exclude<Location, { kind: 'memory' }>
  | { readonly kind: 'memory'; readonly linear: bigint; readonly bytes: number };

export interface SystemStep {
  readonly cpu: Cpu;
  readonly instruction: Instruction;
  readonly before: Before;
  /** Reads operands, and takes those results that can be computed: these are compared with what the processor does. */
  readonly b: Evaluation;
  /** Shadows as they are before the instruction. */
  readonly shadows: RegisterShadows;
  /** What is in a place other than memory; it counts as read. */
  read(place: Exclude<Location, { kind: 'memory' }>): Shadow | null;
  /** What is in memory now, after the instruction too; it counts as read. Null as well where there is nothing. */
  load(linear: bigint, bytes: number): Shadow | null;
  /** A new secret. */
  born(kind: BirthKind, what: string, width: number): Shadow;
  /** Gives a place the shadow of what the instruction leaves there; a register whole. */
  set(place: Place, shadow: Shadow | null): void;
  /** Done after the instruction has completed: `cpu` is then as it left it. */
  after(action: () => void): void;
  /** What the instruction does to secrets is not followed: all that it changes is taken for one. */
  giveUp(reason: string): void;
}

/** Read, or computed, before the instruction; and what it leaves. */
export type SystemRule = (x: SystemStep) => void;
