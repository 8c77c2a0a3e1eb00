/**
 * The binary floating-point formats, and numbers taken out of them.
 * SDM vol. 1 4.2.2 (formats, table 4-3), 4.8.3 (encodings), 8.2 (x87 double extended), IEEE 754-2019 3.4.
 */

export interface Format {
  /** Width of an encoding. */
  readonly bits: number;
  /** Bits of a significand, the integer bit included. */
  readonly precision: number;
  readonly exponentBits: number;
  /** Bias of the exponent, which is also the largest exponent; the smallest of a normal number is 1 - bias. */
  readonly bias: number;
  /** Bits of the significand field; 64 of the extended format, whose integer bit is stored, whatever the precision. */
  readonly fieldBits: number;
}

export const F16: Format = { bits: 16, precision: 11, exponentBits: 5, bias: 15, fieldBits: 10 };
export const F32: Format = { bits: 32, precision: 24, exponentBits: 8, bias: 127, fieldBits: 23 };
export const F64: Format = { bits: 64, precision: 53, exponentBits: 11, bias: 1023, fieldBits: 52 };
export const F80: Format = { bits: 80, precision: 64, exponentBits: 15, bias: 16383, fieldBits: 64 };

/** The extended format with fewer significant bits: results under x87 precision control (SDM vol. 1 8.1.5.2). */
export const F80_SINGLE: Format = { ...F80, precision: 24 };
export const F80_DOUBLE: Format = { ...F80, precision: 53 };

/** Kinds of {@link Real}. */
export const ZERO = 0;
export const FINITE = 1;
export const INFINITE = 2;
export const QUIET_NAN = 3;
export const SIGNALING_NAN = 4;
/** Encodings of the extended format that are none: unnormals, pseudo-infinities, pseudo-NaNs. */
export const UNSUPPORTED = 5;
export type Kind = 0 | 1 | 2 | 3 | 4 | 5;

/**
 * A number out of any format. FINITE: `significand` * 2^`exponent`, the significand positive, of any length. NaNs: the
 * significand is that of the extended format (integer bit 63, quiet bit 62).
 */
export interface Real {
  readonly kind: Kind;
  readonly negative: boolean;
  readonly exponent: number;
  readonly significand: bigint;
  /** It was encoded as a denormal (or pseudo-denormal). */
  readonly denormal: boolean;
}

const INTEGER_BIT = 1n << 63n;
const QUIET_BIT = 1n << 62n;

export function real(kind: Kind, negative: boolean, exponent = 0, significand = 0n, denormal = false): Real {
  return { kind, negative, exponent, significand, denormal };
}

export function isNan(x: Real): boolean {
  return x.kind === QUIET_NAN || x.kind === SIGNALING_NAN;
}

function exponentMask(f: Format): number {
  return (1 << f.exponentBits) - 1;
}

/** Takes an encoding apart; `bits` is unsigned, below 2^f.bits. */
export function unpack(f: Format, bits: bigint): Real {
  const negative = bits >> BigInt(f.bits - 1) !== 0n;
  const field = BigInt.asUintN(f.fieldBits, bits);
  const biased = Number(bits >> BigInt(f.fieldBits)) & exponentMask(f);
  if (f.bits === 80) return unpackExtended(negative, biased, field);
  const fraction = f.precision - 1;
  if (biased === 0) {
    if (field === 0n) return real(ZERO, negative);
    return real(FINITE, negative, 1 - f.bias - fraction, field, true);
  }
  if (biased === exponentMask(f)) {
    if (field === 0n) return real(INFINITE, negative);
    const significand = INTEGER_BIT | (field << BigInt(63 - fraction));
    return real(significand & QUIET_BIT ? QUIET_NAN : SIGNALING_NAN, negative, 0, significand);
  }
  return real(FINITE, negative, biased - f.bias - fraction, field | (1n << BigInt(fraction)));
}

function unpackExtended(negative: boolean, biased: number, field: bigint): Real {
  if (biased === 0) {
    if (field === 0n) return real(ZERO, negative);
    return real(FINITE, negative, 1 - F80.bias - 63, field, true);
  }
  if ((field & INTEGER_BIT) === 0n) return real(UNSUPPORTED, negative, 0, field);
  if (biased === 0x7fff) {
    if (field === INTEGER_BIT) return real(INFINITE, negative);
    return real(field & QUIET_BIT ? QUIET_NAN : SIGNALING_NAN, negative, 0, field);
  }
  return real(FINITE, negative, biased - F80.bias - 63, field);
}

/** Puts an encoding together: `significand` of f.precision bits, without its top bit only for a biased exponent of 0. */
export function pack(f: Format, negative: boolean, biased: number, significand: bigint): bigint {
  const field =
    f.fieldBits === 64
      ? significand << BigInt(64 - f.precision)
      : BigInt.asUintN(f.precision - 1, significand);
  const top = BigInt(((negative ? 1 : 0) << f.exponentBits) | biased);
  return (top << BigInt(f.fieldBits)) | field;
}

export function zero(f: Format, negative: boolean): bigint {
  return pack(f, negative, 0, 0n);
}

export function infinity(f: Format, negative: boolean): bigint {
  return pack(f, negative, exponentMask(f), 1n << BigInt(f.precision - 1));
}

/** The largest finite number. */
export function largest(f: Format, negative: boolean): bigint {
  return pack(f, negative, exponentMask(f) - 1, (1n << BigInt(f.precision)) - 1n);
}

/** The real indefinite, which masked invalid operations give (SDM vol. 1 4.8.3.7). */
export function indefinite(f: Format): bigint {
  return pack(f, true, exponentMask(f), 3n << BigInt(f.precision - 2));
}

/** A NaN in format `f`, quieted; low bits of its significand that do not fit are lost. */
export function packNan(f: Format, nan: Real): bigint {
  const field = (nan.significand | QUIET_BIT) >> BigInt(64 - (f.fieldBits === 64 ? 64 : f.precision));
  const top = BigInt(((nan.negative ? 1 : 0) << f.exponentBits) | exponentMask(f));
  return (top << BigInt(f.fieldBits)) | BigInt.asUintN(f.fieldBits, field);
}

const double = new Float64Array(1);
const doubleHalves = new Uint32Array(double.buffer);

/** Number of significant bits of `x`, which is positive and below 2^1000. */
export function bitLength(x: bigint): number {
  // Conversion may round up to the next power of two, but no further.
  double[0] = Number(x);
  const length = ((doubleHalves[1] >>> 20) & 0x7ff) - 1022;
  return x >> BigInt(length - 1) === 0n ? length - 1 : length;
}
