/** LGDT, LIDT, LLDT, LTR and what stores them. SDM vol. 3A 2.4; vol. 2 of each. */
import { describe, expect, test } from 'vitest';
import { DS, LDTR, RAX, TR } from '../isa/state.ts';
import {
  encodeDescriptor,
  Fixture,
  FREE,
  FREE_SLOT,
  faultOf,
  GDT,
  LDT_SELECTOR,
  type Mode,
  P,
  RW,
  TSS_SELECTOR,
  US,
} from './cpu.fixture.ts';
import { GP, NP, PF, UD } from './fault.ts';
import { instruction, memory, register } from './instruction.fixture.ts';
import { lgdt, lidt, lldt, ltr, sgdt, sidt, sldt, str } from './system-tables.ts';

const ALL = 0xffff_ffff_ffff_ffffn;
const fault = (vector: number, errorCode: number | undefined = undefined) => ({ vector, errorCode });
const at = memory(BigInt(FREE));

describe('LGDT and LIDT (SDM vol. 2A)', () => {
  test.each([
    ['real', 16, 0x5566_77n],
    ['real', 32, 0x4455_6677n],
    ['protected32', 16, 0x55_6677n],
    ['protected32', 32, 0x4455_6677n],
    ['compatibility', 32, 0x4455_6677n],
    ['64-bit', 16, 0xffff_8000_4455_6677n],
    ['64-bit', 64, 0xffff_8000_4455_6677n],
  ] as const)('%s, operand size %i', (mode, operandSize, base) => {
    const f = new Fixture().enter(mode);
    f.cpu.segLimit.fill(0xffff);
    f.bus.write(FREE, 2, 0x1234n);
    f.bus.write(FREE + 2, 8, 0xffff_8000_4455_6677n);
    const more = { operandSize, addressSize: mode === '64-bit' ? 64 : 32 } as const;
    lgdt(f.cpu, instruction('lgdt', [at], more));
    expect([f.cpu.gdtrLimit, f.cpu.gdtrBase]).toEqual([0x1234, base]);
    lidt(f.cpu, instruction('lidt', [at], more));
    expect([f.cpu.idtrLimit, f.cpu.idtrBase]).toEqual([0x1234, base]);
  });
  test('a base that is not canonical raises #GP(0) and changes nothing', () => {
    const f = new Fixture().enter('64-bit');
    f.bus.write(FREE + 2, 8, 1n << 47n);
    for (const load of [lgdt, lidt])
      expect(faultOf(() => load(f.cpu, instruction('lgdt', [at])))).toEqual(fault(GP, 0));
    expect(f.cpu.gdtrBase).toBe(BigInt(GDT));
  });
});

test.each([
  ['real', 32],
  ['protected32', 16],
  ['64-bit', 64],
  ['64-bit', 16],
] as const)('SGDT and SIDT in %s mode, operand size %i', (mode, operandSize) => {
  const f = new Fixture().enter(mode, mode === 'real' ? 0 : 3);
  const wide = mode === '64-bit';
  f.cpu.gdtrLimit = 0x1234;
  f.cpu.gdtrBase = 0xffff_9988_7766_5544n;
  f.cpu.idtrLimit = 0x4321;
  f.cpu.idtrBase = 0x1122_3344n;
  f.bus.write(FREE, 8, ALL);
  f.bus.write(FREE + 8, 8, ALL);
  const more = { operandSize, addressSize: wide ? 64 : 32 } as const;
  sgdt(f.cpu, instruction('sgdt', [at], more));
  expect(f.bus.read(FREE, 2)).toBe(0x1234n);
  expect(f.bus.read(FREE + 2, 8)).toBe(wide ? 0xffff_9988_7766_5544n : 0xffff_ffff_7766_5544n);
  expect(f.bus.read(FREE + 10, 2)).toBe(0xffffn);
  sidt(f.cpu, instruction('sidt', [at], more));
  expect(f.bus.read(FREE, 2)).toBe(0x4321n);
  expect(f.bus.read(FREE + 2, 4)).toBe(0x1122_3344n);
});

test('SGDT writes nothing if its second part faults', () => {
  const f = new Fixture()
    .enter('64-bit', 3)
    .enablePaging()
    .map(0x5000n, 0x9000, P | RW | US);
  expect(faultOf(() => sgdt(f.cpu, instruction('sgdt', [memory(0x5ffcn)])))).toEqual(fault(PF, 6));
  expect(f.bus.read(0x9ffc, 4)).toBe(0n);
});

