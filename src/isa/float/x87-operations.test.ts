/** Operations that only x87 has: corners by table. */
import { describe, expect, it } from 'vitest';
import { DENORMAL, Environment, PRECISION, UNDERFLOW } from './environment.ts';
import { F80, unpack } from './format.ts';
import { partialRemainder, scale } from './x87-operations.ts';

const INTEGER = 1n << 63n;
const f80 = (top: number, significand: bigint) => (BigInt(top) << 64n) | significand;

describe('FSCALE with underflow unmasked', () => {
  const LEAST = f80(0x8000, 1n);
  const HALF = f80(0x3ffe, INTEGER);
  const ONE = f80(0x3fff, INTEGER);
  const TINY = DENORMAL | UNDERFLOW;
  // Measured on Intel silicon (Sapphire Rapids): result, exception flags, and C1.
  it.each<[string, bigint, bigint, bigint, number]>([
    ['a denormal by +0', LEAST, 0n, LEAST, DENORMAL],
    ['a denormal by -0', LEAST, f80(0x8000, 0n), LEAST, DENORMAL],
    ['the greatest denormal by 0', f80(0, INTEGER - 1n), 0n, f80(0, INTEGER - 1n), DENORMAL],
    ['a pseudo-denormal by 0', f80(0, INTEGER), 0n, f80(1, INTEGER), DENORMAL],
    ['a denormal by 1/2', LEAST, HALF, f80(0xdfc2, INTEGER), TINY],
    ['a denormal by a denormal', LEAST, f80(0, 1n), f80(0xdfc2, INTEGER), TINY],
    ['a denormal by 1', LEAST, ONE, f80(0xdfc3, INTEGER), TINY],
    ['a denormal by 1 - 2^16', LEAST, f80(0xc00e, 0xffffn << 48n), f80(0x8000, 0n), TINY | PRECISION],
    ['the least normal by 0', f80(1, INTEGER), 0n, f80(1, INTEGER), 0],
    ['the least normal by -1', f80(1, INTEGER), f80(0xbfff, INTEGER), f80(0x6000, INTEGER), UNDERFLOW],
  ])('%s', (_, x, y, result, flags) => {
    const e = Object.assign(new Environment(), { x87: true, masks: 0x3f & ~UNDERFLOW });
    expect(scale(e, unpack(F80, x), unpack(F80, y)).toString(16)).toBe(result.toString(16));
    expect(e.flags).toBe(flags);
    expect(e.roundedUp).toBe(false);
  });
});

describe('FPREM and FPREM1 with underflow unmasked', () => {
  const INFINITY = f80(0x7fff, INTEGER);
  // Measured on Intel silicon (Sapphire Rapids), alike for both: result and exception flags.
  it.each<[string, bigint, bigint, bigint, number]>([
    ['a denormal by infinity', f80(0, 1n), INFINITY, f80(0, 1n), DENORMAL],
    ['a negative one by -infinity', f80(0x8000, 3n), f80(0xffff, INTEGER), f80(0x8000, 3n), DENORMAL],
    ['a pseudo-denormal by infinity', f80(0, INTEGER), INFINITY, f80(1, INTEGER), DENORMAL],
    ['the least normal by infinity', f80(1, INTEGER), INFINITY, f80(1, INTEGER), 0],
    ['a denormal by 1', f80(0, 1n), f80(0x3fff, INTEGER), f80(0x5fc2, INTEGER), DENORMAL | UNDERFLOW],
    ['a denormal by another', f80(0, 1n), f80(0, 3n), f80(0x5fc2, INTEGER), DENORMAL | UNDERFLOW],
  ])('%s', (_, x, y, result, flags) => {
    for (const nearest of [false, true]) {
      const e = Object.assign(new Environment(), { x87: true, masks: 0x3f & ~UNDERFLOW });
      const rest = partialRemainder(e, unpack(F80, x), unpack(F80, y), nearest);
      expect(rest.result.toString(16)).toBe(result.toString(16));
      expect(e.flags).toBe(flags);
    }
  });
});
