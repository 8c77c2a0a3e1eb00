/** Segment registers and what their hidden parts permit. SDM vol. 3A 3.4.3, 5.2 to 5.7, 20.1.1, 20.2. */
import { describe, expect, test } from 'vitest';
import { CS, DS, ES, FS, GS, type SegmentNumber, SS } from '../isa/state.ts';
import {
  encodeDescriptor,
  Fixture,
  FREE_SLOT,
  faultOf,
  flat,
  GDT,
  KERNEL_CODE32,
  KERNEL_DATA,
  type Mode,
} from './cpu.fixture.ts';
import { GP, NP, SS as STACK_FAULT } from './fault.ts';
import { loadSegment, setReal, setSegmentRaw, updateAllRanges } from './segmentation.ts';

const PROTECTED: Mode[] = ['protected32', 'compatibility', '64-bit'];

/**
 * The rule of SDM vol. 2B "MOV" written again, in its own order: what a load of `selector`, whose descriptor has these
 * fields, raises.
 */
function expectedFault(
  segment: SegmentNumber,
  cpl: number,
  rpl: number,
  s: boolean,
  type: number,
  dpl: number,
  present: boolean,
): number | null {
  const isCode = s && type >= 8;
  const isConforming = isCode && (type & 4) !== 0;
  if (segment === SS) {
    const isWritableData = s && [2, 3, 6, 7].includes(type);
    if (rpl !== cpl) return GP;
    if (!isWritableData) return GP;
    if (dpl !== cpl) return GP;
    return present ? null : STACK_FAULT;
  }
  if (!s) return GP;
  if (isCode && [8, 9, 12, 13].includes(type)) return GP;
  if (!isConforming && (rpl > dpl || cpl > dpl)) return GP;
  return present ? null : NP;
}

describe.each(PROTECTED)('loads in %s mode (SDM vol. 2B "MOV")', (mode) => {
  test('every descriptor type, DPL, CPL, RPL, P and S', () => {
    const wrong: string[] = [];
    for (const cpl of [0, 1, 2, 3]) {
      const f = new Fixture().enter(mode, cpl);
      for (const s of [false, true])
        for (let type = 0; type < 16; type++)
          for (const dpl of [0, 1, 2, 3])
            for (const p of [false, true]) {
              const bits = encodeDescriptor({ base: 0x1000n, limit: 0xfff, type, s, dpl, p });
              for (const rpl of [0, 1, 2, 3])
                for (const segment of [SS, ES, FS] as const) {
                  f.gdt(FREE_SLOT, bits, 0n);
                  const wanted = expectedFault(segment, cpl, rpl, s, type, dpl, p);
                  const before = f.segment(segment);
                  const fault = faultOf(() => loadSegment(f.cpu, segment, FREE_SLOT | rpl));
                  const label = `cpl ${cpl} s ${s} type ${type} dpl ${dpl} p ${p} rpl ${rpl} seg ${segment}`;
                  const entry = f.bus.read(GDT + FREE_SLOT, 8);
                  const after = f.segment(segment);
                  const right =
                    wanted === null
                      ? fault === null &&
                        after.selector === (FREE_SLOT | rpl) &&
                        after.base === 0x1000n &&
                        after.limit === 0xfff &&
                        after.attributes === (0x90 | type | 1 | (dpl << 5)) &&
                        after.usable &&
                        entry === (bits | (1n << 40n))
                      : fault?.vector === wanted &&
                        fault.errorCode === FREE_SLOT &&
                        after.selector === before.selector &&
                        after.attributes === before.attributes &&
                        entry === bits;
                  if (!right) wrong.push(label);
                }
            }
    }
    expect(wrong).toEqual([]);
  });

  test('null selectors', () => {
    for (const cpl of [0, 1, 2, 3])
      for (const selector of [0, 1, 2, 3]) {
        const f = new Fixture().enter(mode, cpl);
        for (const segment of [ES, DS, FS, GS] as const) {
          f.cpu.segBase[segment] = 0x1234n;
          loadSegment(f.cpu, segment, selector);
          expect(f.segment(segment)).toEqual({
            selector,
            base: 0n,
            limit: 0,
            attributes: 0,
            usable: false,
          });
          expect(f.cpu.segReadLow[segment]).toBeGreaterThan(f.cpu.segReadHigh[segment]);
        }
        const fits = mode === '64-bit' && cpl < 3 && selector === cpl;
        expect(faultOf(() => loadSegment(f.cpu, SS, selector))).toEqual(
          fits ? null : { vector: GP, errorCode: 0 },
        );
        if (fits) expect(f.segment(SS)).toMatchObject({ selector, usable: false });
      }
  });

  test('beyond the table: #GP(selector)', () => {
    const f = new Fixture().enter(mode);
    expect(faultOf(() => loadSegment(f.cpu, ES, 0xfff3))).toEqual({ vector: GP, errorCode: 0xfff0 });
    expect(faultOf(() => loadSegment(f.cpu, SS, 0xfff4))).toEqual({ vector: GP, errorCode: 0xfff4 });
  });
});

