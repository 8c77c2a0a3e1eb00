/** CPUID. SDM vol. 2A "CPUID". */
import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RDX } from '../isa/state.ts';
import { CR4_OSXSAVE, writeCr4 } from './control-registers.ts';
import { Fixture, faultOf } from './cpu.fixture.ts';
import type { Cpu } from './cpu.ts';
import { cpuid, cpuidLeaf } from './cpuid.ts';
import { xgetbv, xsetbv } from './extended-state.ts';
import { type Feature, featureNames, featureTable } from './features.ts';
import { instruction } from './instruction.fixture.ts';
import { IA32_MTRRCAP, readMsr, writeMsr } from './msr.ts';
import { modelTitles, processorOf } from './processor.ts';

const cpu64 = () => new Fixture().enter('64-bit').cpu;

function text(words: readonly number[]): string {
  const bytes = words.flatMap((word) => [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff));
  return String.fromCharCode(...bytes).replace(/\0+$/, '');
}

test('vendor and brand (SDM vol. 2A "CPUID")', () => {
  const [, ebx, ecx, edx] = cpuidLeaf(cpu64(), 0, 0);
  expect(text([ebx, edx, ecx])).toBe('GenuineIntel');
  const brand = [2, 3, 4].flatMap((i) => cpuidLeaf(cpu64(), 0x8000_0000 + i, 0));
  expect(text(brand)).toBe('espfix x86-64 processor');
});

/** A processor of a model in 64-bit mode. */
function cpuOf(model: string) {
  const cpu = cpu64();
  cpu.processor = processorOf(model);
  return cpu;
}
const reports = (cpu: Cpu, leaf: number, register: number, bit: number, subleaf = 0) =>
  (leaf >= 0x8000_0000 || leaf <= cpuidLeaf(cpu, 0, 0)[0]) &&
  ((cpuidLeaf(cpu, leaf, subleaf)[register] >>> bit) & 1) === 1;

