/** The real-time clock and CMOS memory. Motorola MC146818A data sheet. */
import { beforeEach, describe, expect, it } from 'vitest';
import { NEVER } from './device.ts';
import { DEFAULT_EPOCH, Rtc } from './rtc.ts';

const SECOND = 1e9;
const MIB = 1 << 20;

class Rig {
  now = 0;
  line = false;
  readonly rtc: Rtc;
  constructor(ramBytes = 64 * MIB, cpus = 1, epoch = DEFAULT_EPOCH) {
    this.rtc = new Rtc(
      ramBytes,
      cpus,
      epoch,
      () => this.now,
      (asserted) => {
        this.line = asserted;
      },
      () => {},
    );
  }
  in(register: number): number {
    this.rtc.portWrite(0x70, 1, register);
    return this.rtc.portRead(0x71);
  }
  out(register: number, value: number): this {
    this.rtc.portWrite(0x70, 1, register);
    this.rtc.portWrite(0x71, 1, value);
    return this;
  }
  /** Time has come to `now`. */
  at(now: number): void {
    this.now = now;
    this.rtc.advance(now);
  }
  /** Hours, minutes, seconds. */
  get time(): number[] {
    return [this.in(4), this.in(2), this.in(0)];
  }
}

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

describe('CMOS memory sizes', () => {
  it.each([
    // RAM in MiB; KiB above 1 MiB (17H and 30H); 64-KiB blocks above 16 MiB (34H).
    [1, 0, 0],
    [16, 15 * 1024, 0],
    [64, 63 * 1024, 48 * 16],
    [128, 0xffff, 112 * 16],
    [3072, 0xffff, 3056 * 16],
  ])('%i MiB', (mib, extended, high) => {
    const { rtc } = new Rig(mib * MIB);
    const word = (at: number) => {
      const read = (register: number) => {
        rtc.portWrite(0x70, 1, register);
        return rtc.portRead(0x71);
      };
      return read(at) | (read(at + 1) << 8);
    };
    expect([word(0x15), word(0x17), word(0x30), word(0x34)]).toEqual([640, extended, extended, high]);
  });

  it('5FH counts the processors', () => {
    expect(new Rig(MIB, 4).in(0x5f)).toBe(3);
  });
});

describe('clock', () => {
  it('shows the epoch plus guest time, in BCD and 24 hours', () => {
    rig.now = ((23 * 60 + 59) * 60 + 58) * SECOND;
    expect(rig.time).toEqual([0x23, 0x59, 0x58]);
    expect([rig.in(0x32), rig.in(9), rig.in(8), rig.in(7), rig.in(6)]).toEqual([
      0x20, 0x00, 0x01, 0x01, 0x07,
    ]);
    rig.now += 2 * SECOND;
    expect([rig.in(7), rig.in(6), ...rig.time]).toEqual([2, 1, 0, 0, 0]);
  });

  it.each([
    [0, 0x12],
    [9, 0x09],
    [12, 0x92],
    [13, 0x81],
  ])('hour %i in 12-hour mode', (hour, expected) => {
    rig.out(0xb, 0);
    rig.now = hour * 3600 * SECOND;
    expect(rig.in(4)).toBe(expected);
  });

  it('binary mode', () => {
    rig.out(0xb, 6);
    rig.now = 59 * SECOND;
    expect(rig.in(0)).toBe(59);
  });

  it('is set while SET holds it, and goes on from there', () => {
    rig.out(0xb, 0x82).out(4, 0x10).out(2, 0x20).out(0, 0x30);
    rig.now = 5 * SECOND;
    expect(rig.time).toEqual([0x10, 0x20, 0x30]);
    rig.out(0xb, 0x02);
    rig.now = 6 * SECOND;
    expect(rig.time).toEqual([0x10, 0x20, 0x31]);
    expect(rig.in(9)).toBe(0x00);
  });

  it('update in progress warns before the second', () => {
    expect(rig.in(0xa) & 0x80).toBe(0);
    rig.now = SECOND - 100_000;
    expect(rig.in(0xa) & 0x80).toBe(0x80);
  });

  it('register D says that memory is valid', () => {
    expect(rig.out(0xd, 0).in(0xd)).toBe(0x80);
  });
});

describe('interrupts', () => {
  it('none unless enabled', () => {
    expect(rig.rtc.deadline()).toBe(NEVER);
  });

  it.each([
    [6, SECOND / 1024],
    [15, SECOND / 2],
    [1, SECOND / 256],
    [2, SECOND / 128],
  ])('periodic at rate %i', (rate, period) => {
    rig.out(0xa, 0x20 | rate).out(0xb, 0x42);
    for (let i = 1; i <= 5; i++) {
      const deadline = rig.rtc.deadline();
      expect(deadline).toBe(Math.ceil(i * period));
      rig.now = deadline;
      rig.rtc.advance(deadline);
      expect(rig.line).toBe(true);
      expect(rig.in(0xc) & 0xe0).toBe(0xc0);
      expect(rig.line).toBe(false);
    }
  });

  it('update ended, each second', () => {
    rig.out(0xb, 0x12);
    rig.now = SECOND / 2;
    expect(rig.rtc.deadline()).toBe(SECOND);
    rig.at(SECOND);
    expect(rig.line).toBe(true);
    expect(rig.in(0xc) & 0x90).toBe(0x90);
    expect(rig.rtc.deadline()).toBe(2 * SECOND);
  });

  it('alarm at its time, with wildcards', () => {
    rig.out(1, 0x05).out(3, 0xff).out(5, 0xc0).out(0xb, 0x22);
    const at: number[] = [];
    for (let s = 1; s <= 70; s++) {
      rig.at(s * SECOND);
      if (rig.in(0xc) & 0x20) at.push(s);
    }
    expect(at).toEqual([5, 65]);
  });
});

it('bit 7 of the index port masks NMIs and does not count as an index', () => {
  rig.rtc.portWrite(0x70, 1, 0x8d);
  expect(rig.rtc.nmiDisabled).toBe(true);
  expect(rig.rtc.portRead(0x71)).toBe(0x80);
});

it('goes back to a saved state', () => {
  rig.out(0x40, 0x55).out(0xb, 0x42);
  const saved = rig.rtc.save();
  rig.out(0x40, 0xaa).out(4, 0x23);
  rig.rtc.restore(saved);
  expect(rig.rtc.save()).toEqual(saved);
  expect([rig.in(0x40), rig.in(4)]).toEqual([0x55, 0]);
});
