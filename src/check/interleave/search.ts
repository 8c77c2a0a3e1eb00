/**
 * All schedules of a window with a bounded number of preemptions, but for those that are equal to others.
 *
 * As in CHESS (Musuvathi and Qadeer, "Iterative context bounding for systematic testing of multithreaded programs", PLDI
 * 2007) a switch is free where a processor has done its part or waits, and a preemption where it could go on; schedules
 * are gone through by the number of preemptions. A processor waits if it has halted, or if it runs in a circle: if the
 * state of everything is one that it has been in before in the same turn.
 *
 * **Reduction.** A processor c runs to the end of its turn, and then, going back from there, is preempted by o before an
 * access a only if o, in the turn that it had after c's next later preemption (or after c's end), makes an access that
 * conflicts with a. If it does not, a and all that c did up to that later point can change places with o's turn,
 * instruction by instruction: the schedules are equal, and so are all that follow from them. What c and o access is what
 * they were seen to access in these very turns. With more than two processors o's turn is not all that may come before c
 * goes on, and every access to shared memory counts as a conflict.
 *
 * **Merging.** A turn ends where it comes to a state in which the same processor was already running with at least as many
 * preemptions left.
 *
 * Instructions are atomic and memory is sequentially consistent, as on the machine: effects of store buffers (SDM vol. 3A
 * 8.2.3.4) are not explored.
 */
import { inspectPage } from '../../arch/paging.ts';
import { RSP, TR } from '../../isa/state.ts';
import { PageTree } from '../../machine/page-tree.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { bytesBelow } from '../explore/stack-memory.ts';
import { type ChangedPage, hashStates } from '../explore/state-hash.ts';
import type { KernelStack } from '../subject.ts';
import { Accesses, AccessLog, type Sharing } from './accesses.ts';
import { type Halt, Runner } from './runner.ts';
import type { Exception, Turn, Turns, Window } from './window.ts';

/** How a schedule ended other than with every part done. */
export type Trouble =
  | { readonly kind: 'exception'; readonly exception: Exception }
  /** These processors wait for ever, for each other or for nothing. */
  | { readonly kind: 'deadlock'; readonly cpus: readonly number[] }
  | { readonly kind: Exclude<Halt, 'end' | 'pause' | 'idle' | 'exception' | 'limit'>; readonly cpu: number };

/** Who is told of what schedules lead to. The machine stands there. */
export interface Audience {
  /** @returns whether the schedule ends here: nothing is added to a story that is complete */
  trouble(trouble: Trouble, turns: Turns, preemptions: number): boolean;
  /** Every processor has done its part, in the state of this number. */
  end(state: number, snapshot: Snapshot, turns: Turns, preemptions: number): void;
  /** The search begins, or begins anew. */
  begin?(): void;
}

export interface SearchOptions {
  /** Preemptions in a schedule, at most. */
  readonly preemptions: number;
  /** At most so many turns; beyond that the search is bounded. */
  readonly most?: number;
  /**
   * Where a processor is preempted: `where-it-matters` (the default) leaves out what is equal to other schedules;
   * `at-shared` tries every boundary before an access to shared memory, `everywhere` every boundary.
   */
  readonly preempt?: 'where-it-matters' | 'at-shared' | 'everywhere';
  /** What is known to be shared; it grows. */
  readonly sharing: Sharing;
  /** Accesses to shared memory after which states are compared; default 48. */
  readonly compareAfter?: number;
  /** Looked at now and then: true ends the search. */
  readonly stop?: () => boolean;
}

export interface SearchCounts {
  /** Turns that were run. */
  turns: number;
  /** Schedules that were run to their end. */
  schedules: number;
  /** Schedules that ended in a state that had been gone on from before. */
  merged: number;
  /** Boundaries before accesses to shared memory at which a preemption was allowed. */
  points: number;
  /** Those at which one was tried: elsewhere it is equal to another. */
  preempted: number;
  /** Dwords of memory that processors share. */
  shared: number;
  /** Times that the search began anew since more memory turned out to be shared. */
  restarts: number;
}

