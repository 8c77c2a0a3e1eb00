/** Cached translations and what invalidates them. SDM vol. 3A 4.10. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeCr0, writeCr3, writeCr4 } from './control-registers.ts';
import { A, D, Fixture, faultOf, G, P, RW, US } from './cpu.fixture.ts';
import { PF } from './fault.ts';
import { instruction, memory, register } from './instruction.fixture.ts';
import { invlpg, invpcid } from './invalidation.ts';
import { pageAccess, translate } from './paging.ts';

const READ = pageAccess(false, false, false, false);
const WRITE = pageAccess(false, false, true, false);
const USER_READ = pageAccess(true, false, false, false);
const USER_WRITE = pageAccess(true, false, true, false);
const FETCH = pageAccess(false, false, false, true);

const CR4_PGE = 1n << 7n;
const CR4_PCIDE = 1n << 17n;
const CR4_SMEP = 1n << 20n;
const CR4_SMAP = 1n << 21n;

function fixture(): Fixture {
  const f = new Fixture().enter('64-bit').enablePaging();
  f.cpu.cr4 |= CR4_PGE;
  return f;
}

const invlpgAt = (f: Fixture, linear: bigint) => invlpg(f.cpu, instruction('invlpg', [memory(linear)]));

/** INVPCID with its descriptor at 0x8000, which paging must map to itself. */
function invpcidOf(f: Fixture, type: number, pcid: number, linear = 0n): void {
  f.bus.write(0x8000, 8, BigInt(pcid));
  f.bus.write(0x8008, 8, linear);
  f.cpu.gpr[0] = BigInt(type);
  invpcid(f.cpu, instruction('invpcid', [register(0), memory(0x8000n)]));
}

describe('stale translations (SDM vol. 3A 4.10.2)', () => {
  test('a changed entry goes unnoticed until INVLPG', () => {
    const f = fixture().map(0x5000n, 0x9000);
    expect(translate(f.cpu, 0x5123n, READ)).toBe(0x9123);
    f.map(0x5000n, 0xa000);
    expect(translate(f.cpu, 0x5123n, READ)).toBe(0x9123);
    f.map(0x5000n, 0, 0n);
    expect(translate(f.cpu, 0x5123n, READ)).toBe(0x9123);
    f.map(0x5000n, 0xb000);
    invlpgAt(f, 0x5fffn);
    expect(translate(f.cpu, 0x5123n, READ)).toBe(0xb123);
  });

  test('an entry that was not present is seen at once', () => {
    const f = fixture().map(0x5000n, 0, 0n);
    expect(faultOf(() => translate(f.cpu, 0x5000n, READ))?.vector).toBe(PF);
    f.map(0x5000n, 0x9000);
    expect(translate(f.cpu, 0x5000n, READ)).toBe(0x9000);
  });

  test('rights that were taken away stay in the TLB, rights that were given are found by a new walk', () => {
    const f = fixture().map(0x5000n, 0x9000);
    translate(f.cpu, 0x5000n, USER_WRITE);
    f.map(0x5000n, 0x9000, P);
    expect(translate(f.cpu, 0x5000n, USER_WRITE)).toBe(0x9000);
    f.map(0x6000n, 0xa000, P);
    translate(f.cpu, 0x6000n, READ);
    f.map(0x6000n, 0xb000, P | RW | US);
    expect(translate(f.cpu, 0x6000n, READ)).toBe(0xa000);
    expect(translate(f.cpu, 0x6000n, USER_READ)).toBe(0xb000);
    expect(translate(f.cpu, 0x6000n, READ)).toBe(0xb000);
  });

  test('a write through an entry cached clean walks again, and faults by what memory says now', () => {
    const f = fixture().map(0x5000n, 0x9000);
    f.cpu.cr0 |= 0x1_0000n;
    translate(f.cpu, 0x5000n, READ);
    f.map(0x5000n, 0x9000, P);
    expect(faultOf(() => translate(f.cpu, 0x5000n, WRITE))).toEqual({ vector: PF, errorCode: 3 });
    f.map(0x5000n, 0xa000, P | RW);
    expect(translate(f.cpu, 0x5000n, WRITE)).toBe(0xa000);
    expect(f.bus.read(f.entry(0x5000n, 1), 8) & (A | D)).toBe(A | D);
  });

  test('a page fault drops the entries of its page (4.10.4.1)', () => {
    const f = fixture().map(0x5000n, 0x9000, P);
    translate(f.cpu, 0x5000n, READ);
    f.map(0x5000n, 0, 0n);
    expect(translate(f.cpu, 0x5000n, READ)).toBe(0x9000);
    expect(faultOf(() => translate(f.cpu, 0x5000n, USER_READ))).toEqual({ vector: PF, errorCode: 4 });
    expect(faultOf(() => translate(f.cpu, 0x5000n, READ))).toEqual({ vector: PF, errorCode: 0 });
  });

  test('cached rights are judged by CR0.WP, CR4 and RFLAGS as they are now', () => {
    const f = fixture().map(0x5000n, 0x9000, P | US);
    const { cpu } = f;
    translate(cpu, 0x5000n, WRITE);
    const entry = f.entry(0x5000n, 1);
    f.bus.write(entry, 8, 0n);
    cpu.cr4 |= CR4_SMAP;
    cpu.flagsRest |= 1n << 18n;
    expect(translate(cpu, 0x5000n, WRITE)).toBe(0x9000);
    cpu.flagsRest = 2n;
    expect(faultOf(() => translate(cpu, 0x5000n, READ))?.vector).toBe(PF);
    f.map(0x5000n, 0x9000, P | US);
    cpu.cr4 &= ~CR4_SMAP;
    translate(cpu, 0x5000n, FETCH);
    cpu.cr4 |= CR4_SMEP;
    expect(faultOf(() => translate(cpu, 0x5000n, FETCH))).toEqual({ vector: PF, errorCode: 17 });
  });
});

