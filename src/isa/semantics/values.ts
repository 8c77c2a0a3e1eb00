/** Small shapes that the Operation sections share: extension by width, single bits, carry vectors. */
import type { Builder, Value, Width } from '../builder.ts';

/** `x` at `width` bits: zero-extended, truncated or as it is. */
export function resize(b: Builder, x: Value, width: Width): Value {
  if (x.width === width) return x;
  return x.width < width ? b.zeroExtend(x, width) : b.truncate(x, width);
}

/** `x` at `width` bits: sign-extended, truncated or as it is. */
export function resizeSigned(b: Builder, x: Value, width: Width): Value {
  if (x.width === width) return x;
  return x.width < width ? b.signExtend(x, width) : b.truncate(x, width);
}

/** Bit `n` of `x` (a static number), width 1. */
export function bit(b: Builder, x: Value, n: number): Value {
  return b.truncate(n === 0 ? x : b.shr(x, b.constant(8, n)), 1);
}

/** The sign bit of `x`, width 1. */
export function signBit(b: Builder, x: Value): Value {
  return bit(b, x, x.width - 1);
}

/** Width 1: `x` is zero. */
export function isZero(b: Builder, x: Value): Value {
  return b.eq(x, b.constant(x.width, 0));
}

/** Width 1: `x` is not zero. */
export function isNonzero(b: Builder, x: Value): Value {
  return b.ne(x, b.constant(x.width, 0));
}

/** `x` if `condition`, else 0. */
export function gate(b: Builder, condition: Value, x: Value): Value {
  return b.select(condition, x, b.constant(x.width, 0));
}

/** `x` with a static number added, modulo its width. */
export function plus(b: Builder, x: Value, n: number): Value {
  return b.add(x, b.constant(x.width, BigInt.asUintN(x.width, BigInt(n))));
}

/** Copies of the sign bit: all ones if `x` is negative, else 0. */
export function signFill(b: Builder, x: Value): Value {
  return b.sar(x, b.constant(8, x.width - 1));
}

/**
 * The carry out of each bit of `x + y (+ carry)`, given the sum: where x and y differ, the carry that came in
 * (x ^ y ^ sum), else x.
 */
export function carriesOfSum(b: Builder, x: Value, y: Value, sum: Value): Value {
  return b.xor(x, b.and(b.xor(x, y), b.xor(y, sum)));
}

/**
 * The borrow out of each bit of `x - y (- borrow)`, given the difference: where x and y differ, y, else the borrow
 * that came in, which is the difference.
 */
export function borrowsOfDifference(b: Builder, x: Value, y: Value, difference: Value): Value {
  return b.xor(difference, b.and(b.xor(x, y), b.xor(y, difference)));
}
