/**
 * Addition, subtraction, multiplication, division, square root, fused multiply-add.
 * SDM vol. 1 4.9 (exceptions and their precedence, 4.9.2), 8.3.5 (x87), 11.5.2 (SSE), 14.5 (FMA).
 *
 * Operands are unpacked (and may be of any format); a result is the encoding in format `f`. An unmasked exception among
 * BEFORE_RESULT leaves the result without meaning.
 */
import { DENORMAL, DOWN, type Environment, ZERO_DIVIDE } from './environment.ts';
import {
  bitLength,
  FINITE,
  type Format,
  INFINITE,
  infinity,
  isNan,
  packNan,
  type Real,
  real,
  SIGNALING_NAN,
  unpack,
  ZERO,
  zero,
} from './format.ts';
import { invalid, nanOf, nanOf2, special } from './nan.ts';
import { round } from './round.ts';

/** Operand `bits` of an SSE instruction: a denormal is a zero under DAZ. */
export function operand(e: Environment, f: Format, bits: bigint): Real {
  const x = unpack(f, bits);
  return x.denormal && e.denormalsAreZero ? real(ZERO, x.negative) : x;
}

export function negated(x: Real): Real {
  return { ...x, negative: !x.negative };
}

/** Raises DENORMAL for a denormal operand; true if that is unmasked and the operation ends. */
function denormals(e: Environment, x: Real, y?: Real): boolean {
  if (!x.denormal && !y?.denormal) return false;
  e.raise(DENORMAL);
  return (e.masks & DENORMAL) === 0;
}

/** The top bit's exponent, plus one. */
function topOf(x: Real): number {
  return x.exponent + bitLength(x.significand);
}

function exactZero(e: Environment, f: Format): bigint {
  e.roundedUp = false;
  return zero(f, e.rounding === DOWN);
}

/** The sum of two finite numbers, exact or (where one lies far below the other) with a last bit that stands for it. */
function sumFinite(e: Environment, f: Format, x: Real, y: Real): bigint {
  let { significand: sx, exponent: ex } = x;
  let { significand: sy, exponent: ey } = y;
  if (topOf(y) < ex - 130) {
    sx <<= 128n;
    ex -= 128;
    sy = 1n;
    ey = ex;
  } else if (topOf(x) < ey - 130) {
    sy <<= 128n;
    ey -= 128;
    sx = 1n;
    ex = ey;
  }
  if (ex > ey) {
    sx <<= BigInt(ex - ey);
    ex = ey;
  } else if (ey > ex) {
    sy <<= BigInt(ey - ex);
  }
  const sum = (x.negative ? -sx : sx) + (y.negative ? -sy : sy);
  if (sum === 0n) return exactZero(e, f);
  return sum < 0n ? round(e, f, true, -sum, ex) : round(e, f, false, sum, ex);
}

/** The sum of two that are neither NaN nor unsupported, with DENORMAL already raised. */
function sum(e: Environment, f: Format, x: Real, y: Real): bigint {
  e.roundedUp = false;
  if (x.kind === INFINITE) return infinity(f, x.negative);
  if (y.kind === INFINITE) return infinity(f, y.negative);
  if (x.kind === ZERO) {
    if (y.kind === ZERO) return x.negative === y.negative ? zero(f, x.negative) : exactZero(e, f);
    return round(e, f, y.negative, y.significand, y.exponent);
  }
  if (y.kind === ZERO) return round(e, f, x.negative, x.significand, x.exponent);
  return sumFinite(e, f, x, y);
}

/** x + y. */
export function add(e: Environment, f: Format, x: Real, y: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, f, x, y);
  if (x.kind === INFINITE && y.kind === INFINITE && x.negative !== y.negative) return invalid(e, f);
  if (denormals(e, x, y)) return zero(f, false);
  return sum(e, f, x, y);
}

/** x - y; a NaN keeps its sign. */
export function subtract(e: Environment, f: Format, x: Real, y: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, f, x, y);
  return add(e, f, x, negated(y));
}

/** x * y. */
export function multiply(e: Environment, f: Format, x: Real, y: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, f, x, y);
  const negative = x.negative !== y.negative;
  if (x.kind === INFINITE || y.kind === INFINITE) {
    if (x.kind === ZERO || y.kind === ZERO) return invalid(e, f);
    denormals(e, x, y);
    e.roundedUp = false;
    return infinity(f, negative);
  }
  if (denormals(e, x, y) || x.kind === ZERO || y.kind === ZERO) {
    e.roundedUp = false;
    return zero(f, negative);
  }
  return round(e, f, negative, x.significand * y.significand, x.exponent + y.exponent);
}

