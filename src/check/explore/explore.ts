/**
 * Exploration of one visit: each event at each boundary, and, in what follows each, each further event at each boundary, to
 * a depth; states that were met before are not gone through again.
 *
 * An event that is held off is not tried: it would be delivered at a later boundary, where it is tried. At depths above 1
 * the run after an event is followed boundary by boundary. It ends where the event's handler returns to the state in which the
 * event struck: what follows is explored from there. From a return to any other state on, a boundary whose state equals one that
 * was explored to the same depth or deeper ends it. Where a run has violated a property nothing is added to it: the
 * shorter schedule tells the story.
 */
import type { Snapshot } from '../../machine/snapshot.ts';
import { deliverable, type EventKind, type Schedule, type ScheduledEvent, vectorOf } from '../event.ts';
import type { PropertyName, Violation } from '../finding.ts';
import { properties as allProperties, type Property } from '../properties/index.ts';
import type { Experiment, Outcome } from './experiment.ts';
import { KnownRuns } from './known-runs.ts';
import type { RunEnding, Seen } from './observation.ts';

export interface ExploreOptions {
  /** Events in a schedule, at most. */
  readonly depth: number;
  readonly events: readonly EventKind[];
  readonly vectors: readonly number[];
  /** Properties not to judge. */
  readonly without?: readonly PropertyName[];
  /** Only these boundaries of the visit without events get the first event: [from, to). */
  readonly range?: readonly [number, number];
  /** At most so many experiments, all of which are run; what is left is counted as bounded. */
  readonly most?: number;
  /** In a loop, boundaries of one instruction beyond this many turns get no event and are counted as bounded. */
  readonly turns?: number;
  /** The first violation ends the exploration. */
  readonly first?: boolean;
  /** What other explorations of the same recording have learnt; for this one to add to. */
  readonly known?: KnownRuns;
  readonly onViolation: (schedule: Schedule, outcome: Outcome, violations: readonly Violation[]) => void;
  readonly onProgress?: (counts: Counts) => void;
  /** Looked at now and then: true ends the exploration. */
  readonly stop?: () => boolean;
}

/** What was done. */
export interface Counts {
  /** Schedules of events, each judged. */
  experiments: number;
  /** Those of them that were not run, for it was known what becomes of them. */
  known: number;
  /** Boundaries at which events were tried, in the visit and in what follows events. */
  boundaries: number;
  /** Boundaries whose state had been explored before. */
  merged: number;
  /** Boundaries left out by a bound. */
  bounded: number;
  /** Runs after which the kernel went on with another task, and did not come back to this one in time: not judged. */
  elsewhere: number;
}

/** Which boundaries of the visit were interrupted by what. */
export interface CoveredBoundary {
  readonly at: number;
  readonly rip: bigint;
  readonly cpl: number;
  /** How many schedules had their first event of each kind here. */
  readonly events: Partial<Record<EventKind, number>>;
}

export interface Exploration {
  readonly counts: Counts;
  readonly coverage: readonly CoveredBoundary[];
  /** Every schedule up to the depth was tried or is equal to one that was. */
  readonly complete: boolean;
}

const DEBUG = 1;
/** Runs that violate a property, after which a visit is left: more say nothing new, and kernels that hang take long. */
const ENOUGH = 300;
/**
 * Handlers mostly return within so many steps. Until then it is asked only now and then whether a state has been met, namely after 1,
 * 2, 4, 8... steps: those of like events that struck at one place run abreast.
 */
const SOON = 100;

type Event = Omit<ScheduledEvent, 'at'>;

/** Events at a boundary: those to be tried, how many are known to come back, and the number of its context. */
interface Sifted {
  readonly open: readonly Event[];
  readonly settled: number;
  readonly context: number;
}

/** A boundary of a run after an event. */
interface Followed extends Sifted {
  readonly at: number;
  readonly snapshot: Snapshot;
  /** What had been seen there. */
  readonly saved: Seen;
}

/** Explores one visit. */
export function explore(experiment: Experiment, options: ExploreOptions): Exploration {
  return new Explorer(experiment, options).run();
}

/** Judges one outcome by all properties but those left out. */
export function judge(
  experiment: Experiment,
  outcome: Outcome,
  schedule: Schedule,
  without: readonly PropertyName[] = [],
): Violation[] {
  return allProperties
    .filter(({ name }) => !without.includes(name))
    .flatMap((property: Property) => property.judge(experiment, outcome, schedule));
}

/** Whether handlers of other events may come to the same states as this one's: those of NMI and #MC are their own. */
function handledAlike({ kind }: ScheduledEvent): boolean {
  return kind !== 'nmi' && kind !== 'mc';
}

