/**
 * Two kernels that differ in where their stacks and ministacks lie run the same visit in step: whatever bit of a register or
 * of the kernel's stack differs between the two must be tainted, at every instruction.
 */
import { describe, expect, it } from 'vitest';
import { maskOf } from '../../engine/taint/shadow.ts';
import { readFlagsDword } from '../../isa/flags.ts';
import type { VariantName } from '../../kernel/variants/index.ts';
import { declassificationOf } from './builtin.ts';
import { locate } from './memory-view.ts';
import { TaintTracker } from './tracker.ts';
import { type Entry, type EntryOptions, entryOf } from './visits.fixture.ts';

interface World extends Entry {
  readonly tracker: TaintTracker;
}

function world(variant: VariantName, options: EntryOptions, seed: number): World {
  const entry = entryOf(variant, { ...options, seed });
  const declassify = declassificationOf(entry.kernel);
  return { ...entry, tracker: new TaintTracker(entry.machine, 0, { declassify }) };
}

/** Bits that differ between the two and that `a` does not call tainted, by name. */
function untold(a: World, b: World): string[] {
  const [p, q] = [a.machine.cpus[0], b.machine.cpus[0]];
  const { registers } = a.tracker;
  const wrong: string[] = [];
  for (let i = 0; i < 16; i++) {
    const bits = (p.gpr[i] ^ q.gpr[i]) & ~maskOf(registers.gpr[i]);
    if (bits !== 0n) wrong.push(`register ${i}: ${bits.toString(16)}`);
  }
  const flags = BigInt(readFlagsDword(p) ^ readFlagsDword(q)) & ~maskOf(registers.flags);
  if (flags !== 0n) wrong.push(`flags: ${flags.toString(16)}`);
  return wrong;
}

/** Bytes of the kernel's stacks that differ though no taint is on them, of those that the visit has written or read. */
function untoldOnStacks(a: World, b: World): string[] {
  const wrong: string[] = [];
  let looked = 0;
  for (const [n, { name, range }] of a.kernel.stacks.entries()) {
    const there = b.kernel.stacks[n].range.start;
    for (let at = range.start; at < range.end; at += 0x1000n) {
      const [mine] = locate(a.machine.cpus[0], at, 1) ?? [];
      const other = b.machine.readMemory(there + (at - range.start), 0x1000);
      const own = a.machine.readMemory(at, 0x1000);
      for (let i = 0; i < 0x1000; i++) {
        if (!a.tracker.memory.touched(mine.physical + i)) continue;
        looked++;
        const mask = Number(maskOf(a.tracker.memory.load(mine.physical + i, 1)));
        if (((own[i] ^ other[i]) & ~mask) !== 0)
          wrong.push(`${name} stack at ${(at + BigInt(i)).toString(16)}`);
      }
    }
  }
  expect(looked).toBeGreaterThan(40);
  return wrong;
}

describe.each<[VariantName, EntryOptions]>([
  ['none', {}],
  ['none', { path: 'interrupt', vector: 0x41, cs: 'cs32-gdt', ss: 'flat' }],
  ['linux', {}],
  ['linux', { path: 'nmi', vector: 2 }],
  ['prototype', {}],
  ['none-pae', {}],
  ['espfix32-pae', {}],
])('%s by %o', (variant, options) => {
  const [a, b] = [world(variant, options, 1), world(variant, options, 7)];

  it('differs in tainted bits only', () => {
    const [p, q] = [a.machine.cpus[0], b.machine.cpus[0]];
    let inKernel = false;
    let different = 0;
    for (let steps = 0; steps < 2000; steps++) {
      a.tracker.step();
      b.tracker.step();
      expect(p.rip).toBe(q.rip);
      expect([...untold(a, b), ...untold(b, a)]).toEqual([]);
      if (p.gpr[4] !== q.gpr[4]) different++;
      if (p.cpl !== 3) inKernel = true;
      else if (inKernel) break;
    }
    expect(p.cpl).toBe(3);
    // The worlds are two indeed.
    expect(different).toBeGreaterThan(30);
    expect(untoldOnStacks(a, b)).toEqual([]);
    expect(untoldOnStacks(b, a)).toEqual([]);
  });
});
