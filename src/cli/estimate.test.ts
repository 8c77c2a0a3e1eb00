/** When an estimate is given, and in which words. */
import { expect, it } from 'vitest';
import { estimate } from './estimate.ts';

it.each([
  [2999, 50, 100, ''],
  [3000, 50, 100, ', about 3 s left'],
  [60_000, 0, 100, ''],
  [60_000, 4, 90_000, ''],
  [60_000, 1.9, 100, ''],
  [60_000, 2, 100, ', about 49 min left'],
  [10_000, 10, 100, ', about 2 min left'],
  [10_000, 11, 100, ', about 81 s left'],
  [60_000, 100, 100, ''],
  [60_000, 0, 0, ''],
])('after %i ms, %d of %d: "%s"', (milliseconds, done, total, text) => {
  expect(estimate(milliseconds, done, total)).toBe(text);
});
