/** Descriptors and gates as they are read. SDM vol. 3A 3.4.5, 3.5, 5.8.3, 6.11. */
import { describe, expect, test } from 'vitest';
import { LDTR, TR } from '../isa/state.ts';
import {
  encodeDescriptor,
  encodeGate,
  Fixture,
  FREE_SLOT,
  faultOf,
  flat,
  GDT,
  KERNEL_DATA,
  P,
} from './cpu.fixture.ts';
import {
  gateOf,
  readDescriptor,
  setAccessed,
  setBusy,
  TYPE_ACCESSED,
  tryReadDescriptor,
} from './descriptors.ts';
import { GP, NP, PF, TS } from './fault.ts';
import { setNull } from './segmentation.ts';

describe('reading descriptors (SDM vol. 3A 3.4.5)', () => {
  test('takes every field apart', () => {
    const f = new Fixture().enter('protected32');
    f.gdt(
      FREE_SLOT,
      encodeDescriptor({ base: 0x8765_4321n, limit: 0xabcde, type: 0x5, s: true, dpl: 2, db: true }),
    );
    expect(readDescriptor(f.cpu, FREE_SLOT | 1)).toMatchObject({
      selector: FREE_SLOT | 1,
      address: BigInt(GDT + FREE_SLOT),
      type: 5,
      system: false,
      dpl: 2,
      present: true,
      base: 0x8765_4321n,
      limit: 0xabcde,
      attributes: 0x40d5,
    });
  });

  test.each([
    [0, false, 0],
    [0xf_ffff, false, 0xf_ffff],
    [0, true, 0xfff],
    [1, true, 0x1fff],
    [0xf_ffff, true, 0xffff_ffff],
  ])('limit %i with G = %s is %i bytes', (limit, g, bytes) => {
    const f = new Fixture().enter('protected32');
    f.gdt(FREE_SLOT, encodeDescriptor({ limit, g, type: 3, s: true }));
    expect(readDescriptor(f.cpu, FREE_SLOT).limit).toBe(bytes);
  });

  test('tables end at their limits; a selector beyond gives its index as error code', () => {
    const f = new Fixture().enter('protected32');
    const { cpu } = f;
    cpu.gdtrLimit = KERNEL_DATA + 7;
    expect(tryReadDescriptor(cpu, KERNEL_DATA | 3)).not.toBeNull();
    cpu.gdtrLimit = KERNEL_DATA + 6;
    expect(tryReadDescriptor(cpu, KERNEL_DATA | 3)).toBeNull();
    for (const vector of [GP, NP, TS])
      expect(faultOf(() => readDescriptor(cpu, KERNEL_DATA | 3, vector))).toEqual({
        vector,
        errorCode: KERNEL_DATA,
      });
  });

  test('selectors with TI read the LDT, and none if it is null', () => {
    const f = new Fixture().enter('protected32');
    f.ldt(0x0f, flat(3, 3, 16, { base: 0x1000n }));
    expect(readDescriptor(f.cpu, 0x0f)).toMatchObject({ base: 0x1000n, dpl: 3 });
    f.cpu.segLimit[LDTR] = 0xe;
    expect(faultOf(() => readDescriptor(f.cpu, 0x0f))).toEqual({ vector: GP, errorCode: 0x0c });
    setNull(f.cpu, LDTR, 0);
    expect(faultOf(() => readDescriptor(f.cpu, 0x07))).toEqual({ vector: GP, errorCode: 0x04 });
  });

  test('null selectors raise with error code 0, whatever their RPL; LDT index 0 is not null', () => {
    const f = new Fixture().enter('protected32');
    for (let rpl = 0; rpl < 4; rpl++)
      expect(faultOf(() => readDescriptor(f.cpu, rpl))).toEqual({ vector: GP, errorCode: 0 });
    f.ldt(4, flat(3, 0, 32));
    expect(tryReadDescriptor(f.cpu, 4)).not.toBeNull();
  });

  test('the table is read with supervisor rights at CPL 3', () => {
    const f = new Fixture().enter('64-bit', 3).enablePaging();
    f.map(BigInt(GDT), GDT, P);
    expect(faultOf(() => readDescriptor(f.cpu, KERNEL_DATA))).toBeNull();
    f.cpu.gdtrBase = 0x7_0000n;
    expect(faultOf(() => readDescriptor(f.cpu, KERNEL_DATA))).toEqual({ vector: PF, errorCode: 0 });
    expect(f.cpu.cr2).toBe(0x7_0000n + BigInt(KERNEL_DATA));
  });
});

