/**
 * x87 transcendental functions. SDM vol. 1 8.3.8 (pi), 8.3.9 (logarithms and exponentials), 8.3.10 (accuracy); vol. 2A by
 * instruction.
 *
 * Each is computed to far more bits than a result has and rounded once, as the rounding control says: the manual promises an
 * error below one unit in the last place, and silicon's results are nearly always those. As on silicon PRECISION is raised even
 * where the result happens to be exact, and arguments out of range come back as they are (measured).
 *
 * Angles are reduced by a pi of 66 bits, as the processor does it.
 */

import { integerSquareRoot } from './arithmetic.ts';
import { LN2, PI, type WideConstant } from './constants.ts';
import { DENORMAL, type Environment, PRECISION, UNDERFLOW, ZERO_DIVIDE } from './environment.ts';
import { bitLength, F80, FINITE, INFINITE, infinity, type Real, real, ZERO, zero } from './format.ts';
import { invalid, nanOf, nanOf2, special } from './nan.ts';
import { round } from './round.ts';

/** Fraction bits of fixed-point numbers here. */
const FRACTION = 224;
const SHIFT = BigInt(FRACTION);
const ONE = 1n << SHIFT;

/** A signed number in parts: `m` * 2^`e`. */
interface Wide {
  readonly m: bigint;
  readonly e: number;
}

function wide({ significand, exponent }: WideConstant): Wide {
  return { m: significand, e: exponent };
}

function wideOf(x: Real): Wide {
  return { m: x.negative ? -x.significand : x.significand, e: x.exponent };
}

const magnitude = (x: bigint): bigint => (x < 0n ? -x : x);

/** As many leading bits as matter. */
function trimmed({ m, e }: Wide): Wide {
  if (m === 0n) return { m, e };
  const excess = bitLength(magnitude(m)) - 260;
  return excess > 0 ? { m: m >> BigInt(excess), e: e + excess } : { m, e };
}

function times(x: Wide, y: Wide): Wide {
  return trimmed({ m: x.m * y.m, e: x.e + y.e });
}

function quotient(x: Wide, y: Wide): Wide {
  const shift = Math.max(0, 260 + bitLength(magnitude(y.m)) - bitLength(magnitude(x.m)));
  return { m: (x.m << BigInt(shift)) / y.m, e: x.e - shift - y.e };
}

/** In fixed point; must be of moderate size. */
function fixed({ m, e }: Wide): bigint {
  const shift = e + FRACTION;
  if (shift >= 0) return m << BigInt(shift);
  return shift < -2000 ? 0n : m >> BigInt(-shift);
}

const fromFixed = (m: bigint): Wide => ({ m, e: -FRACTION });

/** The exponent of the leading bit. */
function topOf(x: Wide): number {
  return x.m === 0n ? Number.NEGATIVE_INFINITY : x.e + bitLength(magnitude(x.m)) - 1;
}

/** Rounds an inexact result to the extended format. */
function finish(e: Environment, x: Wide): bigint {
  const { m, e: exponent } = trimmed(x);
  return round(e, F80, m < 0n, (magnitude(m) << 1n) | 1n, exponent - 1);
}

/** An exact result, of which PRECISION (and with it UNDERFLOW) is told all the same. */
function exact(e: Environment, negative: boolean, significand: bigint, exponent: number): bigint {
  const result = round(e, F80, negative, significand, exponent);
  const tiny = ((result >> 64n) & 0x7fffn) === 0n;
  e.raise(tiny ? UNDERFLOW | PRECISION : PRECISION);
  return result;
}

/** Raises DENORMAL for a denormal; true if that is unmasked and the operation ends. */
function denormals(e: Environment, ...operands: readonly Real[]): boolean {
  if (!operands.some((x) => x.denormal)) return false;
  e.raise(DENORMAL);
  return (e.masks & DENORMAL) === 0;
}

