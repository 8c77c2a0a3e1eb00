/**
 * The 32-bit kernel, booted: the segment-base trick works in protected mode, and without it every return to a
 * 16-bit stack leaks. On our machine and, where it is installed, on QEMU, which must be there in CI.
 */
import { describe, expect, it } from 'vitest';
import { measureReturns } from '../../check/cost.ts';
import { RSP, SS } from '../../isa/state.ts';
import { Machine } from '../../machine/machine.ts';
import { qemu } from '../../peers/qemu.ts';
import { buildImage, type CaseInfo, type KernelImage } from '../image.ts';
import { selector } from '../layout.ts';
import { type CaseLine, formatCase, leaked, parseReport, type Report, verdictOf } from '../report.ts';
import { variantInfo } from '../variants/index.ts';
import { KERNEL_BASE, percpuPage, selector32, UNMAPPED } from './layout.ts';

const CPUS = 2;
/** Guest instructions that one boot may take. */
const LIMIT = 20_000_000;
const names = ['none-pae', 'espfix32-pae'] as const;
type Name = (typeof names)[number];

const peer = qemu();
if (peer === undefined && process.env.CI === 'true') throw new Error('qemu-system-x86_64 is needed in CI');
if (peer === undefined) console.warn('qemu-system-x86_64 is not on the PATH: the kernel is not tested on it');

const images = new Map<Name, KernelImage>(names.map((name) => [name, buildImage(name, { cpus: CPUS })]));
const imageOf = (name: Name) => images.get(name) as KernelImage;

/** A machine with the image booted, and what it has printed so far. */
function boot(image: KernelImage, cpus: number): { machine: Machine; text: () => string } {
  const machine = Machine.create({ cpus });
  machine.boot(image.elf);
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  return { machine, text: () => text };
}

function onMachine(name: Name): Report {
  const { machine, text } = boot(imageOf(name), CPUS);
  expect(machine.run({ maxInstructions: LIMIT })).toMatchObject({ reason: 'exit', value: 0 });
  return parseReport(text());
}

const symbol = (image: KernelImage, name: string) => {
  const value = image.symbols.get(name);
  if (value === undefined) throw new Error(`no symbol ${name}`);
  return value;
};

/** QEMU and Bochs raise #NP for a stack segment that is not present; the SDM (Vol. 2A, IRET) says #SS. */
const asTheManualSays = (c: CaseLine): string =>
  formatCase(
    c.ss === 'not-present' && c.result === 'fault:np:0024'
      ? { ...c, result: 'fault:ss:0024', ok: c.seen === c.set }
      : c,
  );

describe.each(names)('%s', (name) => {
  const image = imageOf(name);
  const report = onMachine(name);

  it('runs all its cases on every processor', () => {
    expect(report).toMatchObject({ variant: name, cpus: CPUS, oopses: [] });
    expect(report.cases.map((c) => [c.cpu, c.path, c.cs, c.ss, c.set, c.name])).toEqual(
      [0, 1].flatMap((cpu) => image.cases.map((c) => [cpu, c.path, c.cs, c.ss, c.set, c.name])),
    );
  });

  it('has the verdict that it is documented to have', () => {
    expect(verdictOf(report)).toBe(variantInfo(name).verdict);
  });

  it('leaks on every return to a 16-bit stack, or on none', () => {
    for (const c of report.cases) {
      const kernel = name === 'none-pae' && (c.ss === 'ss16-ldt' || c.name.startsWith('q4-'));
      const expected = kernel && !(c.ss === 'not-present' && c.cs === 'cs32-gdt');
      expect([formatCase(c), leaked(c), c.ok]).toEqual([formatCase(c), expected, !expected]);
    }
  });

  it('raises the manual’s fault for a bad frame, with its error code', () => {
    const results = (cs: string, ss: string) =>
      new Set(report.cases.filter((c) => c.cs === cs && c.ss === ss).map((c) => c.result));
    expect(results('cs32-gdt', 'null')).toEqual(new Set(['fault:gp:0000']));
    expect(results('cs32-gdt', 'not-present')).toEqual(new Set(['fault:ss:0024']));
    expect(results('cs32-gdt', 'wrong-dpl')).toEqual(new Set(['fault:gp:0018']));
    expect(results('cs32-gdt', 'code')).toEqual(new Set(['fault:gp:0004']));
    expect(results('cs32-gdt', 'read-only')).toEqual(new Set(['fault:gp:002c']));
    expect(results('cs32-gdt', 'out-of-limit')).toEqual(new Set(['fault:gp:010c']));
    expect(results('cs32-gdt', 'out-of-limit-gdt')).toEqual(new Set(['fault:gp:01f8']));
    expect(results('null', 'flat')).toEqual(new Set(['fault:gp:0000']));
    expect(results('not-present', 'flat')).toEqual(new Set(['fault:np:0034']));
    expect(results('data', 'flat')).toEqual(new Set(['fault:gp:0028']));
    // The same from the espfix segment, whose fault the kernel must take off it without losing the error code.
    expect(results('not-present', 'ss16-ldt')).toEqual(new Set(['fault:np:0034']));
  });

  it.skipIf(peer === undefined)(
    'prints the same cases on QEMU',
    async () => {
      const run = await peer?.run(image.elf, { cpus: CPUS, timeout: 120 });
      expect(run).toMatchObject({ ended: 'exit', status: 1 });
      const other = parseReport(run?.serial ?? '');
      expect(other.cases.map(asTheManualSays)).toEqual(report.cases.map(formatCase));
    },
    180_000,
  );
});

const only = (path: CaseInfo['path'], cs: CaseInfo['cs'], ss: CaseInfo['ss']) => (c: CaseInfo) =>
  c.path === path && c.cs === cs && c.ss === ss && c.name === '-';

