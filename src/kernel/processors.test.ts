/** Several processors: each has its ministack, wherever the seed puts that, and none returns through another's. */
import { describe, expect, it } from 'vitest';
import { Machine } from '../machine/machine.ts';
import { buildImage, type CaseInfo, type KernelImage } from './image.ts';
import {
  ESPFIX_ALIASES,
  KERNEL_BASE,
  ldtSelector,
  PAGE_SIZE,
  percpu,
  percpuPage,
  selector,
  vector,
} from './layout.ts';
import { MAX_IMAGE_CPUS } from './limits.ts';
import { parseReport, verdictOf } from './report.ts';
import { type VariantName, variantInfo } from './variants/index.ts';

const LIMIT = 100_000_000;

const symbol = (image: KernelImage, name: string) => {
  const value = image.symbols.get(name);
  if (value === undefined) throw new Error(`no symbol ${name}`);
  return value;
};

const read = (machine: Machine, linear: bigint, size: 4 | 8) => {
  const bytes = machine.readMemory(linear, size);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return size === 4 ? BigInt(view.getUint32(0, true)) : view.getBigUint64(0, true);
};

const toStack16 = (c: CaseInfo) =>
  c.ss === 'ss16-ldt' && c.cs !== 'cs64' && ['int80', 'nmi', 'sigreturn'].includes(c.path);

describe('ministacks', () => {
  it.each<[VariantName, number, number]>([
    ['linux', 1, 0],
    ['linux', 3, 2],
    ['linux', 4, 12345],
    ['linux', 8, 0x7fff_ffff],
    ['linux', MAX_IMAGE_CPUS, 3],
    ['prototype', 4, 5],
  ])(
    '%s with %i processors and seed %i: where the image says, each reached by all aliases',
    (name, cpus, seed) => {
      const image = buildImage(name, { cpus, seed, only: (c) => toStack16(c) && c.expected === undefined });
      const machine = Machine.create({ cpus });
      machine.boot(image.elf);
      let text = '';
      machine.serial.onOutput = (byte) => {
        text += String.fromCharCode(byte);
      };
      expect(machine.run({ maxInstructions: LIMIT })).toMatchObject({ reason: 'exit', value: 0 });
      const report = parseReport(text);
      expect(verdictOf(report)).toBe('safe');
      expect(report.cases.length).toBe(cpus * image.cases.length);
      expect(report.seed).toBe(seed);
      expect(report.aliases.map(({ cpu, mapped }) => [cpu, mapped])).toEqual(
        Array.from({ length: cpus }, (_, cpu) => [cpu, ESPFIX_ALIASES]),
      );
      const area = (cpu: number) => symbol(image, 'percpu') + BigInt(cpu * percpuPage.size);
      const all = Array.from({ length: cpus }, (_, cpu) => area(cpu));
      expect(all.map((at) => read(machine, at + BigInt(percpu.espfixStack), 8))).toEqual(image.ministacks);
      // What is written through the other address is read through every alias.
      for (const [cpu, at] of all.entries()) {
        const mark = new Uint8Array(8).fill(0xa0 + cpu);
        machine.writeMemory(read(machine, at + BigInt(percpu.espfixWrite), 8), mark);
        for (const high of [0n, 1n, 0x8badn, 0xffffn])
          expect(machine.readMemory(image.ministacks[cpu] | (high << 16n), 8)).toEqual(mark);
      }
    },
  );
});

describe('as many processors as there can be', () => {
  it.each<VariantName>(['none-pae', 'espfix32-pae'])('%s: all report', (name) => {
    const cpus = MAX_IMAGE_CPUS;
    const image = buildImage(name, { cpus, only: (c) => toStack16(c) && c.path === 'int80' });
    const machine = Machine.create({ cpus });
    machine.boot(image.elf);
    let text = '';
    machine.serial.onOutput = (byte) => {
      text += String.fromCharCode(byte);
    };
    expect(machine.run({ maxInstructions: LIMIT })).toMatchObject({ reason: 'exit', value: 0 });
    const report = parseReport(text);
    expect(report.cpus).toBe(cpus);
    expect(report.cases.map((c) => c.cpu)).toEqual(
      Array.from({ length: cpus }, (_, cpu) => image.cases.map(() => cpu)).flat(),
    );
    expect(verdictOf(report)).toBe(variantInfo(name).verdict);
  });
});

describe("the prototype's page tables, which each processor sets up at its first modify_ldt", () => {
  // Slices in which, without the lock, two processors fill the same tables.
  it.each([
    [4, 37],
    [8, 13],
  ])('are built once by %i processors with slices of %i instructions', (cpus, quantum) => {
    const image = buildImage('prototype', { cpus, only: () => false });
    const machine = Machine.create({ cpus, quantum });
    machine.boot(image.elf);
    let text = '';
    machine.serial.onOutput = (byte) => {
      text += String.fromCharCode(byte);
    };
    expect(machine.run({ maxInstructions: LIMIT })).toMatchObject({ reason: 'exit', value: 0 });
    const report = parseReport(text);
    expect(report.pages).toEqual({ tables: 3, ministacks: 1 });
    expect(report.aliases.map(({ mapped }) => mapped)).toEqual(Array(cpus).fill(ESPFIX_ALIASES));
    const taken = read(machine, symbol(image, 'next_page'), 8) - (symbol(image, 'page_pool') - KERNEL_BASE);
    expect(taken).toBe(4n * BigInt(PAGE_SIZE));
  });
});