/** The processor's ln 2, 66 bits long: times 2^66. */
const LN2_66 = 0x2_c5c8_5fdf_473d_e6afn;
const LN2_EXPONENT = -66;

/** Toward zero to `bits` significant bits. */
function cut({ m, e }: Wide, bits: number): Wide {
  const excess = BigInt(Math.max(0, bitLength(magnitude(m)) - bits));
  const kept = magnitude(m) >> excess;
  return { m: m < 0n ? -kept : kept, e: e + Number(excess) };
}

/**
 * F2XM1: 2^x - 1, for x of -1 to 1.
 *
 * Below 1/4 the processor multiplies by its ln 2 and cuts the product to 67 bits (measured): with that, results and C1 are
 * silicon's below 2^-11, and most are above.
 */
export function powerMinusOne(e: Environment, x: Real): bigint {
  if (special(x)) return nanOf(e, F80, x);
  e.roundedUp = false;
  if (x.kind === ZERO) return zero(F80, x.negative);
  if (x.kind === INFINITE) return x.negative ? MINUS_ONE : infinity(F80, false);
  if (denormals(e, x)) return 0n;
  const top = topOf(wideOf(x));
  // Beyond its range the instruction leaves its operand as it is (measured).
  if (top >= 0) {
    if (top === 0 && isPowerOfTwo(x) && x.negative) {
      e.raise(PRECISION);
      return MINUS_HALF;
    }
    return exact(e, x.negative, x.significand, x.exponent);
  }
  // (e^z - 1) / z = 1 + z/2 + z^2/6 + ..., beyond 1 too little to be of any consequence below 2^-68.
  const product: Wide = { m: wideOf(x).m * LN2_66, e: x.exponent + LN2_EXPONENT };
  if (top < -68) return finish(e, product);
  const z = top < -2 ? cut(product, 67) : times(wideOf(x), wide(LN2));
  const step = fixed(z);
  let term = ONE;
  let sum = ONE;
  for (let n = 2n; term !== 0n && term !== -1n; n++) {
    term = ((term * step) >> SHIFT) / n;
    sum += term;
  }
  return finish(e, times(z, fromFixed(sum)));
}

const PLUS_ONE = 0x3fff_8000_0000_0000_0000n;
const MINUS_ONE = 0xbfff_8000_0000_0000_0000n;
const MINUS_HALF = 0xbffe_8000_0000_0000_0000n;

/** atanh(u) = u (1 + u^2/3 + u^4/5 + ...), |u| below a quarter. */
function inverseHyperbolicTangent(u: Wide): Wide {
  const square = fixed(times(u, u));
  let power = ONE;
  let sum = ONE;
  for (let n = 3n; power > 0n; n += 2n) {
    power = (power * square) >> SHIFT;
    sum += power / n;
  }
  return times(u, fromFixed(sum));
}

/** log2 of a positive number other than a power of two. */
function logarithm(x: Real): Wide {
  const length = bitLength(x.significand);
  let k = x.exponent + length - 1;
  let m: Wide = { m: x.significand, e: 1 - length };
  // To between the square roots of 1/2 and 2, or thereabouts.
  if (fixed(m) > ONE + (ONE * 2n) / 5n) {
    m = { m: m.m, e: m.e - 1 };
    k++;
  }
  const exact = { m: m.m - (1n << BigInt(-m.e)), e: m.e };
  const sum = { m: m.m + (1n << BigInt(-m.e)), e: m.e };
  const fraction = quotient(
    times(inverseHyperbolicTangent(quotient(exact, sum)), { m: 2n, e: 0 }),
    wide(LN2),
  );
  return k === 0 ? fraction : fromFixed((BigInt(k) << SHIFT) + fixed(fraction));
}

function isPowerOfTwo(x: Real): boolean {
  return x.significand === 1n << BigInt(bitLength(x.significand) - 1);
}