describe('large pages', () => {
  test.each([
    [2, 0x20_0000n],
    [3, 0x4000_0000n],
  ])('INVLPG of any address in a level-%i page drops all of it', (level, size) => {
    const f = fixture();
    f.map(size, 0, P | RW, level);
    for (let i = 0n; i < 4n; i++) translate(f.cpu, size + (i * size) / 4n, READ);
    f.map(size, 0x4000_0000, P | RW, level);
    expect(translate(f.cpu, size + 0x5000n, READ)).toBe(0x5000);
    f.flushes.length = 0;
    invlpgAt(f, size + 0x1234n);
    expect(f.flushes).toContain(size);
    for (let i = 0n; i < 4n; i++) {
      const offset = (i * size) / 4n;
      expect(translate(f.cpu, size + offset, READ)).toBe(0x4000_0000 + Number(offset));
    }
  });
  test('both halves of a 4-MByte page go together', () => {
    const f = new Fixture().enter('protected32').enablePaging();
    f.cpu.cr4 = 0x10n;
    f.map(0x40_0000n, 0, P | RW, 2);
    translate(f.cpu, 0x40_0000n, READ);
    translate(f.cpu, 0x60_0000n, READ);
    f.map(0x40_0000n, 0x80_0000, P | RW, 2);
    expect(translate(f.cpu, 0x60_1000n, READ)).toBe(0x20_1000);
    invlpg(f.cpu, instruction('invlpg', [memory(0x40_0000n)], { codeSize: 32, addressSize: 32 }));
    expect(translate(f.cpu, 0x60_1000n, READ)).toBe(0xa0_1000);
    expect(f.cpu.tlb.size).toBe(1);
  });
  test('a split large page: the new small translation replaces the old large one once it is seen', () => {
    const f = fixture();
    f.map(0x20_0000n, 0, P, 2);
    translate(f.cpu, 0x20_0000n, READ);
    f.bus.write(f.entry(0x20_0000n, 2), 8, 0n);
    f.map(0x20_0000n, 0x9000);
    expect(translate(f.cpu, 0x20_0000n, READ)).toBe(0);
    expect(translate(f.cpu, 0x20_0000n, USER_READ)).toBe(0x9000);
    expect(translate(f.cpu, 0x20_0000n, READ)).toBe(0x9000);
    expect(f.cpu.tlb.size).toBe(1);
  });
});

/** A fixture with PCIDs and, cached: page 1 under PCID 1, page 2 under PCID 2, page 3 global, page 4 under PCID 0. */
function cachedContexts(): { f: Fixture; cached: () => string } {
  const f = fixture();
  const { cpu } = f;
  f.map(0x8000n, 0x8000);
  for (let i = 1n; i <= 4n; i++) f.map(i << 20n, 0x9000, i === 3n ? P | RW | G : P | RW);
  cpu.cr4 |= CR4_PCIDE;
  const root = cpu.cr3;
  const under = (pcid: bigint) => {
    cpu.cr3 = root | pcid;
  };
  under(1n);
  translate(cpu, 1n << 20n, READ);
  under(2n);
  translate(cpu, 2n << 20n, READ);
  translate(cpu, 3n << 20n, READ);
  under(0n);
  translate(cpu, 4n << 20n, READ);
  // The pages are gone from the tables: what still translates is cached.
  for (let i = 1n; i <= 4n; i++) f.map(i << 20n, 0, 0n);
  under(1n);
  const cached = () => {
    let found = '';
    for (const [page, pcid] of [
      [1, 1],
      [2, 2],
      [3, 1],
      [4, 0],
    ]) {
      const entry = cpu.tlb.find(page << 20, pcid);
      if (entry >= 0) found += page === 3 ? 'G' : String(pcid);
    }
    return found;
  };
  return { f, cached };
}

