/**
 * The check of one subject: record its visits, explore each, and say what was found. `openSubject` gives the parts to those
 * who spread the visits over workers, `mergeReports` puts them together.
 */
import type { Machine } from '../machine/machine.ts';
import { Causes } from './causes.ts';
import { disassemble } from './disassemble.ts';
import { describeEvent, type EventKind, type Schedule } from './event.ts';
import { Experiment, NoReturn, type Outcome } from './explore/experiment.ts';
import { type Counts, explore, judge } from './explore/explore.ts';
import { KnownRuns } from './explore/known-runs.ts';
import { tryStackPointers } from './explore/stack-pointers.ts';
import { tryTrials } from './explore/trials.ts';
import { type Failure, type Recording, recordVisits, trigger, type Visit } from './explore/visit.ts';
import {
  type Finding,
  type Place,
  type PropertyName,
  type Provenance,
  propertyNames,
  type SubjectReport,
  type Violation,
  type VisitReport,
  type VisitSummary,
} from './finding.ts';
import { THROUGH_USER_GS } from './properties/gs.ts';
import { betweenWorlds, exposed, mustAgree, tainted } from './properties/kernel-bits.ts';
import { endings, GIVES_UP } from './properties/progress.ts';
import { bootSubject, machineFor, runUntilReady } from './ready.ts';
import { watchStacks } from './stacks.ts';
import type { KernelStack, Subject } from './subject.ts';
import { differences } from './user-state.ts';
import { describeVector } from './vectors.ts';

export interface CheckSubjectOptions {
  /** Events in a schedule, at most; 0 looks at the visits as they are. Default 1. */
  readonly depth?: number;
  /** Default: the subject's. */
  readonly events?: readonly EventKind[];
  /** Properties not to judge. */
  readonly without?: readonly PropertyName[];
  /** Turns of a loop in which an instruction is interrupted; default all. */
  readonly turns?: number;
  /** Schedules that a visit is explored with, at most; other stack pointers and trials, which are few, are not counted. */
  readonly most?: number;
  /** Visits to explore; default all. */
  readonly visits?: (visit: Visit) => boolean;
  readonly stop?: () => boolean;
}

export interface ExploreVisitOptions extends Omit<CheckSubjectOptions, 'visits'> {
  /** Boundaries of the visit that get a first event: [from, to). */
  readonly range?: readonly [number, number];
  /** Ends with the first violation. */
  readonly first?: boolean;
  readonly onProgress?: (counts: Counts) => void;
}

/** What exploring one visit, or a range of its boundaries, gave. Plain data: it may cross threads. */
export interface VisitResult {
  readonly report: VisitReport;
  /** One a cause within the visit. */
  readonly findings: readonly Finding[];
}

/** Instructions that a note names: a long way through a kernel has many. */
const MOST_APPROXIMATIONS = 4;

/** A subject that has been booted and watched. */
export class OpenSubject {
  readonly subject: Subject;
  readonly recording: Recording;
  readonly #machine: Machine;
  readonly #stacks: readonly KernelStack[];
  readonly #known = new KnownRuns();
  /** The second world, once it is wanted. */
  #twin: OpenSubject | undefined;

  /** @param twin the second world, if it is open already; default: the subject's, opened when it is wanted */
  constructor(subject: Subject, machine: Machine, recording: Recording, twin?: OpenSubject) {
    this.subject = subject;
    this.recording = recording;
    this.#machine = machine;
    this.#twin = twin;
    this.#stacks = subject.stacks ?? watchStacks(machine, recording.visits, subject);
  }