describe('events inside the return to a 16-bit stack', () => {
  const image = buildImage('espfix32-pae', { cpus: 1, only: only('int80', 'cs32-ldt', 'ss16-ldt') });
  const { machine, text } = boot(image, 1);
  const [cpu] = machine.cpus;
  const start = symbol(image, 'return_by_espfix');
  while (cpu.rip !== start) machine.step();
  const before = text();
  const inReturn = machine.snapshot();
  const boundaries: { rip: bigint; onEspfix: boolean }[] = [];
  while (cpu.cpl === 0) {
    boundaries.push({ rip: cpu.rip, onEspfix: cpu.segSelector[SS] === selector.espfix });
    machine.step();
  }

  it('has one boundary on the espfix segment: that before IRETD', () => {
    expect(boundaries.filter((b) => b.onEspfix).map((b) => b.rip)).toEqual([symbol(image, 'iretd.espfix')]);
  });

  const events: [string, (rip: bigint) => void][] = [
    ['an NMI', () => machine.injectNmi()],
    ['a machine check', () => machine.injectMachineCheck()],
    [
      'an instruction breakpoint',
      (rip) => {
        machine.setRegister('dr0', rip);
        machine.setRegister('dr7', 0x401n);
      },
    ],
  ];
  it.each(events)('survives %s at every boundary', (_, inject) => {
    for (const [steps, { rip }] of boundaries.entries()) {
      machine.restore(inReturn);
      const at = text().length;
      for (let i = 0; i < steps; i++) machine.step();
      expect(cpu.rip).toBe(rip);
      let delivered = 0;
      const off = machine.on('deliver', (_cpu, vector) => {
        if (vector === 2 || vector === 18 || vector === 1) delivered++;
        return false;
      });
      inject(rip);
      const stop = machine.run({ maxInstructions: LIMIT });
      off();
      expect(stop).toMatchObject({ reason: 'exit', value: 0 });
      expect(delivered).toBeGreaterThan(0);
      const report = parseReport(before + text().slice(at));
      expect(report.cases.map((c) => c.result)).toEqual(['own', 'own', 'own', 'own']);
      expect(verdictOf(report)).toBe('safe');
    }
  });
});

describe('a double fault', () => {
  const image = buildImage('espfix32-pae', { cpus: 1, only: only('int80', 'cs16-ldt', 'ss16-ldt') });

  it('goes through a task gate to the task of the GDT', () => {
    const { machine } = boot(image, 1);
    const view = (linear: bigint) => {
      const bytes = machine.readPhysical(Number(linear - KERNEL_BASE), 8);
      return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
    };
    const gate = view(symbol(image, 'idt') + 64n);
    // Present, DPL 0, type 5 (SDM Vol. 3A, Figure 7-6).
    expect((gate >> 40n) & 0xffn).toBe(0x85n);
    expect(Number((gate >> 16n) & 0xffffn)).toBe(selector32.doubleFaultTask);
    const gdt = symbol(image, 'percpu') + BigInt(percpuPage.gdt);
    // An available 32-bit TSS of 104 bytes (SDM Vol. 3A, Figure 7-3).
    const descriptor = view(gdt + BigInt(selector32.doubleFaultTask));
    expect((descriptor >> 40n) & 0xffn).toBe(0x89n);
    expect(descriptor & 0xffffn).toBe(103n);
  });

  it('that nobody asked for costs the task its work, is reported, and does not stop the kernel', () => {
    const { machine, text } = boot(image, 1);
    const [cpu] = machine.cpus;
    const entry = symbol(image, 'call.touch');
    while (cpu.rip !== entry) machine.step();
    // RET will not find its return address, and the page fault no stack.
    cpu.gpr[RSP] = UNMAPPED;
    expect(machine.run({ maxInstructions: LIMIT })).toMatchObject({ reason: 'exit', value: 0 });
    const report = parseReport(text());
    expect(report.oopses).toHaveLength(1);
    expect(report.oopses[0]).toMatchObject({ vector: 8, error: 0n, rsp: UNMAPPED, cr2: UNMAPPED - 4n });
    expect(report.cases.map((c) => c.result)).toEqual(['oops:df', 'own', 'own', 'own']);
  });
});

describe('the cost of the segment-base return', () => {
  it('is two instructions for most returns, and eleven for one to a 16-bit stack', () => {
    const plain = measureReturns('none-pae');
    const espfix = measureReturns('espfix32-pae');
    expect(espfix.ordinary).toBe((plain.ordinary as number) + 2);
    expect(espfix.stack16).toBe((plain.stack16 as number) + 11);
  });
});

describe('images of the 32-bit kernel', () => {
  it('keep kernel stacks apart by bits 31:16, for any seed', () => {
    for (const seed of [0, 1, 2, 1000, 0x7fff_ffff]) {
      const { stacks, cases } = buildImage('espfix32-pae', { cpus: 64, seed, only: (c) => c.path === 'nmi' });
      const tags = stacks.map(({ range }) => range.start >> 16n);
      expect(new Set(tags).size).toBe(64 * 3);
      for (const c of cases) expect(tags).not.toContain(BigInt(c.set >>> 16));
    }
  });

  it('move their stacks with the seed', () => {
    const [a, b] = [1, 2].map((seed) => buildImage('none-pae', { cpus: 1, seed, only: () => false }));
    expect(a.stacks[0].range.start).not.toBe(b.stacks[0].range.start);
  });

  it('have no case that needs 64-bit code', () => {
    const { cases } = buildImage('espfix32-pae');
    expect(cases.filter((c) => c.cs === 'cs64' || c.cs === 'non-canonical-rip')).toEqual([]);
    expect(cases.filter((c) => c.name === 'double-fault-through-a-task-gate')).toHaveLength(9);
  });
});
