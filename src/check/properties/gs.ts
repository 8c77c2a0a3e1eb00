/**
 * GS discipline: the kernel makes no access through user mode's GS base, and SWAPGS has been done as often one way as
 * the other when user mode goes on: GS base is the user's, IA32_KERNEL_GS_BASE the kernel's. SDM vol. 2B SWAPGS.
 *
 * User mode's GS base is put where nothing is mapped, so an access through it is a page fault there.
 */
import type { Violation } from '../finding.ts';
import { differences } from '../user-state.ts';
import { hex, type Property } from './property.ts';

export const THROUGH_USER_GS = "the kernel accesses memory through user mode's GS base";

export const gs: Property = {
  name: 'gs',
  title: 'the kernel uses its own GS base, user mode its own',
  judge(experiment, { throughUserGs, expected, state }) {
    const violations: Violation[] = [];
    if (throughUserGs.length > 0)
      violations.push({
        property: 'gs',
        what: THROUGH_USER_GS,
        details: throughUserGs.slice(0, 4).map((rip) => `at ${experiment.subject.describe(rip)}`),
        rip: throughUserGs[0],
      });
    if (expected?.state && state) {
      const different = differences(expected.state, state);
      const user = different.find(({ name }) => name === 'gs.base');
      const kernel = different.find(({ name }) => name === 'kernel GS base');
      if (user || kernel)
        violations.push({
          property: 'gs',
          what:
            user && kernel && user.found === kernel.expected
              ? "user mode runs with the kernel's GS base"
              : user
                ? 'user mode runs with another GS base'
                : 'IA32_KERNEL_GS_BASE is not as it was',
          details: [user, kernel].flatMap((d) =>
            d ? [`${d.name}: ${hex(d.found, 16)} instead of ${hex(d.expected, 16)}`] : [],
          ),
        });
    }
    return violations;
  },
};
