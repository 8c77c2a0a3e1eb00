/** Paging in each of its modes. SDM vol. 3A chapter 4. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AC } from '../isa/flags.ts';
import { A, D, Fixture, faultOf, G, P, PS, RW, US, XD } from './cpu.fixture.ts';
import { GP, PF } from './fault.ts';
import { inspectPage, loadPdptes, pageAccess, translate } from './paging.ts';

const READ = pageAccess(false, false, false, false);
const WRITE = pageAccess(false, false, true, false);
const USER_READ = pageAccess(true, false, false, false);

type Paging = '32-bit' | 'PAE' | '4-level';

function fixture(paging: Paging): Fixture {
  const f = new Fixture().enter(paging === '4-level' ? '64-bit' : 'protected32');
  f.cpu.cr4 = paging === '32-bit' ? 0x10n : 0x30n;
  return f.enablePaging();
}

test('without paging linear addresses are physical', () => {
  const { cpu } = new Fixture().enter('protected32');
  expect(translate(cpu, 0xffff_ffffn, READ)).toBe(0xffff_ffff);
});

describe('page sizes', () => {
  test('4-level: 4 KBytes, 2 MBytes, 1 GByte (SDM vol. 3A 4.5)', () => {
    const f = fixture('4-level');
    f.map(0xffff_8123_4567_8000n, 0x98_7654_3000, P | RW);
    f.map(0xffff_8200_0020_0000n, 0x98_7660_0000, P | RW | (1n << 12n), 2);
    f.map(0x40_0000_0000n, 0x80_c000_0000, P | RW | (1n << 12n), 3);
    expect(translate(f.cpu, 0xffff_8123_4567_8fedn, READ)).toBe(0x98_7654_3fed);
    expect(translate(f.cpu, 0xffff_8200_0032_1fedn, READ)).toBe(0x98_7672_1fed);
    expect(translate(f.cpu, 0x40_1234_5678n, READ)).toBe(0x80_d234_5678);
    // Once more, out of the TLB.
    expect(translate(f.cpu, 0xffff_8123_4567_8000n, READ)).toBe(0x98_7654_3000);
    expect(translate(f.cpu, 0xffff_8200_0020_0000n, READ)).toBe(0x98_7660_0000);
    expect(translate(f.cpu, 0x40_3fff_ffffn, READ)).toBe(0x80_ffff_ffff);
  });
  test('PAE: 4 KBytes, 2 MBytes; 1-GByte pages do not exist (SDM vol. 3A 4.4)', () => {
    const f = fixture('PAE');
    f.map(0xc123_4000n, 0x98_7654_3000);
    f.map(0x4060_0000n, 0x98_7660_0000, P | RW, 2);
    expect(translate(f.cpu, 0xc123_4fedn, READ)).toBe(0x98_7654_3fed);
    expect(translate(f.cpu, 0x4072_1fedn, READ)).toBe(0x98_7672_1fed);
  });
  test('32-bit: 4 KBytes, 4 MBytes with 40-bit addresses (SDM vol. 3A 4.3)', () => {
    const f = fixture('32-bit');
    f.map(0xc123_4000n, 0x8765_4000);
    f.bus.write(f.entry(0x40c0_0000n, 2), 4, 0x1240_0000n | (0xa5n << 13n) | (1n << 12n) | PS | P);
    expect(translate(f.cpu, 0xc123_4fedn, READ)).toBe(0x8765_4fed);
    expect(translate(f.cpu, 0x40c1_2345n, READ)).toBe(0xa5_1241_2345);
    expect(translate(f.cpu, 0x40f1_2345n, READ)).toBe(0xa5_1271_2345);
    expect(translate(f.cpu, 0x40c1_2345n, READ)).toBe(0xa5_1241_2345);
    expect(translate(f.cpu, 0x40ff_ffffn, READ)).toBe(0xa5_127f_ffff);
  });
  test('PS of a PDE is ignored without CR4.PSE in 32-bit paging', () => {
    const f = fixture('32-bit');
    f.cpu.cr4 = 0n;
    f.map(0x40_0000n, 0x9000);
    const pde = f.entry(0x40_0000n, 2);
    f.bus.write(pde, 4, f.bus.read(pde, 4) | PS);
    expect(translate(f.cpu, 0x40_0123n, READ)).toBe(0x9123);
  });
});

describe('reserved bits (SDM vol. 3A 4.3 to 4.5, 4.7)', () => {
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  /** paging, level, large page, reserved bits; every other bit but P, PS and the address is free. */
  const cases: [Paging, number, boolean, number[]][] = [
    ['4-level', 4, false, [7, ...range(40, 51)]],
    ['4-level', 3, false, range(40, 51)],
    ['4-level', 3, true, [...range(13, 29), ...range(40, 51)]],
    ['4-level', 2, false, range(40, 51)],
    ['4-level', 2, true, [...range(13, 20), ...range(40, 51)]],
    ['4-level', 1, false, range(40, 51)],
    ['PAE', 2, false, range(40, 62)],
    ['PAE', 2, true, [...range(13, 20), ...range(40, 62)]],
    ['PAE', 1, false, range(40, 62)],
    ['32-bit', 2, true, [21]],
    ['32-bit', 2, false, []],
    ['32-bit', 1, false, []],
  ];
  test.each(cases)('%s level %i, large %s', (paging, level, large, reserved) => {
    for (const nxe of [false, true]) {
      for (let bit = 1; bit < (paging === '32-bit' ? 32 : 64); bit++) {
        const addressBit = bit >= 12 && bit < 40 && !reserved.includes(bit);
        if (addressBit || (bit === 7 && !reserved.includes(7) && level > 1)) continue;
        const f = fixture(paging);
        if (nxe) f.cpu.efer |= 0x800n;
        const linear = 0x40_0000n;
        f.map(linear, 0, P | RW | US, large ? level : 1);
        const at = f.entry(linear, level);
        const size = paging === '32-bit' ? 4 : 8;
        f.bus.write(at, size, f.bus.read(at, size) | (1n << BigInt(bit)));
        const faults = reserved.includes(bit) || (bit === 63 && !nxe);
        const label = `bit ${bit} nxe ${nxe}`;
        expect(
          faultOf(() => translate(f.cpu, linear, USER_READ)),
          label,
        ).toEqual(faults ? { vector: PF, errorCode: 0b1101 } : null);
        if (faults) expect(f.cpu.tlb.size, label).toBe(0);
      }
    }
  });
  test('an entry that is not present may have any bit set', () => {
    for (const paging of ['PAE', '4-level'] as const) {
      const f = fixture(paging);
      f.bus.write(f.entry(0x40_0000n, 1), 8, ~1n & 0xffff_ffff_ffff_ffffn);
      expect(faultOf(() => translate(f.cpu, 0x40_0000n, READ))).toEqual({ vector: PF, errorCode: 0 });
    }
  });
});

