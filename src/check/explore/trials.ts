/**
 * Trials: schedules that the exploration does not come to, each for what a kernel may get wrong where nobody looks.
 *
 * - An instruction breakpoint that stays: unless the handler sets RF in the frame, or ends the breakpoint, it is met again at
 *   once and for ever (SDM vol. 3B 17.3.1.1). In an NMI handler, too, from where a kernel may go back without IRET.
 * - Where the kernel runs with user mode's stack pointer (after SYSCALL, before SYSRET) and an event comes, that pointer may point
 *   into the very stack that the event is served on.
 * - Events that pile up: each as soon as it can come after the one before, more of them than the depth of an exploration. And a
 *   breakpoint of user mode, which is to be there afterwards.
 *
 * They are few, and say nothing of other boundaries.
 */
import { stackAddress } from '../../arch/stack.ts';
import { RSP } from '../../isa/state.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { deliverable, type EventKind, type Schedule, type ScheduledEvent } from '../event.ts';
import type { PropertyName, Violation } from '../finding.ts';
import type { Boundary, Experiment, Outcome } from './experiment.ts';
import { judge } from './explore.ts';
import { NOTHING_SEEN, type RunEnding, type Seen } from './observation.ts';

export interface TrialOptions {
  /** As of the exploration: at depth 1 there are trials of one event, deeper all. */
  readonly depth: number;
  readonly events: readonly EventKind[];
  readonly without?: readonly PropertyName[];
  /** Boundaries of the visit from which trials begin: [from, to). */
  readonly range?: readonly [number, number];
  /** Ends with the first violation. */
  readonly first?: boolean;
  readonly onViolation: (schedule: Schedule, outcome: Outcome, violations: readonly Violation[]) => void;
  readonly stop?: () => boolean;
}

/** Breakpoints that stay, a visit; stack pointers, an event and visit. What a kernel does about them hardly depends on the place. */
const MOST_BREAKPOINTS = 8;
const MOST_POINTERS = 16;
/** Instructions of a handler that is followed. */
const LONGEST_HANDLER = 2_000;
const DEBUG = 1;

/**
 * What piles up. More machine checks in a row than a kernel that has no further one until the former is saved would see in
 * practice; few enough for one that gives each a place of its own.
 */
const piles: readonly (readonly EventKind[])[] = [
  ['mc', 'mc', 'mc', 'mc', 'mc', 'mc', 'mc'],
  ['nmi', 'nmi', 'nmi', 'nmi'],
  ['watch', 'nmi', 'mc'],
  ['nmi', 'mc', 'db-data', 'nmi'],
  ['nmi', 'db-data', 'mc', 'nmi'],
];

/** @returns runs */
export function tryTrials(experiment: Experiment, options: TrialOptions): number {
  return new Trials(experiment, options).run();
}

/** At most `most` of a list, evenly spread. */
function spread<T>(list: readonly T[], most: number): T[] {
  const step = Math.max(1, list.length / most);
  return Array.from({ length: Math.min(list.length, most) }, (_, i) => list[Math.floor(i * step)]);
}

/** A boundary in a run, to go back to. */
interface Point {
  readonly at: number;
  readonly rip: bigint;
  readonly snapshot: Snapshot;
  readonly seen: Seen;
}

class Trials {
  readonly #experiment: Experiment;
  readonly #options: TrialOptions;
  #runs = 0;
  #stopped = false;

  constructor(experiment: Experiment, options: TrialOptions) {
    this.#experiment = experiment;
    this.#options = options;
  }

  run(): number {
    const { depth, events } = this.#options;
    if (depth > 0 && events.includes('db-code')) this.#stayingBreakpoints();
    if (depth > 0) this.#stackPointers();
    if (depth > 1) this.#piles();
    return this.#runs;
  }

