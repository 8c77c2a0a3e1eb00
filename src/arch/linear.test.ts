/** Memory by linear address: canonical addresses, page crossings, alignment. SDM vol. 1 3.3.7.1; vol. 3A 6.15. */
import { describe, expect, test } from 'vitest';
import { AC as AC_FLAG } from '../isa/flags.ts';
import { CS, DS, ES, FS, SS } from '../isa/state.ts';
import { Fixture, FREE, faultOf, P, RW, US } from './cpu.fixture.ts';
import { AC, GP, PF, SS as STACK_FAULT } from './fault.ts';
import {
  type AccessSize,
  atCpl,
  probeWrite,
  readLinear,
  readSegment,
  SYSTEM,
  writeLinear,
  writeSegment,
} from './linear.ts';
import { setSegmentRaw } from './segmentation.ts';

const KERNEL = atCpl(0);
const USER = atCpl(3);
const SIZES: AccessSize[] = [1, 2, 4, 8];

describe('canonical addresses (SDM vol. 1 3.3.7.1)', () => {
  const last = 0x7fff_ffff_ffffn;
  const first = 0xffff_8000_0000_0000n;
  const cases: [bigint, AccessSize, boolean][] = [
    [last, 1, true],
    [last, 2, false],
    [last - 6n, 8, false],
    [last - 7n, 8, true],
    [last + 1n, 1, false],
    [first, 8, true],
    [first - 1n, 1, false],
    [first - 1n, 2, false],
    [0x1234_0000_0000_0000n, 4, false],
  ];
  test.each(cases)('%s, %i bytes: canonical %s', (linear, size, canonical) => {
    const { cpu } = new Fixture().enter('64-bit').enablePaging();
    const wanted = canonical ? PF : GP;
    expect(faultOf(() => readLinear(cpu, linear, size, KERNEL))?.vector).toBe(wanted);
    expect(faultOf(() => writeLinear(cpu, linear, size, 0n, KERNEL))?.vector).toBe(wanted);
    const stack = canonical ? PF : STACK_FAULT;
    expect(faultOf(() => probeWrite(cpu, linear, size, KERNEL, true))?.vector).toBe(stack);
    if (canonical) expect(cpu.cr2).toBe(linear);
  });
});

test('outside long mode linear addresses wrap to 32 bits', () => {
  const { cpu, bus } = new Fixture().enter('protected32');
  bus.write(FREE, 4, 0x1234_5678n);
  expect(readLinear(cpu, 0x1_0000_0000n + BigInt(FREE), 4, KERNEL)).toBe(0x1234_5678n);
});

describe('accesses across two pages', () => {
  const page = 0x5000n;
  const setUp = (second: bigint) => {
    const f = new Fixture().enter('64-bit').enablePaging();
    f.map(page, 0x9000).map(page + 0x1000n, 0xc000, second);
    return f;
  };

  test('go to the two pages', () => {
    const { cpu, bus } = setUp(P | RW);
    for (const size of [2, 4, 8] as const) {
      for (let i = 1; i < size; i++) {
        const linear = page + 0x1000n - BigInt(i);
        const value = BigInt.asUintN(size * 8, 0x8877_6655_4433_2211n);
        writeLinear(cpu, linear, size, value, KERNEL);
        expect(readLinear(cpu, linear, size, KERNEL)).toBe(value);
        const low = bus.read(0xa000 - i, 1);
        expect(low).toBe(0x11n);
        expect(bus.read(0xc000 + size - i - 1, 1)).toBe(value >> BigInt(size * 8 - 8));
      }
    }
  });

  test('a fault on the second page comes before a byte is written, with its address in CR2', () => {
    const { cpu, bus } = setUp(P);
    cpu.cr0 |= 0x1_0000n;
    bus.write(0x9ff8, 8, 0n);
    expect(faultOf(() => writeLinear(cpu, page + 0xffdn, 8, ~0n, KERNEL))).toEqual({
      vector: PF,
      errorCode: 3,
    });
    expect(cpu.cr2).toBe(page + 0x1000n);
    expect(bus.read(0x9ff8, 8)).toBe(0n);
  });
});