describe('modes and privilege', () => {
  const all = { lgdt, lidt, lldt, ltr };
  const cases: [Mode, number, number | null, number | null][] = [
    ['real', 0, null, UD],
    ['virtual8086', 3, GP, UD],
    ['protected32', 1, GP, GP],
    ['64-bit', 3, GP, GP],
  ];
  test.each(cases)('%s at CPL %i', (mode, cpl, tables, segments) => {
    for (const [name, action] of Object.entries(all)) {
      const f = new Fixture().enter(mode, cpl);
      const wanted = name === 'lgdt' || name === 'lidt' ? tables : segments;
      const operand = name === 'lgdt' || name === 'lidt' ? at : register(RAX, 16);
      const got = faultOf(() => action(f.cpu, instruction('lgdt', [operand], { addressSize: 32 })));
      expect(got, name).toEqual(wanted === null ? null : fault(wanted, wanted === UD ? undefined : 0));
    }
    for (const store of [sldt, str]) {
      const f = new Fixture().enter(mode, cpl);
      const got = faultOf(() => store(f.cpu, instruction('sldt', [register(RAX, 16)])));
      expect(got).toEqual(segments === UD ? fault(UD) : null);
    }
  });
});

describe('LLDT and LTR (SDM vol. 2A)', () => {
  const load = (f: Fixture, which: typeof lldt, selector: number) => {
    f.cpu.gpr[RAX] = BigInt(selector);
    return faultOf(() => which(f.cpu, instruction('lldt', [register(RAX, 16)])));
  };
  test.each(['protected32', '64-bit'] as const)('every descriptor type in %s mode', (mode) => {
    for (const s of [false, true])
      for (let type = 0; type < 16; type++)
        for (const p of [false, true]) {
          const f = new Fixture().enter(mode);
          f.gdt(FREE_SLOT, encodeDescriptor({ base: 0x5000n, limit: 0x67, type, s, p }), 0xffff_8000n);
          const long = mode === '64-bit';
          const base = long ? 0xffff_8000_0000_5000n : 0x5000n;
          const label = `s ${s} type ${type} p ${p}`;
          const wantLdt = s || type !== 2 ? GP : p ? null : NP;
          const tss = type === 9 || (type === 1 && !long);
          const wantTss = s || !tss ? GP : p ? null : NP;
          expect(load(f, lldt, FREE_SLOT), label).toEqual(
            wantLdt === null ? null : fault(wantLdt, FREE_SLOT),
          );
          expect(f.segment(LDTR), label).toMatchObject(
            wantLdt === null
              ? { selector: FREE_SLOT, base, limit: 0x67, usable: true }
              : { selector: LDT_SELECTOR },
          );
          const before = f.bus.read(GDT + FREE_SLOT, 8);
          expect(load(f, ltr, FREE_SLOT), label).toEqual(wantTss === null ? null : fault(wantTss, FREE_SLOT));
          if (wantTss === null) {
            expect(f.bus.read(GDT + FREE_SLOT, 8), label).toBe(before | (2n << 40n));
            expect(f.segment(TR), label).toMatchObject({ base, attributes: 0x80 | type | 2 });
          } else {
            expect(f.bus.read(GDT + FREE_SLOT, 8), label).toBe(before);
            expect(f.cpu.segSelector[TR], label).toBe(TSS_SELECTOR);
          }
        }
  });
  test('null and LDT selectors', () => {
    const f = new Fixture().enter('64-bit');
    f.ldt(0x0c, encodeDescriptor({ limit: 0x67, type: 9 }), 0n);
    expect(load(f, ltr, 0)).toEqual(fault(GP, 0));
    expect(load(f, ltr, 3)).toEqual(fault(GP, 0));
    expect(load(f, ltr, 0x0c)).toEqual(fault(GP, 0x0c));
    expect(load(f, lldt, 0x0c)).toEqual(fault(GP, 0x0c));
    expect(load(f, lldt, 0xfff0)).toEqual(fault(GP, 0xfff0));
    expect(load(f, lldt, 2)).toBeNull();
    expect(f.segment(LDTR)).toMatchObject({ selector: 2, usable: false });
  });
  test('a base that is not canonical, and an upper type field that is not 0', () => {
    const f = new Fixture().enter('64-bit');
    f.gdt(FREE_SLOT, encodeDescriptor({ limit: 0x67, type: 9 }), 0x8000n);
    expect(load(f, ltr, FREE_SLOT)).toEqual(fault(GP, FREE_SLOT));
    f.gdt(FREE_SLOT, encodeDescriptor({ limit: 0x67, type: 9 }), 1n << 40n);
    expect(load(f, ltr, FREE_SLOT)).toEqual(fault(GP, FREE_SLOT));
  });
});

test('SLDT and STR: 16 bits to memory, zero-extended to registers', () => {
  const f = new Fixture().enter('64-bit', 3);
  f.bus.write(FREE, 4, 0xffff_ffffn);
  str(f.cpu, instruction('str', [memory(BigInt(FREE), DS, 16)], { operandSize: 64 }));
  expect(f.bus.read(FREE, 4)).toBe(0xffff_0000n | BigInt(TSS_SELECTOR));
  f.cpu.gpr[RAX] = ALL;
  sldt(f.cpu, instruction('sldt', [register(RAX, 64)], { operandSize: 64 }));
  expect(f.cpu.gpr[RAX]).toBe(BigInt(LDT_SELECTOR));
});
