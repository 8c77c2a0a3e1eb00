/** RDMSR and WRMSR, register by register. SDM vol. 4 chapter 2. */
import { describe, expect, test } from 'vitest';
import { FS, GS, RAX, RCX, RDX } from '../isa/state.ts';
import { Fixture, faultOf } from './cpu.fixture.ts';
import { GP } from './fault.ts';
import { instruction, register } from './instruction.fixture.ts';
import * as msr from './msr.ts';

const FAULT = { vector: GP, errorCode: 0 };
const ALL = 0xffff_ffff_ffff_ffffn;

describe('writable bits (SDM vol. 4 table 2-2): each bit alone, then what reads back', () => {
  /** index, bits that may be written, bits that always read 1, other bits are: reserved (#GP) or ignored. */
  const cases: [string, number, bigint, bigint, 'reserved' | 'ignored'][] = [
    ['IA32_STAR', msr.IA32_STAR, ALL, 0n, 'reserved'],
    ['IA32_FMASK', msr.IA32_FMASK, 0xffff_ffffn, 0n, 'reserved'],
    ['IA32_TSC_AUX', msr.IA32_TSC_AUX, 0xffff_ffffn, 0n, 'reserved'],
    ['IA32_SYSENTER_CS', msr.IA32_SYSENTER_CS, 0xffff_ffffn, 0n, 'ignored'],
    ['IA32_MCG_STATUS', msr.IA32_MCG_STATUS, 7n, 0n, 'reserved'],
    ['IA32_TSC_ADJUST', msr.IA32_TSC_ADJUST, ALL, 0n, 'reserved'],
    ['IA32_DEBUGCTL', msr.IA32_DEBUGCTL, 0n, 0n, 'reserved'],
    ['IA32_MTRR_PHYSMASK3', 0x207, 0xff_ffff_f800n, 0n, 'reserved'],
    ['IA32_EFER', msr.IA32_EFER, 0x901n, 0n, 'reserved'],
  ];
  test.each(cases)('%s', (_, index, writable, fixed, others) => {
    for (let bit = 0n; bit < 64n; bit++) {
      const { cpu } = new Fixture().enter('real');
      const value = 1n << bit;
      // LMA of IA32_EFER is ignored, not reserved.
      const lma = index === msr.IA32_EFER && bit === 10n;
      const faults = (writable & value) === 0n && others === 'reserved' && !lma;
      const label = `bit ${bit}`;
      expect(
        faultOf(() => msr.writeMsr(cpu, index, value)),
        label,
      ).toEqual(faults ? FAULT : null);
      expect(msr.readMsr(cpu, index), label).toBe((value & writable) | fixed);
    }
  });
});

describe('canonical addresses', () => {
  test.each([
    ['IA32_LSTAR', msr.IA32_LSTAR],
    ['IA32_CSTAR', msr.IA32_CSTAR],
    ['IA32_SYSENTER_ESP', msr.IA32_SYSENTER_ESP],
    ['IA32_SYSENTER_EIP', msr.IA32_SYSENTER_EIP],
    ['IA32_FS_BASE', msr.IA32_FS_BASE],
    ['IA32_GS_BASE', msr.IA32_GS_BASE],
    ['IA32_KERNEL_GS_BASE', msr.IA32_KERNEL_GS_BASE],
  ])('%s', (_, index) => {
    const { cpu } = new Fixture().enter('64-bit');
    for (const value of [0n, 0x7fff_ffff_ffffn, 0xffff_8000_0000_0000n, ALL]) {
      msr.writeMsr(cpu, index, value);
      expect(msr.readMsr(cpu, index)).toBe(value);
    }
    for (const value of [0x8000_0000_0000n, 0xffff_7fff_ffff_ffffn, 1n << 63n]) {
      expect(faultOf(() => msr.writeMsr(cpu, index, value))).toEqual(FAULT);
      expect(msr.readMsr(cpu, index)).toBe(ALL);
    }
  });
  test('FS and GS bases are the segment registers’ own', () => {
    const { cpu } = new Fixture().enter('64-bit');
    msr.writeMsr(cpu, msr.IA32_FS_BASE, 0x1111n);
    msr.writeMsr(cpu, msr.IA32_GS_BASE, 0x2222n);
    expect([cpu.segBase[FS], cpu.segBase[GS]]).toEqual([0x1111n, 0x2222n]);
  });
});

