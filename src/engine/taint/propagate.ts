/**
 * How taint goes through the builder's operations: which bits of a result can change when tainted bits of the operands
 * do. Each function takes the operands' values as they are (unsigned, below 2^width) and their shadows.
 *
 * A bit may be called tainted that is not, never the other way round. Tainted bits are taken to be independent of each
 * other, and by that measure all but multiplication, division and counts that are tainted themselves are exact bit by bit.
 */
import type { Width } from '../../isa/builder.ts';
import { bitLength, countOnes, leadingZeros, ones, trailingZeros } from '../../isa/integers.ts';
import { anyOf, join, type Label, make, maskOf, type Shadow, uniform } from './shadow.ts';

type Bits = bigint;
type MaybeShadow = Shadow | null;

/** The least and the greatest that a value can be. */
function least(x: Bits, xs: MaybeShadow): bigint {
  return x & ~maskOf(xs);
}
function greatest(x: Bits, xs: MaybeShadow): bigint {
  return x | maskOf(xs);
}

/** Bits that are not alike in all numbers from `low` to `high`: those at and below the highest in which the two differ. */
function varying(low: bigint, high: bigint): bigint {
  return ones(bitLength(low ^ high));
}

/** A result whose tainted bits are those of `mask`, each labelled by the operand bit of its position or of one below. */
function carried(mask: bigint, xs: MaybeShadow, ys: MaybeShadow): MaybeShadow {
  let running: Label = anyOf(xs, ys);
  return make(mask, (bit) => {
    running = join(join(xs?.at(bit) ?? 0, ys?.at(bit) ?? 0), running);
    return running;
  });
}

export function and(x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  if (xs === null && ys === null) return null;
  const [xm, ym] = [maskOf(xs), maskOf(ys)];
  return bitwise((xm & ym) | (xm & ~ym & y) | (ym & ~xm & x), xs, ys);
}

export function or(x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  if (xs === null && ys === null) return null;
  const [xm, ym] = [maskOf(xs), maskOf(ys)];
  return bitwise((xm & ym) | (xm & ~ym & ~y) | (ym & ~xm & ~x), xs, ys);
}

/** Tainted bits that pass alone keep their values, and all of them so their shadow. */
function bitwise(mask: bigint, xs: MaybeShadow, ys: MaybeShadow): MaybeShadow {
  if (ys === null && xs !== null && mask === xs.mask) return xs;
  if (xs === null && ys !== null && mask === ys.mask) return ys;
  return make(mask, (bit) => join(xs?.at(bit) ?? 0, ys?.at(bit) ?? 0));
}

export function xor(xs: MaybeShadow, ys: MaybeShadow): MaybeShadow {
  if (xs === ys) return null;
  return make(maskOf(xs) | maskOf(ys), (bit) => join(xs?.at(bit) ?? 0, ys?.at(bit) ?? 0));
}

export function not(xs: MaybeShadow): MaybeShadow {
  return xs && make(xs.mask, (bit) => xs.at(bit));
}

/** A carry reaches as far as the sums of the least and of the greatest operands differ. */
export function add(width: Width, x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  if (xs === null && ys === null) return null;
  const low = least(x, xs) + least(y, ys);
  const high = greatest(x, xs) + greatest(y, ys);
  return carried((maskOf(xs) | maskOf(ys) | (low ^ high)) & ones(width), xs, ys);
}

export function sub(width: Width, x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  // Equal tainted bits at equal places cancel out, borrows and all.
  if (xs === ys) return null;
  const low = BigInt.asUintN(width, least(x, xs) - greatest(y, ys));
  const high = BigInt.asUintN(width, greatest(x, xs) - least(y, ys));
  return carried(maskOf(xs) | maskOf(ys) | (low ^ high), xs, ys);
}

/** A product's taint and whether it is exact. */
export interface Estimate {
  readonly shadow: MaybeShadow;
  readonly exact: boolean;
}

const CLEAN: Estimate = { shadow: null, exact: true };

/** The positions below which a product's bits cannot vary. */
function lowestVarying(width: number, x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): number {
  const from = (taint: MaybeShadow, other: Bits) =>
    taint === null || other === 0n
      ? Number.POSITIVE_INFINITY
      : trailingZeros(width, taint.mask) + trailingZeros(width, other);
  return Math.min(from(xs, greatest(y, ys)), from(ys, greatest(x, xs)));
}

