/** Interleavings of processors: explored by the number of preemptions, judged, and replayed. */
import type { Violation } from '../finding.ts';
import { Sharing } from './accesses.ts';
import { type Found, type Interleaved, Judge } from './judge.ts';
import { Runner } from './runner.ts';
import { type SearchCounts, search } from './search.ts';
import type { Turns } from './window.ts';

export type { Interleaved } from './judge.ts';
export type { SearchCounts } from './search.ts';
export type { Turn, Turns, Window } from './window.ts';

export interface InterleavingOptions {
  /** Preemptions in a schedule, at most; default 2. */
  readonly preemptions?: number;
  /** Goes on to more preemptions though something was found with fewer. */
  readonly onward?: boolean;
  /** Turns of processors that are run for each number of preemptions, at most; default unlimited. */
  readonly most?: number;
  /** Looked at now and then: true ends the exploration. */
  readonly stop?: () => boolean;
}

/** A turn of a finding, and where it left its processor. */
export interface ReportedTurn {
  readonly cpu: number;
  readonly instructions: number;
  /** The instruction that the processor is at after it. */
  readonly at: string;
}

export interface InterleavingFinding extends Violation {
  /** Of the shortest schedule that shows it. */
  readonly preemptions: number;
  readonly turns: readonly ReportedTurn[];
  /** Schedules that were seen to lead to it. */
  readonly count: number;
}

/** What was done with up to so many preemptions. */
export interface BoundReport extends SearchCounts {
  readonly preemptions: number;
  /** Every such schedule was run, or equals one that was. */
  readonly complete: boolean;
}

export interface InterleavingReport {
  readonly subject: string;
  readonly window: string;
  readonly cpus: number;
  /** `inconclusive`: nothing found, and a limit was hit. */
  readonly verdict: 'clean' | 'findings' | 'inconclusive';
  /** By the number of preemptions from 0 on. */
  readonly bounds: readonly BoundReport[];
  /** Different things that user space sees if the processors do their parts one after another. */
  readonly orders: number;
  /** One a cause, shortest schedule first. */
  readonly findings: readonly InterleavingFinding[];
}

const PREEMPTIONS = 2;

/**
 * Explores the schedules of a window without preemptions, then with one, and so on; ends where something is found. Throws
 * RangeError for a number of preemptions that is none, or more than 15 processors.
 */
export function exploreInterleavings(
  subject: Interleaved,
  options: InterleavingOptions = {},
): InterleavingReport {
  const { preemptions = PREEMPTIONS, onward = false, most, stop } = options;
  if (!Number.isInteger(preemptions) || preemptions < 0)
    throw new RangeError(`preemptions: ${preemptions}, expected a whole number from 0`);
  const { window } = subject;
  const judge = new Judge(subject);
  const sharing = new Sharing(window.machine.cpus.length);
  const bounds: BoundReport[] = [];
  let found: readonly Found[] = [];
  for (let bound = 0; bound <= preemptions; bound++) {
    const { counts, complete } = search(
      window,
      { preemptions: bound, sharing, ...(most !== undefined && { most }), ...(stop && { stop }) },
      judge,
    );
    bounds.push({ preemptions: bound, complete, ...counts });
    // Findings with fewer preemptions are found again.
    found = judge.found;
    if (!complete || (found.length > 0 && !onward)) break;
  }
  const complete = bounds.every((bound) => bound.complete);
  return {
    subject: subject.name,
    window: window.title,
    cpus: window.cpus.length,
    verdict: found.length > 0 ? 'findings' : complete ? 'clean' : 'inconclusive',
    bounds,
    orders: judge.orders,
    findings: found.map(({ violation, turns, preemptions: used, count }) => ({
      ...violation,
      preemptions: used,
      turns: reported(subject, turns),
      count,
    })),
  };
}

/** Where each turn leaves its processor. The machine is left at the schedule's end. */
function reported({ window, describe }: Interleaved, turns: Turns): ReportedTurn[] {
  const { machine, start } = window;
  machine.restore(start);
  const runner = new Runner(window, new Sharing(machine.cpus.length));
  try {
    return turns.map(({ cpu, instructions }) => {
      runner.begin(cpu, undefined);
      runner.advance(instructions);
      return { cpu, instructions, at: describe(machine.cpus[cpu].rip) };
    });
  } finally {
    runner.close();
  }
}

/**
 * Runs one schedule. @returns what it violates: judged against the orders of the processors one after another, which are
 * run first
 */
export function replayInterleaving(subject: Interleaved, turns: Turns): readonly Violation[] {
  const judge = new Judge(subject);
  const { window } = subject;
  const sharing = new Sharing(window.machine.cpus.length);
  search(window, { preemptions: 0, sharing }, judge);
  judge.begin();
  const { machine, start } = window;
  machine.restore(start);
  const runner = new Runner(window, sharing);
  // Preempted, as far as the judge is concerned: nothing that is seen here is an order to compare with.
  const preemptions = 1;
  try {
    for (const { cpu, instructions } of turns) {
      runner.begin(cpu, undefined);
      while (runner.at < instructions) {
        const before = runner.at;
        const halt = runner.run(instructions - before);
        if (halt === 'exception' && runner.exception)
          judge.trouble({ kind: 'exception', exception: runner.exception }, turns, preemptions);
        else if (
          halt !== 'pause' &&
          halt !== 'limit' &&
          halt !== 'end' &&
          halt !== 'idle' &&
          halt !== 'exception'
        )
          judge.trouble({ kind: halt, cpu }, turns, preemptions);
        if (runner.at === before) break;
      }
    }
    const open = window.cpus.filter(
      (cpu) => !(machine.cpus[cpu].cpl === 3 && window.isEnd(machine.cpus[cpu])),
    );
    if (open.length === 0) judge.end(0, machine.snapshot(), turns, preemptions);
    else if (judge.found.length === 0) judge.trouble({ kind: 'deadlock', cpus: open }, turns, preemptions);
    return judge.found.map(({ violation }) => violation);
  } finally {
    runner.close();
  }
}
