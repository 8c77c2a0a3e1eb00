/**
 * The builder's operations on known values: unsigned BigInts below 2^width. What executes meanings directly (the tests'
 * evaluator, the taint engine) computes with these. Operands are taken to be in range, results are.
 */
import type { Width } from './builder.ts';

const ONES = Array.from({ length: 129 }, (_, width) => (1n << BigInt(width)) - 1n);

/** 2^width - 1, for widths of 0 to 128. */
export function ones(width: number): bigint {
  return ONES[width];
}

/** `x` of `width` bits as a signed number. */
export function signed(width: Width, x: bigint): bigint {
  return BigInt.asIntN(width, x);
}

export function multiplyHighSigned(width: Width, x: bigint, y: bigint): bigint {
  return BigInt.asUintN(width, (signed(width, x) * signed(width, y)) >> BigInt(width));
}

/** (high:low) / divisor, unsigned. Quotient and remainder are 0 where the quotient does not fit. */
export function divide(
  width: Width,
  high: bigint,
  low: bigint,
  divisor: bigint,
): { quotient: bigint; remainder: bigint; fits: boolean } {
  if (high >= divisor) return { quotient: 0n, remainder: 0n, fits: false };
  const dividend = (high << BigInt(width)) | low;
  return { quotient: dividend / divisor, remainder: dividend % divisor, fits: true };
}

/** Raises an Error for a count that the builder does not allow. */
function shiftCount(width: Width, count: bigint): bigint {
  if (count >= (width === 64 ? 64n : 32n)) throw new Error(`shift of width ${width} by ${count}`);
  return count;
}

export function shiftLeft(width: Width, x: bigint, count: bigint): bigint {
  return BigInt.asUintN(width, x << shiftCount(width, count));
}

export function shiftRight(width: Width, x: bigint, count: bigint): bigint {
  return x >> shiftCount(width, count);
}

export function shiftRightArithmetic(width: Width, x: bigint, count: bigint): bigint {
  return BigInt.asUintN(width, signed(width, x) >> shiftCount(width, count));
}

/** Raises an Error for a count of the width or more. */
export function rotateLeft(width: Width, x: bigint, count: bigint): bigint {
  if (count >= BigInt(width)) throw new Error(`rotate of width ${width} by ${count}`);
  return BigInt.asUintN(width, (x << count) | (x >> (BigInt(width) - count)));
}

/** As {@link rotateLeft}. */
export function rotateRight(width: Width, x: bigint, count: bigint): bigint {
  if (count >= BigInt(width)) throw new Error(`rotate of width ${width} by ${count}`);
  return BigInt.asUintN(width, (x >> count) | (x << (BigInt(width) - count)));
}

/** Bits up to and including the highest 1; 0 for 0. */
export function bitLength(x: bigint): number {
  return x === 0n ? 0 : x.toString(2).length;
}

/** Position of the lowest 1; `width` for 0. */
export function trailingZeros(width: number, x: bigint): number {
  return x === 0n ? width : bitLength(x & -x) - 1;
}

/** Zeros above the highest 1; `width` for 0. */
export function leadingZeros(width: number, x: bigint): number {
  return width - bitLength(x);
}

/** Number of 1s. */
export function countOnes(x: bigint): number {
  let count = 0;
  for (const digit of x.toString(2)) if (digit === '1') count++;
  return count;
}