  /** Boundaries of the visit in kernel mode and in the range. */
  #boundaries(): Boundary[] {
    const { boundaries } = this.#experiment.baseline;
    const [from, to] = this.#options.range ?? [0, boundaries.length];
    return boundaries.slice(from, to).filter(({ cpl }) => cpl !== 3);
  }

  #over(): boolean {
    if (this.#options.stop?.()) this.#stopped = true;
    return this.#stopped;
  }

  #judge(schedule: Schedule, ending: RunEnding): boolean {
    const { first, without, onViolation } = this.#options;
    this.#runs++;
    const outcome = this.#experiment.outcome(ending);
    const violations = judge(this.#experiment, outcome, schedule, without);
    if (violations.length === 0) return true;
    onViolation(schedule, outcome, violations);
    if (first) this.#stopped = true;
    return false;
  }

  /** One step. @returns whether the run goes on in the kernel */
  #step(): boolean {
    const { observation, cpu } = this.#experiment;
    observation.atUser = false;
    return this.#experiment.step() === undefined && cpu.cpl !== 3;
  }

  /** Instructions that a debug exception executes if it comes here, up to its return. */
  #wayOfDebug({ snapshot, seen }: Pick<Point, 'snapshot' | 'seen'>): Set<bigint> {
    const experiment = this.#experiment;
    const { observation, cpu } = experiment;
    const way = new Set<bigint>();
    const before = seen.deliveries.length;
    if (!experiment.strike(snapshot, { kind: 'db-data' }, seen)) return way;
    for (let steps = 0; steps < LONGEST_HANDLER && this.#step(); steps++) {
      const delivery = observation.deliveries[before];
      if (delivery?.returned) break;
      // Back without IRET.
      if (delivery && cpu.rip === delivery.rip && stackAddress(cpu) === delivery.rsp) break;
      way.add(cpu.rip);
    }
    return way;
  }

  #stayingBreakpoints(): void {
    const experiment = this.#experiment;
    const { subject, baseline, machine, cpu } = experiment;
    // Of a kernel that nobody has set a breakpoint in, nobody can say what it does about one.
    if (subject.foreign || baseline.deliveries.some(({ vector }) => vector === DEBUG)) return;
    const seen = NOTHING_SEEN;
    const points = this.#boundaries().map(({ at, rip, snapshot }) => ({ at, rip, snapshot, seen }));
    const firsts = new Map<bigint, Point>();
    for (const { rip, at, snapshot } of baseline.boundaries)
      if (!firsts.has(rip)) firsts.set(rip, { rip, at, snapshot, seen });
    const [first] = points;
    const middle = points[points.length >> 1];
    if (!first || !middle) return;
    // With user mode's GS base and with the kernel's.
    const way = new Set([...this.#wayOfDebug(first), ...this.#wayOfDebug(middle)]);
    const candidates = points.filter(({ rip, at }) => firsts.get(rip)?.at === at && !way.has(rip));
    for (const point of spread(candidates, MOST_BREAKPOINTS)) {
      if (this.#over()) return;
      this.#meet(point, []);
    }
    if (this.#options.depth < 2 || !this.#options.events.includes('nmi')) return;
    machine.restore(first.snapshot);
    if (!deliverable(cpu, 'nmi')) return;
    const inNmi = this.#handler(first, { kind: 'nmi', at: first.at });
    const [, second] = inNmi;
    if (!second) return;
    const wayThere = this.#wayOfDebug(second);
    for (const point of inNmi) {
      if (this.#over()) return;
      if (!wayThere.has(point.rip)) this.#meet(point, [{ kind: 'nmi', at: first.at }]);
    }
  }

  /** A breakpoint that stays is met. */
  #meet(point: Point, before: Schedule): void {
    const experiment = this.#experiment;
    const { at, rip, snapshot, seen } = point;
    experiment.machine.restore(snapshot);
    if (!deliverable(experiment.cpu, 'db-stays')) return;
    // The way of the debug exception may depend on what it interrupts: no kernel could survive a breakpoint in it.
    if (this.#wayOfDebug(point).has(rip)) return;
    experiment.strike(snapshot, { kind: 'db-stays' }, seen);
    this.#judge([...before, { kind: 'db-stays', at }], experiment.runToUser());
  }

  /** The boundaries in the handler of an event that comes at a point, each instruction's first. */
  #handler({ snapshot, seen }: Point, event: ScheduledEvent): Point[] {
    const experiment = this.#experiment;
    const { observation, cpu } = experiment;
    const points: Point[] = [];
    const met = new Set<bigint>();
    if (!experiment.strike(snapshot, event, seen)) return points;
    for (let steps = 0; steps < LONGEST_HANDLER && this.#step(); steps++) {
      if (observation.deliveries[0]?.returned) break;
      if (met.has(cpu.rip)) continue;
      met.add(cpu.rip);
      points.push({
        at: experiment.at,
        rip: cpu.rip,
        snapshot: experiment.snapshot(),
        seen: observation.save(),
      });
    }
    return points;
  }

  #stackPointers(): void {
    const experiment = this.#experiment;
    const { baseline, machine, cpu } = experiment;
    const { events, range } = this.#options;
    const { entry } = baseline;
    const i = baseline.boundaries.indexOf(entry);
    if (range && (i < range[0] || i >= range[1])) return;
    machine.restore(entry.snapshot);
    const own = cpu.gpr[RSP];
    const bare = baseline.boundaries.filter(({ cpl, snapshot }) => {
      if (cpl === 3) return false;
      machine.restore(snapshot);
      return cpu.gpr[RSP] === own;
    });
    if (bare.length === 0) return;
    const kinds = (['nmi', 'mc', 'db-data'] as const).filter((kind) => events.includes(kind));
    for (const kind of kinds)
      for (const pointer of this.#stackPointersOf(kind, bare[0])) {
        if (this.#over()) return;
        if (!this.#withPointer(pointer, kind)) return;
      }
  }

  /** Stack pointers with which the handler of an event runs, if it comes where the kernel has user mode's. */
  #stackPointersOf(kind: EventKind, { snapshot }: Boundary): bigint[] {
    const experiment = this.#experiment;
    const { cpu, machine, observation } = experiment;
    const pointers = new Set<bigint>();
    machine.restore(snapshot);
    if (!deliverable(cpu, kind) || !experiment.strike(snapshot, { kind })) return [];
    for (let steps = 0; steps < LONGEST_HANDLER && this.#step(); steps++) {
      if (observation.deliveries[0]?.returned) break;
      if (experiment.stackOf(cpu.gpr[RSP])) pointers.add(cpu.gpr[RSP]);
    }
    return spread([...pointers], MOST_POINTERS);
  }

  /** Lets the event come wherever the kernel has this stack pointer from user mode. @returns whether that says anything */
  #withPointer(pointer: bigint, kind: EventKind): boolean {
    const experiment = this.#experiment;
    const { baseline, cpu, observation } = experiment;
    const { entry } = baseline;
    const set: ScheduledEvent = { kind: 'stack-pointer', at: entry.at, pointer };
    experiment.strike(entry.snapshot, set);
    const bare: { at: number; snapshot: Snapshot }[] = [];
    let ending: RunEnding | undefined;
    for (let steps = 0; steps < baseline.back.at + LONGEST_HANDLER; steps++) {
      observation.atUser = false;
      ending = experiment.step();
      if (ending !== undefined || cpu.cpl === 3) break;
      if (cpu.gpr[RSP] === pointer) bare.push({ at: experiment.at, snapshot: experiment.snapshot() });
    }
    // What user mode gets may depend on its stack pointer: then there is nothing to compare with.
    this.#runs++;
    if (ending !== 'user') return false;
    const alone = experiment.outcome(ending);
    if (judge(experiment, alone, [set], this.#options.without).length > 0) return false;
    for (const { at, snapshot } of bare) {
      if (this.#over()) return false;
      experiment.machine.restore(snapshot);
      if (!deliverable(cpu, kind)) continue;
      experiment.strike(snapshot, { kind });
      this.#judge([set, { kind, at }], experiment.runToUser());
    }
    return true;
  }

  #piles(): void {
    const { events } = this.#options;
    const debugging = this.#experiment.baseline.deliveries.some(({ vector }) => vector === DEBUG);
    const boundaries = this.#boundaries();
    const places = new Set([boundaries[0], boundaries[boundaries.length >> 1], boundaries.at(-1)]);
    for (const boundary of places) {
      if (!boundary) continue;
      for (const pile of piles) {
        if (this.#over()) return;
        // As in the exploration: no breakpoint in the way of the debug exception.
        if (debugging && pile.includes('db-data')) continue;
        if (pile.every((kind) => kind === 'watch' || events.includes(kind))) this.#pile(boundary, pile);
      }
    }
  }

  #pile({ at, snapshot }: Boundary, kinds: readonly EventKind[]): void {
    const experiment = this.#experiment;
    const { cpu, machine, observation } = experiment;
    const schedule: ScheduledEvent[] = [];
    let from = snapshot;
    machine.restore(snapshot);
    if (!deliverable(cpu, kinds[0])) return;
    let seen = NOTHING_SEEN;
    for (const [i, kind] of kinds.entries()) {
      const event: ScheduledEvent = { kind, at: i === 0 ? at : experiment.at };
      experiment.strike(from, event, seen);
      schedule.push(event);
      const next = kinds[i + 1];
      if (next === undefined) break;
      const delivered = seen.deliveries.length + (kind === 'watch' ? 0 : 1);
      for (let steps = 0; steps < LONGEST_HANDLER; steps++) {
        if (observation.deliveries.length >= delivered && deliverable(cpu, next)) break;
        observation.atUser = false;
        const ending = experiment.step();
        if (ending === undefined && cpu.cpl !== 3) continue;
        this.#judge(schedule, ending ?? 'user');
        return;
      }
      from = experiment.snapshot();
      seen = observation.save();
    }
    this.#judge(schedule, experiment.runToUser());
  }
}