class Explorer {
  readonly #experiment: Experiment;
  readonly #options: ExploreOptions;
  readonly #counts: Counts = { experiments: 0, known: 0, boundaries: 0, merged: 0, bounded: 0, elsewhere: 0 };
  /** Depth to which the state of each number has been explored. */
  readonly #seen = new Map<number, number>();
  /** The last user boundary before the kernel. */
  readonly #first: number;
  /** The user boundary from which the kernel is entered by an instruction, if by one. */
  readonly #entry: number;
  /** The boundary from which the visit serves a debug exception; -1 if it does not. */
  readonly #debugFrom: number;
  /** The boundary of the visit at which the first event strikes is in that service. */
  #debugged = false;
  #violating = 0;
  #stopped = false;
  /** The subject demands more than can be seen cheaply. */
  readonly #asserts: boolean;
  /** Absent where each experiment has to be made. */
  readonly #known: KnownRuns | undefined;

  constructor(experiment: Experiment, options: ExploreOptions) {
    this.#experiment = experiment;
    this.#options = options;
    // Of a first event there are too few runs for learning to be worth the while.
    this.#known =
      options.most === undefined && options.depth > 1 ? (options.known ?? new KnownRuns()) : undefined;
    this.#asserts = (experiment.subject.assertions?.length ?? 0) > 0;
    const { boundaries, deliveries } = experiment.baseline;
    const first = boundaries.findIndex(({ cpl }) => cpl !== 3);
    const source = deliveries.find(({ cpl }) => cpl === 3)?.source;
    const byInstruction = source === undefined || ['software', 'int1', 'int3', 'into'].includes(source);
    this.#first = first - 1;
    this.#entry = byInstruction ? first - 1 : -1;
    const debug = deliveries.find(({ vector }) => vector === DEBUG);
    this.#debugFrom = debug ? boundaries.findIndex(({ rip }) => rip === debug.rip) : -1;
  }