describe('what is reported is there, and what is there is reported', () => {
  const has = (leaf: number, register: number, bit: number) => reports(cpu64(), leaf, register, bit);
  /** CR4 bit, and the leaf, register and bit that report it. */
  test.each([
    ['VME', 0, 1, 3, 1],
    ['DE', 3, 1, 3, 2],
    ['PSE', 4, 1, 3, 3],
    ['TSD', 2, 1, 3, 4],
    ['PAE', 5, 1, 3, 6],
    ['MCE', 6, 1, 3, 7],
    ['PGE', 7, 1, 3, 13],
    ['OSFXSR', 9, 1, 3, 24],
    ['OSXMMEXCPT', 10, 1, 3, 25],
    ['UMIP', 11, 7, 2, 2],
    ['LA57', 12, 7, 2, 16],
    ['VMXE', 13, 1, 2, 5],
    ['SMXE', 14, 1, 2, 6],
    ['FSGSBASE', 16, 7, 1, 0],
    ['PCIDE', 17, 1, 2, 17],
    ['OSXSAVE', 18, 1, 2, 26],
    ['SMEP', 20, 7, 1, 7],
    ['SMAP', 21, 7, 1, 20],
    ['PKE', 22, 7, 2, 3],
    ['CET', 23, 7, 2, 7],
    ['PKS', 24, 7, 2, 31],
  ])('CR4.%s', (_, cr4, leaf, register, bit) => {
    for (const model of [...modelTitles.keys(), 'default,-smep,-xsave', 'core2,+fsgsbase']) {
      const cpu = cpuOf(model);
      const settable = faultOf(() => writeCr4(cpu, 0x20n | (1n << BigInt(cr4)))) === null;
      expect([model, settable]).toEqual([model, reports(cpu, leaf, register, bit)]);
    }
  });
  test.each<[string, Feature, number, bigint]>([
    ['IA32_TSC_ADJUST', 'tsc-adjust', 0x3b, 0n],
    ['IA32_TSC_AUX', 'rdtscp', 0xc000_0103, 0n],
    ['IA32_EFER.NXE', 'nx', 0xc000_0080, 0x900n],
    ['IA32_APIC_BASE.EXTD', 'x2apic', 0x1b, 0xfee0_0c00n],
    ['IA32_TSC_DEADLINE', 'tsc-deadline', 0x6e0, 0n],
    ['IA32_XFD', 'xfd', 0x1c4, 0x4_0000n],
    ['IA32_XFD for tiles', 'amx-tile', 0x1c4, 0x4_0000n],
    ['IA32_XFD_ERR', 'xfd', 0x1c5, 0x4_0000n],
    ['IA32_XSS', 'xsaves', 0xda0, 0n],
  ])('%s', (_, feature, msr, value) => {
    expect(faultOf(() => writeMsr(cpu64(), msr, value))).toBeNull();
    const without = cpuOf(`default,-rdpid,-${feature}`);
    expect(faultOf(() => writeMsr(without, msr, value))).toEqual({ vector: 13, errorCode: 0 });
  });
  test('registers of x2APIC mode', () => {
    const cpu = cpuOf('default,-x2apic');
    writeMsr(cpu64(), 0x808, 0n);
    expect(faultOf(() => writeMsr(cpu, 0x808, 0n))).toEqual({ vector: 13, errorCode: 0 });
  });
  test('IA32_TSC_AUX serves RDPID, too', () => {
    expect(faultOf(() => readMsr(cpuOf('default,-rdtscp'), 0xc000_0103))).toBeNull();
  });
  test('XCR0.AVX, the size of its area, and XGETBV with ECX = 1', () => {
    const cpu = cpuOf('default,-avx,-xgetbv1,-amx-tile');
    expect(cpuidLeaf(cpu, 0xd, 0)).toEqual([3, 576, 576, 0]);
    expect(cpuidLeaf(cpu, 0xd, 2)).toEqual([0, 0, 0, 0]);
    cpu.cr4 |= CR4_OSXSAVE;
    cpu.gpr[RCX] = 0n;
    cpu.gpr[RAX] = 7n;
    cpu.gpr[RDX] = 0n;
    expect(faultOf(() => xsetbv(cpu, instruction('xsetbv')))).toEqual({ vector: 13, errorCode: 0 });
    cpu.gpr[RAX] = 3n;
    xsetbv(cpu, instruction('xsetbv'));
    expect(cpu.xcr0).toBe(3n);
    cpu.gpr[RCX] = 1n;
    expect(faultOf(() => xgetbv(cpu, instruction('xgetbv')))).toEqual({ vector: 13, errorCode: 0 });
  });
  test('each feature has its bit, which goes with it', () => {
    for (const name of featureNames) {
      const { leaf, subleaf, register, bit } = featureTable[name];
      expect([name, reports(cpu64(), leaf, register, bit, subleaf)]).toEqual([name, true]);
      expect([name, reports(cpuOf(`default,-${name}`), leaf, register, bit, subleaf)]).toEqual([name, false]);
    }
  });
  test('a leaf that reports a feature is within reach', () => {
    expect(cpuidLeaf(cpuOf('x86-64-v1'), 0, 0)[0]).toBe(4);
    expect(cpuidLeaf(cpuOf('x86-64-v1,+avx2'), 0, 0)[0]).toBe(0xd);
    expect(reports(cpuOf('x86-64-v1,+smep'), 7, 1, 7)).toBe(true);
  });
  test("signature, brand and revision of the microcode are the model's", () => {
    const cpu = cpuOf('haswell');
    expect(cpuidLeaf(cpu, 1, 0)[0]).toBe(0x306c3);
    const words = [2, 3, 4].flatMap((i) => cpuidLeaf(cpu, 0x8000_0000 + i, 0));
    expect(text(words)).toBe('espfix processor: fourth-generation Core (2013)');
    expect(readMsr(cpu, 0x8b)).toBe(0x28_0000_0000n);
  });
  test('MTRRs, PAT, NX, no-execute, SYSCALL and TSC_ADJUST have their MSRs', () => {
    const cpu = cpu64();
    expect(has(1, 3, 12)).toBe(true);
    expect(faultOf(() => readMsr(cpu, IA32_MTRRCAP))).toBeNull();
    expect(has(1, 3, 16)).toBe(true);
    expect(faultOf(() => readMsr(cpu, 0x277))).toBeNull();
    expect(has(7, 1, 1)).toBe(true);
    expect(faultOf(() => readMsr(cpu, 0x3b))).toBeNull();
    expect(has(0x8000_0001, 3, 20)).toBe(true);
    expect(faultOf(() => writeMsr(cpu, 0xc000_0080, 0x900n))).toBeNull();
  });
  test('x87, MMX, FXSAVE, SSE to SSE4.2, AES, PCLMULQDQ, SHA, XSAVE, AVX, FMA and F16C', () => {
    for (const bit of [0, 23, 24, 25, 26]) expect(has(1, 3, bit)).toBe(true);
    for (const bit of [0, 1, 9, 12, 19, 20, 25, 26, 28, 29]) expect(has(1, 2, bit)).toBe(true);
    expect(has(7, 1, 29)).toBe(true);
    // FDP only by exceptions; neither FCS nor FDS.
    for (const bit of [5, 6, 13]) expect(has(7, 1, bit)).toBe(true);
  });
  test('OSXSAVE tells of CR4.OSXSAVE', () => {
    const cpu = cpu64();
    expect((cpuidLeaf(cpu, 1, 0)[2] >>> 27) & 1).toBe(0);
    writeCr4(cpu, 0x4_0020n);
    expect((cpuidLeaf(cpu, 1, 0)[2] >>> 27) & 1).toBe(1);
  });
  test('the extended state: components, sizes of areas, instructions', () => {
    const cpu = cpu64();
    cpu.xcr0 = 3n;
    expect(cpuidLeaf(cpu, 0xd, 0)).toEqual([0x60007, 576, 11008, 0]);
    expect(cpuidLeaf(cpu, 0xd, 1)).toEqual([0x1f, 576, 0, 0]);
    cpu.xcr0 = 7n;
    expect(cpuidLeaf(cpu, 0xd, 0)).toEqual([0x60007, 832, 11008, 0]);
    expect(cpuidLeaf(cpu, 0xd, 1)).toEqual([0x1f, 832, 0, 0]);
    cpu.xcr0 = 0x60007n;
    expect(cpuidLeaf(cpu, 0xd, 0)).toEqual([0x60007, 11008, 11008, 0]);
    expect(cpuidLeaf(cpu, 0xd, 1)).toEqual([0x1f, 9088, 0, 0]);
    // As Intel processors that have tiles answer (measured).
    expect(cpuidLeaf(cpu, 0xd, 2)).toEqual([256, 576, 0, 0]);
    expect(cpuidLeaf(cpu, 0xd, 17)).toEqual([64, 2752, 2, 0]);
    expect(cpuidLeaf(cpu, 0xd, 18)).toEqual([8192, 2816, 6, 0]);
    for (const subleaf of [3, 16, 19]) expect(cpuidLeaf(cpu, 0xd, subleaf)).toEqual([0, 0, 0, 0]);
  });
  test('palettes of tiles, and what products take', () => {
    expect(cpuidLeaf(cpu64(), 0x1d, 0)).toEqual([1, 0, 0, 0]);
    expect(cpuidLeaf(cpu64(), 0x1d, 1)).toEqual([0x0400_2000, 0x0008_0040, 16, 0]);
    expect(cpuidLeaf(cpu64(), 0x1d, 2)).toEqual([0, 0, 0, 0]);
    expect(cpuidLeaf(cpuOf('default,-amx-tile'), 0x1d, 1)).toEqual([0, 0, 0, 0]);
    expect(cpuidLeaf(cpu64(), 0x1e, 0)).toEqual([0, 0x4010, 0, 0]);
    expect(cpuidLeaf(cpuOf('default,-amx-int8,-amx-bf16'), 0x1e, 0)).toEqual([0, 0, 0, 0]);
    expect(cpuidLeaf(cpuOf('x86-64-v1,+amx-tile'), 0, 0)[0]).toBe(0x1d);
    expect(cpuidLeaf(cpuOf('x86-64-v1,+amx-int8'), 0, 0)[0]).toBe(0x1e);
  });
  test('neither MONITOR nor a hypervisor', () => {
    for (const bit of [3, 27, 31]) expect(has(1, 2, bit)).toBe(false);
  });
});