// SDM vol. 3A 6.15 "Interrupt 17"; order among #GP, #AC and #PF as Intel processors have it.
describe('alignment checks', () => {
  const armed = (cpl: number) => {
    const f = new Fixture().enter('64-bit', cpl).enablePaging().map(0x5000n, 0x9000);
    f.cpu.cr0 |= 1n << 18n;
    f.cpu.flagsRest |= AC_FLAG;
    return f.cpu;
  };
  test.each(SIZES)('size %i: misaligned addresses fault at CPL 3', (size) => {
    const cpu = armed(3);
    for (let offset = 0n; offset < 8n; offset++) {
      const fault = faultOf(() => readLinear(cpu, 0x5000n + offset, size, USER));
      if (offset % BigInt(size) === 0n) expect(fault).toBeNull();
      else expect(fault).toEqual({ vector: AC, errorCode: 0 });
    }
  });
  test('neither system accesses, nor other privileges, nor without AM or AC', () => {
    expect(faultOf(() => readLinear(armed(3), 0x5001n, 4, SYSTEM))).toBeNull();
    expect(faultOf(() => readLinear(armed(2), 0x5001n, 4, atCpl(2)))).toBeNull();
    const noAm = armed(3);
    noAm.cr0 &= ~(1n << 18n);
    expect(faultOf(() => readLinear(noAm, 0x5001n, 4, USER))).toBeNull();
    const noAc = armed(3);
    noAc.flagsRest &= ~AC_FLAG;
    expect(faultOf(() => readLinear(noAc, 0x5001n, 4, USER))).toBeNull();
  });
  test('#AC comes before #PF, and #GP before #AC', () => {
    const cpu = armed(3);
    expect(faultOf(() => readLinear(cpu, 0x7001n, 4, USER))?.vector).toBe(AC);
    expect(faultOf(() => readLinear(cpu, 0x5fffn, 4, USER))?.vector).toBe(AC);
    expect(faultOf(() => readLinear(cpu, 0x8000_0000_0000_0001n, 4, USER))?.vector).toBe(GP);
  });
});

// SDM vol. 3A 5.3.
describe('limit checks outside 64-bit mode', () => {
  const data = (limit: number, attributes: number, base = BigInt(FREE)) => ({
    selector: 0x10,
    base,
    limit,
    attributes,
    usable: true,
  });
  const UP = 0x93;
  const DOWN = 0x97;
  const BIG = 0x4000;
  /** limit, attributes, offset, size, in range */
  const cases: [string, number, number, bigint, AccessSize, boolean][] = [
    ['last byte', 0xfff, UP, 0xfffn, 1, true],
    ['beyond', 0xfff, UP, 0x1000n, 1, false],
    ['last dword', 0xfff, UP, 0xffcn, 4, true],
    ['dword half beyond', 0xfff, UP, 0xffdn, 4, false],
    ['limit 0', 0, UP, 0n, 1, true],
    ['limit 0, word', 0, UP, 0n, 2, false],
    ['expand-down, at limit', 0xfff, DOWN, 0xfffn, 1, false],
    ['expand-down, above limit', 0xfff, DOWN, 0x1000n, 1, true],
    ['expand-down, straddles limit', 0xfff, DOWN, 0xfffn, 2, false],
    ['expand-down 16, last', 0xfff, DOWN, 0xffffn, 1, true],
    ['expand-down 16, past', 0xfff, DOWN, 0xffffn, 2, false],
    ['expand-down 16, beyond', 0xfff, DOWN, 0x1_0000n, 1, false],
    ['expand-down 32, beyond 64K', 0xfff, DOWN | BIG, 0x1_0000n, 4, true],
    ['expand-down 32, wraps', 0xfff, DOWN | BIG, 0xffff_fffen, 4, false],
    ['expand-down 16, limit FFFF: nothing', 0xffff, DOWN, 0xffffn, 1, false],
    ['expand-down 32, limit 4G: nothing', 0xffff_ffff, DOWN | BIG, 0xffff_ffffn, 1, false],
    ['expand-down 32, limit 4G: nothing at 0', 0xffff_ffff, DOWN | BIG, 0n, 1, false],
    ['4 GiB with a base, wraps', 0xffff_ffff, UP | BIG, 0xffff_fffen, 4, false],
    ['read-only data', 0xfff, 0x91, 0n, 4, true],
    ['execute-only code', 0xfff, 0x99, 0n, 4, false],
    ['readable code', 0xfff, 0x9b, 0n, 4, true],
    ['conforming readable code is no expand-down', 0xfff, 0x9f, 0n, 4, true],
  ];
  test.each(cases)('%s', (_, limit, attributes, offset, size, within) => {
    const f = new Fixture().enter('protected32');
    const { cpu } = f;
    setSegmentRaw(cpu, ES, data(limit, attributes));
    setSegmentRaw(cpu, SS, data(limit, attributes));
    const linear = Number((BigInt(FREE) + offset) & 0xffff_ffffn);
    f.bus.write(linear, size, 0x5an);
    if (within) {
      const expected = linear + size > f.bus.view.byteLength ? (1n << BigInt(size * 8)) - 1n : 0x5an;
      expect(readSegment(cpu, ES, offset, size)).toBe(expected);
    } else {
      expect(faultOf(() => readSegment(cpu, ES, offset, size))).toEqual({ vector: GP, errorCode: 0 });
      expect(faultOf(() => readSegment(cpu, SS, offset, size))).toEqual({
        vector: STACK_FAULT,
        errorCode: 0,
      });
    }
    const writable = within && (attributes & 8) === 0 && (attributes & 2) !== 0;
    const fault = faultOf(() => writeSegment(cpu, ES, offset, size, 0n));
    expect(fault).toEqual(writable ? null : { vector: GP, errorCode: 0 });
  });

  test('a null segment faults', () => {
    const { cpu } = new Fixture().enter('protected32');
    setSegmentRaw(cpu, ES, { selector: 0, base: 0n, limit: 0, attributes: 0, usable: false });
    expect(faultOf(() => readSegment(cpu, ES, 0n, 1))).toEqual({ vector: GP, errorCode: 0 });
  });

  // Measured on Intel processors: a flat segment goes on at linear address 0, in compatibility mode too.
  test.each(['protected32', 'compatibility'] as const)('%s: a flat segment wraps at 4 GiB', (mode) => {
    const f = new Fixture().enter(mode);
    f.cpu.cr4 |= mode === 'protected32' ? 0n : 0x20n;
    f.enablePaging().map(0xffff_f000n, 0x9000).map(0n, 0xa000);
    f.bus.write(0x9ffe, 2, 0x2211n);
    f.bus.write(0xa000, 2, 0x4433n);
    expect(readSegment(f.cpu, DS, 0xffff_fffen, 4)).toBe(0x4433_2211n);
  });

  test('the offset is of 32 bits, and so is the sum with the base', () => {
    const { cpu, bus } = new Fixture().enter('protected32');
    setSegmentRaw(cpu, ES, data(0xffff_ffff, UP | BIG, 0xffff_f000n));
    bus.write(FREE, 4, 0x1234n);
    expect(readSegment(cpu, ES, BigInt(FREE) + 0x1000n, 4)).toBe(0x1234n);
    expect(readSegment(cpu, ES, BigInt(FREE) + 0x7_0000_1000n, 4)).toBe(0x1234n);
  });
});