/** FYL2X: y * log2 x. */
export function logarithmTimes(e: Environment, x: Real, y: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, F80, x, y);
  e.roundedUp = false;
  if (x.kind !== ZERO && x.negative) return invalid(e, F80);
  if (x.kind === ZERO) {
    if (y.kind === ZERO) return invalid(e, F80);
    if (y.kind === INFINITE) return infinity(F80, !y.negative);
    e.raise(ZERO_DIVIDE);
    return infinity(F80, !y.negative);
  }
  const one = x.kind === FINITE && isPowerOfTwo(x) && topOf(wideOf(x)) === 0;
  if (x.kind === INFINITE) {
    if (y.kind === ZERO) return invalid(e, F80);
    if (denormals(e, y)) return 0n;
    return infinity(F80, y.negative);
  }
  const negativeLog = topOf(wideOf(x)) < 0;
  if (y.kind === INFINITE) {
    if (one) return invalid(e, F80);
    if (denormals(e, x)) return 0n;
    return infinity(F80, y.negative !== negativeLog);
  }
  if (denormals(e, x, y)) return 0n;
  if (one) return zero(F80, y.negative);
  if (y.kind === ZERO) return zero(F80, y.negative !== negativeLog);
  if (isPowerOfTwo(x)) {
    const k = BigInt(topOf(wideOf(x)));
    return exact(e, y.negative !== k < 0n, y.significand * magnitude(k), y.exponent);
  }
  return finish(e, times(logarithm(x), wideOf(y)));
}

/** FYL2XP1: y * log2(x + 1), for |x| below 1 - sqrt(1/2). */
export function logarithmPlusOneTimes(e: Environment, x: Real, y: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, F80, x, y);
  e.roundedUp = false;
  const negative = x.negative !== y.negative;
  if (x.kind === INFINITE) {
    if (x.negative || y.kind === ZERO) return invalid(e, F80);
    if (denormals(e, y)) return 0n;
    return infinity(F80, negative);
  }
  if (y.kind === INFINITE) {
    if (x.kind === ZERO) return invalid(e, F80);
    if (denormals(e, x)) return 0n;
    return infinity(F80, negative);
  }
  if (denormals(e, x, y)) return 0n;
  if (x.kind === ZERO || y.kind === ZERO) return zero(F80, negative);
  const argument = wideOf(x);
  if (x.negative && topOf(argument) >= 0) return exact(e, true, x.significand, x.exponent);
  if (topOf(argument) >= -1) {
    // Out of its range, but not without meaning.
    if (topOf(argument) > 200)
      return finish(e, times(logarithm({ ...x, significand: x.significand | 1n }), wideOf(y)));
    const shift = Math.max(0, -x.exponent);
    const sum = (1n << BigInt(shift)) + (argument.m << BigInt(x.exponent + shift));
    const whole = real(FINITE, false, -shift, sum);
    if (isPowerOfTwo(whole)) {
      const k = BigInt(topOf(wideOf(whole)));
      if (k === 0n) return zero(F80, negative);
      return exact(e, y.negative !== k < 0n, y.significand * magnitude(k), y.exponent);
    }
    return finish(e, times(logarithm(whole), wideOf(y)));
  }
  // u = x / (x + 2); below 2^-300 the sum is 2.
  const tiny = topOf(argument) < -300;
  const at = Math.min(x.exponent, 0);
  const u = tiny
    ? { m: argument.m, e: argument.e - 1 }
    : quotient(argument, { m: (argument.m << BigInt(x.exponent - at)) + (2n << BigInt(-at)), e: at });
  const log = quotient(times(inverseHyperbolicTangent(u), { m: 2n, e: 0 }), wide(LN2));
  return finish(e, times(log, wideOf(y)));
}

