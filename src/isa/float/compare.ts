/**
 * Comparison, minimum and maximum. SDM vol. 1 8.3.6 (x87), 11.4.1.4 (SSE); vol. 2A "CMPPS", "COMISS", vol. 2B "MAXPS", "MINPS".
 */
import { DENORMAL, type Environment, INVALID } from './environment.ts';
import { bitLength, INFINITE, isNan, type Real, SIGNALING_NAN, UNSUPPORTED, ZERO } from './format.ts';

export const LESS = -1;
export const EQUAL = 0;
export const GREATER = 1;
export const UNORDERED = 2;
export type Relation = -1 | 0 | 1 | 2;

/** Order of two numbers; raises nothing. */
function order(x: Real, y: Real): -1 | 0 | 1 {
  const sx = x.kind === ZERO ? 0 : x.negative ? -1 : 1;
  const sy = y.kind === ZERO ? 0 : y.negative ? -1 : 1;
  if (sx !== sy) return sx < sy ? LESS : GREATER;
  if (sx === 0) return EQUAL;
  const magnitude = orderOfMagnitudes(x, y);
  return (sx > 0 ? magnitude : -magnitude) as -1 | 0 | 1;
}

function orderOfMagnitudes(x: Real, y: Real): -1 | 0 | 1 {
  if (x.kind === INFINITE || y.kind === INFINITE) {
    if (x.kind === y.kind) return EQUAL;
    return x.kind === INFINITE ? GREATER : LESS;
  }
  const tx = x.exponent + bitLength(x.significand);
  const ty = y.exponent + bitLength(y.significand);
  if (tx !== ty) return tx < ty ? LESS : GREATER;
  const shift = x.exponent - y.exponent;
  const mx = shift > 0 ? x.significand << BigInt(shift) : x.significand;
  const my = shift < 0 ? y.significand << BigInt(-shift) : y.significand;
  return mx < my ? LESS : mx > my ? GREATER : EQUAL;
}

/**
 * The relation of x to y. NaNs raise INVALID if `signaling` or if one is signaling; unsupported encodings always;
 * otherwise denormals raise DENORMAL.
 */
export function compare(e: Environment, x: Real, y: Real, signaling: boolean): Relation {
  if (x.kind === UNSUPPORTED || y.kind === UNSUPPORTED) {
    e.raise(INVALID);
    return UNORDERED;
  }
  if (isNan(x) || isNan(y)) {
    if (signaling || x.kind === SIGNALING_NAN || y.kind === SIGNALING_NAN) e.raise(INVALID);
    return UNORDERED;
  }
  if (x.denormal || y.denormal) e.raise(DENORMAL);
  return order(x, y);
}

/** Whether MIN (or MAX) takes the first operand: only if it is less (greater); the second for NaNs and two zeros. */
export function takesFirst(e: Environment, x: Real, y: Real, maximum: boolean): boolean {
  return compare(e, x, y, true) === (maximum ? GREATER : LESS);
}