describe('16-byte system descriptors of IA-32e mode (SDM vol. 3A 3.5.2, 7.2.3)', () => {
  const types: [number, boolean][] = Array.from({ length: 16 }, (_, type) => [
    type,
    [2, 9, 0xb, 0xc].includes(type),
  ]);
  test.each(types)('type %i has base bits 63:32: %s', (type, wide) => {
    const f = new Fixture().enter('compatibility');
    f.gdt(FREE_SLOT, encodeDescriptor({ base: 0x1234n, limit: 0x67, type }), 0xffff_8765n);
    expect(readDescriptor(f.cpu, FREE_SLOT).base).toBe(wide ? 0xffff_8765_0000_1234n : 0x1234n);
    const legacy = new Fixture().enter('protected32');
    legacy.gdt(FREE_SLOT, encodeDescriptor({ base: 0x1234n, limit: 0x67, type }), 0xffff_8765n);
    expect(readDescriptor(legacy.cpu, FREE_SLOT).base).toBe(0x1234n);
  });

  test('both halves lie within the table, and the upper type field is 0', () => {
    const f = new Fixture().enter('64-bit');
    const gate = encodeGate({ selector: 8, offset: 0n, type: 0xc });
    f.gdt(FREE_SLOT, gate, 0n);
    f.cpu.gdtrLimit = FREE_SLOT + 15;
    expect(tryReadDescriptor(f.cpu, FREE_SLOT)).not.toBeNull();
    f.cpu.gdtrLimit = FREE_SLOT + 14;
    expect(tryReadDescriptor(f.cpu, FREE_SLOT)).toBeNull();
    f.cpu.gdtrLimit = FREE_SLOT + 15;
    for (let bit = 40n; bit <= 44n; bit++) {
      f.gdt(FREE_SLOT, gate, 1n << bit);
      expect(faultOf(() => readDescriptor(f.cpu, FREE_SLOT))).toEqual({
        vector: GP,
        errorCode: FREE_SLOT,
      });
    }
    f.gdt(FREE_SLOT, gate, ~(0x1fn << 40n) & 0xffff_ffff_ffff_ffffn);
    expect(tryReadDescriptor(f.cpu, FREE_SLOT)).not.toBeNull();
  });

  test('code and data segments keep 8 bytes', () => {
    const f = new Fixture().enter('64-bit');
    f.cpu.gdtrLimit = KERNEL_DATA + 7;
    expect(readDescriptor(f.cpu, KERNEL_DATA).base).toBe(0n);
  });
});

describe('gates (SDM vol. 3A figures 5-8, 6-2, 6-8)', () => {
  const dwords = (bits: bigint) => ({ low: Number(bits & 0xffff_ffffn), high: Number(bits >> 32n) });
  test('by size', () => {
    const fields = { selector: 0x1234, offset: 0x8765_4321n, dpl: 3, count: 5 };
    const legacy = new Fixture().enter('protected32').cpu;
    const long = new Fixture().enter('64-bit').cpu;
    expect(gateOf(legacy, dwords(encodeGate({ ...fields, type: 0xc })))).toEqual({
      selector: 0x1234,
      offset: 0x8765_4321n,
      type: 0xc,
      dpl: 3,
      present: true,
      ist: 0,
      parameters: 5,
    });
    expect(gateOf(legacy, dwords(encodeGate({ ...fields, type: 0x4 }))).offset).toBe(0x4321n);
    const interrupt = { ...dwords(encodeGate({ ...fields, type: 0xe, p: false })), upper: 0xffff_8000 };
    expect(gateOf(long, interrupt)).toEqual({
      selector: 0x1234,
      offset: 0xffff_8000_8765_4321n,
      type: 0xe,
      dpl: 3,
      present: false,
      ist: 5,
      parameters: 0,
    });
  });
});

describe('accessed and busy bits', () => {
  test('setAccessed writes the table once', () => {
    const f = new Fixture().enter('protected32');
    f.gdt(FREE_SLOT, flat(2, 0, 32));
    const before = f.bus.read(GDT + FREE_SLOT, 8);
    const d = readDescriptor(f.cpu, FREE_SLOT);
    f.bus.log = [];
    setAccessed(f.cpu, d);
    setAccessed(f.cpu, d);
    expect(f.bus.log).toHaveLength(1);
    expect(f.bus.read(GDT + FREE_SLOT, 8)).toBe(before | (1n << 40n));
    expect(d.type & TYPE_ACCESSED).toBe(1);
    expect(d.attributes & TYPE_ACCESSED).toBe(1);
  });
  test('setBusy sets and clears', () => {
    const f = new Fixture().enter('64-bit');
    const available = encodeDescriptor({ base: 0x3000n, limit: 0x67, type: 9 });
    f.gdt(FREE_SLOT, available, 0n);
    const d = readDescriptor(f.cpu, FREE_SLOT);
    setBusy(f.cpu, d, true);
    expect(f.bus.read(GDT + FREE_SLOT, 8)).toBe(available | (2n << 40n));
    expect(d.type).toBe(0xb);
    setBusy(f.cpu, d, false);
    expect(f.bus.read(GDT + FREE_SLOT, 8)).toBe(available);
    expect(d.attributes).toBe(0x89);
  });
  test('a read-only table raises #PF', () => {
    const f = new Fixture().enter('64-bit').enablePaging();
    f.map(BigInt(GDT), GDT, P);
    f.cpu.cr0 |= 1n << 16n;
    f.gdt(FREE_SLOT, flat(2, 0, 32));
    const d = readDescriptor(f.cpu, FREE_SLOT);
    expect(faultOf(() => setAccessed(f.cpu, d))).toEqual({ vector: PF, errorCode: 3 });
    expect(d.type).toBe(2);
  });
});

test('the fixture has a task register', () => {
  expect(new Fixture().enter('64-bit').segment(TR).attributes).toBe(0x8b);
});