export interface SearchResult {
  readonly counts: SearchCounts;
  /** Every schedule with so many preemptions was run, or is equal to one that was. */
  readonly complete: boolean;
}

/** Instructions without entering or leaving the kernel or sharing memory after which a processor is taken to wait. */
const PATIENCE = 200_000;
const PAGE = 4096;
const TSS_RSP0 = 4n;

/** A processor's run up to where it is not its turn any more. */
interface Run {
  readonly cpu: number;
  readonly log: AccessLog;
  length: number;
  /** Where another run has been through what would follow. */
  tail: { readonly run: Run; readonly from: number } | undefined;
  /** By processor that took over at its end: what it accessed in its turn. */
  readonly successors: Map<number, Accesses>;
}

interface Checkpoint {
  readonly at: number;
  readonly snapshot: Snapshot;
}

/** A place where a processor has been running. */
interface Visited {
  readonly preemptions: number;
  readonly run: Run;
  readonly at: number;
}

/** States in which processors were last found to wait. */
type Waiting = ReadonlyMap<number, number>;

/** Searches with up to `options.preemptions`. */
export function search(window: Window, options: SearchOptions, audience: Audience): SearchResult {
  const { sharing } = options;
  const runner = new Runner(window, sharing, options.compareAfter);
  let restarts = 0;
  try {
    for (;;) {
      audience.begin?.();
      sharing.grew = false;
      const found = new Search(runner, options, audience).run();
      if (!sharing.grew || !found.complete)
        return { ...found, counts: { ...found.counts, shared: sharing.shared, restarts } };
      restarts++;
    }
  } finally {
    runner.close();
  }
}

