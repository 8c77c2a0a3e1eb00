/**
 * Transparent: at every return to user mode its registers, flags, selectors, segment bases and memory are what they
 * would be had the events not come. What the subject declares may differ is left out.
 */
import { type EventKind, noticed, type Schedule } from '../event.ts';
import type { Experiment } from '../explore/experiment.ts';
import type { Violation } from '../finding.ts';
import { differences, enabledBreakpoints, type StateDifference, type UserState } from '../user-state.ts';
import { hex, type Property } from './property.ts';

/** Bits that differ, as `rsp[31:16]`. */
export function describeBits({ name, bits, expected, found }: StateDifference): string {
  const different = expected ^ found;
  if (bits === 32 && name !== 'rflags') return name;
  let low = 0;
  while (((different >> BigInt(low)) & 1n) === 0n) low++;
  const high = different.toString(2).length - 1;
  // Whole bytes: which of a byte's bits happen to differ says nothing.
  return `${name}[${Math.min(bits - 1, high | 7)}:${low & ~7}]`;
}

/** DR7.L0 and DR7.L2, which trials set. */
const WATCH = 1;
const STAYS = 0x10;

/** Whether breakpoints are gone that user mode has, or are there that nobody set. A kernel may end those that it meets itself. */
function otherBreakpoints(expected: UserState, found: UserState, schedule: Schedule): boolean {
  const has = (...kinds: readonly EventKind[]) => schedule.some(({ kind }) => kinds.includes(kind));
  const before = enabledBreakpoints(expected) | (has('watch') ? WATCH : 0);
  const after = enabledBreakpoints(found) & ~(has('db-stays') ? STAYS : 0);
  return (after & ~before) !== 0 || ((before & ~after) !== 0 && !has('db-code', 'db-stays'));
}

const lines = (list: readonly StateDifference[]) =>
  list.map(
    ({ name, bits, expected, found }) =>
      `${name}: ${hex(found, bits / 4)} instead of ${hex(expected, bits / 4)}`,
  );

/** Registers that the visit without events does not leave as it has to. */
function notKept(experiment: Experiment): Violation[] {
  const { subject, visit, baseline } = experiment;
  const [before, after] = [baseline.entry.state, baseline.back.state];
  const kept = subject.keeps?.(visit.entry) ?? [];
  if (kept.length === 0 || !before || !after || experiment.gaveUp() !== undefined) return [];
  const changed = differences(before, after).filter(({ name }) => kept.includes(name));
  if (changed.length === 0) return [];
  return [
    {
      property: 'transparent',
      what: `user mode does not get back its ${changed.map(({ name }) => name).join(', ')}`,
      details: lines(changed),
    },
  ];
}

export const transparent: Property = {
  name: 'transparent',
  title: 'user mode cannot tell that events came',
  judge(experiment, outcome, schedule) {
    if (noticed(schedule)) return [];
    if (schedule.length === 0) return notKept(experiment);
    const { expected, state, memory } = outcome;
    if (!expected?.state || !state) return [];
    const violations: Violation[] = [];
    const all = differences(expected.state, state);
    const { mayDifferIn = [] } = experiment.subject;
    const pointer = schedule.findLast(({ kind }) => kind === 'stack-pointer')?.pointer;
    const visible = all.filter(
      ({ visible: seen, name, found }) =>
        seen && name !== 'gs.base' && !mayDifferIn.includes(name) && !(name === 'rsp' && found === pointer),
    );
    const rip = visible.find(({ name }) => name === 'rip');
    if (rip)
      violations.push({
        property: 'transparent',
        what: 'user mode goes on elsewhere',
        details: [
          `at ${experiment.subject.describe(rip.found)} instead of ${experiment.subject.describe(rip.expected)}`,
          ...lines(visible),
        ],
      });
    else if (visible.length > 0)
      violations.push({
        property: 'transparent',
        what: `user mode finds another ${visible.map(({ name }) => name).join(', ')}`,
        details: lines(visible),
      });
    else if (otherBreakpoints(expected.state, state, schedule))
      violations.push({ property: 'transparent', what: 'user mode has other breakpoints', details: [] });
    else {
      const hidden = all.find(({ name }) => name === 'cr3');
      if (hidden)
        violations.push({
          property: 'transparent',
          what: 'user mode runs with other page tables',
          details: lines([hidden]),
        });
    }
    if (memory.length > 0 && !rip)
      violations.push({
        property: 'transparent',
        what: 'user memory differs',
        details: memory
          .slice(0, 16)
          .map(
            ({ linear, expected: e, found: f }) => `[${hex(linear)}]: ${hex(f, 2)} instead of ${hex(e, 2)}`,
          )
          .concat(memory.length > 16 ? [`and ${memory.length - 16} bytes more`] : []),
      });
    return violations;
  },
};
