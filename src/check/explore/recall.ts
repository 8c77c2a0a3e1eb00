/** At a boundary: whether an event that struck there would run as one did whose run is known (known-runs.ts), and come back. */
import type { Cpu } from '../../arch/cpu.ts';
import type { Machine } from '../../machine/machine.ts';
import { PageTree } from '../../machine/page-tree.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { compares } from './comparison.ts';
import { type Conditions, heldIn, hold, holdOn } from './conditions.ts';
import type { KnownRun } from './known-runs.ts';
import type { Observation } from './observation.ts';
import { hashContext } from './state-hash.ts';

/** A linear address as a signed number, by which addresses that are canonical with 48 bits have their order. */
export const signedAddress = (linear: bigint): number => Number(BigInt.asIntN(64, linear));
const linearAddress = (signed: number): bigint => BigInt.asUintN(64, BigInt(signed));

/** What is asked of each boundary is worked out once for all events there. */
export class Recall {
  readonly #machine: Machine;
  readonly #cpu: Cpu;
  readonly #begin: PageTree;
  readonly #observation: Observation;
  readonly #liveFrom: (linear: bigint) => bigint | undefined;
  /** By conditions: whether memory fulfilled them at the visit's beginning. */
  readonly #heldAtBegin = new WeakMap<Conditions, boolean>();
  /** Pages that differ between the visit's beginning and a snapshot. */
  readonly #changedBefore: number[] = [];
  #changedFor: Snapshot | undefined;
  /** Those that differ between that and the boundary. */
  #changedSince: ArrayLike<number> = [];
  /** At the boundary, by page of a stack: the lowest live address. */
  readonly #live = new Map<number, number>();
  /** The frames of handlers that have not returned, each from its start to its end; asked for when they matter. */
  #frames: number[] | undefined;
  #context = 0;

  /**
   * @param begin memory at the visit's beginning
   * @param liveFrom the lowest live address of the stack that has a page at a linear address; undefined if nothing is on it
   */
  constructor(
    machine: Machine,
    cpu: Cpu,
    begin: PageTree,
    observation: Observation,
    liveFrom: (linear: bigint) => bigint | undefined,
  ) {
    this.#machine = machine;
    this.#cpu = cpu;
    this.#begin = begin;
    this.#observation = observation;
    this.#liveFrom = liveFrom;
  }

  /** Looks at the boundary where the processor stands. @param base the snapshot from which `Machine.changedPages` counts */
  look(base: Snapshot): void {
    this.#live.clear();
    this.#frames = undefined;
    if (this.#changedFor !== base) {
      this.#changedFor = base;
      this.#changedBefore.length = 0;
      PageTree.difference(this.#begin, base.pages, (page) => this.#changedBefore.push(page));
    }
    this.#changedSince = this.#machine.changedPages();
    this.#context = hashContext(this.#machine, this.#cpu);
  }

  /** The number of what the processor is, but for RIP, status flags and general-purpose registers other than RSP. */
  get context(): number {
    return this.#context;
  }

  /** Whether the event of a run known from the same context would repeat it here. */
  repeats({ conditions, comparisons, dead, frames }: KnownRun): boolean {
    for (let i = 0; i < comparisons.length; i++) if (!compares(comparisons[i], this.#cpu)) return false;
    if (!this.#hold(conditions)) return false;
    for (let i = 0; i < dead.length; i++) if (this.#liveOf(dead[i].page) < dead[i].end) return false;
    const open = this.#openFrames();
    for (let i = 0; i < open.length; i += 2)
      for (let j = 0; j < frames.length; j++)
        if (open[i] < frames[j].end && frames[j].start < open[i + 1]) return false;
    return true;
  }

  /** The lowest live address of the stack that has a page; above all if there is none. */
  #liveOf(page: number): number {
    let live = this.#live.get(page);
    if (live === undefined) {
      const linear = this.#liveFrom(linearAddress(page));
      live = linear === undefined ? Number.POSITIVE_INFINITY : signedAddress(linear);
      this.#live.set(page, live);
    }
    return live;
  }

  #openFrames(): readonly number[] {
    if (this.#frames === undefined) {
      this.#frames = [];
      for (const { frame, bytes, returned } of this.#observation.deliveries)
        if (!returned) this.#frames.push(signedAddress(frame), signedAddress(frame + bytes));
    }
    return this.#frames;
  }

  /** Whether memory is as conditions say. */
  #hold(conditions: Conditions): boolean {
    let held = this.#heldAtBegin.get(conditions);
    if (held === undefined) {
      held = heldIn(conditions, this.#begin);
      this.#heldAtBegin.set(conditions, held);
    }
    if (!held) return hold(conditions, this.#machine.ramDwords);
    return this.#holdOn(conditions, this.#changedBefore) && this.#holdOn(conditions, this.#changedSince);
  }

  #holdOn(conditions: Conditions, pages: ArrayLike<number>): boolean {
    const { ramDwords } = this.#machine;
    for (let i = 0; i < pages.length; i++) if (!holdOn(conditions, ramDwords, pages[i])) return false;
    return true;
  }
}