test('PDPTEs: reserved bits raise #GP(0) when present, and nothing is loaded (SDM vol. 3A 4.4.1)', () => {
  const f = fixture('PAE');
  const { cpu, bus } = f;
  const table = f.table() + 0x20;
  const reserved = [1, 2, 5, 6, 7, 8, ...Array.from({ length: 24 }, (_, i) => 40 + i)];
  for (let i = 0; i < 4; i++)
    for (let bit = 1; bit < 64; bit++) {
      for (let j = 0; j < 4; j++) bus.write(table + j * 8, 8, 0n);
      cpu.pdpte.fill(7n);
      bus.write(table + i * 8, 8, 1n | (1n << BigInt(bit)));
      const fault = faultOf(() => loadPdptes(cpu, BigInt(table)));
      expect(fault, `bit ${bit}`).toEqual(reserved.includes(bit) ? { vector: GP, errorCode: 0 } : null);
      expect(cpu.pdpte[i]).toBe(fault ? 7n : 1n | (1n << BigInt(bit)));
      bus.write(table + i * 8, 8, 1n << BigInt(bit));
      expect(faultOf(() => loadPdptes(cpu, BigInt(table)))).toBeNull();
    }
});

/** What a paging-structure entry grants, from the top level to the leaf. */
interface Level {
  present: boolean;
  writable: boolean;
  user: boolean;
  noExecute: boolean;
  reserved: boolean;
}
interface Case {
  levels: Level[];
  large: boolean;
  wp: boolean;
  smep: boolean;
  smap: boolean;
  ac: boolean;
  nxe: boolean;
  user: boolean;
  implicit: boolean;
  kind: 'read' | 'write' | 'fetch';
}

