/** The HPET's counter, comparators and interrupts, against their definitions. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { NEVER } from './device.ts';
import { Hpet } from './hpet.ts';

const CONFIGURATION = 0x10;
const STATUS = 0x20;
const COUNTER = 0xf0;
const timer = (index: number) => ({
  configuration: 0x100 + index * 0x20,
  comparator: 0x108 + index * 0x20,
});

let now: number;
/** Rising edges by line, and lines that are asserted. */
let edges: Map<number, number>;
let asserted: Set<number>;
let legacy: number;
let hpet: Hpet;

beforeEach(() => {
  now = 0;
  edges = new Map();
  asserted = new Set();
  legacy = 0;
  hpet = new Hpet({
    now: () => now,
    line: (irq, on) => {
      if (on && !asserted.has(irq)) edges.set(irq, (edges.get(irq) ?? 0) + 1);
      if (on) asserted.add(irq);
      else asserted.delete(irq);
    },
    legacy: () => legacy++,
    rescheduled: () => {},
  });
});

const read64 = (at: number) => BigInt(hpet.read(at, 4)) | (BigInt(hpet.read(at + 4, 4)) << 32n);
const write64 = (at: number, value: bigint) => {
  hpet.write(at, 4, Number(value & 0xffff_ffffn));
  hpet.write(at + 4, 4, Number(value >> 32n));
};

/** Time goes to `time` as a schedule makes it go: by deadlines. */
function goTo(time: number): void {
  for (;;) {
    const deadline = hpet.deadline();
    if (deadline > time) break;
    now = Math.max(now, deadline);
    hpet.advance(now);
  }
  now = time;
}

it('tells of 64 bits at 100 MHz, three timers and legacy routing', () => {
  expect([hpet.read(0, 4), hpet.read(4, 4)]).toEqual([0x8086_a201, 10_000_000]);
  expect([hpet.read(0, 1), hpet.read(2, 2), hpet.read(3, 1)]).toEqual([0x01, 0x8086, 0x80]);
});

describe('the counter', () => {
  it('stands until it is enabled, and keeps its value when it is halted', () => {
    now = 1000;
    expect(read64(COUNTER)).toBe(0n);
    hpet.write(CONFIGURATION, 4, 1);
    now = 2005;
    expect(read64(COUNTER)).toBe(100n);
    hpet.write(CONFIGURATION, 4, 0);
    now = 9000;
    expect(read64(COUNTER)).toBe(100n);
  });

  it('can be set and wraps', () => {
    write64(COUNTER, 0xffff_ffff_ffff_ffffn);
    hpet.write(CONFIGURATION, 4, 1);
    now = 10;
    expect(read64(COUNTER)).toBe(0n);
  });
});

describe('a timer', () => {
  const route = 20 << 9;
  const { configuration, comparator } = timer(2);

  it('interrupts once when the counter comes to its comparator', () => {
    hpet.write(CONFIGURATION, 4, 1);
    hpet.write(configuration, 4, route | 4);
    write64(comparator, 500n);
    expect(hpet.deadline()).toBe(5000);
    goTo(4999);
    expect(edges.size).toBe(0);
    goTo(100_000);
    expect([...edges]).toEqual([[20, 1]]);
    expect([hpet.deadline(), asserted.size, hpet.read(STATUS, 4)]).toEqual([NEVER, 0, 0]);
  });

  it('of 32 bits matches again when those wrap', () => {
    hpet.write(CONFIGURATION, 4, 1);
    hpet.write(configuration, 4, route | 4 | 0x100);
    write64(comparator, 1n);
    goTo(2 ** 32 * 10 * 3);
    expect(edges.get(20)).toBe(3);
  });

  it('that is set to the past waits for a whole turn of the counter', () => {
    now = 1000;
    hpet.write(CONFIGURATION, 4, 1);
    now = 6000;
    hpet.write(configuration, 4, route | 4 | 0x100);
    write64(comparator, 499n);
    expect(hpet.deadline()).toBe(1000 + (2 ** 32 + 499) * 10);
  });

  it('is periodic at its period', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.nat(20_000), (period, time) => {
        now = 0;
        edges.clear();
        hpet.restore(fresh);
        hpet.write(configuration, 4, route | 4 | 8 | 0x40);
        write64(comparator, BigInt(period));
        hpet.write(comparator, 4, period);
        hpet.write(CONFIGURATION, 4, 1);
        goTo(time);
        expect(edges.get(20) ?? 0).toBe(Math.floor(time / (period * 10)));
      }),
      { numRuns: 50 },
    );
  });

  it('that is level-triggered holds its line until its status is cleared', () => {
    hpet.write(configuration, 4, route | 4 | 2);
    write64(comparator, 10n);
    hpet.write(CONFIGURATION, 4, 1);
    goTo(200);
    expect([[...asserted], hpet.read(STATUS, 4)]).toEqual([[20], 4]);
    hpet.write(STATUS, 4, 4);
    expect([asserted.size, hpet.read(STATUS, 4)]).toEqual([0, 0]);
  });

  it('takes only the lines that there are', () => {
    hpet.write(configuration, 4, (21 << 9) | 4);
    hpet.write(configuration, 4, (5 << 9) | 4);
    expect((hpet.read(configuration, 4) >> 9) & 31).toBe(21);
    expect(hpet.read(configuration + 4, 4)).toBe(0x00f0_0000);
  });

  it('legacy replacement gives timers 0 and 1 lines 0 and 8', () => {
    hpet.write(CONFIGURATION, 4, 3);
    expect([hpet.replacesLegacy, legacy]).toEqual([true, 1]);
    for (const index of [0, 1]) {
      hpet.write(timer(index).configuration, 4, 4);
      write64(timer(index).comparator, 10n);
    }
    goTo(200);
    expect([...edges]).toEqual([
      [0, 1],
      [8, 1],
    ]);
  });
});

const fresh = new Hpet({ now: () => 0, line() {}, legacy() {}, rescheduled() {} }).save();

it('its state can be taken and put back', () => {
  hpet.write(CONFIGURATION, 4, 1);
  hpet.write(timer(0).configuration, 4, (20 << 9) | 4);
  write64(timer(0).comparator, 100n);
  const state = hpet.save();
  goTo(2000);
  expect(edges.get(20)).toBe(1);
  now = 0;
  hpet.restore(state);
  expect(hpet.deadline()).toBe(1000);
});