test('SYSCALL is reported in 64-bit mode only', () => {
  const bit = (mode: '64-bit' | 'compatibility' | 'protected32') =>
    (cpuidLeaf(new Fixture().enter(mode).cpu, 0x8000_0001, 0)[3] >>> 11) & 1;
  expect([bit('64-bit'), bit('compatibility'), bit('protected32')]).toEqual([1, 0, 0]);
});

test('APIC is reported while IA32_APIC_BASE enables it', () => {
  const cpu = cpu64();
  cpu.apicBase = 0xfee0_0800n;
  expect((cpuidLeaf(cpu, 1, 0)[3] >>> 9) & 1).toBe(1);
  cpu.apicBase = 0xfee0_0000n;
  expect((cpuidLeaf(cpu, 1, 0)[3] >>> 9) & 1).toBe(0);
});

test.each([
  [1, 0, 0],
  [2, 1, 1],
  [3, 2, 1],
  [8, 3, 1],
])('topology of %i processors', (count, bits, htt) => {
  const cpu = cpu64();
  cpu.cpuCount = count;
  expect(cpuidLeaf(cpu, 0xb, 0)).toEqual([0, 1, 0x100, 0]);
  expect(cpuidLeaf(cpu, 0xb, 1)).toEqual([bits, count, 0x201, 0]);
  expect(cpuidLeaf(cpu, 0xb, 2)).toEqual([0, 0, 2, 0]);
  const [, ebx, , edx] = cpuidLeaf(cpu, 1, 0);
  expect((ebx >>> 16) & 0xff).toBe(1 << bits);
  expect((edx >>> 28) & 1).toBe(htt);
});

