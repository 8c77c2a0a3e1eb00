/**
 * Progress: the run comes back to user mode: no triple fault, no hang, no storm of events; and what comes after can: NMIs
 * are not left blocked, no interrupt is left in service, and no machine check in progress. SDM vol. 3A 6.7.1, 10.8.5, vol. 3B
 * 15.3.1.2.
 */

import type { RunEnding } from '../explore/observation.ts';
import type { Violation } from '../finding.ts';
import { differences } from '../user-state.ts';
import { describeVector } from '../vectors.ts';
import type { Property } from './property.ts';

export const GIVES_UP = 'the kernel gives up';

/** How runs end that do not come back. */
export const endings: Record<Exclude<RunEnding, 'user'>, string> = {
  'triple-fault': 'triple fault',
  stuck: 'the processor waits for ever',
  hang: 'the kernel does not come back to user mode',
  storm: 'events are delivered without end',
  exit: 'the kernel ends the machine',
  reset: 'the kernel resets the machine',
  unimplemented: 'the machine lacks an instruction',
};

export const progress: Property = {
  name: 'progress',
  title: 'the kernel comes back to user mode, ready for the next event',
  judge(experiment, { ending, rip, deliveries, expected, state, unserved, gaveUp }, schedule) {
    if (ending !== 'user')
      return [
        {
          property: 'progress',
          what: endings[ending],
          details: [
            `at ${experiment.subject.describe(rip)}`,
            ...deliveries
              .slice(-4)
              .map(
                (d) =>
                  `${describeVector(d.vector, d.source)} delivered at ${experiment.subject.describe(d.rip)}`,
              ),
          ],
          rip,
        },
      ];
    if (!expected?.state || !state) return [];
    const violations: Violation[] = [];
    if (unserved !== undefined)
      violations.push({
        property: 'progress',
        what: `${describeVector(unserved, '')} is lost: its work is not done`,
        details: [],
      });
    const last = schedule.length === 0 ? experiment.gaveUp() : gaveUp;
    if (last !== undefined)
      violations.push({
        property: 'progress',
        what: GIVES_UP,
        details: [
          `at ${experiment.subject.describe(last)}`,
          ...deliveries.map(
            (d) => `${describeVector(d.vector, d.source)} delivered at ${experiment.subject.describe(d.rip)}`,
          ),
        ],
        rip: last,
      });
    for (const { name, found } of differences(expected.state, state)) {
      if (name === 'NMI blocking' && found !== 0n)
        violations.push({ property: 'progress', what: 'NMIs stay blocked in user mode', details: [] });
      // A kernel that nothing is known of may see to it later, from a timer say.
      if (name === 'machine check in progress' && found !== 0n && !experiment.subject.foreign)
        violations.push({
          property: 'progress',
          what: 'IA32_MCG_STATUS.MCIP stays set: the next machine check shuts the processor down',
          details: [],
        });
      if (name.startsWith('interrupts in service'))
        violations.push({
          property: 'progress',
          what: 'an interrupt stays in service: no EOI was sent',
          details: [`${name}: 0x${found.toString(16)}`],
        });
    }
    return violations;
  },
};