/** arctan t for a positive t of at most 1. */
function arcTangent(t: Wide): Wide {
  let u = t;
  let doublings = 0;
  // atan t = 2 atan(t / (1 + sqrt(1 + t^2))): until the series is short.
  while (topOf(u) > -8) {
    const f = fixed(u);
    const root = integerSquareRoot((ONE + ((f * f) >> SHIFT)) << SHIFT);
    u = fromFixed((f << SHIFT) / (ONE + root));
    doublings++;
  }
  const square = fixed(times(u, u));
  let power = ONE;
  let sum = ONE;
  for (let n = 3n; power > 0n; n += 2n) {
    power = (power * square) >> SHIFT;
    sum += n % 4n === 3n ? -(power / n) : power / n;
  }
  const result = times(u, fromFixed(sum));
  return { m: result.m, e: result.e + doublings };
}

/** `quarters` * pi / 4. */
function piQuarters(quarters: bigint): Wide {
  return { m: PI.significand * quarters, e: PI.exponent - 2 };
}

/** FPATAN: the angle of the point (x, y). */
export function arcTangentOf(e: Environment, y: Real, x: Real): bigint {
  if (special(x) || special(y)) return nanOf2(e, F80, x, y);
  e.roundedUp = false;
  const signed = (value: Wide): bigint => finish(e, y.negative ? { m: -value.m, e: value.e } : value);
  if (y.kind === INFINITE || x.kind === INFINITE) {
    if (denormals(e, x, y)) return 0n;
    if (y.kind !== INFINITE) return x.negative ? signed(piQuarters(4n)) : zero(F80, y.negative);
    if (x.kind !== INFINITE) return signed(piQuarters(2n));
    return signed(piQuarters(x.negative ? 3n : 1n));
  }
  if (denormals(e, x, y)) return 0n;
  if (y.kind === ZERO) return x.negative ? signed(piQuarters(4n)) : zero(F80, y.negative);
  if (x.kind === ZERO) return signed(piQuarters(2n));
  const ax: Wide = { m: x.significand, e: x.exponent };
  const ay: Wide = { m: y.significand, e: y.exponent };
  const difference = topOf(ay) - topOf(ax);
  if (difference < -300 && x.negative) return signed({ m: PI.significand - 1n, e: PI.exponent });
  if (difference > 300) return signed({ m: PI.significand + (x.negative ? 1n : -1n), e: PI.exponent - 1 });
  const ratio = quotient(ay, ax);
  // The quotient itself, exact, when it is so small that the arc is no different.
  if (topOf(ratio) < -150 && !x.negative) {
    const below = { m: (ratio.m << 1n) - 1n, e: ratio.e - 1 };
    return signed(below);
  }
  const steep = topOf(ratio) >= 0;
  let angle = fixed(arcTangent(steep ? quotient(ax, ay) : ratio));
  if (!steep && !x.negative) return signed(arcTangent(ratio));
  const halfPi = fixed(piQuarters(2n));
  if (steep) angle = halfPi - angle;
  if (x.negative) angle = 2n * halfPi - angle;
  return signed(fromFixed(angle));
}

/** Half of the processor's pi, 66 bits long: times 2^67. */
const HALF_PI_66 = 0xc90f_daa2_2168_c234_cn;
const HALF_PI_EXPONENT = -67;

/** An angle less a multiple of pi/2, at most pi/4 (more or less) from zero, and which quadrant that was. */
function reduce(x: Real): { angle: Wide; quadrant: number } {
  const angle = wideOf(x);
  if (topOf(angle) < -1) return { angle, quadrant: 0 };
  const at = Math.min(x.exponent, HALF_PI_EXPONENT);
  const dividend = angle.m << BigInt(x.exponent - at);
  const divisor = HALF_PI_66 << BigInt(HALF_PI_EXPONENT - at);
  const size = magnitude(dividend);
  let quadrant = size / divisor;
  if ((size - quadrant * divisor) * 2n > divisor) quadrant++;
  if (dividend < 0n) quadrant = -quadrant;
  return {
    angle: { m: dividend - quadrant * divisor, e: at },
    quadrant: Number(BigInt.asUintN(2, quadrant)),
  };
}