// SDM vol. 3A 4.10.4.1. Cached before each: PCIDs 1 (current), 2 and 0, and a global page.
describe('what each operation invalidates, and no more', () => {
  test('nothing, to begin with', () => {
    expect(cachedContexts().cached()).toBe('12G0');
  });
  const cases: [string, (f: Fixture) => void, string][] = [
    ['INVLPG of the current PCID', (f) => invlpgAt(f, 1n << 20n), '2G0'],
    ["INVLPG of another PCID's page", (f) => invlpgAt(f, 2n << 20n), '12G0'],
    ['INVLPG of a global page', (f) => invlpgAt(f, 3n << 20n), '120'],
    ['INVLPG, not canonical', (f) => invlpgAt(f, (1n << 48n) + (1n << 20n)), '12G0'],
    ['INVPCID 0, current', (f) => invpcidOf(f, 0, 1, 1n << 20n), '2G0'],
    ['INVPCID 0, other', (f) => invpcidOf(f, 0, 2, 2n << 20n), '1G0'],
    ['INVPCID 0, wrong PCID', (f) => invpcidOf(f, 0, 2, 1n << 20n), '12G0'],
    ['INVPCID 0, global', (f) => invpcidOf(f, 0, 2, 3n << 20n), '12G0'],
    ['INVPCID 1, current', (f) => invpcidOf(f, 1, 1), '2G0'],
    ['INVPCID 1, other', (f) => invpcidOf(f, 1, 2), '1G0'],
    ['INVPCID 2', (f) => invpcidOf(f, 2, 0), ''],
    ['INVPCID 3', (f) => invpcidOf(f, 3, 0), 'G'],
    ['MOV CR3, PCID 1', (f) => writeCr3(f.cpu, f.cpu.cr3), '2G0'],
    ['MOV CR3, PCID 2', (f) => writeCr3(f.cpu, (f.cpu.cr3 & ~0xfffn) | 2n), '1G0'],
    ['MOV CR3, PCID 1, bit 63', (f) => writeCr3(f.cpu, f.cpu.cr3 | (1n << 63n)), '12G0'],
    ['MOV CR3, PCID 5', (f) => writeCr3(f.cpu, (f.cpu.cr3 & ~0xfffn) | 5n), '12G0'],
    ['MOV CR4, PGE cleared', (f) => writeCr4(f.cpu, f.cpu.cr4 & ~CR4_PGE), ''],
    ['MOV CR4, PCIDE cleared', (f) => writeCr4(f.cpu, f.cpu.cr4 & ~CR4_PCIDE), ''],
    ['MOV CR4, SMEP set', (f) => writeCr4(f.cpu, f.cpu.cr4 | CR4_SMEP), '20'],
    ['MOV CR4, SMAP set', (f) => writeCr4(f.cpu, f.cpu.cr4 | CR4_SMAP), '12G0'],
    ['MOV CR4, unchanged', (f) => writeCr4(f.cpu, f.cpu.cr4), '12G0'],
    ['MOV CR0, WP set', (f) => writeCr0(f.cpu, f.cpu.cr0 | 0x1_0000n), '12G0'],
  ];
  test.each(cases)('%s', (_, action, remaining) => {
    const { f, cached } = cachedContexts();
    f.flushes.length = 0;
    action(f);
    expect(cached()).toBe(remaining);
    if (remaining !== '12G0') expect(f.flushes.length).toBeGreaterThan(0);
  });

  test('MOV CR4, SMEP cleared: nothing', () => {
    const { f, cached } = cachedContexts();
    f.cpu.cr4 |= CR4_SMEP;
    writeCr4(f.cpu, f.cpu.cr4 & ~CR4_SMEP);
    expect(cached()).toBe('12G0');
  });

  test('without PCIDs MOV CR3 keeps global pages alone', () => {
    const f = fixture()
      .map(0x5000n, 0x9000)
      .map(0x6000n, 0xa000, P | G);
    translate(f.cpu, 0x5000n, READ);
    translate(f.cpu, 0x6000n, READ);
    writeCr3(f.cpu, f.cpu.cr3);
    expect(f.cpu.tlb.find(0x5000, 0)).toBe(-1);
    expect(f.cpu.tlb.find(0x6000, 0)).toBeGreaterThanOrEqual(0);
  });

  test('G means nothing while CR4.PGE is clear', () => {
    const f = fixture().map(0x6000n, 0xa000, P | G);
    f.cpu.cr4 &= ~CR4_PGE;
    translate(f.cpu, 0x6000n, READ);
    writeCr3(f.cpu, f.cpu.cr3);
    expect(f.cpu.tlb.size).toBe(0);
  });

  test('clearing CR0.PG drops all, global ones too', () => {
    const f = new Fixture()
      .enter('protected32')
      .enablePaging()
      .map(0x6000n, 0xa000, P | G);
    f.cpu.cr4 = CR4_PGE;
    translate(f.cpu, 0x6000n, READ);
    writeCr0(f.cpu, f.cpu.cr0 & ~(1n << 31n));
    expect(f.cpu.tlb.size).toBe(0);
  });
});

