/** Pacing, on a host clock of the test's. */
import { expect, it } from 'vitest';
import { Pace } from './pace.ts';

it('waits while the guest is ahead', () => {
  let host = 1000;
  const pace = new Pace(5e9, () => host);
  expect(pace.limit).toBe(5e9 + 10e6);
  expect(pace.wait(5e9 + 30e6)).toBe(30);
  host += 20;
  expect(pace.wait(5e9 + 30e6)).toBe(10);
  host += 10;
  expect(pace.wait(5e9 + 30e6)).toBe(0);
});

it('a guest that lags has its own time from then on', () => {
  let host = 0;
  const pace = new Pace(0, () => host);
  host = 1000;
  expect(pace.wait(100e6)).toBe(0);
  expect(pace.wait(150e6)).toBe(50);
});