  /** The same beside its second world, which is open already. */
  beside(twin: OpenSubject): OpenSubject {
    return new OpenSubject({ ...this.subject, stacks: this.#stacks }, this.#machine, this.recording, twin);
  }

  /** The kernel stacks, as the subject tells or as they were seen in use. */
  get stacks(): readonly KernelStack[] {
    return this.#stacks;
  }

  /** Addresses of the instructions that a visit executes. */
  path(id: number): ReadonlySet<bigint> {
    const visit = this.recording.visits[id];
    const executed = new Set<bigint>();
    this.#machine.restore(visit.begin);
    for (let i = 0; i < visit.boundaries; i++) {
      trigger(this.#machine, visit, i);
      executed.add(this.#machine.cpus[visit.cpu].rip);
      if (this.#machine.runAlone(visit.cpu, 1).reason !== 'limit') break;
    }
    return executed;
  }

  /** Explores visit `id`. */
  exploreVisit(id: number, options: ExploreVisitOptions = {}): VisitResult {
    const visit = this.recording.visits[id];
    if (!visit) throw new RangeError(`visit ${id}: the subject has ${this.recording.visits.length}`);
    let experiment: Experiment;
    try {
      experiment = new Experiment(this.#machine, this.subject, visit, this.#stacks);
    } catch (error) {
      if (!(error instanceof NoReturn)) throw error;
      return this.#lost(visit, error);
    }
    try {
      return this.#explore(experiment, options);
    } finally {
      experiment.close();
    }
  }

  #firstOfPath({ id, path }: Visit): boolean {
    return !this.recording.visits.some((other) => other.path === path && other.id < id);
  }

  /**
   * The kernel's bits in user mode's hands after the visit without events, by taint and by two worlds. Throws Disagreement
   * where the two contradict each other.
   */
  #kernelBits(
    experiment: Experiment,
    notes: string[],
  ): { violation: Violation; provenance: readonly Provenance[] }[] {
    const open = exposed(experiment);
    if (open.length > 0) return open.map((violation) => ({ violation, provenance: [] }));
    const tracked = experiment.track([]);
    const approximate = [
      ...new Set(tracked.conservative.map(({ instruction, what }) => `${instruction} (${what})`)),
    ];
    const more = approximate.length - MOST_APPROXIMATIONS;
    if (approximate.length > 0)
      notes.push(
        `taint is approximate at ${approximate.slice(0, MOST_APPROXIMATIONS).join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
      );
    const leaks = tainted(experiment, tracked);
    const worlds = this.#otherWorld(experiment, notes);
    if (worlds) mustAgree(experiment, worlds.registers, tracked);
    if (leaks.length > 0) return leaks;
    return (worlds?.violations ?? []).map((violation) => ({ violation, provenance: [] }));
  }

  /** What user mode sees of where the kernel's secrets are; undefined where there is nothing to compare with. */
  #otherWorld(experiment: Experiment, notes: string[]): ReturnType<typeof betweenWorlds> | undefined {
    const { twin } = this.subject;
    if (!this.#twin && !twin) {
      notes.push('there is no second world to compare with');
      return undefined;
    }
    this.#twin ??= openSubject((twin as () => Subject)());
    const { visit } = experiment;
    const same = this.#twin.recording.visits[visit.id];
    if (same?.entry !== visit.entry || same.boundaries !== visit.boundaries) {
      notes.push(
        "it takes another way with the kernel's secrets elsewhere: not compared with a second world",
      );
      return undefined;
    }
    const other = new Experiment(this.#twin.#machine, this.#twin.subject, same, this.#twin.#stacks);
    try {
      // The same visit begins with the same user mode; a task may choose values that depend on where the kernel is.
      const [mine, theirs] = [experiment.baseline.entry.state, other.baseline.entry.state];
      if (!mine || !theirs || differences(mine, theirs).some(({ visible }) => visible)) {
        notes.push('user mode is not the same in a second world: not compared with one');
        return undefined;
      }
      return betweenWorlds(experiment, other);
    } finally {
      other.close();
    }
  }

  /** A visit that does not come back by itself, though it did when the kernel was watched. */
  #lost(visit: Visit, { ending, rip, observation }: NoReturn): VisitResult {
    const { subject } = this;
    const { deliveries, throughUserGs } = observation;
    const report = emptyReport(visit);
    if (ending === 'user' || ((ending === 'stuck' || ending === 'hang') && throughUserGs.length === 0))
      return {
        report: {
          ...report,
          skipped: `alone, processor ${visit.cpu} does not come back from it (${ending})`,
        },
        findings: [],
      };
    const failure = { visit: summaryOf(visit), rip, deliveries };
    const findings = [failureFinding(subject, failure, endings[ending])];
    // User mode's GS base is what differs from when it was watched.
    if (throughUserGs.length > 0)
      findings.unshift({
        ...failureFinding(subject, failure, THROUGH_USER_GS),
        property: 'gs',
        details: throughUserGs.slice(0, 4).map((at) => `at ${subject.describe(at)}`),
        rip: throughUserGs[0],
      });
    return { report, findings };
  }

  #explore(experiment: Experiment, options: ExploreVisitOptions): VisitResult {
    const { subject } = this;
    const { depth = 1, range, turns, most, first, stop, onProgress } = options;
    const findings = new Causes();
    /** First findings of a cause, in which user mode sees something else: whose bits are they? */
    const toTrack: Finding[] = [];
    const take = (schedule: Schedule, outcome: Outcome, violations: readonly Violation[]) => {
      for (const violation of violations) {
        const finding = describeFinding(experiment, schedule, outcome, violation);
        if (findings.add(finding)) toTrack.push(finding);
      }
    };
    const notes: string[] = [];
    let pointers = 0;
    const outcome = experiment.baselineOutcome();
    const violations = judge(experiment, outcome, [], options.without);
    if (!range || range[0] === 0) take([], outcome, violations);
    if (!options.without?.includes('kernel-bits')) {
      const leaks = this.#kernelBits(experiment, notes);
      violations.push(...leaks.map(({ violation }) => violation));
      if (!range || range[0] === 0)
        for (const { violation, provenance } of leaks)
          findings.add({ ...describeFinding(experiment, [], outcome, violation), provenance });
    }
    if (violations.length === 0 && (!range || range[0] === 0)) {
      const tried = tryStackPointers(experiment);
      pointers = tried.runs;
      violations.push(...tried.violations);
      take([], outcome, tried.violations);
    }
    // What is wrong without events is not made clearer by some.
    const events = depth === 0 || violations.length > 0 ? [] : (options.events ?? subject.events);
    const { counts, coverage, complete } = explore(experiment, {
      depth,
      events,
      vectors: subject.vectors,
      onViolation: take,
      known: this.#known,
      ...(options.without && { without: options.without }),
      ...(range && { range }),
      ...(turns !== undefined && { turns }),
      ...(most !== undefined && { most }),
      ...(first !== undefined && { first }),
      ...(stop && { stop }),
      ...(onProgress && { onProgress }),
    });
    // Paths that the exploration finds at fault, and visits that differ only in the segments they return to, need no more.
    const trials =
      events.length === 0 || !findings.none || !this.#firstOfPath(experiment.visit)
        ? 0
        : tryTrials(experiment, {
            depth,
            events,
            onViolation: take,
            ...(options.without && { without: options.without }),
            ...(range && { range }),
            ...(first !== undefined && { first }),
            ...(stop && { stop }),
          });
    if (!options.without?.includes('kernel-bits'))
      for (const finding of toTrack) {
        if (finding.property !== 'transparent' || finding.registers.length === 0) continue;
        for (const { violation, provenance } of tainted(experiment, experiment.track(finding.schedule)))
          findings.add({ ...finding, ...violation, provenance });
      }
    if (counts.elsewhere > 0)
      notes.push('after some interrupts the kernel went on with another task: those runs were not judged');
    experiment.restore(experiment.begin);
    return {
      report: {
        ...emptyReport(experiment.visit),
        experiments: counts.experiments + pointers + trials,
        boundaries: counts.boundaries,
        merged: counts.merged,
        bounded: counts.bounded,
        depth,
        complete,
        notes,
        coverage: coverage.map(({ at, rip, cpl, events }) => ({
          at,
          place: placeOf(experiment, rip, cpl),
          cpl,
          events: events as Record<string, number>,
        })),
      },
      findings: findings.list,
    };
  }
}

function summaryOf({ id, cpu, entry, start, boundaries, occurrences }: Visit): VisitSummary {
  return { id, cpu, entry, start, boundaries, occurrences };
}

function emptyReport(visit: Visit): VisitReport {
  return {
    visit: summaryOf(visit),
    returnsTo: visit.returnsTo,
    experiments: 0,
    boundaries: 0,
    merged: 0,
    bounded: 0,
    depth: 0,
    complete: true,
    notes: [],
    coverage: [],
  };
}

/** Boots the subject and watches it. @param machine such as {@link machineFor} makes; default: a new one */
export function openSubject(
  subject: Subject,
  onProgress?: (visits: number, instructions: number) => void,
  machine = machineFor(subject),
): OpenSubject {
  bootSubject(machine, subject);
  if (subject.ready) runUntilReady(machine, subject.ready);
  const recording = recordVisits(machine, {
    instructions: subject.watch,
    leaveOut: subject.leaveOut,
    ...(subject.foreign && { gaveUp: subject.gaveUp }),
    ...(onProgress && { onProgress }),
  });
  return new OpenSubject(subject, machine, recording);
}

/** Checks a subject in this thread. */
export function checkSubject(subject: Subject, options: CheckSubjectOptions = {}): SubjectReport {
  const open = openSubject(subject);
  const results: VisitResult[] = [];
  for (const visit of open.recording.visits) {
    if (options.stop?.()) break;
    if (options.visits && !options.visits(visit)) continue;
    results.push(open.exploreVisit(visit.id, options));
  }
  return mergeReports(subject, open.recording, results, options);
}

/** What the results for a subject's visits say together. */
export function mergeReports(
  subject: Pick<Subject, 'name' | 'events' | 'describe'>,
  recording: Pick<Recording, 'failures' | 'seen' | 'leftOut' | 'unfinished' | 'reachedUser'> & {
    readonly visits: readonly unknown[];
  },
  results: readonly VisitResult[],
  options: CheckSubjectOptions = {},
): SubjectReport {
  const causes = new Causes();
  for (const { findings } of results) for (const finding of findings) causes.add(finding);
  if (!options.without?.includes('progress'))
    for (const failure of recording.failures)
      causes.add(
        failureFinding(subject, failure, failure.ending === 'gave-up' ? GIVES_UP : endings[failure.ending]),
      );
  const visits = joinRanges(results.map(({ report }) => report));
  const explored = visits.filter(({ skipped }) => skipped === undefined);
  const findings = causes.list;
  const complete = explored.every((visit) => visit.complete) && explored.length === recording.visits.length;
  const notes: string[] = [];
  if (recording.unfinished > 0)
    notes.push(`${recording.unfinished} visits had not come back when the watching ended`);
  for (const { visit, skipped } of visits)
    if (skipped !== undefined) notes.push(`visit ${visit.id} (${visit.entry}) was not explored: ${skipped}`);
  const said = new Map<string, number>();
  for (const { notes: own } of visits) for (const note of own) said.set(note, (said.get(note) ?? 0) + 1);
  for (const [note, count] of said) notes.push(`${count} of ${visits.length} visits: ${note}`);
  const bounded = visits.reduce((sum, visit) => sum + visit.bounded, 0);
  if (bounded > 0) notes.push(`${bounded} boundaries were left out by a bound`);
  if (explored.some((visit) => !visit.complete) && bounded === 0) notes.push('the exploration was cut short');
  return {
    subject: subject.name,
    depth: options.depth ?? 1,
    events: options.events ?? subject.events,
    properties: propertyNames.filter((name) => !options.without?.includes(name)),
    verdict: findings.length > 0 ? 'findings' : complete && recording.reachedUser ? 'clean' : 'inconclusive',
    findings,
    visits,
    seen: recording.seen,
    leftOut: recording.leftOut,
    unfinished: recording.unfinished,
    experiments: visits.reduce((sum, visit) => sum + visit.experiments, 0),
    notes,
  };
}

/** A visit that fails without any event. */
function failureFinding(
  subject: Pick<Subject, 'name' | 'describe'>,
  failure: Omit<Failure, 'ending'>,
  what: string,
): Finding {
  return {
    property: 'progress',
    what,
    details: [
      `at ${subject.describe(failure.rip)}`,
      ...failure.deliveries
        .slice(-4)
        .map((d) => `${describeVector(d.vector, d.source)} delivered at ${subject.describe(d.rip)}`),
    ],
    rip: failure.rip,
    subject: subject.name,
    visit: failure.visit,
    schedule: [],
    struck: [],
    registers: [],
    provenance: [],
    count: 1,
    alsoAt: [],
  };
}

/** Reports for ranges of one visit, as one. */
function joinRanges(reports: readonly VisitReport[]): VisitReport[] {
  const joined = new Map<number, VisitReport>();
  for (const report of reports) {
    const known = joined.get(report.visit.id);
    joined.set(
      report.visit.id,
      known
        ? {
            ...known,
            experiments: known.experiments + report.experiments,
            boundaries: known.boundaries + report.boundaries,
            merged: known.merged + report.merged,
            bounded: known.bounded + report.bounded,
            complete: known.complete && report.complete,
            notes: [...new Set([...known.notes, ...report.notes])],
            coverage: [...known.coverage, ...report.coverage].sort((a, b) => a.at - b.at),
          }
        : report,
    );
  }
  return [...joined.values()].sort((a, b) => a.visit.id - b.visit.id);
}

function placeOf(experiment: Experiment, address: bigint, cpl?: number): Place {
  const { machine, visit, subject, cpu } = experiment;
  const { text } =
    cpl === undefined || cpl === cpu.cpl
      ? disassemble(machine, visit.cpu, address)
      : experiment.disassembleAt(address);
  return { address, name: subject.describe(address), text };
}

/** The finding that a violation is: where each event struck, and what user mode has otherwise. */
function describeFinding(
  experiment: Experiment,
  schedule: Schedule,
  outcome: Outcome,
  violation: Violation,
): Finding {
  const struck = experiment.placesOf(schedule).map(({ rip, cpl }, i) => ({
    event: describeEvent(schedule[i]),
    place: placeOf(experiment, rip, cpl),
  }));
  const registers =
    outcome.expected?.state && outcome.state
      ? differences(outcome.expected.state, outcome.state).map(({ name, bits, expected, found }) => ({
          name,
          expected: `0x${expected.toString(16).padStart(bits / 4, '0')}`,
          found: `0x${found.toString(16).padStart(bits / 4, '0')}`,
        }))
      : [];
  return {
    ...violation,
    subject: experiment.subject.name,
    visit: summaryOf(experiment.visit),
    schedule,
    struck,
    registers,
    provenance: [],
    count: 1,
    alsoAt: struck.slice(-1).map(({ place }) => place.name),
  };
}