/** The access rights of SDM vol. 3A 4.6.1, sentence by sentence; null or the error code of figure 4-12. */
function rule(paging: Paging, c: Case): number | null {
  const error = (present: boolean, reserved: boolean): number => {
    let code = 0;
    if (present) code += 1;
    if (c.kind === 'write') code += 2;
    if (c.user) code += 4;
    if (reserved) code += 8;
    if (c.kind === 'fetch' && (c.smep || (c.nxe && paging !== '32-bit'))) code += 16;
    return code;
  };
  for (const level of c.levels) {
    if (!level.present) return error(false, false);
    if (paging !== '32-bit') {
      if (level.reserved) return error(true, true);
      if (level.noExecute && !c.nxe) return error(true, true);
    }
  }
  const userPage = c.levels.every((level) => level.user);
  const writable = c.levels.every((level) => level.writable);
  const executable = paging === '32-bit' || !c.levels.some((level) => level.noExecute);
  let allowed: boolean;
  if (c.user) {
    if (c.kind === 'read') allowed = userPage;
    else if (c.kind === 'write') allowed = userPage && writable;
    else allowed = userPage && executable;
  } else if (c.kind === 'fetch') {
    allowed = userPage ? !c.smep && executable : executable;
  } else {
    const prevented = userPage && c.smap && (c.implicit || !c.ac);
    if (c.kind === 'read') allowed = !prevented;
    else if (c.wp) allowed = !prevented && writable;
    else allowed = !prevented;
  }
  return allowed ? null : error(true, false);
}

