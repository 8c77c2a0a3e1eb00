/** The power-management registers: the timer against its definition, soft-off, and the timer's event. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { AcpiPm } from './acpi-pm.ts';
import { NEVER } from './device.ts';

const STATUS = 0x600;
const ENABLE = 0x602;
const CONTROL = 0x604;
const TIMER = 0x608;
const HALF = 2 ** 31;

let now: number;
let offs: number;
let level: boolean;
let pm: AcpiPm;

beforeEach(() => {
  now = 0;
  offs = 0;
  level = false;
  pm = new AcpiPm(
    () => now,
    (asserted) => {
      level = asserted;
    },
    () => offs++,
    () => {},
  );
});

it('the timer counts 3,579,545 a second, modulo 2^32', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 49 }), (time) => {
      now = time;
      const exact = (BigInt(time) * 3_579_545n) / 1_000_000_000n;
      expect(pm.portRead(TIMER, 4)).toBe(Number(exact % 2n ** 32n));
    }),
  );
});

it('the timer can be read in parts', () => {
  now = 1e12;
  const whole = pm.portRead(TIMER, 4);
  expect([0, 1, 2, 3].map((i) => pm.portRead(TIMER + i, 1))).toEqual(
    [0, 8, 16, 24].map((shift) => (whole >>> shift) & 0xff),
  );
});

describe('soft-off', () => {
  it.each<[string, [number, number, 1 | 2 | 4][], number]>([
    ['type 5 and enable', [[CONTROL, 0x3400, 2]], 1],
    [
      'by bytes',
      [
        [CONTROL, 0, 1],
        [CONTROL + 1, 0x34, 1],
      ],
      1,
    ],
    ['by a dword', [[CONTROL, 0x3400, 4]], 1],
    ['another type', [[CONTROL, 0x2c00, 2]], 0],
    ['without enable', [[CONTROL, 0x1400, 2]], 0],
    ['as status', [[STATUS, 0x3400, 2]], 0],
  ])('%s', (_name, writes, expected) => {
    for (const [port, value, size] of writes) pm.portWrite(port, size, value);
    expect(offs).toBe(expected);
  });

  it('ACPI mode is always on, and the sleep type is kept', () => {
    pm.portWrite(CONTROL, 2, 0x1400);
    expect(pm.portRead(CONTROL, 2)).toBe(0x1401);
  });
});

describe('the event of the timer', () => {
  const half = Math.ceil((HALF * 1e9) / 3_579_545);

  it('comes when bit 31 changes, and interrupts if it is enabled', () => {
    pm.portWrite(ENABLE, 2, 1);
    const due = pm.deadline();
    expect(due).toBe(half);
    now = due;
    pm.advance(now);
    expect([pm.portRead(STATUS, 2), level]).toEqual([1, true]);
    pm.portWrite(STATUS, 2, 1);
    expect([pm.portRead(STATUS, 2), level]).toEqual([0, false]);
    expect(pm.deadline()).toBe(Math.ceil((2 * HALF * 1e9) / 3_579_545));
  });

  it('is noted without being enabled, but nobody waits for it', () => {
    expect(pm.deadline()).toBe(NEVER);
    now = half;
    expect([pm.portRead(STATUS, 2), level]).toEqual([1, false]);
    const state = pm.save();
    pm.portWrite(STATUS, 2, 1);
    pm.restore(state);
    expect(pm.portRead(STATUS, 2)).toBe(1);
  });
});
