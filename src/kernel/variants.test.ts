/**
 * Each 64-bit variant, booted: does it do what it is documented to do? On our machine and, where it is
 * installed, on QEMU, which must be there in CI.
 */
import { describe, expect, it } from 'vitest';
import { Machine } from '../machine/machine.ts';
import { qemu } from '../peers/qemu.ts';
import { buildImage } from './image.ts';
import { type CaseLine, leaked, parseReport, type Report, verdictOf } from './report.ts';
import { variants } from './variants/index.ts';

const CPUS = 2;
/** Guest instructions that one boot may take: it must stay pleasant on slow machines. */
const LIMIT = 20_000_000;

const peer = qemu();
if (peer === undefined && process.env.CI === 'true') throw new Error('qemu-system-x86_64 is needed in CI');
if (peer === undefined) console.warn('qemu-system-x86_64 is not on the PATH: the kernel is not tested on it');

const names = variants.filter((v) => v.bits === 64).map((v) => v.name);
type Name = (typeof names)[number];

const images = new Map<Name, Uint8Array>(names.map((name) => [name, buildImage(name, { cpus: CPUS }).elf]));
const imageOf = (name: Name) => images.get(name) as Uint8Array;

function onMachine(name: Name): Report {
  const machine = Machine.create({ cpus: CPUS });
  machine.boot(imageOf(name));
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  const stop = machine.run({ maxInstructions: LIMIT });
  expect(stop).toMatchObject({ reason: 'exit', value: 0 });
  return parseReport(text);
}

async function onQemu(name: Name): Promise<Report> {
  if (peer === undefined) throw new Error('no QEMU');
  const { serial, ended, status } = await peer.run(imageOf(name), { cpus: CPUS, timeout: 120 });
  expect({ ended, status }).toEqual({ ended: 'exit', status: 1 });
  return parseReport(serial);
}

const needsEspfix = (c: CaseLine) => c.ss === 'ss16-ldt' && c.cs !== 'cs64';
const deaths = (report: Report, cpu: number) =>
  report.cases.filter((c) => c.cpu === cpu && c.result.startsWith('oops:'));

/** What each variant must show beyond its verdict. */
function expectDocumented(name: Name, report: Report): void {
  expect(report.cpus).toBe(CPUS);
  expect(new Set(report.cases.map((c) => c.cpu))).toEqual(new Set([0, 1]));
  expect(verdictOf(report)).toBe(variants.find((v) => v.name === name)?.verdict);
  // Questions 1 and 2 have the same answer everywhere: these returns need no espfix.
  for (const c of report.cases.filter((line) => /^q[12]-/.test(line.name)))
    if (name !== 'espfix32') expect(c).toMatchObject({ result: 'own', ok: true });

  const plain = report.cases.filter((c) => needsEspfix(c) && !c.name.startsWith('q'));
  const failed = report.cases.filter((c) => !c.ok);
  switch (name) {
    case 'none':
      // Every return that the silicon table says needs espfix leaks, on every path, and nothing else fails.
      for (const c of plain) expect(c).toMatchObject({ result: 'kernel', ok: false });
      for (const c of failed) expect(leaked(c)).toBe(true);
      expect(failed.filter((c) => c.result === 'kernel')).toEqual(plain);
      break;
    case 'linux':
      expect(failed).toEqual([]);
      expect(report.oopses).toEqual([]);
      break;
    case 'prototype':
      // No leak; but an IRET that faults on a 16-bit stack kills the first CPU, whose ministack has nothing below it.
      for (const c of plain) expect(c).toMatchObject({ result: 'own', ok: true });
      expect(failed).toEqual(deaths(report, 0));
      for (const c of failed) expect(['ss16-ldt', 'not-present', 'read-only']).toContain(c.ss);
      expect(failed.some((c) => c.name.startsWith('q4-'))).toBe(true);
      expect(deaths(report, 1)).toEqual([]);
      expect(new Set(report.oopses.map((oops) => oops.vector))).toEqual(new Set([8]));
      break;
    case 'espfix32': {
      // The base counts for nothing: IRETQ reads a frame at (user's ESP[31:16] : kernel's SP).
      for (const c of failed) expect(c.result).toMatch(/^(oops:df|other)$/);
      const forged = report.cases.filter((c) => c.name === 'frame-from-user-memory');
      expect(forged.length).toBe(CPUS);
      for (const c of forged) expect(c).toMatchObject({ seen: 0x0f0f0f0f, result: 'other' });
      for (const oops of report.oopses) expect(oops.rsp >> 32n).toBe(0n);
      break;
    }
  }
}

function expectTables(name: Name, report: Report): void {
  if (name === 'none' || name === 'espfix32') {
    expect(report.pages).toEqual({ tables: 0, ministacks: 0 });
    expect(report.aliases).toEqual([]);
    return;
  }
  // One table each for the page-directory-pointers, the directory and the pages serve one ministack page.
  expect(report.pages).toEqual({ tables: 3, ministacks: 1 });
  expect(report.capacity).toEqual({ slot: 1n << 39n, aliases: 65536, ministack: 64, cpus: 131072 });
  const writable = name === 'prototype' ? 65536 : 0;
  expect(report.aliases).toEqual([0, 1].map((cpu) => ({ cpu, mapped: 65536, writable, of: 65536 })));
}

describe.each(names)('%s', (name) => {
  it('does what it is documented to do on our machine', () => {
    const report = onMachine(name);
    expectDocumented(name, report);
    expectTables(name, report);
    // As measured on processors, a return to compatibility mode leaves nothing in RSP[63:32].
    for (const c of report.cases)
      if (c.cs.startsWith('cs32') || c.cs === 'cs16-ldt') expect(c).toMatchObject({ rsp: BigInt(c.seen) });
  });

  it.skipIf(peer === undefined)(
    'does what it is documented to do on QEMU',
    async () => {
      const report = await onQemu(name);
      expectDocumented(name, report);
      expectTables(name, report);
    },
    180_000,
  );
});