/** All bits of the product of twice the width that can vary. */
function productMask(width: Width, x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): bigint {
  const lowest = lowestVarying(width, x, xs, y, ys);
  if (lowest >= 2 * width) return 0n;
  const range = varying(least(x, xs) * least(y, ys), greatest(x, xs) * greatest(y, ys));
  return (range >> BigInt(lowest)) << BigInt(lowest);
}

/** A factor that is a clean power of two only shifts. */
function shiftOf(x: Bits, xs: MaybeShadow): number {
  return xs === null && x !== 0n && (x & (x - 1n)) === 0n ? bitLength(x) - 1 : -1;
}

export function mul(width: Width, x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): Estimate {
  if (xs === null && ys === null) return CLEAN;
  const byY = shiftOf(y, ys);
  if (byY >= 0) return { shadow: shl(width, xs, byY), exact: true };
  const byX = shiftOf(x, xs);
  if (byX >= 0) return { shadow: shl(width, ys, byX), exact: true };
  const mask = productMask(width, x, xs, y, ys) & ones(width);
  return { shadow: carried(mask, xs, ys), exact: false };
}

export function mulHighUnsigned(
  width: Width,
  x: Bits,
  xs: MaybeShadow,
  y: Bits,
  ys: MaybeShadow,
): MaybeShadow {
  if (xs === null && ys === null) return null;
  return uniform(productMask(width, x, xs, y, ys) >> BigInt(width), anyOf(xs, ys));
}

export function mulHighSigned(width: Width, x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  if (xs === null && ys === null) return null;
  const [xLow, xHigh] = signedRange(width, x, xs);
  const [yLow, yHigh] = signedRange(width, y, ys);
  const corners = [xLow * yLow, xLow * yHigh, xHigh * yLow, xHigh * yHigh];
  corners.sort((a, b) => (a < b ? -1 : 1));
  const [low, high] = [corners[0], corners[3]];
  // Numbers of one sign have their leading bits in common, as unsigned ones do.
  const double = 2 * width;
  const mask =
    low < 0n === high < 0n
      ? varying(BigInt.asUintN(double, low), BigInt.asUintN(double, high))
      : ones(double);
  return uniform(mask >> BigInt(width), anyOf(xs, ys));
}

function signedRange(width: Width, x: Bits, xs: MaybeShadow): [bigint, bigint] {
  const sign = 1n << BigInt(width - 1);
  return [least(x ^ sign, xs) - sign, greatest(x ^ sign, xs) - sign];
}

/** Of quotient, remainder, and of whether the quotient fits. */
export function divide(
  width: Width,
  high: Bits,
  highs: MaybeShadow,
  low: Bits,
  lows: MaybeShadow,
  divisor: Bits,
  divisors: MaybeShadow,
): { quotient: MaybeShadow; remainder: MaybeShadow; fits: MaybeShadow; exact: boolean } {
  if (highs === null && lows === null && divisors === null)
    return { quotient: null, remainder: null, fits: null, exact: true };
  const label = anyOf(highs, lows, divisors);
  const fits = lessThan(high, highs, divisor, divisors);
  const shift = shiftOf(divisor, divisors);
  if (shift >= 0 && fits === null && highs === null && high === 0n) {
    const remainder = lows === null ? null : lows.low(shift);
    return { quotient: shr(lows, shift), remainder, fits, exact: true };
  }
  const smallest = (least(high, highs) << BigInt(width)) | least(low, lows);
  const largest = (greatest(high, highs) << BigInt(width)) | greatest(low, lows);
  const [divisorLeast, divisorMost] = [least(divisor, divisors), greatest(divisor, divisors)];
  const quotient =
    divisorLeast === 0n ? ones(width) : varying(smallest / divisorMost, largest / divisorLeast) & ones(width);
  const most = largest < divisorMost ? largest : divisorMost;
  return {
    quotient: uniform(quotient, label),
    remainder: uniform(ones(bitLength(most)) & ones(width), label),
    fits,
    exact: false,
  };
}

export function shl(width: Width, xs: MaybeShadow, count: number): MaybeShadow {
  if (xs === null || count === 0) return xs;
  return make((xs.mask << BigInt(count)) & ones(width), (bit) => xs.at(bit - count));
}

