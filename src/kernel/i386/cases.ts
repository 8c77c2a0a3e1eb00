/** The cases that exist outside IA-32e mode: those of `../cases.ts` without 64-bit code, and the double fault. */

import { buildCases, type Case, stackPointers } from '../cases.ts';
import { vector } from '../layout.ts';
import type { VariantName } from '../variants/index.ts';

const codes = ['cs32-gdt', 'cs32-ldt', 'cs16-ldt'] as const;
const stacks = ['ss16-ldt', 'ss32-ldt', 'flat'] as const;

/** All cases for a 32-bit variant, in the order in which they run. */
export function buildCases32(variant: VariantName): Case[] {
  const cases = buildCases(variant).filter((c) => c.good.cs !== 'cs64' && c.cs !== 'non-canonical-rip');
  for (const cs of codes)
    for (const ss of stacks)
      cases.push({
        path: 'int80',
        cs,
        ss,
        good: { cs, ss },
        set: stackPointers[0],
        name: 'double-fault-through-a-task-gate',
        kind: 'jump',
        event: 'int80',
        pokeCause: vector.syscall,
        faulty: false,
        expected: undefined,
        doubleFault: true,
      });
  return cases;
}
