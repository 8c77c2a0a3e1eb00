/**
 * Runs after events that are known to come back to where the event struck, by what they depend on (footprint.ts): of states that
 * are alike in that, one need be run through.
 */
import type { EventKind } from '../event.ts';
import type { Comparison } from './comparison.ts';
import type { Conditions } from './conditions.ts';
import { FlowCache } from './flow-cache.ts';

export interface KnownRun {
  readonly conditions: Conditions;
  readonly comparisons: readonly Comparison[];
  /** Up to where it writes in pages of stacks, by linear addresses as numbers with a sign: what is live there must be above. */
  readonly dead: readonly { readonly page: number; readonly end: number }[];
  /** The same addresses of the exception frames that it pushes; no other may be there. */
  readonly frames: readonly { readonly start: number; readonly end: number }[];
}

/** Runs of one event from states with the same context. */
interface Alike {
  /** How often it came back since a run was last learnt. */
  met: number;
  readonly runs: KnownRun[];
  /** It has no footprint. */
  hopeless: boolean;
}

/** To learn a run takes as long as running it so many times. */
const WORTH_LEARNING = 4;
const MOST_ALIKE = 6;
/** So that memory stays flat at any depth: runs, of some KiB each; and contexts, of which few are met again at depth. */
const MOST_RUNS = 30_000;
const MOST_CONTEXTS = 200_000;

/** What is known of one machine's runs, in all visits of a recording. */
export class KnownRuns {
  readonly flows = new FlowCache();
  /** By context. */
  #alike = new Map<number, Map<EventKind, Alike>>();
  #runs = 0;

  /** Runs from states of a context, by their event. */
  find(context: number): ReadonlyMap<EventKind, { readonly runs: readonly KnownRun[] }> | undefined {
    return this.#alike.get(context);
  }

  /** An event has come back, and no known run could tell. @returns whether that run is to be learnt */
  met(kind: EventKind, context: number): boolean {
    let events = this.#alike.get(context);
    if (!events) {
      if (this.#alike.size >= MOST_CONTEXTS) this.#forget();
      events = new Map();
      this.#alike.set(context, events);
    }
    let alike = events.get(kind);
    if (!alike) {
      alike = { met: 0, runs: [], hopeless: false };
      events.set(kind, alike);
    }
    alike.met++;
    return (
      alike.met >= WORTH_LEARNING &&
      !alike.hopeless &&
      alike.runs.length < MOST_ALIKE &&
      this.#runs < MOST_RUNS
    );
  }

  /** Takes what was learnt. */
  learn(kind: EventKind, context: number, run: KnownRun | undefined): void {
    const alike = this.#alike.get(context)?.get(kind);
    if (!alike) return;
    alike.met = 0;
    if (run) {
      alike.runs.push(run);
      this.#runs++;
    } else alike.hopeless = true;
  }

  /** Leaves out contexts of which nothing is known. */
  #forget(): void {
    const told = [...this.#alike].filter(([, events]) =>
      [...events.values()].some(({ runs }) => runs.length > 0),
    );
    this.#alike = new Map(told);
  }
}