describe('IA32_EFER (SDM vol. 3A 2.2.1)', () => {
  test('LME cannot change while paging is on; LMA is not software’s', () => {
    const f = new Fixture().enter('64-bit').enablePaging();
    const { cpu } = f;
    expect(faultOf(() => msr.writeMsr(cpu, msr.IA32_EFER, 0x401n))).toEqual(FAULT);
    msr.writeMsr(cpu, msr.IA32_EFER, 0x901n);
    expect(cpu.efer).toBe(0xd01n);
    expect(f.flushes).toContain('all');
    const off = new Fixture().enter('protected32').cpu;
    msr.writeMsr(off, msr.IA32_EFER, 0x500n);
    expect(off.efer).toBe(0x100n);
  });
});

describe('memory types (SDM vol. 3A 11.11.2, 11.12.2)', () => {
  const types = Array.from({ length: 256 }, (_, type) => BigInt(type));
  test('PAT entries', () => {
    const { cpu } = new Fixture().enter('real');
    for (let entry = 0n; entry < 8n; entry++)
      for (const type of types)
        expect(faultOf(() => msr.writeMsr(cpu, msr.IA32_PAT, type << (entry * 8n)))).toEqual(
          [0n, 1n, 4n, 5n, 6n, 7n].includes(type) ? null : FAULT,
        );
  });
  test('MTRRs', () => {
    const { cpu } = new Fixture().enter('real');
    for (const type of types) {
      const wanted = [0n, 1n, 4n, 5n, 6n].includes(type) ? null : FAULT;
      expect(faultOf(() => msr.writeMsr(cpu, msr.IA32_MTRR_DEF_TYPE, 0xc00n | type))).toEqual(wanted);
      expect(faultOf(() => msr.writeMsr(cpu, 0x20e, 0x8000_0000n | type))).toEqual(wanted);
      expect(faultOf(() => msr.writeMsr(cpu, 0x26f, type << 40n))).toEqual(wanted);
    }
    for (const bit of [8n, 9n, 12n, 40n])
      expect(faultOf(() => msr.writeMsr(cpu, msr.IA32_MTRR_DEF_TYPE, 1n << bit))).toEqual(FAULT);
    for (const bit of [8n, 11n, 40n, 63n])
      expect(faultOf(() => msr.writeMsr(cpu, 0x200, 1n << bit))).toEqual(FAULT);
  });
  test('all that IA32_MTRRCAP promises can be read, and no more', () => {
    const { cpu } = new Fixture().enter('real');
    expect(msr.readMsr(cpu, msr.IA32_MTRRCAP)).toBe(0x508n);
    const there = [];
    for (let index = 0x200; index < 0x300; index++)
      if (!faultOf(() => msr.readMsr(cpu, index))) there.push(index);
    expect(there).toEqual([
      ...Array.from({ length: 16 }, (_, i) => 0x200 + i),
      ...[0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f],
      0x277,
      0x2ff,
    ]);
  });
});

describe('the time-stamp counter (SDM vol. 3B 17.17)', () => {
  test('writes of TSC and TSC_ADJUST move each other', () => {
    const { cpu, bus } = new Fixture().enter('real');
    bus.time = 1000;
    expect(msr.readMsr(cpu, msr.IA32_TSC)).toBe(1000n);
    msr.writeMsr(cpu, msr.IA32_TSC, 5000n);
    expect(msr.readMsr(cpu, msr.IA32_TSC_ADJUST)).toBe(4000n);
    bus.time = 1500;
    expect(msr.readMsr(cpu, msr.IA32_TSC)).toBe(5500n);
    msr.writeMsr(cpu, msr.IA32_TSC_ADJUST, BigInt.asUintN(64, -500n));
    expect(msr.readTsc(cpu)).toBe(1000n);
  });
  test('RDTSC and RDTSCP', () => {
    const f = new Fixture().enter('64-bit', 3);
    f.bus.time = 0x1234_5678_9abc;
    f.cpu.gpr.fill(ALL);
    msr.rdtsc(f.cpu, instruction('rdtsc'));
    expect([f.cpu.gpr[RAX], f.cpu.gpr[RDX]]).toEqual([0x5678_9abcn, 0x1234n]);
    f.cpu.tscOffset = 0xffff_f000_0000_0000n;
    f.cpu.gpr.fill(ALL);
    msr.rdtsc(f.cpu, instruction('rdtsc'));
    expect([f.cpu.gpr[RAX], f.cpu.gpr[RDX]]).toEqual([0x5678_9abcn, 0x234n]);
    f.cpu.gpr.fill(ALL);
    f.cpu.tscAux = 0x42n;
    msr.rdtscp(f.cpu, instruction('rdtscp'));
    expect([f.cpu.gpr[RAX], f.cpu.gpr[RDX], f.cpu.gpr[RCX]]).toEqual([0x5678_9abcn, 0x234n, 0x42n]);
    msr.rdpid(f.cpu, instruction('rdpid', [register(RAX)]));
    expect(f.cpu.gpr[RAX]).toBe(0x42n);
  });
  test.each([0, 1, 2, 3])('CR4.TSD at CPL %i', (cpl) => {
    const { cpu } = new Fixture().enter('protected32', cpl);
    cpu.cr4 |= 4n;
    const wanted = cpl === 0 ? null : FAULT;
    expect(faultOf(() => msr.rdtsc(cpu, instruction('rdtsc')))).toEqual(wanted);
    expect(faultOf(() => msr.rdtscp(cpu, instruction('rdtscp')))).toEqual(wanted);
  });
});

