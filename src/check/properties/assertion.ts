/**
 * Assertions of a plan: what must hold of each run with events, beyond the other properties, in the plan's own words.
 */
import type { Schedule } from '../event.ts';
import type { Delivery, RunEnding } from '../explore/observation.ts';
import type { VisitSummary } from '../finding.ts';
import { listState, type UserState } from '../user-state.ts';
import type { Property } from './property.ts';

/** A run with events, as an assertion sees it. */
export interface AssertedRun {
  readonly visit: VisitSummary;
  readonly schedule: Schedule;
  /** `user` if it came back to user mode. */
  readonly ending: RunEnding;
  /** What was delivered, in order. */
  readonly deliveries: readonly Delivery[];
  /** Registers of user mode by name (`rax`, `rip`, `gs.base`, ...), as they are and as they would be without events. */
  readonly registers: Readonly<Record<string, bigint>> | undefined;
  readonly expected: Readonly<Record<string, bigint>> | undefined;
  /** Linear address of a symbol. */
  symbol(name: string): bigint | undefined;
  /** Linear memory as the run left it. Throws RangeError where nothing is mapped. */
  readMemory(linear: bigint, size: number): Uint8Array;
}

/** Says what is wrong with a run, in words that are the same for the same cause; undefined if nothing is. */
export type Assertion = (run: AssertedRun) => string | undefined;

const named = (state: UserState | undefined): Record<string, bigint> | undefined =>
  state && Object.fromEntries(listState(state).map(({ name, value }) => [name, value]));

export const assertion: Property = {
  name: 'assertion',
  title: 'what the plan asserts holds',
  judge(experiment, { ending, deliveries, state, expected, rip }, schedule) {
    const { assertions = [] } = experiment.subject;
    if (assertions.length === 0) return [];
    const { machine, subject, visit } = experiment;
    const run: AssertedRun = {
      visit,
      schedule,
      ending,
      deliveries,
      registers: named(state),
      expected: named(expected?.state),
      symbol: (name) => subject.symbol(name),
      readMemory: (linear, size) => machine.readMemory(linear, size, visit.cpu),
    };
    return assertions.flatMap((assert) => {
      const what = assert(run);
      return what === undefined ? [] : [{ property: 'assertion' as const, what, details: [], rip }];
    });
  },
};
