/**
 * Transparent: at every return to user mode its registers, flags, selectors, segment bases and memory are what they
 * would be had the events not come. What the subject declares may differ is left out.
 */
import { noticed } from '../event.ts';
import type { Violation } from '../finding.ts';
import { differences, type StateDifference } from '../user-state.ts';
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

export const transparent: Property = {
  name: 'transparent',
  title: 'user mode cannot tell that events came',
  judge(experiment, outcome, schedule) {
    if (noticed(schedule)) return [];
    const { expected, state, memory } = outcome;
    if (!expected?.state || !state) return [];
    const violations: Violation[] = [];
    const all = differences(expected.state, state);
    const { mayDifferIn = [] } = experiment.subject;
    const visible = all.filter(
      ({ visible: seen, name }) => seen && name !== 'gs.base' && !mayDifferIn.includes(name),
    );
    const rip = visible.find(({ name }) => name === 'rip');
    const lines = (list: readonly StateDifference[]) =>
      list.map(
        ({ name, bits, expected: e, found: f }) =>
          `${name}: ${hex(f, bits / 4)} instead of ${hex(e, bits / 4)}`,
      );
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