test('leaves beyond the maxima answer as the highest basic leaf', () => {
  const cpu = cpu64();
  const highest = cpuidLeaf(cpu, cpuidLeaf(cpu, 0, 0)[0], 0);
  for (const leaf of [0x1f, 0x4000_0000, 0x7fff_ffff, 0x8000_0009, 0xffff_ffff])
    expect(cpuidLeaf(cpu, leaf, 0)).toEqual(highest);
  expect(cpuidLeaf(cpu, 0x8000_0000, 0)[0]).toBe(0x8000_0008);
  expect(cpuidLeaf(cpu, 0x8000_0008, 0)[0]).toBe(0x3028);
});

test('the instruction reads EAX and ECX and clears the upper halves of four registers', () => {
  const { cpu } = new Fixture().enter('64-bit', 3);
  cpu.gpr.fill(0xffff_ffff_ffff_ffffn);
  cpu.gpr[RAX] = 0xffff_ffff_0000_0004n;
  cpu.gpr[RCX] = 0xffff_ffff_0000_0002n;
  cpuid(cpu, instruction('cpuid'));
  const expected = cpuidLeaf(cpu, 4, 2).map((word) => BigInt(word));
  expect([cpu.gpr[RAX], cpu.gpr[RBX], cpu.gpr[RCX], cpu.gpr[RDX]]).toEqual(expected);
  // Size of the L2 cache: ways * partitions * line * sets.
  const [, ebx, ecx] = cpuidLeaf(cpu, 4, 2);
  expect(((ebx >>> 22) + 1) * (((ebx >>> 12) & 0x3ff) + 1) * ((ebx & 0xfff) + 1) * (ecx + 1)).toBe(1 << 20);
});