/** x / y. */
export function divide(e: Environment, f: Format, x: Real, y: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, f, x, y);
  const negative = x.negative !== y.negative;
  e.roundedUp = false;
  if (x.kind === INFINITE) {
    if (y.kind === INFINITE) return invalid(e, f);
    denormals(e, x, y);
    return infinity(f, negative);
  }
  if (y.kind === ZERO) {
    if (x.kind === ZERO) return invalid(e, f);
    e.raise(ZERO_DIVIDE);
    return infinity(f, negative);
  }
  if (denormals(e, x, y) || x.kind === ZERO || y.kind === INFINITE) return zero(f, negative);
  const shift = Math.max(0, f.precision + 3 + bitLength(y.significand) - bitLength(x.significand));
  const dividend = x.significand << BigInt(shift);
  const quotient = dividend / y.significand;
  const sticky = quotient * y.significand === dividend ? 0n : 1n;
  return round(e, f, negative, (quotient << 1n) | sticky, x.exponent - shift - y.exponent - 1);
}

/** The integer square root of `x`, positive and below 2^1000. */
export function integerSquareRoot(x: bigint): bigint {
  const length = bitLength(x);
  // From above: Newton's iteration falls until it is there.
  let root = length <= 100 ? BigInt(Math.ceil(Math.sqrt(Number(x)) * 1.000_000_1)) + 1n : 0n;
  if (root === 0n) {
    const drop = BigInt((length - 100) & ~1);
    root = (BigInt(Math.ceil(Math.sqrt(Number(x >> drop)) * 1.000_000_1)) + 1n) << (drop >> 1n);
  }
  for (;;) {
    const next = (root + x / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** The square root of x. */
export function squareRoot(e: Environment, f: Format, x: Real): bigint {
  if (special(x)) return nanOf(e, f, x);
  e.roundedUp = false;
  if (x.kind === ZERO) return zero(f, x.negative);
  if (x.negative) return invalid(e, f);
  if (x.kind === INFINITE) return infinity(f, false);
  if (denormals(e, x)) return zero(f, false);
  let shift = Math.max(0, 2 * (f.precision + 3) - bitLength(x.significand));
  if ((x.exponent - shift) & 1) shift++;
  const radicand = x.significand << BigInt(shift);
  const root = integerSquareRoot(radicand);
  const sticky = root * root === radicand ? 0n : 1n;
  return round(e, f, false, (root << 1n) | sticky, (x.exponent - shift) / 2 - 1);
}

/**
 * x * y + z, rounded once (FMA: operands in the order of the instruction's table 14-17; a NaN among x, y, z is taken in
 * that order).
 */
export function fusedMultiplyAdd(e: Environment, f: Format, x: Real, y: Real, z: Real): bigint {
  const zeroTimesInfinity =
    (x.kind === ZERO && y.kind === INFINITE) || (x.kind === INFINITE && y.kind === ZERO);
  if (special(x) || special(y) || special(z)) {
    if (x.kind === SIGNALING_NAN || y.kind === SIGNALING_NAN || z.kind === SIGNALING_NAN)
      return nanOf3(e, f, x, y, z);
    if (zeroTimesInfinity) return nanOf(e, f, z);
    return nanOf3(e, f, x, y, z);
  }
  if (zeroTimesInfinity) return invalid(e, f);
  const negative = x.negative !== y.negative;
  const infinite = x.kind === INFINITE || y.kind === INFINITE;
  if (infinite && z.kind === INFINITE && negative !== z.negative) return invalid(e, f);
  if (denormals(e, x, y) || denormals(e, z)) return zero(f, false);
  const product = infinite
    ? real(INFINITE, negative)
    : x.kind === ZERO || y.kind === ZERO
      ? real(ZERO, negative)
      : real(FINITE, negative, x.exponent + y.exponent, x.significand * y.significand);
  return sum(e, f, product, z);
}

function nanOf3(e: Environment, f: Format, x: Real, y: Real, z: Real): bigint {
  for (const one of [x, y, z]) if (one.kind === SIGNALING_NAN) nanOf(e, f, one);
  e.roundedUp = false;
  return packNan(f, isNan(x) ? x : isNan(y) ? y : z);
}
