/**
 * Visits: what lies between CPL 3 -> 0 and the next 0 -> 3. Recorded by running the subject and following each visit
 * instruction by instruction; visits that enter alike and take the same path through the kernel's code are one.
 *
 * A path is the set of steps from one instruction to another that the visit takes: a loop that turns more often is no other
 * path.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { CS, SS } from '../../isa/state.ts';
import type { Machine, Stop } from '../../machine/machine.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import type { VisitSummary } from '../finding.ts';
import { describeVector } from '../vectors.ts';

/** User instructions before the entry, and after the return, that belong to a visit. */
export const USER_MARGIN = 2;
/** A visit of more instructions than this is not followed to its end. */
export const LONGEST_VISIT = 200_000;

export interface Visit extends VisitSummary {
  /** The machine at the visit's first user instruction. */
  readonly begin: Snapshot;
  /**
   * It is entered by an interrupt or NMI from outside the processor, which comes after so many user instructions.
   */
  readonly trigger: { readonly at: number; readonly vector: number } | undefined;
  /** Equal for visits that enter alike and take the same path, whatever segments they return to. */
  readonly path: string;
  /** Names of the segments that it returns to: `cs32 ss16`, to tell visits apart. */
  readonly returnsTo: string;
}

const NMI = 2;

/**
 * Lets the interrupt come that enters a visit, if it is due and not there by itself.
 * @param at instructions and deliveries since the visit's beginning
 */
export function trigger(machine: Machine, visit: Pick<Visit, 'cpu' | 'trigger'>, at: number): void {
  const cpu = machine.cpus[visit.cpu];
  if (visit.trigger?.at !== at || cpu.cpl !== 3) return;
  const { vector } = visit.trigger;
  if (vector === NMI) cpu.nmiPending = 1;
  else if (cpu.acknowledged === 0 && !cpu.interrupts.pending()) machine.injectInterrupt(vector, visit.cpu);
}

/** A visit in which the processor shut down or stopped for ever, without any event. */
export interface Failure {
  readonly ending: 'triple-fault' | 'stuck' | 'gave-up';
  readonly visit: VisitSummary;
  readonly rip: bigint;
  /** Exceptions and interrupts delivered in it: vector, source and RIP. */
  readonly deliveries: readonly { readonly vector: number; readonly source: string; readonly rip: bigint }[];
}

export interface Recording {
  readonly failures: readonly Failure[];
  readonly visits: readonly Visit[];
  /** Visits seen in all, and those that did not come to an end. */
  readonly seen: number;
  readonly unfinished: number;
  readonly leftOut: number;
  /** Why the run ended; `limit` if it was watched as long as it should be. */
  readonly stop: Stop;
  /** The first return to user mode was seen. */
  readonly reachedUser: boolean;
}

export interface RecordingOptions {
  /** Instructions to watch. */
  readonly instructions: number;
  /** At most so many distinct visits. */
  readonly most?: number;
  /** Processors whose visits are recorded; default all. */
  readonly onProgress?: (visits: number, instructions: number) => void;
  /** A visit that executes one of these addresses has failed. */
  readonly gaveUp?: readonly bigint[];
  /** Visits that execute one of these addresses are left out. */
  readonly leaveOut?: readonly bigint[];
}

/** A processor between two visits, or in one. */
interface Track {
  /** Its instruction count at the latest return to user mode, and the machine then. */
  userSince: bigint | undefined;
  userAt: Snapshot | undefined;
  inKernel: boolean;
  entry: string;
  /** The vector, if it came from outside the processor. */
  outside: number | undefined;
  enteredAt: bigint;
  last: number;
  edges: Set<number>;
  hash: number;
  /** It is to be left out. */
  skipped: boolean;
  deliveries: Failure['deliveries'][number][];
}

/** Two RIPs as one number; enough to tell paths apart. */
function edge(from: number, to: number): number {
  return (Math.imul(from, 0x9e37_79b1) ^ to) >>> 0;
}

const ATTRIBUTE_L = 0x2000;
const ATTRIBUTE_DB = 0x4000;

