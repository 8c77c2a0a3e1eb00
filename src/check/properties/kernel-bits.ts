/**
 * No kernel bit in user space, by two worlds: the same run with the kernel's secrets moved (stack addresses, ministack page
 * and slot) must look the same to user mode. A bit that differs between the worlds came from the kernel.
 *
 * Taint follows the bits themselves (`check/taint`) and says where each was born; it must have marked every bit that
 * differs here.
 */

import type { Snapshot } from '../../machine/snapshot.ts';
import type { Experiment } from '../explore/experiment.ts';
import type { Provenance, Violation } from '../finding.ts';
import type { TaintFinding, TrackedVisit } from '../taint/index.ts';
import { differences, type StateDifference } from '../user-state.ts';
import { hex } from './property.ts';
import { describeBits } from './transparent.ts';

/** Taint and two worlds contradict each other: the check is not to be trusted. */
export class Disagreement extends Error {}

const FIRST_KERNEL_ADDRESS = 0xffff_8000_0000_0000n;

/**
 * Whether a finding counts. Of a kernel whose memory nobody has declared, memory counts where it holds a kernel address: it
 * also keeps what user mode gave, as the registers of a task that waits.
 */
function reveals({ subject, begin }: Experiment, { leaks }: TaintFinding): boolean {
  if (!subject.foreign) return true;
  return leaks.some(({ birth }) => {
    if (birth.kind === 'conservative') return false;
    if (birth.kind !== 'kernel-memory') return true;
    return birth.physical !== undefined && wordAt(begin, birth.physical & ~7) >= FIRST_KERNEL_ADDRESS;
  });
}

/** The quadword at a physical address of a snapshot. */
function wordAt({ pages }: Snapshot, physical: number): bigint {
  const page = pages.get(Math.floor(physical / 4096));
  return page ? new DataView(page.buffer, page.byteOffset).getBigUint64(physical % 4096, true) : 0n;
}

/** The secrets that taint finds in user mode's hands after a run: a violation a location, each with its bits' stories. */
export function tainted(
  experiment: Experiment,
  { findings }: Pick<TrackedVisit, 'findings'>,
): { violation: Violation; provenance: Provenance[] }[] {
  return findings
    .filter((finding) => reveals(experiment, finding))
    .map(({ location, register, value, leaks }) => {
      const where = register === undefined ? 'user memory' : `user mode's ${register}`;
      return {
        violation: {
          property: 'kernel-bits' as const,
          what: `${where} holds bits of ${[...new Set(leaks.map(({ birth }) => birth.what))].slice(0, 2).join(' and ')}`,
          details: [`${location} = ${hex(value)}`, ...leaks.map(({ text }) => text)],
        },
        provenance: leaks.map(({ high, low, birth, bornHigh, bornLow, hops }) => ({
          location: `${location}[${high}:${low}]`,
          birth: `bits ${bornHigh}:${bornLow} of ${birth.what}`,
          hops: hops.map(({ index, rip, text }) => ({
            at: index,
            place: {
              address: rip,
              name: experiment.subject.describe(rip),
              text: experiment.disassembleAt(rip).text,
            },
            text,
          })),
        })),
      };
    });
}

/** Memory of the kernel that user mode can read without asking. Some kernels share a page on purpose: foreign ones may. */
export function exposed({ exposed: pages, subject }: Experiment): Violation[] {
  if (subject.foreign || pages.length === 0) return [];
  const details = pages.slice(0, 8).map((linear) => `page ${hex(linear, 16)}`);
  return [{ property: 'kernel-bits', what: "user mode can reach the kernel's memory", details }];
}

/**
 * Throws Disagreement where user mode sees bits that differ between the worlds and that taint did not mark. (Bits that taint
 * marks and that are equal in both worlds are no contradiction: a secret bit is the same in two worlds half of the time.)
 */
export function mustAgree(
  { visit }: Experiment,
  registers: readonly StateDifference[],
  { findings }: Pick<TrackedVisit, 'findings'>,
): void {
  for (const { name, expected, found } of registers) {
    const marked = findings.find(({ register }) => register === name)?.mask ?? 0n;
    const missed = (expected ^ found) & ~marked;
    if (missed !== 0n)
      throw new Disagreement(
        `visit ${visit.id} (${visit.entry}): ${name} differs between two worlds in bits ${hex(missed)} that taint calls clean`,
      );
  }
}

/** What user mode sees after the visit in one world and not in the other. */
export function betweenWorlds(
  one: Experiment,
  other: Experiment,
): { registers: StateDifference[]; violations: Violation[] } {
  const [a, b] = [one.baseline.back, other.baseline.back];
  if (!a.state || !b.state) return { registers: [], violations: [] };
  const registers = differences(a.state, b.state).filter(({ visible }) => visible);
  const violations: Violation[] = [];
  if (registers.length > 0)
    violations.push({
      property: 'kernel-bits',
      what: `kernel bits in ${registers.map(describeBits).join(', ')} of user mode`,
      details: registers.map(
        (d) =>
          `${d.name}: ${hex(d.expected, d.bits / 4)}, and ${hex(d.found, d.bits / 4)} with the kernel's stacks elsewhere`,
      ),
    });
  const memory: string[] = [];
  const [mine, theirs] = [one.userMemory(a), other.userMemory(b)];
  for (const [linear, content] of mine) {
    const twin = theirs.get(linear);
    if (!twin) continue;
    for (let i = 0; i < content.length; i++)
      if (content[i] !== twin[i])
        memory.push(`[${hex(linear + BigInt(i))}]: ${hex(content[i], 2)}, and ${hex(twin[i], 2)}`);
  }
  if (memory.length > 0)
    violations.push({
      property: 'kernel-bits',
      what: 'kernel bits in user memory',
      details: memory.slice(0, 16).concat(memory.length > 16 ? [`and ${memory.length - 16} bytes more`] : []),
    });
  return { registers, violations };
}
