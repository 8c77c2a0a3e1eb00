/**
 * Stack discipline: the processor pushes exception and interrupt frames to kernel stacks only, and no frame is returned
 * from that another has been written over. SDM vol. 3A 6.14.2 to 6.14.5.
 */
import type { Violation } from '../finding.ts';
import { describeVector } from '../vectors.ts';
import { openGates } from './gates.ts';
import { hex, type Property } from './property.ts';

const DOUBLE_FAULT = 8;

export const stack: Property = {
  name: 'stack',
  title: 'frames are pushed to kernel stacks, and none over another that is live',
  judge(experiment, { deliveries, reused }, schedule) {
    const violations: Violation[] = [];
    const open = schedule.length === 0 ? openGates(experiment) : [];
    if (open.length > 0)
      violations.push({
        property: 'stack',
        what: 'user mode may raise an exception without its error code',
        details: open.map((vector) => `by INT ${vector}: the gate has DPL 3`),
      });
    for (const delivery of deliveries) {
      const { frame } = delivery;
      if (frame === 0n || experiment.stackOf(frame)) continue;
      const ministack = experiment.subject.ministacks.find(
        ({ address, aliasBits, size, takesFrames, cpu }) => {
          const offset = (frame & ~aliasBits) - (address & ~aliasBits);
          return takesFrames && cpu === experiment.visit.cpu && offset >= 0n && offset < BigInt(size);
        },
      );
      if (ministack) continue;
      violations.push({
        property: 'stack',
        what:
          frame === delivery.rsp - 40n || delivery.rsp >> 47n === 0n
            ? "an exception frame is pushed to user mode's stack in kernel mode"
            : 'an exception frame is pushed outside the kernel stacks',
        details: [
          `${describeVector(delivery.vector, delivery.source)} at ${experiment.subject.describe(delivery.rip)} with RSP ${hex(delivery.rsp, 16)}, frame at ${hex(frame, 16)}`,
        ],
        rip: delivery.rip,
      });
      break;
    }
    const { ministacks } = experiment.subject;
    const pushed = deliveries.find(
      ({ vector, cpl, rsp }) =>
        vector === DOUBLE_FAULT &&
        cpl !== 3 &&
        !experiment.stackOf(rsp) &&
        !ministacks.some(({ address, aliasBits, size }) => {
          const offset = (rsp & ~aliasBits) - (address & ~aliasBits);
          return offset >= 0n && offset <= BigInt(size);
        }),
    );
    if (pushed)
      violations.push({
        property: 'stack',
        what: "an exception in kernel mode finds a stack pointer that is no kernel stack's",
        details: [`#DF at ${experiment.subject.describe(pushed.rip)} with RSP ${hex(pushed.rsp, 16)}`],
        rip: pushed.rip,
      });
    if (reused !== undefined)
      violations.push({
        property: 'stack',
        what: 'an IRET takes a frame that another was pushed over',
        details: [`frame at ${hex(reused, 16)}`],
      });
    return violations;
  },
};
