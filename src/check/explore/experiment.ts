/**
 * Experiments on one visit: the run without events, boundary by boundary, and what becomes of it with them.
 *
 * Other processors stand still and no timer fires, so what differs is the events' doing alone.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { inspectPage, prefetchTranslation } from '../../arch/paging.ts';
import { GS, RSP } from '../../isa/state.ts';
import type { Machine } from '../../machine/machine.ts';
import { PageTree } from '../../machine/page-tree.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { disassemble } from '../disassemble.ts';
import { type EventKind, inject, type Schedule, type ScheduledEvent, vectorOf } from '../event.ts';
import type { KernelStack, Subject } from '../subject.ts';
import { type TrackedVisit, trackVisit } from '../taint/index.ts';
import { type UserPage, userPages } from '../user-pages.ts';
import {
  cr3Of,
  differences,
  ripOf,
  sameUserState,
  setGsBase,
  type UserState,
  userState,
} from '../user-state.ts';
import { pageOf } from './conditions.ts';
import type { FlowCache } from './flow-cache.ts';
import { FootprintRecorder } from './footprint.ts';
import { IndifferentMemory } from './indifferent-memory.ts';
import type { KnownRun } from './known-runs.ts';
import { type Delivery, Observation, type RunEnding, type Seen, STORM } from './observation.ts';
import { ProcessorState } from './processor-state.ts';
import { Recall, signedAddress } from './recall.ts';
import { type DeadPart, StackMemory } from './stack-memory.ts';
import { type ChangedPage, hashDevices, hashState, type StackPages } from './state-hash.ts';
import { staleTranslations, tablePages } from './translations.ts';
import { LONGEST_VISIT, trigger, USER_MARGIN, type Visit } from './visit.ts';

const PAGE = 4096;
/** Instructions beyond the visit's own that a run may take before it counts as one that goes on and on. */
const PATIENCE = 20_000;
/** The same, over all processors, where one waits for another. */
const PATIENCE_TOGETHER = 5_000_000;
/** From an event's delivery to its work, in instructions. */
const LONGEST_WAY_TO_WORK = 2_000;
/** Lengths of that way to remember. */
const MOST_WAYS_TO_WORK = 8;
/** The same for the way back from a handler that returns without IRET. */
const LONGEST_WAY_BACK = 500;
const MOST_WAYS_BACK = 8;
const NO_WAYS: readonly number[] = [];
/** How long another task may have its turn. */
const PATIENCE_WITH_TASKS = 200_000;
/** Where user mode's GS base is put: canonical, below the kernel's half, in pages of nobody. */
const POISON = 0x5a5a_5a5a_0000n;

/** A boundary of the visit without events. */
export interface Boundary {
  /** Instructions and deliveries since the visit's beginning. */
  readonly at: number;
  readonly rip: bigint;
  readonly cpl: number;
  readonly snapshot: Snapshot;
  /** In user mode: what it sees. */
  readonly state: UserState | undefined;
}

/** The visit without events. */
export interface Baseline {
  readonly boundaries: readonly Boundary[];
  /** Those in user mode. */
  readonly user: readonly Boundary[];
  /** The last boundary before the kernel is entered. */
  readonly entry: Boundary;
  /** The first boundary after the return. */
  readonly back: Boundary;
  readonly deliveries: readonly Delivery[];
  readonly throughUserGs: readonly bigint[];
}

/** What became of a run with events. */
export interface Outcome {
  readonly ending: RunEnding;
  /** RIP where it ended. */
  readonly rip: bigint;
  readonly deliveries: readonly Delivery[];
  readonly throughUserGs: readonly bigint[];
  readonly reused: bigint | undefined;
  /** The vector of an event whose work was not begun before user mode went on. */
  readonly unserved: number | undefined;
  /** Where the kernel gave up after a fault that it has to expect. */
  readonly gaveUp: bigint | undefined;
  /** In user mode: the boundary that it should be at, what it sees, and the user pages that differ. */
  readonly expected: Boundary | undefined;
  readonly state: UserState | undefined;
  readonly memory: readonly MemoryDifference[];
  /** Bytes of other ministacks that changed. */
  readonly strayMinistack: readonly MemoryDifference[];
  /** Instructions from the beginning of the visit. */
  readonly length: number;
}

export interface MemoryDifference {
  readonly linear: bigint;
  readonly expected: number;
  readonly found: number;
}

const ZEROS = new Uint8Array(PAGE);
/** Of CR3: where the PML4 table is. */
const ADDRESS_OF_TABLE = 0xf_ffff_ffff_f000n;

