/** Operations that only x87 has: FSCALE, FXTRACT, FPREM and FPREM1, FBSTP's digits. SDM vol. 2A, by instruction. */
import { DENORMAL, type Environment, ZERO_DIVIDE } from './environment.ts';
import { bitLength, F80, FINITE, INFINITE, infinity, pack, type Real, ZERO, zero } from './format.ts';
import { invalid, nanOf, nanOf2, special } from './nan.ts';
import { round } from './round.ts';

/** Raises DENORMAL for a denormal; true if that is unmasked and the operation ends. */
function denormals(e: Environment, ...operands: readonly Real[]): boolean {
  if (!operands.some((x) => x.denormal)) return false;
  e.raise(DENORMAL);
  return (e.masks & DENORMAL) === 0;
}

/** Scales beyond this are all alike. */
const FAR = 1n << 17n;

/** FSCALE: x * 2^y, y cut to an integer. */
export function scale(e: Environment, x: Real, y: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, F80, x, y);
  if (y.kind === INFINITE && x.kind === (y.negative ? INFINITE : ZERO)) return invalid(e, F80);
  if (denormals(e, x, y)) return 0n;
  if (x.kind === INFINITE) return infinity(F80, x.negative);
  if (x.kind === ZERO) return zero(F80, x.negative);
  if (y.kind === INFINITE) return y.negative ? zero(F80, x.negative) : infinity(F80, x.negative);
  // Scaled by zero itself, not by a fraction that is cut to zero, a denormal raises no underflow, unmasked or not (measured).
  if (y.kind === ZERO && x.denormal) return denormalItself(x);
  let magnitude = 0n;
  if (y.kind === FINITE) {
    if (y.exponent > 20) magnitude = FAR;
    else if (y.exponent >= 0) magnitude = y.significand << BigInt(y.exponent);
    else magnitude = y.significand >> BigInt(-y.exponent);
    if (magnitude > FAR) magnitude = FAR;
  }
  const by = Number(y.negative ? -magnitude : magnitude);
  return round(e, F80, x.negative, x.significand, x.exponent + by);
}

/** FXTRACT: x as 2^exponent * significand. */
export function extract(e: Environment, x: Real): { exponent: bigint; significand: bigint } {
  if (special(x)) {
    const nan = nanOf(e, F80, x);
    return { exponent: nan, significand: nan };
  }
  if (x.kind === INFINITE) return { exponent: infinity(F80, false), significand: infinity(F80, x.negative) };
  if (x.kind === ZERO) {
    e.raise(ZERO_DIVIDE);
    return { exponent: infinity(F80, true), significand: zero(F80, x.negative) };
  }
  denormals(e, x);
  const length = bitLength(x.significand);
  const top = BigInt(x.exponent + length - 1);
  const exponent = top === 0n ? zero(F80, false) : round(e, F80, top < 0n, top < 0n ? -top : top, 0);
  return { exponent, significand: round(e, F80, x.negative, x.significand, 1 - length) };
}

/** A denormal as a result that is not looked at. A pseudo-denormal gets its exponent. */
function denormalItself({ negative, significand }: Real): bigint {
  return pack(F80, negative, Number(significand >> 63n), significand);
}

export interface Remainder {
  readonly result: bigint;
  /** Low bits of the quotient; meaningless of a partial remainder, undefined where there is none (NaNs, invalid operations). */
  readonly quotient: number | undefined;
  readonly partial: boolean;
}

/** x - quotient * y; partial where the exponents differ by 64 or more. `nearest`: FPREM1. */
export function partialRemainder(e: Environment, x: Real, y: Real, nearest: boolean): Remainder {
  const none = (result: bigint): Remainder => ({ result, quotient: undefined, partial: false });
  const whole = (result: bigint): Remainder => ({ result, quotient: 0, partial: false });
  if (special(x) || special(y)) return none(nanOf2(e, F80, x, y));
  if (x.kind === INFINITE || y.kind === ZERO) return none(invalid(e, F80));
  if (denormals(e, x, y)) return whole(0n);
  if (x.kind === ZERO) return whole(zero(F80, x.negative));
  // Nor does one that is divided by an infinity (measured).
  if (y.kind === INFINITE)
    return whole(x.denormal ? denormalItself(x) : round(e, F80, x.negative, x.significand, x.exponent));

  const difference = x.exponent + bitLength(x.significand) - (y.exponent + bitLength(y.significand));
  const partial = difference >= 64;
  // What is left of the difference after a partial reduction: measured.
  const step = partial ? difference - (32 + (difference & 31)) : 0;
  if (difference < -1) return whole(round(e, F80, x.negative, x.significand, x.exponent));
  const at = Math.min(x.exponent, y.exponent + step);
  const dividend = x.significand << BigInt(x.exponent - at);
  const divisor = y.significand << BigInt(y.exponent + step - at);
  let quotient = dividend / divisor;
  let rest = dividend - quotient * divisor;
  let negative = x.negative;
  if (nearest && !partial) {
    const twice = rest << 1n;
    if (twice > divisor || (twice === divisor && (quotient & 1n) === 1n)) {
      quotient++;
      rest = divisor - rest;
      negative = !negative;
    }
  }
  const result = rest === 0n ? zero(F80, x.negative) : round(e, F80, negative, rest, at);
  return { result, quotient: Number(quotient & 7n), partial };
}