describe('capacity', () => {
  test('the fast translations of whatever is replaced are flushed; replacement is deterministic', () => {
    const run = () => {
      const f = fixture();
      const known = new Set<bigint>();
      f.cpu.engine = {
        ...f.cpu.engine,
        flushTranslations: () => known.clear(),
        flushPage: (linear) => void known.delete(linear),
      };
      // Every page of a 16-MByte range maps to one frame.
      for (let page = 0n; page < 4096n; page++) f.map(0xffff_8000_0000_0000n + (page << 12n), 0x9000);
      const kept: bigint[] = [];
      let next = 12345;
      for (let i = 0; i < 6000; i++) {
        next = (Math.imul(next, 1103515245) + 12345) >>> 0;
        const linear = 0xffff_8000_0000_0000n + (BigInt(next >>> 20) << 12n);
        translate(f.cpu, linear, READ);
        known.add(linear);
      }
      for (const linear of known) {
        expect(f.cpu.tlb.find(Number(linear & 0xffff_ffff_ffffn), 0)).toBeGreaterThanOrEqual(0);
        kept.push(linear);
      }
      return kept;
    };
    const first = run();
    expect(first.length).toBe(1024);
    expect(run()).toEqual(first);
  });
});

test('random mappings, changes and invalidations: what is found was mapped so since its last invalidation', () => {
  const pages = fc.integer({ min: 0, max: 7 });
  const frames = fc.integer({ min: 1, max: 15 });
  const command = fc.oneof(
    fc.record({ do: fc.constant('map' as const), page: pages, frame: frames, writable: fc.boolean() }),
    fc.record({ do: fc.constant('unmap' as const), page: pages }),
    fc.record({ do: fc.constant('access' as const), page: pages, write: fc.boolean() }),
    fc.record({ do: fc.constant('invlpg' as const), page: pages }),
    fc.record({ do: fc.constant('cr3' as const) }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const f = fixture();
      f.cpu.cr0 |= 0x1_0000n;
      const now = new Map<number, { frame: number; writable: boolean }>();
      /** An entry as a processor that never evicts would hold it. */
      const tlb = new Map<number, { frame: number; writable: boolean; dirty: boolean }>();
      for (const c of commands) {
        if (c.do === 'map') {
          now.set(c.page, { frame: c.frame, writable: c.writable });
          f.map(BigInt(c.page) << 12n, c.frame << 12, c.writable ? P | RW : P);
        } else if (c.do === 'unmap') {
          now.delete(c.page);
          f.map(BigInt(c.page) << 12n, 0, 0n);
        } else if (c.do === 'invlpg') {
          tlb.delete(c.page);
          invlpgAt(f, BigInt(c.page) << 12n);
        } else if (c.do === 'cr3') {
          tlb.clear();
          writeCr3(f.cpu, f.cpu.cr3);
        } else {
          let got: number | null = null;
          faultOf(() => {
            got = translate(f.cpu, BigInt(c.page) << 12n, c.write ? WRITE : READ);
          });
          let entry = tlb.get(c.page);
          if (!entry || (c.write && !(entry.writable && entry.dirty))) {
            const mapped = now.get(c.page);
            if (mapped && (!c.write || mapped.writable)) {
              entry = { ...mapped, dirty: c.write };
              tlb.set(c.page, entry);
            } else {
              tlb.delete(c.page);
              entry = undefined;
            }
          }
          expect(got).toBe(entry ? entry.frame << 12 : null);
        }
      }
    }),
    { numRuns: 300 },
  );
});
