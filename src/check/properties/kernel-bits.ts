/**
 * No kernel bit in user space, by two worlds: the same run with the kernel's secrets moved (stack addresses, ministack page
 * and slot) must look the same to user mode. A bit that differs between the worlds came from the kernel.
 *
 * Taint follows the bits themselves (`check/taint`) and says where each was born; it must have marked every bit that
 * differs here.
 */
import type { Experiment } from '../explore/experiment.ts';
import type { Violation } from '../finding.ts';
import { differences, type StateDifference } from '../user-state.ts';
import { hex } from './property.ts';
import { describeBits } from './transparent.ts';

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