/** Sine of a reduced angle. */
function sineOf(angle: Wide): Wide {
  const square = fixed(times(angle, angle));
  let term = ONE;
  let sum = ONE;
  for (let n = 2n; term !== 0n; n += 2n) {
    term = -((term * square) >> SHIFT) / (n * (n + 1n));
    sum += term;
    if (magnitude(term) <= 1n) break;
  }
  return times(angle, fromFixed(sum));
}

function cosineOf(angle: Wide): Wide {
  const square = fixed(times(angle, angle));
  let term = ONE;
  let sum = ONE;
  for (let n = 1n; term !== 0n; n += 2n) {
    term = -((term * square) >> SHIFT) / (n * (n + 1n));
    sum += term;
    if (magnitude(term) <= 1n) break;
  }
  return fromFixed(sum);
}

const minus = ({ m, e }: Wide): Wide => ({ m: -m, e });

/** Sine and cosine of x, as FSIN, FCOS and FSINCOS give them; undefined if |x| is 2^63 or more. */
export interface Trigonometry {
  readonly sine: bigint;
  readonly cosine: bigint;
}

/** What precedes: the result for what is not a finite nonzero number within range, or the number's parts. */
function prepare(e: Environment, x: Real): bigint | 'far' | null {
  if (special(x)) return nanOf(e, F80, x);
  e.roundedUp = false;
  if (x.kind === INFINITE) return invalid(e, F80);
  if (x.kind === FINITE && topOf(wideOf(x)) >= 63) return 'far';
  if (denormals(e, x)) return 0n;
  return null;
}

/** FSIN; undefined: out of range. */
export function sine(e: Environment, x: Real): bigint | undefined {
  const early = prepare(e, x);
  if (early !== null) return early === 'far' ? undefined : early;
  if (x.kind === ZERO) return zero(F80, x.negative);
  if (isTiny(x)) return exact(e, x.negative, x.significand, x.exponent);
  return finish(e, sines(x).sine);
}

/** FCOS. */
export function cosine(e: Environment, x: Real): bigint | undefined {
  const early = prepare(e, x);
  if (early !== null) return early === 'far' ? undefined : early;
  if (x.kind === ZERO) return PLUS_ONE;
  if (isTiny(x)) return exact(e, false, 1n, 0);
  return finish(e, sines(x).cosine);
}

/** FSINCOS. */
export function sineAndCosine(e: Environment, x: Real): Trigonometry | undefined {
  const early = prepare(e, x);
  if (early !== null) return early === 'far' ? undefined : { sine: early, cosine: early };
  if (x.kind === ZERO) return { sine: zero(F80, x.negative), cosine: PLUS_ONE };
  if (isTiny(x)) {
    return { sine: exact(e, x.negative, x.significand, x.exponent), cosine: exact(e, false, 1n, 0) };
  }
  const both = sines(x);
  const result = { sine: finish(e, both.sine), cosine: finish(e, both.cosine) };
  return result;
}

/** FPTAN. */
export function tangent(e: Environment, x: Real): bigint | undefined {
  const early = prepare(e, x);
  if (early !== null) return early === 'far' ? undefined : early;
  if (x.kind === ZERO) return zero(F80, x.negative);
  if (isTiny(x)) return exact(e, x.negative, x.significand, x.exponent);
  const both = sines(x);
  return finish(e, quotient(both.sine, both.cosine));
}

/** So small an angle that it is its sine and tangent, and 1 its cosine, whatever the rounding (measured). */
function isTiny(x: Real): boolean {
  return topOf(wideOf(x)) < -100;
}

function sines(x: Real): { sine: Wide; cosine: Wide } {
  const { angle, quadrant } = reduce(x);
  const s = sineOf(angle);
  const c = cosineOf(angle);
  switch (quadrant) {
    case 0:
      return { sine: s, cosine: c };
    case 1:
      return { sine: c, cosine: minus(s) };
    case 2:
      return { sine: minus(s), cosine: minus(c) };
    default:
      return { sine: minus(c), cosine: s };
  }
}