describe.each(['32-bit', 'PAE', '4-level'] as const)('access rights in %s paging', (paging) => {
  const depth = paging === '4-level' ? 4 : 2;
  const mostly = (likely: boolean) => fc.integer({ min: 0, max: 9 }).map((n) => n > 0 === likely);
  const level = fc.record({
    present: mostly(true),
    writable: mostly(true),
    user: mostly(true),
    noExecute: mostly(false),
    reserved: fc.integer({ min: 0, max: 29 }).map((n) => n === 0),
  });
  const cases = fc.record({
    levels: fc.array(level, { minLength: depth, maxLength: depth }),
    large: fc.boolean(),
    wp: fc.boolean(),
    smep: fc.boolean(),
    smap: fc.boolean(),
    ac: fc.boolean(),
    nxe: fc.boolean(),
    user: fc.boolean(),
    implicit: fc.boolean(),
    kind: fc.constantFrom('read' as const, 'write' as const, 'fetch' as const),
  });

  test('agree with the rule; flags are set as used; the TLB gives the same answer', () => {
    fc.assert(
      fc.property(cases, (drawn) => {
        const c: Case = {
          ...drawn,
          implicit: drawn.implicit && !drawn.user,
          levels: drawn.large ? drawn.levels.slice(0, depth - 1) : drawn.levels,
        };
        const f = fixture(paging);
        const { cpu, bus } = f;
        const size = paging === '32-bit' ? 4 : 8;
        const linear = paging === '4-level' ? 0xffff_9234_5660_0000n : 0xc060_0000n;
        const leaf = c.large ? 2 : 1;
        f.map(linear, 0x20_0000, P, leaf);
        const places = c.levels.map((_, i) => f.entry(linear, depth - i));
        for (const [i, l] of c.levels.entries()) {
          let entry = bus.read(places[i], size) & ~(P | RW | US);
          if (l.present) entry |= P;
          if (l.writable) entry |= RW;
          if (l.user) entry |= US;
          if (paging !== '32-bit') {
            if (l.noExecute) entry |= XD;
            if (l.reserved) entry |= 1n << 45n;
          }
          bus.write(places[i], size, entry);
        }
        if (paging === '32-bit' && c.large) {
          // A 4-MByte page: bit 21 of the address is reserved.
          bus.write(places[0], 4, bus.read(places[0], 4) & ~0x20_0000n);
        }
        cpu.cr0 = (cpu.cr0 & ~0x1_0000n) | (c.wp ? 0x1_0000n : 0n);
        cpu.cr4 |= (c.smep ? 1n << 20n : 0n) | (c.smap ? 1n << 21n : 0n);
        cpu.efer |= c.nxe ? 0x800n : 0n;
        cpu.flagsRest |= c.ac ? AC : 0n;
        const access = pageAccess(c.user, c.implicit, c.kind === 'write', c.kind === 'fetch');
        const wanted = rule(paging, c);
        const physical = 0x20_0123;
        for (const _ of ['walk', 'TLB']) {
          let got = -1;
          const fault = faultOf(() => {
            got = translate(cpu, linear + 0x123n, access);
          });
          if (wanted === null) {
            expect(fault).toBeNull();
            expect(got).toBe(physical);
          } else {
            expect(fault).toEqual({ vector: PF, errorCode: wanted });
            expect(cpu.cr2).toBe(linear + 0x123n);
            expect(cpu.tlb.size).toBe(0);
          }
        }
        const leafEntry = bus.read(places[places.length - 1], size);
        expect((leafEntry & A) !== 0n).toBe(wanted === null);
        expect((leafEntry & D) !== 0n).toBe(wanted === null && c.kind === 'write');
        for (const place of places.slice(0, -1)) {
          const entry = bus.read(place, size);
          expect(entry & D).toBe(0n);
          if (wanted === null) expect(entry & A).toBe(A);
          if ((entry & P) === 0n) expect(entry & A).toBe(0n);
        }
        const view = inspectPage(cpu, linear + 0x123n);
        const mapped = c.levels.every(
          (l) => l.present && (paging === '32-bit' || !(l.reserved || (l.noExecute && !c.nxe))),
        );
        expect(view !== null).toBe(mapped);
        if (view) {
          expect(view.physical).toBe(physical);
          expect(view.writable).toBe(c.levels.every((l) => l.writable));
          expect(view.user).toBe(c.levels.every((l) => l.user));
        }
      }),
      { numRuns: 800 },
    );
  });
});

describe('accessed and dirty flags (SDM vol. 3A 4.8)', () => {
  test('a write to a page that was read sets D with one write of the entry, further ones none', () => {
    const f = fixture('4-level').map(0x5000n, 0x9000);
    const { cpu, bus } = f;
    translate(cpu, 0x5000n, READ);
    bus.log = [];
    translate(cpu, 0x5000n, WRITE);
    expect(bus.log).toHaveLength(1);
    expect(bus.read(f.entry(0x5000n, 1), 8) & (A | D)).toBe(A | D);
    translate(cpu, 0x5fffn, WRITE);
    translate(cpu, 0x5fffn, READ);
    expect(bus.log).toHaveLength(1);
  });
  test('flags that are set already are not written', () => {
    const f = fixture('4-level').map(0x5000n, 0x9000, P | RW | A | D);
    for (const level of [4, 3, 2]) {
      const at = f.entry(0x5000n, level);
      f.bus.write(at, 8, f.bus.read(at, 8) | A);
    }
    f.bus.log = [];
    translate(f.cpu, 0x5000n, WRITE);
    expect(f.bus.log).toEqual([]);
  });
});

test('inspectPage neither fills the TLB nor sets flags', () => {
  const f = fixture('4-level').map(0x5000n, 0x9000, P | G);
  f.bus.log = [];
  expect(inspectPage(f.cpu, 0x5123n)).toEqual({
    physical: 0x9123,
    size: 0x1000,
    user: false,
    writable: false,
    executable: true,
  });
  expect(f.bus.log).toEqual([]);
  expect(f.cpu.tlb.size).toBe(0);
});
