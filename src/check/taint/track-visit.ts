/** One visit to the kernel, followed from user mode to user mode. */
import type { Machine, Stop } from '../../machine/machine.ts';
import type { Declassification } from './declassification.ts';
import { judge, type TaintFinding } from './judge.ts';
import { type Advance, type TaintNote, TaintTracker } from './tracker.ts';

export interface VisitOptions {
  /** Steps (instructions and deliveries) to follow at most; default 200,000. */
  readonly maxInstructions?: number;
  readonly declassify?: readonly Declassification[];
  /** Takes one step; default `machine.step(cpu)`. */
  readonly advance?: Advance;
  /**
   * Called before each step with the number of steps taken: events may be injected here. What it writes to registers
   * and memory itself keeps the shadow that stands there.
   */
  readonly onBoundary?: (steps: number, tracker: TaintTracker) => void;
  /** Ends the visit before the next step where it holds, besides the return to user mode. */
  readonly isEnd?: (steps: number) => boolean;
}

export interface TrackedVisit {
  /** Secret bits that user mode was given; judged if and only if the visit came to its end in user mode. */
  readonly findings: readonly TaintFinding[];
  /** Where more was called tainted than need be. */
  readonly conservative: readonly TaintNote[];
  /** Where what happens, not what is computed, depends on a secret. That is not followed further. */
  readonly implicit: readonly TaintNote[];
  /** Steps taken: instructions and deliveries. */
  readonly instructions: number;
  /** `user`: back in user mode. `end`: `isEnd` held. `limit`: not back within the limit. Else why the machine stopped. */
  readonly ended: 'user' | 'end' | 'limit' | Exclude<Stop['reason'], 'limit'>;
}

const DEFAULT_LIMIT = 200_000;

/**
 * Follows processor `cpu` of `machine` from where it stands, in user mode before an entry to the kernel or at the kernel's
 * first instruction, until it is back at CPL 3, and judges what it brings. The machine is left there.
 *
 * Throws TaintMismatch where what the checker works out and what the machine does are not the same.
 */
export function trackVisit(machine: Machine, cpu: number, options: VisitOptions = {}): TrackedVisit {
  const { maxInstructions = DEFAULT_LIMIT, declassify = [], advance, onBoundary, isEnd } = options;
  const tracker = new TaintTracker(machine, cpu, { declassify, ...(advance && { advance }) });
  const state = machine.cpus[cpu];
  const result = (ended: TrackedVisit['ended']): TrackedVisit => ({
    findings: ended === 'user' ? judge(tracker, declassify) : [],
    conservative: tracker.conservative,
    implicit: tracker.implicit,
    instructions: tracker.index,
    ended,
  });
  try {
    let inKernel = state.cpl !== 3;
    while (tracker.index < maxInstructions) {
      if (isEnd?.(tracker.index)) return result('end');
      onBoundary?.(tracker.index, tracker);
      const taken = tracker.index;
      const { reason } = tracker.step();
      if (state.cpl !== 3) inKernel = true;
      else if (inKernel) return result('user');
      if (reason !== 'limit') return result(reason);
      if (tracker.index === taken) return result('deadlock');
    }
    return result('limit');
  } finally {
    tracker.close();
  }
}