class Search {
  readonly #runner: Runner;
  readonly #window: Window;
  readonly #options: SearchOptions;
  readonly #audience: Audience;
  readonly #states: StateNumbers;
  readonly #visited: Map<number, Visited>[];
  readonly #counts: SearchCounts = {
    turns: 0,
    schedules: 0,
    merged: 0,
    points: 0,
    preempted: 0,
    shared: 0,
    restarts: 0,
  };
  #stopped = false;

  constructor(runner: Runner, options: SearchOptions, audience: Audience) {
    this.#runner = runner;
    this.#window = runner.window;
    this.#options = options;
    this.#audience = audience;
    this.#states = new StateNumbers(runner.window);
    this.#visited = this.#window.machine.cpus.map(() => new Map());
  }

  run(): SearchResult {
    const { cpus, start } = this.#window;
    for (const cpu of cpus) this.#turn(start, cpu, 0, [], new Set(cpus), new Map());
    return { counts: this.#counts, complete: !this.#stopped };
  }

  #enough(): boolean {
    const { most = Number.POSITIVE_INFINITY, stop } = this.#options;
    if (this.#counts.turns >= most || (this.#counts.turns % 64 === 0 && stop?.())) this.#stopped = true;
    return this.#stopped;
  }

  /**
   * Gives `cpu` its turn and explores all that may follow.
   * @param used preemptions before
   * @param open processors that have not done their part
   */
  #turn(
    from: Snapshot,
    cpu: number,
    used: number,
    before: Turns,
    open: ReadonlySet<number>,
    waiting: Waiting,
  ): Run {
    const run: Run = {
      cpu,
      log: new AccessLog(),
      length: 0,
      tail: undefined,
      successors: new Map(),
    };
    if (this.#enough()) return run;
    this.#counts.turns++;
    const { machine } = this.#window;
    const runner = this.#runner;
    machine.restore(from);
    runner.begin(cpu, run.log);
    const checkpoints: Checkpoint[] = [];
    const own = new Set<number>();
    let halt: Halt = 'pause';
    let snapshot = from;
    let state = 0;
    for (;;) {
      state = this.#states.of(snapshot);
      run.length = runner.at;
      if (halt !== 'pause') break;
      if (own.has(state)) {
        halt = 'idle';
        break;
      }
      const seen = this.#visited[cpu].get(state);
      if (seen && seen.preemptions <= used) {
        run.tail = { run: seen.run, from: seen.at };
        this.#counts.merged++;
        break;
      }
      own.add(state);
      this.#visited[cpu].set(state, { preemptions: used, run, at: run.length });
      checkpoints.push({ at: run.length, snapshot });
      halt = runner.run(PATIENCE);
      if (halt === 'exception' && !this.#troubled(before, run, used)) halt = 'pause';
      if (halt === 'limit') halt = 'idle';
      snapshot = machine.snapshot();
    }
    const turns = this.#with(before, { cpu, instructions: run.length });
    if (!run.tail) this.#after(halt, run, snapshot, state, used, turns, open, waiting);
    if (used < this.#options.preemptions)
      for (const other of open)
        if (other !== cpu) this.#preempt(run, other, checkpoints, used, before, open, waiting);
    return run;
  }

  /** Whether the exception that came ends the schedule. */
  #troubled(before: Turns, run: Run, used: number): boolean {
    const { exception } = this.#runner;
    if (!exception) return false;
    if (exception.cpl !== 3 && this.#window.mayFault.includes(exception.rip)) return false;
    const turns = this.#with(before, { cpu: run.cpu, instructions: this.#runner.at });
    const ends = this.#audience.trouble({ kind: 'exception', exception }, turns, used);
    if (ends) this.#counts.schedules++;
    return ends;
  }

  /** A turn has come to its end by itself: who else goes on? */
  #after(
    halt: Halt,
    run: Run,
    snapshot: Snapshot,
    state: number,
    used: number,
    turns: Turns,
    open: ReadonlySet<number>,
    waiting: Waiting,
  ): void {
    if (halt === 'exception' || halt === 'pause' || halt === 'limit') return;
    const { cpu } = run;
    if (halt === 'end') {
      const left = new Set(open);
      left.delete(cpu);
      if (left.size === 0) {
        this.#counts.schedules++;
        this.#audience.end(state, snapshot, turns, used);
        return;
      }
      for (const other of left) this.#follow(run, other, snapshot, used, turns, left, waiting);
      return;
    }
    if (halt !== 'idle') {
      this.#counts.schedules++;
      this.#audience.trouble({ kind: halt, cpu }, turns, used);
      return;
    }
    const now = new Map([...waiting, [cpu, state] as const]);
    const able = [...open].filter((other) => now.get(other) !== state);
    if (able.length === 0) {
      this.#counts.schedules++;
      this.#audience.trouble({ kind: 'deadlock', cpus: [...open] }, turns, used);
      return;
    }
    for (const other of able) this.#follow(run, other, snapshot, used, turns, open, now);
  }

  /** `other` goes on where `run` has ended. */
  #follow(
    run: Run,
    other: number,
    snapshot: Snapshot,
    used: number,
    turns: Turns,
    open: ReadonlySet<number>,
    waiting: Waiting,
  ): void {
    const next = this.#turn(snapshot, other, used, turns, open, waiting);
    run.successors.set(other, futureOf(next));
  }

  /** Lets `other` preempt a run wherever that makes a difference, from its end back to its beginning. */
  #preempt(
    run: Run,
    other: number,
    checkpoints: readonly Checkpoint[],
    used: number,
    before: Turns,
    open: ReadonlySet<number>,
    waiting: Waiting,
  ): void {
    const { cpu } = run;
    const { preempt = 'where-it-matters' } = this.#options;
    const exact = preempt === 'where-it-matters' && open.size <= 2;
    // Where the run was merged, what `other` does after it is not at hand: the last boundary is tried.
    let later = exact ? run.successors.get(other) : undefined;
    for (const { at, from, to } of preempt === 'everywhere' ? everyBoundary(run) : sharedBoundaries(run)) {
      this.#counts.points++;
      if (later !== undefined && !run.log.conflicts(from, to, later)) continue;
      if (this.#stopped) return;
      this.#counts.preempted++;
      const snapshot = this.#at(cpu, checkpoints, at);
      const turns = this.#with(before, { cpu, instructions: at });
      const next = this.#turn(snapshot, other, used + 1, turns, open, waiting);
      later = exact ? futureOf(next) : undefined;
    }
  }

  /** The state `at` instructions into a run. */
  #at(cpu: number, checkpoints: readonly Checkpoint[], at: number): Snapshot {
    const { machine } = this.#window;
    let nearest = checkpoints[0];
    for (const checkpoint of checkpoints) if (checkpoint.at <= at) nearest = checkpoint;
    if (nearest.at === at) return nearest.snapshot;
    machine.restore(nearest.snapshot);
    this.#runner.begin(cpu, undefined);
    if (!this.#runner.advance(at - nearest.at)) throw new Error('a run cannot be repeated');
    return machine.snapshot();
  }

  /** Appends a turn; two turns of one processor in a row are one. */
  #with(turns: Turns, turn: Turn): Turns {
    if (turn.instructions === 0) return turns;
    const last = turns.at(-1);
    if (last?.cpu !== turn.cpu) return [...turns, turn];
    return [...turns.slice(0, -1), { cpu: turn.cpu, instructions: last.instructions + turn.instructions }];
  }
}