function segmentsOf(cpu: Cpu): string {
  const { segAttributes: a, segSelector: s } = cpu;
  const code = a[CS] & ATTRIBUTE_L ? 64 : a[CS] & ATTRIBUTE_DB ? 32 : 16;
  return `cs${code} ss${a[SS] & ATTRIBUTE_DB ? 32 : 16}${s[SS] & 4 ? ' ldt' : ''}`;
}

/** Runs `machine` and records its distinct visits. The machine is left where the recording ended. */
export function recordVisits(machine: Machine, options: RecordingOptions): Recording {
  const recorder = new Recorder(machine, options);
  try {
    return recorder.run();
  } finally {
    recorder.close();
  }
}

interface Seen {
  path: string;
  trigger: Visit['trigger'];
  summary: Omit<VisitSummary, 'occurrences'>;
  begin: Snapshot;
  returnsTo: string;
  occurrences: number;
}

class Recorder {
  readonly #machine: Machine;
  readonly #options: RecordingOptions;
  readonly #tracks: Track[];
  readonly #visits = new Map<string, Seen>();
  readonly #off: (() => void)[];
  #vector: number | undefined;
  #source = '';
  #seen = 0;
  #unfinished = 0;
  #leftOut = 0;
  readonly #leaveOut: ReadonlySet<bigint>;
  readonly #gaveUp: ReadonlySet<bigint>;
  readonly #failures: Failure[] = [];
  #reachedUser = false;