describe('a processor that waits for its turn', () => {
  it.each<VariantName>(['linux', 'espfix32-pae'])(
    '%s: wakes up though an NMI lets the wake-up in between STI and HLT',
    (name) => {
      const image = buildImage(name, { cpus: 2, only: () => false });
      const machine = Machine.create({ cpus: 2 });
      machine.boot(image.elf);
      const hlt = symbol(image, 'call.waitTurn.sleeping');
      const [, cpu] = machine.cpus;
      const to = (there: () => boolean) => {
        for (let i = 0; i < 100_000 && !there(); i++) machine.step(1);
        expect(there()).toBe(true);
      };
      let user = false;
      const off = machine.on('privilege-change', (which, _from, level) => {
        if (which === 1 && level === 3 && !user) {
          user = true;
          machine.stop();
        }
      });
      machine.run({ maxInstructions: LIMIT });
      off();
      // STI is one byte.
      to(() => cpu.rip === hlt - 1n);
      machine.writeMemory(symbol(image, 'turn'), Uint8Array.of(1));
      machine.injectInterrupt(vector.wake, 1);
      to(() => cpu.rip === hlt);
      machine.injectNmi(1);
      to(() => cpu.rip === symbol(image, 'call.waitTurn.go'));
    },
  );
});

describe('returns at the same time', () => {
  /** Most instructions between two returns to a 16-bit stack, or within one. */
  const PATIENCE = 100_000;
  const ROUNDS = 8;

  it.each<[VariantName, number, string]>([
    ['linux', 2, 'return_to_ldt'],
    ['linux', 4, 'return_to_ldt'],
    ['prototype', 4, 'return_to_16_bit_stack'],
    ['espfix32-pae', 4, 'return_by_espfix'],
  ])('%s: %i processors, an instruction each in turn, do not disturb each other', (name, cpus, label) => {
    const image = buildImage(name, {
      cpus,
      only: (c) => c.path === 'int80' && toStack16(c) && c.expected === undefined,
    });
    const start = symbol(image, label);
    const machine = Machine.create({ cpus });
    machine.boot(image.elf);
    let text = '';
    machine.serial.onOutput = (byte) => {
      text += String.fromCharCode(byte);
      if (text.endsWith('\ncase')) machine.stop();
    };
    expect(machine.run({ maxInstructions: LIMIT }).reason).toBe('hook');
    const stepUntil = (cpu: number, condition: () => boolean) => {
      for (let i = 0; i < PATIENCE && !condition(); i++) machine.step(cpu);
      expect(condition()).toBe(true);
    };
    const users = machine.cpus.map((cpu) => () => cpu.cpl === 3);
    // All but processor 0 wait for their turn; an NMI ends their HLT, and they find that it has come.
    for (let cpu = 1; cpu < cpus; cpu++) {
      machine.writeMemory(symbol(image, 'turn'), Uint8Array.of(cpu));
      machine.injectNmi(cpu);
      stepUntil(cpu, users[cpu]);
    }
    const toReturn = (cpu: number) => {
      stepUntil(cpu, users[cpu]);
      stepUntil(cpu, () => machine.cpus[cpu].rip === start);
    };
    /** Cases that a processor has behind it; each is ahead of the next, so that their frames differ. */
    const done = machine.cpus.map((_, cpu) => (cpu === 0 ? 1 : 0));
    for (const cpu of done.keys()) for (; done[cpu] < cpus - cpu; done[cpu]++) toReturn(cpu);

    for (let round = 0; round < ROUNDS; round++) {
      for (const cpu of done.keys()) {
        toReturn(cpu);
        for (let i = 0; i < (round * cpu) % 5; i++) machine.step(cpu);
      }
      for (let i = 0; i < PATIENCE && !users.every((user) => user()); i++)
        for (const cpu of done.keys()) if (!users[cpu]()) machine.step(cpu);
      for (const cpu of done.keys()) {
        const { rsp, cs, ss } = machine.registers(cpu);
        const { set } = image.cases[done[cpu]++];
        expect([round, cpu, rsp & 0xffff_ffffn, ss]).toEqual([
          round,
          cpu,
          BigInt(set),
          BigInt(ldtSelector.data16),
        ]);
        expect([
          BigInt(selector.userCode32),
          BigInt(ldtSelector.code32),
          BigInt(ldtSelector.code16),
        ]).toContain(cs);
      }
    }
  });
});