/** Whether two pages are equal. */
function equalPages(a: Uint8Array, b: Uint8Array): boolean {
  const x = new Uint32Array(a.buffer, a.byteOffset, PAGE / 4);
  const y = new Uint32Array(b.buffer, b.byteOffset, PAGE / 4);
  for (let i = 0; i < PAGE / 4; i++) if (x[i] !== y[i]) return false;
  return true;
}

/** What is dead of a page of memory, and up to where of it a run writes. */
interface UsedDead extends DeadPart {
  readonly linear: bigint;
  used: number;
}

const NOTHING_DEAD: DeadPart = { start: 0, end: 0 };

/** A visit that did not come back by itself. */
export class NoReturn extends Error {
  readonly ending: RunEnding;
  readonly rip: bigint;
  readonly observation: Pick<Observation, 'deliveries' | 'throughUserGs'>;

  constructor(
    ending: RunEnding,
    rip: bigint,
    observation: Pick<Observation, 'deliveries' | 'throughUserGs'>,
  ) {
    super(ending);
    this.ending = ending;
    this.rip = rip;
    this.observation = observation;
  }
}

/** One machine with one visit of a subject. */
export class Experiment {
  readonly machine: Machine;
  readonly subject: Subject;
  readonly visit: Visit;
  readonly cpu: Cpu;
  readonly baseline: Baseline;
  readonly observation: Observation;
  /** The machine at the visit's beginning, with a GS base in user mode that no kernel may use. */
  readonly begin: Snapshot;
  readonly stacks: readonly KernelStack[];
  /** By vector, ascending: instructions from an event's injection to its work. */
  readonly #waysToWork = new Map<number, readonly number[]>();
  /** By kind of event, ascending: instructions from its injection to the return of a handler that returns without IRET. */
  readonly #waysBack = new Map<EventKind, readonly number[]>();
  /** Runs that may be spent on learning these. */
  #lessons = 200;
  /** Other tasks of user mode may run before this one goes on, and change memory as they will. */
  othersMayRun = false;
  readonly #userPages: ReadonlyMap<number, UserPage>;
  readonly #stackPages: StackPages;
  readonly #stackMemory: StackMemory;
  /** User pages that change in the visit without events. */
  readonly #changing: readonly number[];
  readonly #ministackPages: readonly number[];
  /** This processor's. */
  readonly #ownMinistacks: IndifferentMemory;
  /** Memory that no state is told by. */
  readonly #indifferent: IndifferentMemory;
  readonly #scratch: UserState;
  /** The visit is being watched without events. */
  #watching = true;
  /** Physical addresses of the PML4 tables in use then, and pages of all paging structures under them. */
  readonly #roots = new Set<number>();
  readonly #tables: ReadonlySet<number>;
  /** Whether any of these has been written between the visit's beginning and the snapshot looked at last. */
  #tablesWritten = false;
  #lookedAt: Snapshot | undefined;
  /** What the processor was as an event struck. */
  readonly #struckAt = new ProcessorState();
  readonly #recall: Recall;
  /** The snapshot taken or gone back to last: memory differs from it by `Machine.changedPages`. */
  #base: Snapshot;
  readonly #firstInstruction: bigint;
  /** GS base that user mode had of itself. */
  readonly #ownGs: bigint;