test('64-bit mode: bases of FS and GS alone count, limits and types do not', () => {
  const { cpu, bus } = new Fixture().enter('64-bit');
  const odd = { selector: 0, base: 0x100n, limit: 0, attributes: 0x91, usable: true };
  for (const segment of [ES, SS, DS, FS] as const) setSegmentRaw(cpu, segment, odd);
  bus.write(FREE, 8, 1n);
  bus.write(FREE + 0x100, 8, 2n);
  for (const segment of [ES, SS, DS] as const) expect(readSegment(cpu, segment, BigInt(FREE), 8)).toBe(1n);
  expect(readSegment(cpu, FS, BigInt(FREE), 8)).toBe(2n);
  writeSegment(cpu, CS, BigInt(FREE), 8, 3n);
  expect(bus.read(FREE, 8)).toBe(3n);
  cpu.segBase[FS] = 0xffff_ffff_ffff_ff00n;
  expect(readSegment(cpu, FS, BigInt(FREE) + 0x100n, 8)).toBe(3n);
  expect(faultOf(() => readSegment(cpu, FS, 1n << 48n, 8))).toEqual({ vector: GP, errorCode: 0 });
  expect(faultOf(() => readSegment(cpu, SS, 1n << 47n, 8))).toEqual({
    vector: STACK_FAULT,
    errorCode: 0,
  });
});

test('SMAP holds system accesses whatever RFLAGS.AC says', () => {
  const { cpu } = new Fixture()
    .enter('64-bit')
    .enablePaging()
    .map(0x5000n, 0x9000, P | RW | US);
  cpu.cr4 |= 1n << 21n;
  cpu.flagsRest |= AC_FLAG;
  expect(faultOf(() => readLinear(cpu, 0x5000n, 8, KERNEL))).toBeNull();
  expect(faultOf(() => readLinear(cpu, 0x5000n, 8, SYSTEM))).toEqual({ vector: PF, errorCode: 1 });
});

test('data breakpoints see what instructions access through segments', () => {
  const { cpu } = new Fixture().enter('64-bit');
  cpu.dr[0] = BigInt(FREE + 4);
  // DR0, enabled, on reads and writes of 4 bytes.
  cpu.dr[7] = 0x000f_0401n;
  readSegment(cpu, DS, BigInt(FREE), 4);
  readLinear(cpu, BigInt(FREE + 4), 4, SYSTEM);
  expect(cpu.pendingDebug).toBe(0);
  readSegment(cpu, DS, BigInt(FREE + 1), 4);
  expect(cpu.pendingDebug).toBe(1);
  cpu.pendingDebug = 0;
  writeSegment(cpu, DS, BigInt(FREE + 7), 1, 0n);
  expect(cpu.pendingDebug).toBe(1);
});
