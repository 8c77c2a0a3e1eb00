/**
 * Results of operations on NaNs, and of invalid operations. SDM vol. 1 4.8.3.5 (table 4-7), 4.8.3.7, 8.5.1.
 */
import { type Environment, INVALID } from './environment.ts';
import {
  type Format,
  indefinite,
  isNan,
  packNan,
  QUIET_NAN,
  type Real,
  SIGNALING_NAN,
  UNSUPPORTED,
} from './format.ts';

/** An invalid operation: raises INVALID; the indefinite. */
export function invalid(e: Environment, f: Format): bigint {
  e.raise(INVALID);
  e.roundedUp = false;
  return indefinite(f);
}

/** Neither is a number that can be computed with. */
export function special(x: Real): boolean {
  return x.kind >= QUIET_NAN;
}

/** The result of an operation on one NaN or unsupported encoding. */
export function nanOf(e: Environment, f: Format, x: Real): bigint {
  if (x.kind === UNSUPPORTED) return invalid(e, f);
  if (x.kind === SIGNALING_NAN) e.raise(INVALID);
  e.roundedUp = false;
  return packNan(f, x);
}

/** x87: the quiet one of a quiet and a signaling NaN, else that of the larger significand, else the positive one. */
function larger(x: Real, y: Real): Real {
  if (!isNan(x)) return y;
  if (!isNan(y)) return x;
  if (x.kind !== y.kind) return x.kind === QUIET_NAN ? x : y;
  if (x.significand !== y.significand) return x.significand > y.significand ? x : y;
  return x.negative ? y : x;
}

/** The result of an operation on two operands of which one at least is {@link special}. */
export function nanOf2(e: Environment, f: Format, x: Real, y: Real): bigint {
  if (x.kind === UNSUPPORTED || y.kind === UNSUPPORTED) return invalid(e, f);
  if (x.kind === SIGNALING_NAN || y.kind === SIGNALING_NAN) e.raise(INVALID);
  e.roundedUp = false;
  return packNan(f, e.x87 ? larger(x, y) : isNan(x) ? x : y);
}
