/** At a boundary: whether an event that struck there would run as one did whose run is known (known-runs.ts), and come back. */
import type { Cpu } from '../../arch/cpu.ts';
import type { Machine } from '../../machine/machine.ts';
import { PageTree } from '../../machine/page-tree.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { compares } from './comparison.ts';
import { type Conditions, heldIn, hold } from './conditions.ts';
import type { KnownRun } from './known-runs.ts';
import type { Observation } from './observation.ts';
import { hashContext } from './state-hash.ts';

/** Above every address. */
const NOTHING_LIVE = 1n << 64n;

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
  /** At the boundary: RIP; and by page of a stack, the lowest live address. */
  #rip = 0n;
  readonly #live = new Map<bigint, bigint>();
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
    this.#rip = this.#cpu.rip;
    if (this.#changedFor !== base) {
      this.#changedFor = base;
      this.#changedBefore.length = 0;
      PageTree.difference(this.#begin, base.pages, (page) => this.#changedBefore.push(page));
    }
    this.#context = hashContext(this.#machine, this.#cpu);
  }

  /** The number of what the processor is, but for RIP, status flags and general-purpose registers other than RSP. */
  get context(): number {
    return this.#context;
  }

  /** Whether the event of a run known from the same context would repeat it here. */
  repeats({ conditions, comparisons, dead, frames }: KnownRun): boolean {
    for (const comparison of comparisons) if (!compares(comparison, this.#cpu, this.#rip)) return false;
    if (!this.#hold(conditions)) return false;
    for (const { page, end } of dead) {
      let live = this.#live.get(page);
      if (live === undefined) {
        live = this.#liveFrom(page) ?? NOTHING_LIVE;
        this.#live.set(page, live);
      }
      if (live < end) return false;
    }
    for (const { frame, bytes, returned } of this.#observation.deliveries)
      if (!returned)
        for (const { start, end } of frames) if (frame < end && start < frame + bytes) return false;
    return true;
  }

  /** Whether memory is as conditions say. */
  #hold(conditions: Conditions): boolean {
    const { ramDwords } = this.#machine;
    let held = this.#heldAtBegin.get(conditions);
    if (held === undefined) {
      held = heldIn(conditions, this.#begin);
      this.#heldAtBegin.set(conditions, held);
    }
    if (!held) return hold(conditions, ramDwords);
    for (const page of this.#changedBefore) if (!hold(conditions, ramDwords, page)) return false;
    for (const page of this.#machine.changedPages()) if (!hold(conditions, ramDwords, page)) return false;
    return true;
  }
}
