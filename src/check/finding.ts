/** What a check finds: the property that does not hold, where, and the shortest way to see it. */
import type { Schedule } from './event.ts';

export const propertyNames = [
  'transparent',
  'kernel-bits',
  'gs',
  'stack',
  'ministack',
  'progress',
  /** What a plan demands beyond the others. */
  'assertion',
] as const;
export type PropertyName = (typeof propertyNames)[number];

/** A property that one run violates. */
export interface Violation {
  readonly property: PropertyName;
  /** What went wrong, in words that are the same for the same cause: no addresses of single runs. */
  readonly what: string;
  /** The particulars, a line each. */
  readonly details: readonly string[];
  /** The instruction at which it shows, if at one. */
  readonly rip?: bigint;
}

/** A place in the subject's code. */
export interface Place {
  readonly address: bigint;
  /** `symbol+0x12 (file:line)` */
  readonly name: string;
  /** The instruction there. */
  readonly text: string;
}

/** A visit, as reports name it. */
export interface VisitSummary {
  /** Among the subject's distinct visits, from 0. */
  readonly id: number;
  readonly cpu: number;
  /** `INT 0x80`, `SYSCALL`, `#UD`, ... */
  readonly entry: string;
  /** Instructions of all processors from power-on to its first user instruction. */
  readonly start: number;
  /** Boundaries in it. */
  readonly boundaries: number;
  /** Visits of the watched run that took this path. */
  readonly occurrences: number;
}

/** A step of the story of a schedule: an instruction, or a delivery. */
export interface Step {
  readonly at: number;
  /** The instruction that comes at this boundary. */
  readonly place: Place;
  readonly cpl: number;
  readonly rsp: bigint;
  readonly gsBase: bigint;
  /** Handlers that were entered and not returned from. */
  readonly nesting: number;
  /** Events of the schedule that come at this boundary. */
  readonly strikes: readonly string[];
  /** What was delivered in this step: in place of the instruction, or by it. */
  readonly delivered?: string;
}

/** A schedule instruction by instruction. */
export interface Story {
  readonly steps: readonly Step[];
  /** Instructions and deliveries after the last step that were not kept. */
  readonly omitted: number;
  /** How it ended, in words, and where. */
  readonly ending: string;
  readonly end: Place;
}

/** Values before and after. */
export interface RegisterChange {
  readonly name: string;
  readonly expected: string;
  readonly found: string;
}

/** A leaked run of bits: where it was born and how it came to user space. */
export interface Provenance {
  /** `rsp[31:16]` */
  readonly location: string;
  /** `CPU 0's kernel stack pointer, bits 31:16 (TSS.RSP0 at vector 0x80)` */
  readonly birth: string;
  readonly hops: readonly { readonly at: number; readonly place: Place; readonly text: string }[];
}

export interface Finding extends Violation {
  readonly subject: string;
  readonly visit: VisitSummary;
  readonly schedule: Schedule;
  /** Where each event of the schedule struck. */
  readonly struck: readonly { readonly event: string; readonly place: Place }[];
  /** Registers that are not as they would be. */
  readonly registers: readonly RegisterChange[];
  readonly provenance: readonly Provenance[];
  /** Schedules of the same cause that were found, this one among them, and where they struck first. */
  readonly count: number;
  readonly alsoAt: readonly string[];
}

/** Boundaries of one visit and what interrupted them. */
export interface VisitReport {
  readonly visit: VisitSummary;
  /** Segments that it returns to. */
  readonly returnsTo: string;
  readonly experiments: number;
  /** Boundaries at which events were tried, in the visit and after events. */
  readonly boundaries: number;
  readonly merged: number;
  readonly bounded: number;
  /** Events in a schedule, at most: fewer than the check's where another visit takes the same path. */
  readonly depth: number;
  /** Every schedule up to the depth was tried or equals one that was. */
  readonly complete: boolean;
  readonly coverage: readonly {
    readonly at: number;
    readonly place: Place;
    readonly cpl: number;
    /** Schedules whose first event, of each kind, came here. */
    readonly events: Readonly<Record<string, number>>;
  }[];
  /** What was left out or approximated, in words. */
  readonly notes: readonly string[];
  /** Why it was not explored, if it was not. */
  readonly skipped?: string;
}

/** All that a check of one subject says. */
export interface SubjectReport {
  readonly subject: string;
  readonly depth: number;
  readonly events: readonly string[];
  readonly properties: readonly PropertyName[];
  /** `inconclusive`: nothing found, and bounds were hit. */
  readonly verdict: 'clean' | 'findings' | 'inconclusive';
  /** One a cause, shortest schedule first. */
  readonly findings: readonly Finding[];
  readonly visits: readonly VisitReport[];
  /** Visits of the watched run in all, those left out as services, and those that did not end. */
  readonly seen: number;
  readonly leftOut: number;
  readonly unfinished: number;
  readonly experiments: number;
  /** What was bounded, approximated or left out, in words. */
  readonly notes: readonly string[];
}
