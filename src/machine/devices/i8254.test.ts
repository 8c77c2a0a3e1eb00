/** The programmable interval timer. Intel 82C54 data sheet. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { NEVER } from './device.ts';
import { clocksIn, I8254, ticksFor } from './i8254.ts';

class Rig {
  now = 0;
  /** Times at which IRQ 0 rose, and fell. */
  readonly rises: number[] = [];
  readonly falls: number[] = [];
  rescheduled = 0;
  readonly pit = new I8254(
    () => this.now,
    (asserted) => (asserted ? this.rises : this.falls).push(this.edge),
    () => this.rescheduled++,
  );
  edge = 0;

  out(port: number, ...values: number[]): this {
    for (const device of this.pit.ports)
      if (port >= device.port && port < device.port + device.count)
        for (const value of values) device.portWrite(port, 1, value);
    return this;
  }
  in(port: number): number {
    for (const device of this.pit.ports)
      if (port >= device.port && port < device.port + device.count) return device.portRead(port, 1);
    throw new Error('no port');
  }
  in16(port: number): number {
    return this.in(port) | (this.in(port) << 8);
  }
  /** Lets time pass, firing each deadline at its time. */
  until(time: number): this {
    for (;;) {
      const deadline = this.pit.deadline();
      if (deadline > time) break;
      this.edge = deadline;
      this.pit.advance(deadline);
    }
    this.now = time;
    return this;
  }
  /** To the moment at which so many clocks have passed. */
  clocks(count: number): this {
    return this.until(ticksFor(count));
  }
}

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

describe('8254 time base', () => {
  it('ticksFor is the least time with so many clocks', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 40 }), (clocks) => {
        const ticks = ticksFor(clocks);
        return clocksIn(ticks) === clocks && clocksIn(ticks - 1) === clocks - 1;
      }),
    );
  });

  it('has 1193182 clocks a second', () => {
    expect(clocksIn(1e9)).toBe(1_193_182);
    expect(clocksIn(5e9 - 1)).toBe(5 * 1_193_182 - 1);
  });
});

describe('8254 modes', () => {
  it('mode 0: OUT rises once, at the terminal count', () => {
    rig.out(0x43, 0x30).out(0x40, 100, 0);
    expect(rig.rises).toEqual([]);
    rig.clocks(99);
    expect(rig.rises).toEqual([]);
    rig.clocks(1000);
    expect(rig.rises).toEqual([ticksFor(100)]);
    expect(rig.pit.deadline()).toBe(NEVER);
  });

  it('mode 0: a new count starts anew; its first byte stops the counting', () => {
    rig.out(0x43, 0x30).out(0x40, 100, 0);
    rig.clocks(50).out(0x40, 200);
    rig.clocks(120);
    expect(rig.rises).toEqual([]);
    rig.out(0x40, 0).clocks(319);
    expect(rig.rises).toEqual([]);
    rig.until(rig.now + ticksFor(2));
    expect(rig.rises).toHaveLength(1);
  });

  it('mode 2: OUT is low for the last clock of each period', () => {
    rig.out(0x43, 0x34).out(0x40, 10, 0);
    const start = rig.rises.length;
    rig.clocks(31);
    expect(rig.rises.slice(start)).toEqual([10, 20, 30].map(ticksFor));
    expect(rig.falls.slice(-3)).toEqual([9, 19, 29].map(ticksFor));
  });

  it.each([
    [10, [5, 15], [10, 20]],
    [7, [4, 11], [7, 14]],
  ])('mode 3 with count %i: a square wave, the high half the longer', (count, falls, rises) => {
    rig.out(0x43, 0x36).out(0x40, count, 0);
    const [r, f] = [rig.rises.length, rig.falls.length];
    rig.clocks(count * 2);
    expect(rig.falls.slice(f)).toEqual(falls.map(ticksFor));
    expect(rig.rises.slice(r)).toEqual(rises.map(ticksFor));
  });

  it('mode 4: OUT is low for one clock at the terminal count', () => {
    rig.out(0x43, 0x38).out(0x40, 50, 0);
    const [r, f] = [rig.rises.length, rig.falls.length];
    rig.clocks(500);
    expect(rig.falls.slice(f)).toEqual([ticksFor(50)]);
    expect(rig.rises.slice(r)).toEqual([ticksFor(51)]);
  });

  it.each([2, 3])('mode %i: a new count is taken up at the end of the period', (mode) => {
    rig.out(0x43, 0x30 | (mode << 1)).out(0x40, 100, 0);
    const start = rig.rises.length;
    rig.clocks(30).out(0x40, 40, 0);
    rig.clocks(185);
    expect(rig.rises.slice(start).map(clocksIn)).toEqual([100, 140, 180]);
  });

  it('count 0 stands for 65536, or 10000 in BCD', () => {
    rig.out(0x43, 0x34).out(0x40, 0, 0);
    const start = rig.rises.length;
    rig.clocks(65536);
    expect(rig.rises.slice(start)).toEqual([ticksFor(65536)]);
    const bcd = new Rig();
    bcd.out(0x43, 0x35).out(0x40, 0, 0);
    const first = bcd.rises.length;
    bcd.clocks(10_000);
    expect(bcd.rises.slice(first)).toEqual([ticksFor(10_000)]);
  });

  it('a deadline is told when a count is written', () => {
    rig.out(0x43, 0x34).out(0x40, 10, 0);
    expect(rig.rescheduled).toBeGreaterThan(0);
    expect(rig.pit.deadline()).toBe(ticksFor(9));
  });
});

