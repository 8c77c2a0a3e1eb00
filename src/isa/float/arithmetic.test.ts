/** Corner cases of the float library by table, and properties against the doubles of the host language. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { add, divide, fusedMultiplyAdd, multiply, squareRoot } from './arithmetic.ts';
import { convert, fromInteger, toInteger } from './convert.ts';
import {
  DENORMAL,
  DOWN,
  Environment,
  INVALID,
  NEAREST,
  OVERFLOW,
  PRECISION,
  type Rounding,
  TOWARD_ZERO,
  UNDERFLOW,
  UP,
  ZERO_DIVIDE,
} from './environment.ts';
import { F16, F32, F64, F80, F80_SINGLE, type Format, unpack } from './format.ts';

function within(rounding: Rounding, more: Partial<Environment> = {}): Environment {
  return Object.assign(new Environment(), { rounding, ...more });
}

const INEXACT_TINY = UNDERFLOW | PRECISION;
const INEXACT_HUGE = OVERFLOW | PRECISION;

describe('f32', () => {
  it.each<[string, typeof add, bigint, bigint, Rounding, bigint, number]>([
    ['1 + 2^-24: a tie, to even', add, 0x3f80_0000n, 0x3380_0000n, NEAREST, 0x3f80_0000n, PRECISION],
    ['1 + 2^-24, up', add, 0x3f80_0000n, 0x3380_0000n, UP, 0x3f80_0001n, PRECISION],
    ['1 + 3*2^-24: a tie, to even above', add, 0x3f80_0001n, 0x3380_0000n, NEAREST, 0x3f80_0002n, PRECISION],
    ['1 - least denormal, down', add, 0x3f80_0000n, 0x8000_0001n, DOWN, 0x3f7f_ffffn, PRECISION | DENORMAL],
    ['x - x is +0', add, 0x4049_0fdbn, 0xc049_0fdbn, NEAREST, 0n, 0],
    ['x - x is -0, down', add, 0x4049_0fdbn, 0xc049_0fdbn, DOWN, 0x8000_0000n, 0],
    ['-0 + -0', add, 0x8000_0000n, 0x8000_0000n, NEAREST, 0x8000_0000n, 0],
    ['inf - inf', add, 0x7f80_0000n, 0xff80_0000n, NEAREST, 0xffc0_0000n, INVALID],
    ['a signaling NaN is quieted', add, 0x7f80_0001n, 0x3f80_0000n, NEAREST, 0x7fc0_0001n, INVALID],
    ['of two NaNs the first', add, 0xffc0_0005n, 0x7f80_0001n, NEAREST, 0xffc0_0005n, INVALID],
    ['a NaN hides a denormal', add, 0x7fc0_0000n, 1n, NEAREST, 0x7fc0_0000n, 0],
    ['largest + largest', add, 0x7f7f_ffffn, 0x7f7f_ffffn, NEAREST, 0x7f80_0000n, INEXACT_HUGE],
    ['the same toward zero', add, 0x7f7f_ffffn, 0x7f7f_ffffn, TOWARD_ZERO, 0x7f7f_ffffn, INEXACT_HUGE],
    ['0 * inf', multiply, 0n, 0x7f80_0000n, NEAREST, 0xffc0_0000n, INVALID],
    ['an exact denormal is no underflow', multiply, 0x0080_0000n, 0x3f00_0000n, NEAREST, 0x0040_0000n, 0],
    ['an inexact one is', multiply, 0x0080_0001n, 0x3f00_0000n, NEAREST, 0x0040_0000n, INEXACT_TINY],
    // (1 - 2^-24) 2^-126 has 24 bits, and is tiny, though as a denormal it rounds to the least normal number.
    [
      'tiny, but the least normal number when rounded',
      multiply,
      0x3f7f_ffffn,
      0x0080_0000n,
      NEAREST,
      0x0080_0000n,
      INEXACT_TINY,
    ],
    ['least denormal squared, up', multiply, 1n, 1n, UP, 1n, INEXACT_TINY | DENORMAL],
    ['1 / 0', divide, 0x3f80_0000n, 0x8000_0000n, NEAREST, 0xff80_0000n, ZERO_DIVIDE],
    ['a denormal / 0 tells of the division alone', divide, 1n, 0n, NEAREST, 0x7f80_0000n, ZERO_DIVIDE],
    ['0 / 0', divide, 0n, 0n, NEAREST, 0xffc0_0000n, INVALID],
    ['1 / 3', divide, 0x3f80_0000n, 0x4040_0000n, NEAREST, 0x3eaa_aaabn, PRECISION],
  ])('%s', (_, operation, x, y, rounding, result, flags) => {
    const e = within(rounding);
    expect(operation(e, F32, unpack(F32, x), unpack(F32, y))).toBe(result);
    expect(e.flags).toBe(flags);
  });

  it('flushes a tiny result to zero, even an exact one', () => {
    const e = within(NEAREST, { flushToZero: true });
    expect(multiply(e, F32, unpack(F32, 0x8080_0000n), unpack(F32, 0x3f00_0000n))).toBe(0x8000_0000n);
    expect(e.flags).toBe(INEXACT_TINY);
  });
});

describe('the extended format', () => {
  it.each<[string, bigint, bigint, bigint, number]>([
    [
      'an unnormal is no number',
      0x3fff_0000_0000_0000_0001n,
      0x3fff_8000_0000_0000_0000n,
      0xffff_c000_0000_0000_0000n,
      INVALID,
    ],
    ['a pseudo-denormal is a number', 0x0000_8000_0000_0000_0000n, 0n, 0x0001_8000_0000_0000_0000n, DENORMAL],
    [
      'of two NaNs that of the larger significand',
      0x7fff_c000_0000_0000_0001n,
      0xffff_c000_0000_0000_0002n,
      0xffff_c000_0000_0000_0002n,
      0,
    ],
    [
      'a quiet NaN before a signaling one',
      0x7fff_c000_0000_0000_0000n,
      0x7fff_bfff_ffff_ffff_ffffn,
      0x7fff_c000_0000_0000_0000n,
      INVALID,
    ],
  ])('%s', (_, x, y, result, flags) => {
    const e = within(NEAREST, { x87: true });
    expect(add(e, F80, unpack(F80, x), unpack(F80, y))).toBe(result);
    expect(e.flags).toBe(flags);
  });

  it('rounds to fewer bits under precision control, in the range of the format', () => {
    const e = within(NEAREST, { x87: true });
    const third = divide(e, F80_SINGLE, fromReal(1), fromReal(3));
    expect(third).toBe(0x3ffd_aaaa_ab00_0000_0000n);
    const tiny = unpack(F80, 0x0001_8000_0000_0000_0000n);
    expect(multiply(e, F80_SINGLE, tiny, fromReal(1.5))).toBe(0x0001_c000_0000_0000_0000n);
  });

  it('scales the result of an unmasked underflow', () => {
    const e = within(NEAREST, { x87: true, masks: 0 });
    const least = unpack(F80, 0x0001_8000_0000_0000_0000n);
    expect(multiply(e, F80, least, least)).toBe(
      BigInt(-16382 * 2 + 24576 + 16383) * (1n << 64n) + (1n << 63n),
    );
    expect(e.flags).toBe(UNDERFLOW);
  });
});

function fromReal(x: number) {
  return unpack(F64, bitsOf(x));
}

const double = new Float64Array(1);
const quadword = new BigUint64Array(double.buffer);
function bitsOf(x: number): bigint {
  double[0] = x;
  return quadword[0];
}

describe('doubles are those of the host language', () => {
  const any = fc.oneof(fc.double(), fc.double({ min: -1e-300, max: 1e-300 }), fc.double({ min: -4, max: 4 }));
  it.each<[string, typeof add, (x: number, y: number) => number]>([
    ['sums', add, (x, y) => x + y],
    ['products', multiply, (x, y) => x * y],
    ['quotients', divide, (x, y) => x / y],
  ])('%s', (_, operation, host) => {
    fc.assert(
      fc.property(any, any, (x, y) => {
        const ours = operation(new Environment(), F64, fromReal(x), fromReal(y));
        const theirs = host(x, y);
        if (Number.isNaN(theirs)) return ((ours >> 51n) & 0xfffn) === 0xfffn;
        return ours === bitsOf(theirs);
      }),
    );
  });

  it('square roots, and squares of their own as sums and fused products', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, noNaN: true }), (x) => {
        const e = new Environment();
        const root = squareRoot(e, F64, fromReal(x));
        const square = unpack(F64, root);
        const minusX = { ...fromReal(x), negative: true };
        const error = unpack(F64, fusedMultiplyAdd(e, F64, square, square, minusX));
        // An exact root leaves no error; an inexact one leaves some.
        const inexact = (e.flags & PRECISION) !== 0;
        return root === bitsOf(Math.sqrt(x)) && (x === Infinity || inexact || error.significand === 0n);
      }),
    );
  });

  it('a narrowing to single precision', () => {
    fc.assert(
      fc.property(any, (x) => {
        const ours = convert(new Environment(), F32, fromReal(x), true);
        return Number.isNaN(x) || ours === BigInt(new Uint32Array(new Float32Array([x]).buffer)[0]);
      }),
    );
  });
});

describe('formats and integers', () => {
  it('half-precision numbers survive double precision and back', () => {
    for (let bits = 0n; bits < 0x1_0000n; bits += 7n) {
      const e = new Environment();
      const x = unpack(F16, bits);
      const wide = convert(e, F64, x, true);
      const quieted = (bits & 0x7fffn) > 0x7c00n ? bits | 0x200n : bits;
      expect(convert(e, F16, unpack(F64, wide), true)).toBe(quieted);
    }
  });

  it.each<[number, number, Rounding, bigint, number]>([
    [2.5, 32, NEAREST, 2n, PRECISION],
    [3.5, 32, NEAREST, 4n, PRECISION],
    [-2.5, 32, DOWN, -3n, PRECISION],
    [-2.5, 32, TOWARD_ZERO, -2n, PRECISION],
    [1e-300, 32, UP, 1n, PRECISION],
    [2147483647, 32, NEAREST, 2147483647n, 0],
    [2147483647.5, 32, NEAREST, -2147483648n, INVALID],
    [-2147483648, 32, NEAREST, -2147483648n, 0],
    [1e300, 64, NEAREST, -(1n << 63n), INVALID],
    [Number.NaN, 16, NEAREST, -32768n, INVALID],
  ])('%d as an integer of %d bits', (x, bits, rounding, result, flags) => {
    const e = within(rounding);
    expect(toInteger(e, bits, fromReal(x))).toBe(result);
    expect(e.flags).toBe(flags);
  });

  it('integers of 64 bits as doubles', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }), (value) => {
        const f: Format = F64;
        return fromInteger(new Environment(), f, value) === bitsOf(Number(value));
      }),
    );
  });
});