export function shr(xs: MaybeShadow, count: number): MaybeShadow {
  if (xs === null || count === 0) return xs;
  return make(xs.mask >> BigInt(count), (bit) => xs.at(bit + count));
}

export function sar(width: Width, xs: MaybeShadow, count: number): MaybeShadow {
  if (xs === null || count === 0) return xs;
  const mask = BigInt.asUintN(width, BigInt.asIntN(width, xs.mask) >> BigInt(count));
  return make(mask, (bit) => xs.at(Math.min(bit + count, width - 1)));
}

export function rotl(width: Width, xs: MaybeShadow, count: number): MaybeShadow {
  if (xs === null || count === 0) return xs;
  const mask = (xs.mask << BigInt(count)) | (xs.mask >> BigInt(width - count));
  return make(mask & ones(width), (bit) => xs.at((bit - count + width) % width));
}

export function rotr(width: Width, xs: MaybeShadow, count: number): MaybeShadow {
  return rotl(width, xs, count === 0 ? 0 : width - count);
}

/** Sign extension from `width`. */
export function signExtend(width: Width, to: Width, xs: MaybeShadow): MaybeShadow {
  if (xs === null || xs.at(width - 1) === 0) return xs;
  return make(xs.mask | (ones(to) & ~ones(width)), (bit) => xs.at(Math.min(bit, width - 1)));
}

/**
 * An operation by a count that is tainted: whatever differs between its results by any count there can be.
 * @param limit a power of two; counts are modulo it
 * @param result value and shadow of the operation by `count`
 */
export function byTaintedCount(
  count: Bits,
  counts: Shadow,
  limit: number,
  result: (count: number) => { bits: Bits; shadow: MaybeShadow },
): MaybeShadow {
  const now = result(Number(count));
  let mask = maskOf(now.shadow);
  for (let other = 0; other < limit; other++) {
    if (((BigInt(other) ^ count) & ~counts.mask & BigInt(limit - 1)) !== 0n) continue;
    const { bits, shadow } = result(other);
    mask |= maskOf(shadow) | (bits ^ now.bits);
  }
  const label = counts.any;
  return make(mask, (bit) => join(now.shadow?.at(bit) ?? 0, label));
}

export function countLeadingZeros(width: Width, x: Bits, xs: MaybeShadow): MaybeShadow {
  return counted(leadingZeros(width, greatest(x, xs)), leadingZeros(width, least(x, xs)), xs);
}

export function countTrailingZeros(width: Width, x: Bits, xs: MaybeShadow): MaybeShadow {
  return counted(trailingZeros(width, greatest(x, xs)), trailingZeros(width, least(x, xs)), xs);
}

export function population(x: Bits, xs: MaybeShadow): MaybeShadow {
  return counted(countOnes(least(x, xs)), countOnes(greatest(x, xs)), xs);
}

function counted(low: number, high: number, xs: MaybeShadow): MaybeShadow {
  return xs && uniform(varying(BigInt(low), BigInt(high)), xs.any);
}

/** A truth of width 1 that depends on the operands. */
function truth(xs: MaybeShadow, ys: MaybeShadow): MaybeShadow {
  return uniform(1n, anyOf(xs, ys));
}

/** Of x == y, and of x != y. Clean where bits that are known settle it. */
export function equal(x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  if (xs === ys || ((x ^ y) & ~(maskOf(xs) | maskOf(ys))) !== 0n) return null;
  return truth(xs, ys);
}

/** Of x < y unsigned. */
export function lessThan(x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  if (xs === ys || greatest(x, xs) < least(y, ys) || least(x, xs) >= greatest(y, ys)) return null;
  return truth(xs, ys);
}

/** Of x <= y unsigned. */
export function atMost(x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  return lessThan(y, ys, x, xs);
}

/** Of a choice between two values by a condition that is tainted. */
export function choice(condition: Shadow, x: Bits, xs: MaybeShadow, y: Bits, ys: MaybeShadow): MaybeShadow {
  // What the two have in common comes whatever the condition.
  if (x === y && xs === ys) return xs;
  const label = condition.any;
  return make(maskOf(xs) | maskOf(ys) | (x ^ y), (bit) =>
    join(join(xs?.at(bit) ?? 0, ys?.at(bit) ?? 0), label),
  );
}
