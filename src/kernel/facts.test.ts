/** What an image says of itself is what the booted kernel shows. */
import { describe, expect, it } from 'vitest';
import { Machine } from '../machine/machine.ts';
import { buildImage, type CaseInfo, type Slot } from './image.ts';
import { ESPFIX_BASE, PAGE_SIZE, percpu } from './layout.ts';
import { parseReport, verdictOf } from './report.ts';

const only = (c: CaseInfo) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt';

function booted(name: 'linux' | 'prototype' | 'none' | 'ministack-40', slot?: Slot, seed = 1) {
  const image = buildImage(name, { cpus: 2, seed, only, ...(slot === undefined ? {} : { slot }) });
  const machine = Machine.create({ cpus: 2 });
  machine.boot(image.elf);
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  expect(machine.run({ maxInstructions: 20_000_000 })).toMatchObject({ reason: 'exit', value: 0 });
  if (image.facts === undefined) throw new Error(`${name} has no facts`);
  const word = (address: bigint) => {
    const bytes = machine.readMemory(address, 8);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  };
  return { image, machine, facts: image.facts, word, report: parseReport(text) };
}

describe.each(['linux', 'prototype', 'none', 'ministack-40'] as const)('%s', (name) => {
  const { image, machine, facts, word } = booted(name);

  it('has its per-CPU areas where GS base points', () => {
    for (const [cpu, { gsBase }] of facts.cpus.entries()) {
      expect(machine.registers(cpu)['gs.base']).toBe(gsBase);
      expect(word(gsBase + BigInt(percpu.self))).toBe(gsBase);
    }
  });

  it('has its stacks where the TSS says', () => {
    for (const [cpu, { stacks }] of facts.cpus.entries()) {
      const { 'tr.base': tss } = machine.registers(cpu);
      expect(word(tss + 4n)).toBe(stacks.find((s) => s.name === 'main')?.end);
      const { 'idtr.base': idt } = machine.registers(cpu);
      for (let vector = 0; vector < 256; vector++) {
        const index = (word(idt + BigInt(16 * vector)) >> 32n) & 7n;
        const stack = stacks.find((s) => s.vectors.includes(vector));
        expect([vector, stack?.end]).toEqual([
          vector,
          index === 0n ? undefined : word(tss + 36n + 8n * (index - 1n)),
        ]);
      }
    }
  });

  it('has its ministacks where it says', () => {
    expect(facts.espfixRegion?.start).toBe(name === 'none' ? undefined : ESPFIX_BASE);
    for (const [cpu, { gsBase, ministack }] of facts.cpus.entries()) {
      expect(ministack?.address).toBe(image.ministacks[cpu]);
      if (ministack === undefined) continue;
      expect(ministack.address).toBe(word(gsBase + BigInt(percpu.espfixStack)));
      const mark = Uint8Array.of(0xa0 + cpu, 1, 2, 3);
      machine.writeMemory(ministack.writable, mark);
      expect(machine.readPhysical(Number(ministack.physical), 4)).toEqual(mark);
      for (const bits of [0n, 0x5aad_0000n, 0xffff_0000n])
        expect(machine.readMemory(ministack.address | (bits & ministack.aliasBits), 4)).toEqual(mark);
      if (!ministack.takesFrames) expect(word(gsBase + BigInt(percpu.espfixWrite))).toBe(ministack.writable);
    }
  });

  it('names labels that there are', () => {
    for (const label of [...facts.mayFault, ...Object.values(facts.work)])
      expect(image.symbols.has(label)).toBe(true);
    expect(facts.mayFault).toContain('iretq.user');
  });
});

describe('the place of ministacks', () => {
  it.each<['linux' | 'prototype' | 'ministack-40', Slot, number]>([
    ['linux', 'first', 0],
    ['linux', 'last', 63],
    ['linux', 17, 17],
    ['prototype', 'last', 63],
    ['ministack-40', 'last', 101],
  ])('%s: %s', (name, slot, number) => {
    const pages = [1, 2, 3].map((seed) => {
      const { facts, report } = booted(name, slot, seed);
      const [first, second] = facts.cpus.map((c) => c.ministack);
      if (!first || !second) throw new Error('no ministacks');
      const page = BigInt(PAGE_SIZE);
      expect(first.address % page).toBe(BigInt(number * first.size));
      expect(second.address % page).toBe(
        ((first.address % page) + BigInt(second.size)) % (page - (page % BigInt(second.size))),
      );
      expect(verdictOf(report)).toBe('safe');
      return first.address / page;
    });
    // The seed moves the page, but the prototype's.
    expect(new Set(pages).size).toBe(name === 'prototype' ? 1 : 3);
  });

  it.each<Slot>([-1, 64, 1.5])('refuses %s', (slot) => {
    expect(() => buildImage('linux', { slot })).toThrow('slot must be first, last, or 0 to 63');
  });
});