/** A boundary of a run, and the accesses to shared memory that follow it: numbers [from, to) of the run's. */
interface Boundary {
  readonly at: number;
  readonly from: number;
  readonly to: number;
}

/** The boundaries before accesses to shared memory, last first; before its first instruction nothing is preempted. */
function* sharedBoundaries({ log }: Run): Generator<Boundary> {
  for (let to = log.length; to > 0; ) {
    const at = log.at(to - 1);
    let from = to - 1;
    while (from > 0 && log.at(from - 1) === at) from--;
    if (at > 0) yield { at, from, to };
    to = from;
  }
}

function* everyBoundary({ length }: Run): Generator<Boundary> {
  for (let at = length - 1; at > 0; at--) yield { at, from: 0, to: 0 };
}

/** All that a turn accesses if nobody preempts it. */
function futureOf(run: Run): Accesses {
  const accesses = new Accesses();
  for (let part: { run: Run; from: number } | undefined = { run, from: 0 }; part; part = part.run.tail)
    part.run.log.addTo(accesses, part.from);
  return accesses;
}

/** Numbers of a window's states (`explore/state-hash.ts`), of all its processors together. */
class StateNumbers {
  readonly #window: Window;
  readonly #pages = new Map<number, bigint>();

  constructor(window: Window) {
    this.#window = window;
    const { machine, stacks, start } = window;
    machine.restore(start);
    for (const { cpu, range } of stacks)
      for (let linear = range.start & ~0xfffn; linear < range.end; linear += BigInt(PAGE)) {
        const page = inspectPage(machine.cpus[cpu], linear);
        if (page) this.#pages.set(Math.floor(page.physical / PAGE), linear);
      }
  }

  /** The number of the present state, of which `snapshot` was just taken or restored. */
  of(snapshot: Snapshot): number {
    const { machine, cpus, start } = this.#window;
    const changed: ChangedPage[] = [];
    PageTree.difference(start.pages, snapshot.pages, (page, content) => {
      if (content) changed.push({ page, content });
    });
    return hashStates(
      machine,
      cpus.map((cpu) => machine.cpus[cpu]),
      cpus.map((cpu) => snapshot.tlbs[cpu]),
      changed,
      this.#pages,
      (linear) => ({ start: 0, end: bytesBelow(this.#liveFrom(linear), linear) }),
    );
  }

  /**
   * The lowest live address of the stack with a page at `linear`. Below RSP, and in user mode below where the next entry
   * begins to push, nothing is live; of a stack that RSP is not on nothing is known.
   */
  #liveFrom(linear: bigint): bigint {
    const { machine, stacks } = this.#window;
    const on = ({ range }: KernelStack, at: bigint) => at >= range.start && at <= range.end;
    const stack = stacks.find((each) => on(each, linear + 8n));
    if (!stack) return linear;
    const cpu = machine.cpus[stack.cpu];
    let pointer = cpu.gpr[RSP];
    if (cpu.cpl === 3) {
      const bytes = machine.readMemory(cpu.segBase[TR] + TSS_RSP0, 8, stack.cpu);
      pointer = new DataView(bytes.buffer).getBigUint64(0, true);
    }
    return on(stack, pointer) ? pointer : linear;
  }
}
