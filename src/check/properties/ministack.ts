/**
 * Ministack discipline: a processor writes no byte of a ministack page outside its own ministack, and pushes no frame
 * that does not fit in it.
 */
import type { Violation } from '../finding.ts';
import { describeVector } from '../vectors.ts';
import { hex, type Property } from './property.ts';

const FRAME_BYTES = 40n;

export const ministack: Property = {
  name: 'ministack',
  title: 'a processor keeps to its own ministack',
  judge(experiment, { strayMinistack, deliveries }) {
    const violations: Violation[] = [];
    if (strayMinistack.length > 0)
      violations.push({
        property: 'ministack',
        what: "another processor's ministack is written",
        details: strayMinistack
          .slice(0, 8)
          .map(
            ({ linear, expected, found }) =>
              `page offset ${hex(linear)}: ${hex(found, 2)} instead of ${hex(expected, 2)}`,
          ),
      });
    const own = experiment.subject.ministacks.filter(({ cpu }) => cpu === experiment.visit.cpu);
    for (const { frame, vector, source, rip, errorCode } of deliveries) {
      for (const { address, aliasBits, size } of own) {
        const offset = (frame & ~aliasBits) - (address & ~aliasBits);
        const bytes = errorCode === undefined ? FRAME_BYTES : FRAME_BYTES + 8n;
        if (offset > -bytes && offset < BigInt(size) && (offset < 0n || offset + bytes > BigInt(size)))
          violations.push({
            property: 'ministack',
            what: 'an exception frame does not fit in the ministack',
            details: [
              `${describeVector(vector, source)} at ${experiment.subject.describe(rip)}: frame at ${hex(frame, 16)}`,
            ],
            rip,
          });
      }
    }
    return violations;
  },
};