  /** Throws NoReturn if the visit does not come back to user mode by itself. */
  constructor(machine: Machine, subject: Subject, visit: Visit, stacks: readonly KernelStack[]) {
    this.machine = machine;
    this.subject = subject;
    this.visit = visit;
    this.stacks = stacks;
    this.cpu = machine.cpus[visit.cpu];
    machine.restore(visit.begin);
    machine.serial.onOutput = () => {};
    this.observation = new Observation(machine, visit.cpu);
    const { cpu } = this;
    this.#ownGs = cpu.segBase[GS];
    if (cpu.longMode && inspectPage(cpu, POISON) === null) {
      cpu.segBase[GS] = POISON;
      this.observation.poison = POISON;
    }
    // Handlers' stacks are at hand from the beginning: else each event would fill the TLB anew.
    for (const { range } of stacks)
      for (let linear = range.start & ~0xfffn; linear < range.end; linear += BigInt(PAGE))
        prefetchTranslation(cpu, linear);
    // States that differ in counters are one: of a visit's beginning, that with all bits set, from which they overflow and
    // whatever takes more of their bits than it should goes farthest. In user mode nothing that was counted is under way.
    for (const { start, end } of subject.counters ?? [])
      if (inspectPage(cpu, start))
        machine.writeMemory(start, new Uint8Array(Number(end - start)).fill(0xff), visit.cpu);
    this.begin = machine.snapshot();
    this.#base = this.begin;
    this.#firstInstruction = cpu.instructions;
    this.#userPages = userPages(machine, visit.cpu);
    this.#stackPages = this.#pagesOf(stacks);
    this.#stackMemory = new StackMemory(cpu, this.observation, stacks, subject.foreign === true);
    this.#ministackPages = this.#pagesOfMinistacks();
    const own = subject.ministacks.filter(({ cpu }) => cpu === visit.cpu);
    this.#ownMinistacks = new IndifferentMemory(
      this.cpu,
      own.map(({ address, size }) => ({ start: address, end: address + BigInt(size) })),
    );
    this.#recall = new Recall(machine, cpu, this.begin.pages, this.observation, (linear) =>
      this.#stackMemory.liveFrom(linear),
    );
    this.#indifferent = new IndifferentMemory(this.cpu, [...subject.mayDiffer, ...(subject.counters ?? [])]);
    this.#scratch = this.#state();
    this.baseline = this.#runBaseline();
    this.#watching = false;
    this.restore(this.begin);
    this.#tables = tablePages(this.#roots, machine.ramDwords);
    const changing = new Set<number>();
    for (const { snapshot } of [this.baseline.back, ...this.baseline.user])
      PageTree.difference(this.begin.pages, snapshot.pages, (page) => {
        if (this.#userPages.has(page)) changing.add(page);
      });
    this.#changing = [...changing];
  }

  close(): void {
    this.observation.close();
  }

  /** Instructions and deliveries since the visit's beginning. */
  get at(): number {
    return Number(this.cpu.instructions - this.#firstInstruction);
  }

  /** Goes back to a state of this visit. */
  restore(snapshot: Snapshot): void {
    this.othersMayRun = false;
    this.#base = snapshot;
    this.machine.restore(snapshot);
    this.observation.reset();
  }

  /** The machine as it stands. Snapshots in an experiment are to be taken here. */
  snapshot(): Snapshot {
    this.#base = this.machine.snapshot();
    return this.#base;
  }

  /** One instruction or delivery. @returns the ending, if it ended */
  step(): RunEnding | undefined {
    const { reason } = this.machine.runAlone(this.visit.cpu, 1);
    this.#stackMemory.note(this.#watching);
    if (this.#watching && this.cpu.longMode) this.#roots.add(Number(this.cpu.cr3 & ADDRESS_OF_TABLE));
    return this.#ending(reason);
  }

  /**
   * Runs from an injected event to user mode.
   * @returns how it ended; judge it by {@link outcome}
   */
  runToUser(): RunEnding {
    const { machine, visit, cpu, observation } = this;
    observation.atUser = false;
    if (cpu.cpl === 3) {
      const first = this.step();
      if (first) return first;
      if (cpu.cpl === 3) return 'user';
    }
    return this.#awaitUser(machine.runAlone(visit.cpu, this.#patience).reason);
  }

  /**
   * Runs from an event that has just struck at `from` in kernel mode: as far as where its handler returns, if all is there
   * as it was, for the rest has then been seen; else to user mode.
   * @param again lets the event strike there once more
   * @returns how it ended; 'back' in the first case
   */
  runBack(from: Snapshot, kind: EventKind, again: () => void): RunEnding | 'back' {
    const { machine, visit, cpu, observation } = this;
    if (cpu.cpl === 3 || kind === 'fault') return this.runToUser();
    observation.atUser = false;
    observation.awaitReturn();
    const known = this.#waysBack.get(kind) ?? NO_WAYS;
    let reason = 'limit';
    let done = 0;
    /** To another state: there is no other way back to learn. */
    let returned = false;
    for (let i = 0; i <= known.length; i++) {
      const length = i < known.length ? known[i] : this.#patience;
      reason = machine.runAlone(visit.cpu, length - done).reason;
      if (reason !== 'limit') break;
      done = length;
      if (this.#isBack(from)) return 'back';
      returned ||= this.#struckAt.at(cpu) && this.#struckAt.same(machine, cpu);
    }
    if (observation.cameBack && !observation.atUser) {
      if (this.#isBack(from)) return 'back';
      returned ||= this.#struckAt.at(cpu);
      reason = 'limit';
    }
    const ending = reason === 'limit' ? this.runToUser() : this.#awaitUser(reason);
    if (ending !== 'user' || returned || known.length >= MOST_WAYS_BACK || this.#lessons <= 0) return ending;
    this.#lessons--;
    again();
    return this.#learnWayBack(from, kind);
  }

  /** As {@link runBack}, step by step: handlers that return without IRET are known by how many instructions they take. */
  #learnWayBack(from: Snapshot, kind: EventKind): RunEnding | 'back' {
    this.observation.atUser = false;
    for (let steps = 1; steps <= LONGEST_WAY_BACK; steps++) {
      const ending = this.step();
      if (ending !== undefined) return ending;
      if (!this.#isBack(from)) continue;
      const known = this.#waysBack.get(kind) ?? NO_WAYS;
      if (!known.includes(steps))
        this.#waysBack.set(
          kind,
          [...known, steps].sort((x, y) => x - y),
        );
      return 'back';
    }
    return this.runToUser();
  }

  #isBack(from: Snapshot): boolean {
    return this.#struckAt.at(this.cpu) && this.asItWas(from);
  }

  get #patience(): number {
    return this.baseline.back.at + PATIENCE;
  }

  /** After a run to user mode that stopped for `reason`. */
  #awaitUser(reason: string): RunEnding {
    const { machine } = this;
    const ending = this.#ending(reason);
    if (ending !== 'stuck' && ending !== undefined) return ending;
    if (ending === undefined && machine.cpus.length === 1) return 'hang';
    // It may wait for another processor or for a device.
    for (let left = PATIENCE_TOGETHER; left > 0; ) {
      const before = machine.instructions;
      const together = machine.run({ maxInstructions: left });
      left -= machine.instructions - before;
      const end = this.#ending(together.reason);
      if (end === 'stuck') return 'stuck';
      if (end !== undefined) return end;
      if (together.reason === 'limit') break;
    }
    return ending ?? 'hang';
  }

  /**
   * A kernel that has gone on with another task of user mode may come back to this one: runs on until it does.
   * @returns whether it did
   */
  awaitTask(): boolean {
    const { machine, cpu, observation, baseline } = this;
    // The task is known by its page tables.
    const here = () =>
      baseline.user.some(({ rip, state }) => rip === cpu.rip && state && cr3Of(state) === cpu.cr3);
    for (let left = PATIENCE_WITH_TASKS; !here(); ) {
      observation.atUser = false;
      const before = machine.instructions;
      const { reason } = machine.run({ maxInstructions: left });
      left -= machine.instructions - before;
      if (left <= 0 || (reason !== 'hook' && reason !== 'limit')) return false;
    }
    return true;
  }

  /**
   * Runs until the work of an injected event begins. The way there has few lengths, which are learnt: most runs need not be
   * stepped through.
   * @param again goes back to where the event has just been injected
   * @returns how the run ended, if it did before
   */
  runToWork(vector: number, again: () => void): RunEnding | undefined {
    const address = this.subject.work.get(vector);
    if (address === undefined) return undefined;
    const known = this.#waysToWork.get(vector) ?? [];
    this.observation.atUser = false;
    let done = 0;
    for (const length of known) {
      if (this.machine.runAlone(this.visit.cpu, length - done).reason !== 'limit') break;
      if (this.cpu.rip === address) return undefined;
      done = length;
    }
    if (known.length > 0) again();
    return this.stepToWork(vector);
  }

  /**
   * Steps from a fault to user mode, or to where the kernel gives up.
   * @returns how the run ended, if it did
   */
  stepFromFault(): RunEnding | undefined {
    const { cpu, observation } = this;
    const { gaveUp } = this.subject;
    observation.atUser = false;
    for (let left = this.baseline.back.at + PATIENCE; left > 0; left--) {
      const ending = this.step();
      if (ending !== undefined) return ending;
      if (!gaveUp.includes(cpu.rip)) continue;
      observation.gaveUp = cpu.rip;
      break;
    }
    return undefined;
  }

  /** As {@link runToWork}, step by step. */
  stepToWork(vector: number): RunEnding | undefined {
    const address = this.subject.work.get(vector);
    if (address === undefined) return undefined;
    const known = this.#waysToWork.get(vector) ?? [];
    this.observation.atUser = false;
    for (let steps = 1; steps <= LONGEST_WAY_TO_WORK; steps++) {
      const ending = this.step();
      if (ending === 'user') this.observation.unserved = vector;
      if (ending !== undefined) return ending;
      if (this.cpu.rip !== address) continue;
      if (known.length < MOST_WAYS_TO_WORK && !known.includes(steps))
        this.#waysToWork.set(
          vector,
          [...known, steps].sort((x, y) => x - y),
        );
      return undefined;
    }
    return undefined;
  }

  #ending(reason: string): RunEnding | undefined {
    if (this.observation.atUser) return 'user';
    if (this.observation.deliveries.length >= STORM) return 'storm';
    switch (reason) {
      case 'limit':
      case 'hook':
        return undefined;
      case 'deadlock':
        return 'stuck';
      default:
        return reason as RunEnding;
    }
  }

  /**
   * Restores `from`, where `seen` had been seen, and lets `event` happen there.
   * @returns whether the machine took it
   */
  strike(from: Snapshot, event: Omit<ScheduledEvent, 'at'>, seen?: Seen): boolean {
    this.restore(from);
    if (seen) this.observation.restore(seen);
    this.#struckAt.take(this.machine, this.cpu);
    return inject(this.machine, this.visit.cpu, event);
  }

  /** What the present state is, after a run that ended so. */
  outcome(ending: RunEnding): Outcome {
    const { cpu, observation } = this;
    const state = ending === 'user' ? this.#state() : undefined;
    const expected = state && this.#expected(state);
    return {
      ending,
      rip: cpu.rip,
      deliveries: observation.deliveries,
      throughUserGs: observation.throughUserGs,
      reused: observation.reused,
      unserved: observation.unserved,
      gaveUp: observation.gaveUp,
      expected,
      state,
      memory: expected ? this.#memoryDifferences(expected) : [],
      strayMinistack: this.#strayMinistack(),
      length: this.at,
    };
  }

  /** What the visit is without events, to be judged like any other. */
  baselineOutcome(): Outcome {
    const { back, deliveries, throughUserGs } = this.baseline;
    this.restore(this.begin);
    while (this.at < back.at) this.step();
    return {
      ...this.outcome('user'),
      deliveries,
      throughUserGs,
      expected: back,
      state: back.state,
      memory: [],
    };
  }

  /** Follows the kernel's secrets through a schedule of events to user mode. */
  track(schedule: Schedule): TrackedVisit {
    this.restore(this.begin);
    const { machine, visit, subject } = this;
    let next = 0;
    const tracked = trackVisit(machine, visit.cpu, {
      declassify: subject.declassify,
      advance: (each, cpu) => each.runAlone(cpu, 1),
      onBoundary: () => {
        this.trigger();
        for (; next < schedule.length && schedule[next].at <= this.at; next++)
          inject(machine, visit.cpu, schedule[next]);
      },
    });
    this.observation.reset();
    return tracked;
  }

  /** Where the visit without events comes to what the subject calls giving up. */
  gaveUp(): bigint | undefined {
    const { gaveUp } = this.subject;
    return this.baseline.boundaries.find(({ rip }) => gaveUp.includes(rip))?.rip;
  }

  /** Linear addresses in the upper half, which 64-bit kernels keep for themselves, of pages that user mode can reach. */
  get exposed(): bigint[] {
    return [...this.#userPages.values()].map(({ linear }) => linear).filter((linear) => linear >> 63n !== 0n);
  }

  /** By linear address: the user pages that the visit changes, as they are at a boundary, but for what may differ. */
  userMemory(boundary: Boundary): Map<bigint, Uint8Array> {
    const memory = new Map<bigint, Uint8Array>();
    for (const page of this.#changing) {
      const { linear } = this.#userPages.get(page) as UserPage;
      const content = (boundary.snapshot.pages.get(page) ?? ZEROS).slice();
      for (const { start, end } of this.subject.mayDiffer)
        for (let i = 0; i < PAGE; i++)
          if (linear + BigInt(i) >= start && linear + BigInt(i) < end) content[i] = 0;
      memory.set(linear, content);
    }
    return memory;
  }

  /** Where the events of a schedule strike: replays it. */
  placesOf(schedule: Schedule): { rip: bigint; cpl: number }[] {
    const places: { rip: bigint; cpl: number }[] = [];
    this.restore(this.begin);
    for (const event of schedule) {
      this.#goTo(event.at);
      places.push({ rip: this.cpu.rip, cpl: this.cpu.cpl });
      inject(this.machine, this.visit.cpu, event);
    }
    return places;
  }

  /** Goes through the visit without events, with another stack pointer in user mode as the kernel is entered. */
  withStackPointer(pointer: bigint): Outcome {
    this.restore(this.baseline.entry.snapshot);
    this.cpu.gpr[RSP] = pointer;
    let entered = false;
    for (let steps = 0; steps < this.baseline.back.at + PATIENCE; steps++) {
      this.observation.atUser = false;
      const ending = this.step();
      if (ending !== undefined && (ending !== 'user' || entered)) return this.outcome(ending);
      if (this.cpu.cpl !== 3) entered = true;
    }
    return this.outcome('hang');
  }

  /** Replays a schedule to user mode. */
  replay(schedule: Schedule): Outcome {
    this.restore(this.begin);
    for (const event of schedule) {
      this.#goTo(event.at);
      inject(this.machine, this.visit.cpu, event);
    }
    const [event] = schedule;
    const vector = vectorOf(event);
    const from = vector === undefined || schedule.length > 1 ? undefined : this.snapshot();
    const ending =
      from && vector !== undefined
        ? this.runToWork(vector, () => this.restore(from))
        : schedule.at(-1)?.kind === 'fault'
          ? this.stepFromFault()
          : undefined;
    return this.outcome(ending ?? this.runToUser());
  }

  /** Steps to a boundary, with the interrupt that enters the visit. */
  #goTo(at: number): void {
    this.trigger();
    while (this.at < at) {
      this.observation.atUser = false;
      const ending = this.step();
      if (ending !== undefined && ending !== 'user') return;
      this.trigger();
    }
  }

  /** The instruction at an address of the other privilege: as the visit has it at a boundary of that RIP. */
  disassembleAt(rip: bigint): { text: string } {
    const boundary = this.baseline.boundaries.find((each) => each.rip === rip);
    if (boundary) this.restore(boundary.snapshot);
    return disassemble(this.machine, this.visit.cpu, rip);
  }

  /** Whether user mode is where it would be without events and cannot tell that there were any. */
  undisturbed(): boolean {
    const state = this.#state(this.#scratch);
    for (const boundary of this.baseline.user)
      if (boundary.state && sameUserState(boundary.state, state))
        return (
          this.#memoryDifferences(boundary).length === 0 &&
          (this.#ministackPages.length === 0 || this.#strayMinistack().length === 0)
        );
    return false;
  }

  /** The number of the present state (see `state-hash.ts`), for snapshots just taken. */
  hash(snapshot: Snapshot): number {
    const changed: ChangedPage[] = [];
    PageTree.difference(this.begin.pages, snapshot.pages, (page, content) => {
      if (content === undefined) return;
      const told = this.#indifferent.without(page, content);
      const before = told === content ? undefined : this.begin.pages.get(page);
      if (before && equalPages(told, this.#indifferent.without(page, before))) return;
      changed.push({ page, content: told });
    });
    const hash = hashState(this.machine, this.cpu, changed, this.#stackPages, (linear) =>
      this.#stackMemory.dead(linear),
    );
    const otherwise = this.#translatedOtherwise();
    if (!this.subject.foreign && otherwise === 0) return hash;
    const { schedule: _, random: __, ...devices } = snapshot.parts;
    return (hash % 2 ** 52) + 2 ** 20 * ((hashDevices(devices) ^ otherwise) >>> 0);
  }

  /**
   * A number for the translations that the processor has and its page tables do not give, 0 if none. There can be some only if tables
   * have been written since the visit's beginning; what walks of them set there counts as well.
   */
  #translatedOtherwise(): number {
    const tables = this.#tables;
    if (this.#lookedAt !== this.#base) {
      this.#lookedAt = this.#base;
      this.#tablesWritten = false;
      PageTree.difference(this.begin.pages, this.#base.pages, (page) => {
        this.#tablesWritten ||= tables.has(page);
      });
    }
    let written = this.#tablesWritten;
    for (const page of this.machine.changedPages()) written ||= tables.has(page);
    return written ? staleTranslations(this.cpu) : 0;
  }

  /** Whether the machine is as in `from`, where an event struck, but for what is dead and for time. */
  asItWas(from: Snapshot): boolean {
    const { machine, cpu } = this;
    if (!this.#struckAt.same(machine, cpu)) return false;
    return this.#memoryAsItWas(from) && machine.devicesAre(from) && this.#translatedOtherwise() === 0;
  }

  #memoryAsItWas(from: Snapshot): boolean {
    const { machine } = this;
    for (const page of machine.changedPages()) if (!this.#pageAsItWas(page, from)) return false;
    if (this.#base === from) return true;
    let same = true;
    PageTree.difference(this.#base.pages, from.pages, (page) => {
      same &&= this.#pageAsItWas(page, from);
    });
    return same;
  }

  #pageAsItWas(page: number, from: Snapshot): boolean {
    const linear = this.#stackPages.get(page);
    const now = this.machine.physicalPage(page);
    const then = from.pages.get(page) ?? ZEROS;
    if (linear === undefined || this.#ministackPages.includes(page))
      return this.#indifferent.equal(page, now, then, 0, PAGE);
    const { start, end } = this.#stackMemory.dead(linear);
    return (
      this.#indifferent.equal(page, now, then, 0, start) &&
      this.#indifferent.equal(page, now, then, end, PAGE)
    );
  }

  /** Whether known runs would repeat themselves at the boundary where the processor stands. */
  recall(): Recall {
    this.#recall.look(this.#base);
    return this.#recall;
  }

  /** The kernel's code here can have a footprint. */
  get canLearn(): boolean {
    return this.cpu.mode64 && this.cpu.cpl !== 3 && this.#translatedOtherwise() === 0;
  }

  /**
   * What the run after an event, which has come back to where the event struck in `length` steps, depends on: lets the event
   * strike there once more. The machine is then anywhere.
   * @returns undefined if it cannot be told
   */
  learnRun(
    from: Snapshot,
    event: ScheduledEvent,
    seen: Seen | undefined,
    length: number,
    flows: FlowCache,
  ): KnownRun | undefined {
    const { machine, visit, observation } = this;
    if (!this.strike(from, event, seen)) return undefined;
    const before = observation.deliveries.length;
    const accesses = machine.deviceAccesses;
    const recorder = new FootprintRecorder(machine, visit.cpu, from.pages, flows);
    let ended = false;
    const advance = () => {
      ended = machine.runAlone(visit.cpu, 1).reason !== 'limit';
    };
    try {
      for (let step = 0; step < length; step++) {
        // The first step is the delivery, and must be the only one.
        if (!(step === 0 ? recorder.deliver(advance) : recorder.step(advance)) || ended) return undefined;
        if (observation.deliveries.length !== before + 1) return undefined;
      }
      if (!recorder.handsThrough || !this.#isBack(from) || machine.deviceAccesses !== accesses)
        return undefined;
      const dead = new Map<number, UsedDead>();
      const conditions = recorder.conditions((dword, bits) => {
        const part = this.#deadPart(pageOf(dword), dead);
        const offset = (dword * 4) % PAGE;
        if (offset < part.start || offset >= part.end) return bits & ~this.#indifferent.bitsOf(dword);
        part.used = Math.max(part.used, offset + 4);
        return 0;
      });
      if (conditions === undefined) return undefined;
      return {
        conditions,
        comparisons: recorder.comparisons,
        dead: [...dead.values()]
          .filter(({ used }) => used > 0)
          .map(({ linear, used }) => ({ page: signedAddress(linear), end: signedAddress(linear) + used })),
        frames: observation.deliveries
          .slice(before)
          .map(({ frame, bytes }) => ({ start: signedAddress(frame), end: signedAddress(frame + bytes) })),
      };
    } finally {
      recorder.close();
    }
  }

  /** What is dead of a page, and how far that is used. */
  #deadPart(page: number, parts: Map<number, UsedDead>): UsedDead {
    let part = parts.get(page);
    if (part === undefined) {
      const linear = this.#ministackPages.includes(page) ? undefined : this.#stackPages.get(page);
      const { start, end } = linear === undefined ? NOTHING_DEAD : this.#stackMemory.dead(linear);
      part = { linear: linear ?? 0n, start, end, used: 0 };
      parts.set(page, part);
    }
    return part;
  }

  /** The stack of an address. */
  stackOf(address: bigint): KernelStack | undefined {
    return this.#stackMemory.stackOf(address);
  }

  #state(into?: UserState): UserState {
    const { cpu, machine, visit, subject, observation } = this;
    const state = userState(cpu, machine.interruptRequests(visit.cpu).inService, into);
    // A kernel that switches tasks may know of itself which GS base each has, and undo what was put in its place.
    if (subject.foreign && observation.poison !== undefined && cpu.segBase[GS] === this.#ownGs)
      setGsBase(state, observation.poison);
    return state;
  }

  /** Where user mode should be: the boundary of the same RIP whose state is nearest, else the first after the return. */
  #expected(state: UserState): Boundary {
    const { user, back } = this.baseline;
    const same = user.find((boundary) => boundary.state && sameUserState(boundary.state, state));
    if (same) return same;
    // A loop of user mode passes one RIP several times.
    const alike = user.find(
      (boundary) =>
        boundary.state &&
        differences(boundary.state, state).every(({ name, visible }) => !visible && name !== 'cr3'),
    );
    if (alike) return alike;
    const rip = ripOf(state);
    const there = user
      .filter((boundary) => boundary.rip === rip)
      .sort((a, b) => Number(sameTask(b, state)) - Number(sameTask(a, state)));
    return there.find((boundary) => boundary === back && sameTask(back, state)) ?? there[0] ?? back;
  }

  #memoryDifferences(boundary: Boundary): MemoryDifference[] {
    if (this.othersMayRun) return [];
    const pages = [...this.machine.changedPages()].filter((page) => this.#userPages.has(page));
    PageTree.difference(this.#base.pages, boundary.snapshot.pages, (page) => {
      if (this.#userPages.has(page) && !pages.includes(page)) pages.push(page);
    });
    const found: MemoryDifference[] = [];
    for (const page of pages) {
      const { linear } = this.#userPages.get(page) as UserPage;
      if (this.subject.mayDiffer.some(({ start, end }) => linear >= start && linear + BigInt(PAGE) <= end))
        continue;
      compare(this.machine.physicalPage(page), boundary.snapshot.pages.get(page), linear, found);
    }
    if (found.length === 0) return found;
    return found.filter(
      ({ linear }) => !this.subject.mayDiffer.some(({ start, end }) => linear >= start && linear < end),
    );
  }

  /** Bytes of ministack pages that changed and are not this processor's. */
  #strayMinistack(): MemoryDifference[] {
    const found: MemoryDifference[] = [];
    const changed = this.machine.changedPages();
    for (const page of this.#ministackPages) {
      if (!changed.includes(page) && this.#base.pages.get(page) === this.begin.pages.get(page)) continue;
      const before = this.begin.pages.get(page) ?? ZEROS;
      if (this.#ownMinistacks.equal(page, this.machine.physicalPage(page), before, 0, PAGE)) continue;
      const now = this.machine.readPhysical(page * PAGE, PAGE);
      compare(this.#ownMinistacks.without(page, now), this.#ownMinistacks.without(page, before), 0n, found);
    }
    return found;
  }

  #pagesOf(stacks: readonly KernelStack[]): Map<number, bigint> {
    const pages = new Map<number, bigint>();
    for (const { range } of stacks)
      for (let linear = range.start & ~0xfffn; linear < range.end; linear += BigInt(PAGE)) {
        const page = inspectPage(this.cpu, linear);
        if (page) pages.set(Math.floor(page.physical / PAGE), linear);
      }
    return pages;
  }

  #pagesOfMinistacks(): number[] {
    const pages = new Set<number>();
    for (const { address } of this.subject.ministacks) {
      const page = inspectPage(this.cpu, address);
      if (page) pages.add(Math.floor(page.physical / PAGE));
    }
    return [...pages];
  }

  #boundary(): Boundary {
    const { cpu } = this;
    return {
      at: this.at,
      rip: cpu.rip,
      cpl: cpu.cpl,
      snapshot: this.snapshot(),
      state: cpu.cpl === 3 ? this.#state() : undefined,
    };
  }

  /** Lets the interrupt come that enters the visit, if it is due and not there by itself: before each step of a replay. */
  trigger(): void {
    trigger(this.machine, this.visit, this.at);
  }

  #noReturn(ending: RunEnding): NoReturn {
    const { deliveries, throughUserGs } = this.observation;
    this.close();
    return new NoReturn(ending, this.cpu.rip, { deliveries, throughUserGs });
  }

  #runBaseline(): Baseline {
    const { cpu, observation } = this;
    observation.reset();
    this.trigger();
    const boundaries: Boundary[] = [this.#boundary()];
    let entered = false;
    let back: Boundary | undefined;
    while (back === undefined || boundaries.length - boundaries.indexOf(back) <= USER_MARGIN) {
      const before = cpu.cpl;
      const ending = this.step();
      if (ending !== undefined && ending !== 'user') {
        if (back) break;
        throw this.#noReturn(ending);
      }
      if (cpu.cpl !== 3 && before === 3) {
        if (back || (entered && back)) break;
        entered = true;
      }
      // With a trap waiting, user mode is as good as left.
      if (back && (cpu.cpl !== 3 || cpu.pendingDebug !== 0)) break;
      this.trigger();
      const boundary = this.#boundary();
      boundaries.push(boundary);
      if (entered && back === undefined && cpu.cpl === 3) back = boundary;
      if (boundaries.length > LONGEST_VISIT) throw this.#noReturn('hang');
    }
    return {
      boundaries,
      user: boundaries.filter(({ cpl }) => cpl === 3),
      entry: boundaries[Math.max(0, boundaries.findIndex(({ cpl }) => cpl !== 3) - 1)],
      back,
      // Copies: as long as they are empty, later runs would be noted in the same lists.
      deliveries: observation.deliveries.slice(),
      throughUserGs: observation.throughUserGs.slice(),
    };
  }
}

/** Tasks are told by their page tables. */
function sameTask({ state }: Boundary, other: UserState): boolean {
  return state !== undefined && cr3Of(state) === cr3Of(other);
}

/** @param found, expected a page each; undefined stands for zeros */
function compare(
  found: Uint8Array,
  expected: Uint8Array | undefined,
  linear: bigint,
  into: MemoryDifference[],
): void {
  if (equalPages(found, expected ?? ZEROS)) return;
  for (let i = 0; i < found.length; i++) {
    const wanted = expected ? expected[i] : 0;
    if (found[i] !== wanted) into.push({ linear: linear + BigInt(i), expected: wanted, found: found[i] });
  }
}
