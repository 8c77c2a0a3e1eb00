/**
 * Rounding of an exact result to a format, with overflow, underflow and inexactness.
 * SDM vol. 1 4.8.4 (rounding), 4.9.1.4 to 4.9.1.6 (overflow, underflow, precision), 8.5.4, 8.5.5 (x87), 10.2.3.3 (FTZ).
 *
 * Tininess is detected after rounding: a result is tiny if, rounded with an unbounded exponent, it lies below the smallest
 * normal number.
 */
import {
  DOWN,
  type Environment,
  NEAREST,
  OVERFLOW,
  PRECISION,
  TOWARD_ZERO,
  UNDERFLOW,
  UP,
} from './environment.ts';
import { bitLength, type Format, infinity, largest, pack, zero } from './format.ts';

/** x87 results of unmasked overflow and underflow are scaled by 2^-24576 and 2^24576 (SDM vol. 1 8.5.4, 8.5.5). */
const SCALE = 24576;

let up = false;
let inexact = false;

/** `significand` / 2^`shift` as an integer, rounded; leaves `up` and `inexact`. */
function roundShift(e: Environment, negative: boolean, significand: bigint, shift: number): bigint {
  up = false;
  inexact = false;
  if (shift <= 0) return significand << BigInt(-shift);
  const count = BigInt(shift);
  const low = BigInt.asUintN(shift, significand);
  const quotient = significand >> count;
  if (low === 0n) return quotient;
  inexact = true;
  if (e.rounding === NEAREST) {
    const half = 1n << (count - 1n);
    up = low > half || (low === half && (quotient & 1n) === 1n);
  } else {
    up = e.rounding === (negative ? DOWN : UP);
  }
  return up ? quotient + 1n : quotient;
}

/** `value` * 2^`exponent` rounded to an integer; raises nothing: see {@link lastInexact}. */
export function roundToInteger(
  e: Environment,
  negative: boolean,
  significand: bigint,
  exponent: number,
): bigint {
  // Far below one, how far makes no difference.
  const length = bitLength(significand);
  if (exponent + length < -2) return roundShift(e, negative, 1n, 3);
  return roundShift(e, negative, significand, -exponent);
}

/** Whether the last {@link roundToInteger} was inexact, and whether it went away from zero. */
export function lastInexact(): boolean {
  return inexact;
}
export function lastUp(): boolean {
  return up;
}

/**
 * The encoding in `f` of the exact value `significand` * 2^`exponent` (significand positive), rounded as `e` says; raises
 * OVERFLOW, UNDERFLOW and PRECISION. A caller whose value is not exact gives at least f.precision + 2 bits, the last of which
 * is 1 in place of whatever lies below.
 */
export function round(
  e: Environment,
  f: Format,
  negative: boolean,
  significand: bigint,
  exponent: number,
): bigint {
  const top = exponent + bitLength(significand) - 1;
  const least = 1 - f.bias;
  let rounded = roundShift(e, negative, significand, top - (f.precision - 1) - exponent);
  let at = top;
  if (rounded >> BigInt(f.precision) !== 0n) {
    rounded >>= 1n;
    at++;
  }
  if (at > f.bias) return overflow(e, f, negative, rounded, at);
  if (at < least) {
    const masked = (e.masks & UNDERFLOW) !== 0;
    if (!masked) {
      e.raise(inexact ? UNDERFLOW | PRECISION : UNDERFLOW);
      e.roundedUp = up;
      if (f.bits === 80 && at + SCALE >= least) return pack(f, negative, at + SCALE + f.bias, rounded);
      return beyondScale(e, false, zero(f, negative));
    }
    if (e.flushToZero) {
      e.raise(UNDERFLOW | PRECISION);
      e.roundedUp = false;
      return zero(f, negative);
    }
    const quantum = least - (f.precision - 1);
    // A value far below the quantum is as good as an eighth of it.
    rounded =
      top < quantum - 3
        ? roundShift(e, negative, 1n, 3)
        : roundShift(e, negative, significand, quantum - exponent);
    if (inexact) e.raise(UNDERFLOW | PRECISION);
    e.roundedUp = up;
    return pack(f, negative, rounded >> BigInt(f.precision - 1) !== 0n ? 1 : 0, rounded);
  }
  if (inexact) e.raise(PRECISION);
  e.roundedUp = up;
  return pack(f, negative, at + f.bias, rounded);
}

/** Not even scaled does the result fit: that of FSCALE alone among x87 operations (and, with no such results, of SSE). */
function beyondScale(e: Environment, roundedUp: boolean, result: bigint): bigint {
  if (e.x87) {
    e.raise(PRECISION);
    e.roundedUp = roundedUp;
  }
  return result;
}

function overflow(e: Environment, f: Format, negative: boolean, rounded: bigint, at: number): bigint {
  if ((e.masks & OVERFLOW) === 0) {
    e.raise(inexact ? OVERFLOW | PRECISION : OVERFLOW);
    e.roundedUp = up;
    if (f.bits === 80 && at - SCALE <= f.bias) return pack(f, negative, at - SCALE + f.bias, rounded);
    return beyondScale(e, true, infinity(f, negative));
  }
  e.raise(OVERFLOW | PRECISION);
  const toLargest = e.rounding === TOWARD_ZERO || e.rounding === (negative ? UP : DOWN);
  e.roundedUp = !toLargest;
  return toLargest ? largest(f, negative) : infinity(f, negative);
}