  run(): Exploration {
    const { boundaries } = this.#experiment.baseline;
    const { depth, range = [0, boundaries.length] } = this.#options;
    const coverage: CoveredBoundary[] = [];
    const turns = new Map<bigint, number>();
    if (depth > 1)
      for (const { snapshot } of boundaries) {
        this.#experiment.restore(snapshot);
        this.#seen.set(this.#experiment.hash(snapshot), depth);
      }
    for (const [i, boundary] of boundaries.entries()) {
      const turn = (turns.get(boundary.rip) ?? 0) + 1;
      turns.set(boundary.rip, turn);
      if (i < range[0] || i >= range[1]) continue;
      if (turn > (this.#options.turns ?? Number.POSITIVE_INFINITY)) {
        this.#counts.bounded++;
        continue;
      }
      this.#experiment.restore(boundary.snapshot);
      const covered: Partial<Record<EventKind, number>> = {};
      for (const event of this.#events(boundary.rip, i)) {
        if (this.#enough()) break;
        if (this.#try(boundary.snapshot, { ...event, at: boundary.at }, depth))
          covered[event.kind] = (covered[event.kind] ?? 0) + 1;
      }
      this.#counts.boundaries++;
      coverage.push({ at: boundary.at, rip: boundary.rip, cpl: boundary.cpl, events: covered });
      this.#options.onProgress?.(this.#counts);
      if (this.#stopped) break;
    }
    return { counts: this.#counts, coverage, complete: !this.#stopped && this.#counts.bounded === 0 };
  }

  #enough(): boolean {
    const { most = Number.POSITIVE_INFINITY, stop } = this.#options;
    if (this.#counts.experiments >= most || (this.#counts.experiments % 256 === 0 && stop?.()))
      this.#stopped = true;
    return this.#stopped;
  }

  /** Events that would be delivered at the boundary where the processor stands. @param i of the visit, or -1 */
  #events(rip: bigint, i: number): Event[] {
    const { cpu, subject, visit, observation } = this.#experiment;
    const events: Event[] = [];
    // A debugger sets no breakpoint in the way of the debug exception itself: no kernel could survive that.
    if (i >= 0) this.#debugged = this.#debugFrom >= 0 && i >= this.#debugFrom && cpu.cpl !== 3;
    const debugging =
      this.#debugged || observation.deliveries.some(({ vector, returned }) => vector === DEBUG && !returned);
    const awaited = i >= 0 && i <= this.#first ? subject.awaits.get(visit.entry) : undefined;
    for (const kind of this.#options.events) {
      if (!deliverable(cpu, kind)) continue;
      if (kind === awaited) continue;
      if (debugging && kind.startsWith('db-')) continue;
      if (kind === 'irq') {
        // Before the interrupt that enters the visit, one of its vector would be that very interrupt.
        const early = i >= 0 && visit.trigger !== undefined && i <= visit.trigger.at;
        for (const vector of this.#options.vectors)
          if (!early || vector !== visit.trigger?.vector) events.push({ kind, vector });
      } else if (kind === 'mov-ss') {
        if (i >= 0 && i === this.#entry) events.push({ kind });
      } else if (kind === 'fault') {
        if (cpu.cpl === 3) continue;
        for (const { address, faults } of subject.faultable)
          if (address === rip) for (const fault of faults) events.push({ kind, fault });
      } else if (kind === 'db-data' || kind === 'db-step') {
        // A trap follows an instruction: at the very first boundary there was none.
        if (i !== 0) events.push({ kind });
      } else events.push({ kind });
    }
    return events;
  }

  /** Lets `event` happen at `from`, alone, and goes on from there. @returns whether the machine took it */
  #try(from: Snapshot, event: ScheduledEvent, depth: number): boolean {
    const experiment = this.#experiment;
    if (!experiment.strike(from, event)) return false;
    this.#counts.experiments++;
    const schedule = [event];
    if (depth > 1) this.#follow(schedule, from, depth - 1);
    else {
      const vector = vectorOf(event);
      const lost =
        vector !== undefined ? experiment.runToWork(vector, () => experiment.strike(from, event)) : undefined;
      const ended = event.kind === 'fault' ? experiment.stepFromFault() : lost;
      this.#finish(schedule, from, ended);
    }
    return true;
  }

  /**
   * Runs to the end after the last event of `schedule` has struck at `from`, and judges.
   * @param ended how, if it has
   * @param saved what had been seen there
   * @returns whether it came back to where it struck, and nothing was wrong
   */
  #finish(schedule: Schedule, from: Snapshot, ended?: RunEnding, saved?: Seen): boolean {
    const experiment = this.#experiment;
    const last = schedule[schedule.length - 1];
    const again = () => experiment.strike(from, last, saved);
    let ending = ended ?? experiment.runBack(from, last.kind, again);
    if (ending === 'back') {
      if (this.#quiet()) return true;
      ending = experiment.runToUser();
    }
    if (ending !== 'user' || !this.#clean()) this.#judge(schedule, ending);
    return false;
  }

  /**
   * Of events at the boundary where the processor stands, those of which it is not known that they come back, and how many the others are.
   * @param depth how many events may follow, with these
   * @returns with the number of the boundary's context, 0 if there is nothing to learn here
   */
  #sift(events: readonly Event[], depth: number): Sifted {
    const experiment = this.#experiment;
    const known = this.#known;
    if (known === undefined || depth > 1 || events.length === 0 || !experiment.canLearn)
      return { open: events, settled: 0, context: 0 };
    const recall = experiment.recall();
    const { context } = recall;
    const alike = known.find(context);
    const open = alike
      ? events.filter(({ kind }) => !alike.get(kind)?.runs.some((run) => recall.repeats(run)))
      : events;
    return { open, settled: events.length - open.length, context };
  }

  /** The event has come back to `from`, where its context was that: learns from it, if that is worth it. @param saved what had been seen at `from` */
  #learn(from: Snapshot, event: ScheduledEvent, context: number, saved: Seen): void {
    const known = this.#known;
    // Whether the local APIC takes an interrupt, and by which vector, is not in the number of a context.
    if (context === 0 || event.kind === 'irq' || event.kind === 'spurious') return;
    if (!known?.met(event.kind, context)) return;
    const length = this.#experiment.at - event.at;
    known.learn(event.kind, context, this.#experiment.learnRun(from, event, saved, length, known.flows));
  }

  /** Nothing to complain of, cheaply. */
  #clean(): boolean {
    return this.#quiet() && this.#experiment.undisturbed();
  }

  /** Nothing to complain of on the way. */
  #quiet(): boolean {
    const { observation } = this.#experiment;
    if (
      observation.throughUserGs.length > 0 ||
      observation.reused !== undefined ||
      observation.unserved !== undefined ||
      observation.gaveUp !== undefined
    )
      return false;
    if (this.#asserts) return false;
    for (const { frame } of observation.deliveries)
      if (frame !== 0n && !this.#experiment.stackOf(frame)) return false;
    return true;
  }

  #judge(schedule: Schedule, ending: RunEnding): boolean {
    if (ending === 'user' && this.#elsewhere(schedule)) {
      this.#counts.elsewhere++;
      return false;
    }
    const outcome = this.#experiment.outcome(ending);
    const violations = judge(this.#experiment, outcome, schedule, this.#options.without);
    if (violations.length > 0) {
      this.#options.onViolation(schedule, outcome, violations);
      if (this.#options.first || ++this.#violating >= ENOUGH) this.#stopped = true;
    }
    return violations.length > 0;
  }

  /** A kernel of its own mind may let another task go on after an interrupt. @returns whether it never came back */
  #elsewhere(schedule: Schedule): boolean {
    const experiment = this.#experiment;
    if (!experiment.subject.foreign || !schedule.some(({ kind }) => kind === 'irq' || kind === 'spurious'))
      return false;
    const { deliveries, throughUserGs, reused } = experiment.observation;
    if (throughUserGs.length > 0 || reused !== undefined) return false;
    for (const { frame } of deliveries) if (frame !== 0n && !experiment.stackOf(frame)) return false;
    experiment.othersMayRun = true;
    return !experiment.awaitTask();
  }

  /**
   * Follows the run after an event boundary by boundary to its end, collecting them; if the run is clean, tries further events
   * at each.
   * @param from where the last event of `schedule` struck
   */
  #follow(schedule: Schedule, from: Snapshot, depth: number): void {
    const experiment = this.#experiment;
    const { cpu, observation } = experiment;
    const boundaries: Followed[] = [];
    /** Boundaries with events, and events there of which it is known that they come back. */
    let passed = 0;
    let settled = 0;
    const limit = 4 * experiment.baseline.boundaries.length + 20_000;
    let ending: RunEnding | undefined;
    let merged = false;
    const vector = schedule.length === 1 ? vectorOf(schedule[0]) : undefined;
    const work = vector === undefined ? undefined : experiment.subject.work.get(vector);
    let served = work === undefined;
    /** States on the way may have been met, or be met again. */
    let alike = handledAlike(schedule[schedule.length - 1]);
    let returned = false;
    /** States met in this run: explored once it has been seen to end well. */
    const own = new Set<number>();
    observation.awaitReturn();
    for (let steps = 0; ; steps++) {
      observation.atUser = false;
      const wasUser = cpu.cpl === 3;
      ending = experiment.step();
      if (ending === undefined && cpu.cpl === 3 && wasUser) ending = 'user';
      if (ending === 'user' && !served) observation.unserved = vector;
      if (ending !== undefined) break;
      if (cpu.rip === work) served = true;
      if (observation.cameBack && !returned) {
        returned = true;
        merged = experiment.asItWas(from);
        // Elsewhere it may meet what has been explored.
        alike = !merged;
      }
      let snapshot: Snapshot | undefined;
      if (alike && (returned || steps >= SOON || (steps & (steps - 1)) === 0)) {
        snapshot = experiment.snapshot();
        const hash = experiment.hash(snapshot);
        merged = (this.#seen.get(hash) ?? 0) >= depth;
        if (own.has(hash)) {
          // It turns in a circle, which time alone may end: whether it does, only running on can tell.
          this.#counts.merged++;
          observation.awaitNothing();
          ending = experiment.runToUser();
          break;
        }
        own.add(hash);
      }
      if (merged) {
        this.#counts.merged++;
        break;
      }
      if (steps > limit) {
        observation.awaitNothing();
        ending = experiment.runToUser();
        this.#counts.bounded++;
        break;
      }
      const events = this.#events(cpu.rip, -1);
      if (events.length === 0) continue;
      const sifted = this.#sift(events, depth);
      passed++;
      settled += sifted.settled;
      if (sifted.open.length === 0) continue;
      snapshot ??= experiment.snapshot();
      boundaries.push({ ...sifted, at: experiment.at, snapshot, saved: observation.save() });
    }
    if (ending === undefined && merged) {
      // The rest is as it was found there; what was seen until here must hold by itself.
      if (!served) observation.unserved = vector;
      if (!this.#quiet()) {
        this.#judge(schedule, experiment.runToUser());
        return;
      }
    } else if (ending !== undefined && (ending !== 'user' || !this.#clean()) && this.#judge(schedule, ending))
      return;
    for (const hash of own) this.#seen.set(hash, Math.max(depth, this.#seen.get(hash) ?? 0));
    this.#counts.boundaries += passed - boundaries.length;
    this.#counts.experiments += settled;
    this.#counts.known += settled;
    for (const { at, snapshot, open, saved, context } of boundaries) {
      this.#counts.boundaries++;
      for (const event of open) {
        if (this.#enough()) return;
        if (!experiment.strike(snapshot, event, saved)) continue;
        this.#counts.experiments++;
        const last = { ...event, at };
        const longer = [...schedule, last];
        if (depth > 1) this.#follow(longer, snapshot, depth - 1);
        else if (this.#finish(longer, snapshot, undefined, saved))
          this.#learn(snapshot, last, context, saved);
      }
    }
  }
}
