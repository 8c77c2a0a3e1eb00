/**
 * What a floating-point operation depends on besides its operands, and what it reports besides its result.
 * SDM vol. 1 4.8.4 (rounding), 4.9 (exceptions), 8.1.5 (x87 control word), 10.2.3 (MXCSR).
 */

/** Exception flags, in the bit positions that the x87 status word and MXCSR share. */
export const INVALID = 1;
export const DENORMAL = 2;
export const ZERO_DIVIDE = 4;
export const OVERFLOW = 8;
export const UNDERFLOW = 16;
export const PRECISION = 32;
export const ALL_EXCEPTIONS = 63;
/** Exceptions that are found before a result is computed; unmasked, they keep it from being. */
export const BEFORE_RESULT = INVALID | DENORMAL | ZERO_DIVIDE;

/** Rounding control as the control registers encode it. */
export const NEAREST = 0;
export const DOWN = 1;
export const UP = 2;
export const TOWARD_ZERO = 3;
export type Rounding = 0 | 1 | 2 | 3;

/** Reused from operation to operation; `flags` and `roundedUp` are results, the rest are settings. */
export class Environment {
  rounding: Rounding = NEAREST;
  /** Exceptions that are masked, as flag bits. An unmasked underflow or overflow gives another result. */
  masks = ALL_EXCEPTIONS;
  denormalsAreZero = false;
  flushToZero = false;
  /** Rules of x87 rather than SSE: which NaN results, and results of unmasked overflow and underflow. */
  x87 = false;
  /** Exceptions raised, sticky. */
  flags = 0;
  /** The last result that was rounded was rounded away from zero (x87: C1). */
  roundedUp = false;

  raise(flags: number): void {
    this.flags |= flags;
  }

  /** An unmasked exception has been raised. */
  get trapped(): boolean {
    return (this.flags & ~this.masks) !== 0;
  }
}