describe('8254 reading', () => {
  it.each([
    ['mode 0', 0x30, 1000, 300, 700],
    ['mode 0 past the end wraps', 0x30, 10, 11, 0xffff],
    ['mode 2', 0x34, 1000, 300, 700],
    ['mode 2, second period', 0x34, 1000, 1300, 700],
    ['mode 3 counts by two', 0x36, 1000, 100, 800],
    ['BCD', 0x31, 0x1000, 300, 0x0700],
  ])('%s', (_name, control, count, clocks, expected) => {
    rig.out(0x43, control).out(0x40, count & 0xff, count >> 8);
    rig.clocks(clocks);
    expect(rig.in16(0x40)).toBe(expected);
  });

  it('a latched count stands until read; latching again meanwhile has no effect', () => {
    rig.out(0x43, 0x34).out(0x40, 0xe8, 3);
    rig.clocks(100).out(0x43, 0);
    rig.clocks(200).out(0x43, 0);
    rig.clocks(300);
    expect(rig.in16(0x40)).toBe(900);
    expect(rig.in16(0x40)).toBe(700);
  });

  it('low-byte and high-byte access', () => {
    rig.out(0x43, 0x10).out(0x40, 0x80);
    expect(rig.in(0x40)).toBe(0x80);
    rig.out(0x43, 0x20).out(0x40, 0x12);
    expect(rig.in(0x40)).toBe(0x12);
  });

  it('read-back latches status, then count', () => {
    rig.out(0x43, 0x34).out(0x40, 0xe8, 3);
    rig.clocks(100).out(0x43, 0xc2);
    // OUT high, count loaded, both bytes, mode 2, binary.
    expect(rig.in(0x40)).toBe(0xb4);
    expect(rig.in16(0x40)).toBe(900);
  });

  it('read-back status shows a null count before one is loaded', () => {
    rig.out(0x43, 0xb6).out(0x43, 0xe8);
    expect(rig.in(0x42) & 0x40).toBe(0x40);
  });
});

describe('port 61H', () => {
  it('gates channel 2 and shows its output at bit 5', () => {
    rig.out(0x61, 0).out(0x43, 0xb0).out(0x42, 100, 0);
    rig.clocks(1000);
    expect(rig.in(0x61) & 0x20).toBe(0);
    rig.out(0x61, 1);
    rig.clocks(1099);
    expect(rig.in(0x61) & 0x21).toBe(0x01);
    rig.clocks(1101);
    expect(rig.in(0x61) & 0x21).toBe(0x21);
  });

  it('the refresh bit toggles with time', () => {
    const seen = new Set<number>();
    for (let i = 0; i < 10; i++) seen.add(rig.clocks(i * 18 + 1).in(0x61) & 0x10);
    expect(seen).toEqual(new Set([0, 0x10]));
  });
});

it('goes back to a saved state', () => {
  rig.out(0x43, 0x34).out(0x40, 100, 0).out(0x61, 1).clocks(250);
  const saved = rig.pit.save();
  const deadline = rig.pit.deadline();
  rig.out(0x43, 0x30).out(0x40, 5, 0).clocks(1000);
  rig.pit.restore(saved);
  expect(rig.pit.save()).toEqual(saved);
  expect(rig.pit.deadline()).toBe(deadline);
});
