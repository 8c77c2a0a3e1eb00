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
  /** Up to where it writes in pages of stacks, by linear addresses: what is live there must be above. */
  readonly dead: readonly { readonly page: bigint; readonly end: bigint }[];
  /** Linear addresses of the exception frames that it pushes; no other may be there. */
  readonly frames: readonly { readonly start: bigint; readonly end: bigint }[];
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
const NO_RUNS: readonly KnownRun[] = [];

/** What is known of one machine's runs, in all visits of a recording. */
export class KnownRuns {
  readonly flows = new FlowCache();
  readonly #alike = new Map<EventKind, Map<number, Alike>>();
  #runs = 0;

  /** Runs of an event from states of a context. */
  find(kind: EventKind, context: number): readonly KnownRun[] {
    return this.#alike.get(kind)?.get(context)?.runs ?? NO_RUNS;
  }

  /** An event has come back, and no known run could tell. @returns whether that run is to be learnt */
  met(kind: EventKind, context: number): boolean {
    let contexts = this.#alike.get(kind);
    if (!contexts) {
      contexts = new Map();
      this.#alike.set(kind, contexts);
    }
    const alike = contexts.get(context);
    if (!alike) {
      if (contexts.size >= MOST_CONTEXTS) forget(contexts);
      contexts.set(context, { met: 1, runs: [], hopeless: false });
      return false;
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
    const alike = this.#alike.get(kind)?.get(context);
    if (!alike) return;
    alike.met = 0;
    if (run) {
      alike.runs.push(run);
      this.#runs++;
    } else alike.hopeless = true;
  }
}

/** Leaves out contexts of which nothing is known. */
function forget(contexts: Map<number, Alike>): void {
  for (const [context, { runs }] of contexts) if (runs.length === 0) contexts.delete(context);
}