describe('permitted offsets', () => {
  /** attributes, limit, then ranges for reads and writes (low, high), null for none. */
  const cases: [string, number, number, [number, number] | null, [number, number] | null][] = [
    ['data', 0x93, 0xfff, [0, 0xfff], [0, 0xfff]],
    ['read-only data', 0x91, 0xfff, [0, 0xfff], null],
    ['expand-down data, B = 0', 0x97, 0xfff, [0x1000, 0xffff], [0x1000, 0xffff]],
    ['expand-down data, B = 1', 0x4097, 0xfff, [0x1000, 0xffff_ffff], [0x1000, 0xffff_ffff]],
    ['read-only expand-down', 0x95, 0xfff, [0x1000, 0xffff], null],
    ['expand-down of 4 GiB', 0x4097, 0xffff_ffff, null, null],
    ['code', 0x99, 0xfff, null, null],
    ['readable code', 0x9b, 0xfff, [0, 0xfff], null],
    ['conforming readable code', 0x9f, 0xfff, [0, 0xfff], null],
    ['system', 0x82, 0xfff, null, null],
    ['4 GiB', 0xc093, 0xffff_ffff, [0, 0xffff_ffff], [0, 0xffff_ffff]],
  ];
  test.each(cases)('%s', (_, attributes, limit, read, write) => {
    const { cpu } = new Fixture().enter('protected32');
    setSegmentRaw(cpu, ES, { selector: 8, base: 0n, limit, attributes, usable: true });
    const range = (low: number, high: number) => (low > high ? null : [low, high]);
    expect(range(cpu.segReadLow[ES], cpu.segReadHigh[ES])).toEqual(read);
    expect(range(cpu.segWriteLow[ES], cpu.segWriteHigh[ES])).toEqual(write);
  });
});

describe('real-address and virtual-8086 mode (SDM vol. 3A 20.1.1, 20.2)', () => {
  test('real-address mode keeps limit and attributes of a segment', () => {
    const { cpu } = new Fixture().enter('protected32');
    loadSegment(cpu, DS, KERNEL_DATA);
    cpu.cr0 &= ~1n;
    updateAllRanges(cpu);
    setReal(cpu, DS, 0x1234);
    expect(cpu.segBase[DS]).toBe(0x1_2340n);
    expect(cpu.segLimit[DS]).toBe(0xffff_ffff);
    expect(cpu.segReadHigh[DS]).toBe(0xffff_ffff);
  });
  test('types are not checked in real-address mode: CS can be written and execute-only code read', () => {
    const f = new Fixture().enter('protected32');
    const { cpu } = f;
    f.gdt(KERNEL_CODE32, flat(9, 0, 32));
    setSegmentRaw(cpu, CS, {
      selector: KERNEL_CODE32,
      base: 0n,
      limit: 0xffff,
      attributes: 0x99,
      usable: true,
    });
    expect(cpu.segReadHigh[CS]).toBe(0);
    cpu.cr0 &= ~1n;
    updateAllRanges(cpu);
    expect([cpu.segReadLow[CS], cpu.segReadHigh[CS]]).toEqual([0, 0xffff]);
    expect([cpu.segWriteLow[CS], cpu.segWriteHigh[CS]]).toEqual([0, 0xffff]);
  });
  test('virtual-8086 mode loads all of it', () => {
    const f = new Fixture().enter('virtual8086');
    setSegmentRaw(f.cpu, ES, { selector: 0, base: 0n, limit: 5, attributes: 0x91, usable: true });
    loadSegment(f.cpu, ES, 0xffff);
    expect(f.segment(ES)).toEqual({
      selector: 0xffff,
      base: 0xf_fff0n,
      limit: 0xffff,
      attributes: 0xf3,
      usable: true,
    });
    loadSegment(f.cpu, SS, 3);
    expect(f.cpu.segBase[SS]).toBe(0x30n);
  });
});