describe('RDMSR and WRMSR', () => {
  test('move EDX:EAX by ECX, and clear the upper halves', () => {
    const { cpu } = new Fixture().enter('64-bit');
    cpu.gpr.fill(ALL);
    cpu.gpr[RCX] = 0xffff_ffff_0000_0000n | BigInt(msr.IA32_STAR);
    cpu.gpr[RAX] = 0xdead_0000_1122_3344n;
    cpu.gpr[RDX] = 0xbeef_0000_5566_7788n;
    msr.wrmsr(cpu, instruction('wrmsr'));
    expect(cpu.star).toBe(0x5566_7788_1122_3344n);
    cpu.gpr[RAX] = ALL;
    cpu.gpr[RDX] = ALL;
    msr.rdmsr(cpu, instruction('rdmsr'));
    expect([cpu.gpr[RAX], cpu.gpr[RDX]]).toEqual([0x1122_3344n, 0x5566_7788n]);
  });
  test.each([1, 2, 3])('raise #GP(0) at CPL %i', (cpl) => {
    const { cpu } = new Fixture().enter('64-bit', cpl);
    cpu.gpr[RCX] = BigInt(msr.IA32_STAR);
    expect(faultOf(() => msr.rdmsr(cpu, instruction('rdmsr')))).toEqual(FAULT);
    expect(faultOf(() => msr.wrmsr(cpu, instruction('wrmsr')))).toEqual(FAULT);
  });
  test('an MSR that is not there, and one that is read-only', () => {
    const { cpu } = new Fixture().enter('64-bit');
    for (const index of [0x11, 0x3a, 0x17b, 0x480, 0x4000_0000, 0xc001_0015]) {
      expect(faultOf(() => msr.readMsr(cpu, index))).toEqual(FAULT);
      expect(faultOf(() => msr.writeMsr(cpu, index, 0n))).toEqual(FAULT);
    }
    for (const index of [msr.IA32_MTRRCAP, msr.IA32_MCG_CAP, msr.IA32_PLATFORM_ID]) {
      expect(faultOf(() => msr.readMsr(cpu, index))).toBeNull();
      expect(faultOf(() => msr.writeMsr(cpu, index, 0n))).toEqual(FAULT);
    }
  });
  test('the local APIC answers for its own', () => {
    const { cpu, interrupts } = new Fixture().enter('64-bit');
    for (const index of [0x1b, 0x6e0, 0x800, 0x8ff]) {
      expect(faultOf(() => msr.readMsr(cpu, index))).toEqual(FAULT);
      msr.writeMsr(cpu, index, 0x1234n);
      expect(interrupts.msrs.get(index)).toBe(0x1234n);
      expect(msr.readMsr(cpu, index)).toBe(0x1234n);
    }
    for (const index of [0x7ff, 0x900]) expect(faultOf(() => msr.writeMsr(cpu, index, 0n))).toEqual(FAULT);
  });
  test('IA32_MISC_ENABLE keeps its read-only bits', () => {
    const { cpu } = new Fixture().enter('64-bit');
    msr.writeMsr(cpu, msr.IA32_MISC_ENABLE, 1n);
    expect(cpu.miscEnable).toBe(0x1801n);
    expect(faultOf(() => msr.writeMsr(cpu, msr.IA32_MISC_ENABLE, 1n << 22n))).toEqual(FAULT);
  });
});

test('RDPMC: CR4.PCE lets it in, but there is no counter', () => {
  for (const [cpl, pce] of [
    [0, 0n],
    [3, 0n],
    [3, 0x100n],
  ] as const) {
    const { cpu } = new Fixture().enter('64-bit', cpl);
    cpu.cr4 |= pce;
    expect(faultOf(() => msr.rdpmc(cpu, instruction('rdpmc')))).toEqual(FAULT);
  }
});
