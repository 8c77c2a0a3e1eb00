/**
 * RCPSS and RSQRTSS: approximations with an error of at most 1.5 * 2^-12, which raise nothing and heed neither rounding nor DAZ
 * nor FTZ. SDM vol. 2B "RCPPS", "RSQRTPS".
 *
 * The manual leaves the values open; these are, bit for bit, those of Intel processors: of the middle of the interval that the
 * argument's leading bits (11 of the fraction; 10, with an even exponent) stand for, rounded to 13 bits.
 */
const SIGN = 0x8000_0000;
const INFINITY = 0x7f80_0000;
const QUIET = 0x0040_0000;
const INDEFINITE = 0xffc0_0000;

const isNan = (x: number): boolean => (x & 0x7fff_ffff) > INFINITY;

/** Encodes `n` * 2^(exponent - 13), n of 13 bits; flushed to zero below the normal numbers. */
function encode(sign: number, n: number, exponent: number): number {
  const biased = exponent + 126;
  if (biased < 1) return sign >>> 0;
  return (sign | (biased << 23) | ((n & 0xfff) << 11)) >>> 0;
}

/** An approximation of 1 / x; encodings of f32, unsigned. */
export function approximateReciprocal(x: number): number {
  if (isNan(x)) return (x | QUIET) >>> 0;
  const sign = x & SIGN;
  const biased = (x >>> 23) & 0xff;
  if (biased === 0) return (sign | INFINITY) >>> 0;
  if (biased === 255) return sign >>> 0;
  const middle = 1 + (2 * ((x >>> 12) & 0x7ff) + 1) / 4096;
  return encode(sign, Math.round(8192 / middle), 127 - biased);
}

/** An approximation of 1 / sqrt(x). */
export function approximateReciprocalRoot(x: number): number {
  if (isNan(x)) return (x | QUIET) >>> 0;
  const biased = (x >>> 23) & 0xff;
  if (biased === 0) return ((x & SIGN) | INFINITY) >>> 0;
  if (x & SIGN) return INDEFINITE;
  if (biased === 255) return 0;
  const odd = (biased - 127) & 1;
  const middle = (1 + (2 * ((x >>> 13) & 0x3ff) + 1) / 2048) * (odd ? 2 : 1);
  return encode(0, Math.round(8192 / Math.sqrt(middle)), -((biased - 127 - odd) / 2));
}
