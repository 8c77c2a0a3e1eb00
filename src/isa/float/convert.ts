/**
 * Conversions between formats and to and from integers, and rounding to an integral value.
 * SDM vol. 1 4.8.4.2, 4.9.1.1, 8.3.4, 11.4.1.6; vol. 2 "CVT...", "ROUNDPS", "FRNDINT", "FIST".
 */
import { DENORMAL, type Environment, INVALID, PRECISION } from './environment.ts';
import { FINITE, type Format, INFINITE, infinity, type Real, real, ZERO, zero } from './format.ts';
import { nanOf, special } from './nan.ts';
import { lastInexact, lastUp, round, roundToInteger } from './round.ts';

/** `x` in format `f` where there is nothing to round: a NaN, zero, infinity, or a denormal that is not to be used. */
function unrounded(e: Environment, f: Format, x: Real, denormals: boolean): bigint | undefined {
  if (special(x)) return nanOf(e, f, x);
  e.roundedUp = false;
  if (x.kind === ZERO) return zero(f, x.negative);
  if (x.kind === INFINITE) return infinity(f, x.negative);
  if (denormals && x.denormal) {
    e.raise(DENORMAL);
    if ((e.masks & DENORMAL) === 0) return zero(f, x.negative);
  }
  return undefined;
}

/**
 * `x` in format `f`: raises INVALID for a signaling NaN, OVERFLOW, UNDERFLOW, PRECISION, and where `denormals` DENORMAL
 * for a denormal operand (CVTSS2SD and its kind, x87 loads; not x87 stores).
 */
export function convert(e: Environment, f: Format, x: Real, denormals: boolean): bigint {
  return unrounded(e, f, x, denormals) ?? round(e, f, x.negative, x.significand, x.exponent);
}

/** A signed integer of any size in format `f`. */
export function fromInteger(e: Environment, f: Format, value: bigint): bigint {
  e.roundedUp = false;
  if (value === 0n) return zero(f, false);
  return value < 0n ? round(e, f, true, -value, 0) : round(e, f, false, value, 0);
}

/** A signed integer as an operand. */
export function integerReal(value: bigint): Real {
  if (value === 0n) return real(ZERO, false);
  return real(FINITE, value < 0n, 0, value < 0n ? -value : value);
}

/** The integer indefinite of `bits`: the most negative (SDM vol. 1 4.9.1.1). */
export function integerIndefinite(bits: number): bigint {
  return -1n << BigInt(bits - 1);
}

/** `x` as a signed integer of `bits`, rounded as `e` says; INVALID and the indefinite where it does not fit. */
export function toInteger(e: Environment, bits: number, x: Real): bigint {
  e.roundedUp = false;
  if (x.kind === ZERO) return 0n;
  // No value of 80 bits or more above the point fits, and none need be made.
  if (special(x) || x.kind === INFINITE || x.exponent > 128) {
    e.raise(INVALID);
    return integerIndefinite(bits);
  }
  const magnitude = roundToInteger(e, x.negative, x.significand, x.exponent);
  const value = x.negative ? -magnitude : magnitude;
  if (BigInt.asIntN(bits, value) !== value) {
    e.raise(INVALID);
    return integerIndefinite(bits);
  }
  if (lastInexact()) e.raise(PRECISION);
  e.roundedUp = lastUp();
  return value;
}

/** `x` rounded to an integral value in format `f`, of which it is. DENORMAL is raised where `denormals` (FRNDINT). */
export function toIntegral(e: Environment, f: Format, x: Real, denormals: boolean): bigint {
  const known = unrounded(e, f, x, denormals);
  if (known !== undefined) return known;
  if (x.exponent >= 0) return round(e, f, x.negative, x.significand, x.exponent);
  const magnitude = roundToInteger(e, x.negative, x.significand, x.exponent);
  const up = lastUp();
  if (lastInexact()) e.raise(PRECISION);
  const result = magnitude === 0n ? zero(f, x.negative) : round(e, f, x.negative, magnitude, 0);
  e.roundedUp = up;
  return result;
}