  constructor(machine: Machine, options: RecordingOptions) {
    this.#machine = machine;
    this.#options = options;
    this.#leaveOut = new Set(options.leaveOut);
    this.#gaveUp = new Set(options.gaveUp);
    this.#tracks = machine.cpus.map(() => ({
      userSince: undefined,
      userAt: undefined,
      inKernel: false,
      entry: '',
      outside: undefined,
      enteredAt: 0n,
      last: 0,
      edges: new Set<number>(),
      hash: 0,
      skipped: false,
      deliveries: [],
    }));
    this.#off = [
      machine.on('deliver', (cpu, vector, _error, source) => {
        const track = this.#tracks[cpu];
        if (track.inKernel) track.deliveries.push({ vector, source, rip: machine.cpus[cpu].rip });
        this.#vector = vector;
        this.#source = source;
        return false;
      }),
      machine.on('privilege-change', () => machine.stop()),
    ];
  }

  close(): void {
    for (const off of this.#off) off();
  }

  run(): Recording {
    const machine = this.#machine;
    const end = machine.instructions + this.#options.instructions;
    let stop: Stop = { reason: 'limit' };
    let reported = 0;
    while (machine.instructions < end) {
      if (this.#visits.size >= (this.#options.most ?? Number.POSITIVE_INFINITY)) break;
      // Of visits that are left out only the end is of interest.
      const following = this.#tracks.some(({ inKernel, skipped }) => inKernel && !skipped);
      this.#vector = undefined;
      stop = machine.run({ maxInstructions: following ? 1 : end - machine.instructions });
      for (const cpu of machine.cpus) this.#look(cpu);
      if (stop.reason !== 'limit' && stop.reason !== 'hook') break;
      if (this.#visits.size > reported) {
        reported = this.#visits.size;
        this.#options.onProgress?.(reported, machine.instructions);
      }
    }
    for (const [index, track] of this.#tracks.entries()) {
      if (!track.inKernel) continue;
      if (track.skipped) this.#leftOut++;
      else this.#unfinished++;
      const dead = stop.reason === 'triple-fault' && stop.cpu === index;
      if ((!dead && stop.reason !== 'deadlock') || track.skipped) continue;
      const { rip } = stop.reason === 'triple-fault' ? stop : machine.cpus[index];
      this.#fail(machine.cpus[index], track, dead ? 'triple-fault' : 'stuck', rip);
    }
    const visits = [...this.#visits.values()].map(({ summary, ...rest }): Visit => ({ ...summary, ...rest }));
    if (stop.reason === 'hook') stop = { reason: 'limit' };
    return {
      visits,
      seen: this.#seen,
      unfinished: this.#unfinished,
      failures: this.#failures,
      leftOut: this.#leftOut,
      stop,
      reachedUser: this.#reachedUser,
    };
  }

  #fail(cpu: Cpu, track: Track, ending: Failure['ending'], rip: bigint): void {
    const steps = Number(cpu.instructions - track.enteredAt);
    this.#failures.push({
      visit: {
        id: this.#visits.size,
        cpu: cpu.index,
        entry: track.entry,
        start: this.#machine.instructions - steps,
        boundaries: steps,
        occurrences: 1,
      },
      ending,
      rip,
      deliveries: track.deliveries,
    });
  }

  #look(cpu: Cpu): void {
    const track = this.#tracks[cpu.index];
    if (track.inKernel) this.#follow(cpu, track);
    else if (cpu.cpl === 3) {
      if (track.userSince === undefined) {
        this.#reachedUser = true;
        track.userSince = cpu.instructions;
        track.userAt = this.#machine.snapshot();
      }
    } else if (track.userSince !== undefined) {
      track.inKernel = true;
      track.entry =
        this.#vector === undefined ? entryInstruction(cpu) : describeVector(this.#vector, this.#source);
      track.outside = this.#source === 'external' || this.#source === 'nmi' ? this.#vector : undefined;
      track.enteredAt = cpu.instructions;
      track.last = Number(BigInt.asUintN(32, cpu.rip));
      track.edges.clear();
      track.hash = 0;
      track.skipped = this.#leaveOut.has(cpu.rip);
      track.deliveries = [];
    }
  }

  #follow(cpu: Cpu, track: Track): void {
    const rip = Number(BigInt.asUintN(32, cpu.rip));
    if (rip !== track.last) {
      if (this.#gaveUp.has(cpu.rip)) this.#fail(cpu, track, 'gave-up', cpu.rip);
      if (this.#leaveOut.has(cpu.rip)) track.skipped = true;
      const step = edge(track.last, rip);
      track.last = rip;
      // The last step leads to user mode, whose address says nothing of the path.
      if (cpu.cpl !== 3 && !track.edges.has(step)) {
        track.edges.add(step);
        // A sum does not depend on the order.
        track.hash = (track.hash + Math.imul(step, 0x85eb_ca6b)) >>> 0;
      }
    }
    const steps = Number(cpu.instructions - track.enteredAt);
    if (cpu.cpl !== 3) {
      if (steps <= LONGEST_VISIT) return;
      track.inKernel = false;
      track.userSince = undefined;
      this.#unfinished++;
      return;
    }
    track.inKernel = false;
    this.#seen++;
    const after = this.#machine.snapshot();
    if (track.skipped) this.#leftOut++;
    else this.#finish(cpu, track, steps, after);
    track.userSince = cpu.instructions;
    track.userAt = after;
  }

  #finish(cpu: Cpu, track: Track, steps: number, after: Snapshot): void {
    const returnsTo = segmentsOf(cpu);
    const path = `${track.entry}/${track.edges.size}/${track.hash}`;
    const key = `${path}/${returnsTo}`;
    const known = this.#visits.get(key);
    if (known) {
      known.occurrences++;
      return;
    }
    const { userSince, userAt } = track;
    if (userSince === undefined || userAt === undefined) return;
    const machine = this.#machine;
    const entered = track.enteredAt - 1n;
    const from = entered - BigInt(USER_MARGIN);
    machine.restore(userAt);
    while (cpu.instructions < from && cpu.cpl === 3)
      machine.run({ maxInstructions: Number(from - cpu.instructions) });
    const summary: Seen['summary'] = {
      id: this.#visits.size,
      cpu: cpu.index,
      entry: track.entry,
      start: machine.instructions,
      boundaries: steps + Number(track.enteredAt - cpu.instructions) + USER_MARGIN,
    };
    const trigger =
      track.outside === undefined
        ? undefined
        : { at: Number(entered - cpu.instructions), vector: track.outside };
    this.#visits.set(key, { summary, begin: machine.snapshot(), trigger, path, returnsTo, occurrences: 1 });
    machine.restore(after);
  }
}

/** An entry without a gate. */
function entryInstruction(cpu: Cpu): string {
  return cpu.rip === cpu.sysenterEip ? 'SYSENTER' : 'SYSCALL';
}
