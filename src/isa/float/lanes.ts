/**
 * SSE, FMA and F16C operations on one element of a vector: encodings in, encoding out.
 * SDM vol. 1 11.4.1 (SSE2 arithmetic), 14.4 (F16C), 14.5 (FMA); vol. 2 by instruction.
 *
 * The environment is MXCSR's; its flags collect what the element raises.
 */
import {
  add,
  divide,
  fusedMultiplyAdd,
  multiply,
  negated,
  operand,
  squareRoot,
  subtract,
} from './arithmetic.ts';
import { compare, takesFirst } from './compare.ts';
import { convert, fromInteger, toInteger, toIntegral } from './convert.ts';
import { type Environment, PRECISION, type Rounding, TOWARD_ZERO, UNDERFLOW } from './environment.ts';
import { F16, F32, type Format, isNan, pack, unpack } from './format.ts';

/** One element of an operation with up to three operands, in one format. */
export type LaneOperation = (e: Environment, f: Format, x: bigint, y: bigint, z: bigint) => bigint;

/** A denormal that DAZ makes a zero, as an encoding. */
function flushed(e: Environment, f: Format, bits: bigint): bigint {
  if (!e.denormalsAreZero || !unpack(f, bits).denormal) return bits;
  return pack(f, bits >> BigInt(f.bits - 1) !== 0n, 0, 0n);
}

function extremum(maximum: boolean): LaneOperation {
  return (e, f, x, y) => flushed(e, f, takesFirst(e, operand(e, f, x), operand(e, f, y), maximum) ? x : y);
}

/** FMA: the product's sign and the addend's may be turned. A NaN keeps its sign. */
function fused(negateProduct: boolean, negateAddend: boolean): LaneOperation {
  return (e, f, x, y, z) => {
    const a = operand(e, f, x);
    const c = operand(e, f, z);
    return fusedMultiplyAdd(
      e,
      f,
      negateProduct && !isNan(a) ? negated(a) : a,
      operand(e, f, y),
      negateAddend && !isNan(c) ? negated(c) : c,
    );
  };
}

export const laneOperations = {
  add: (e, f, x, y) => add(e, f, operand(e, f, x), operand(e, f, y)),
  sub: (e, f, x, y) => subtract(e, f, operand(e, f, x), operand(e, f, y)),
  mul: (e, f, x, y) => multiply(e, f, operand(e, f, x), operand(e, f, y)),
  div: (e, f, x, y) => divide(e, f, operand(e, f, x), operand(e, f, y)),
  min: extremum(false),
  max: extremum(true),
  sqrt: (e, f, x) => squareRoot(e, f, operand(e, f, x)),
  fmadd: fused(false, false),
  fmsub: fused(false, true),
  fnmadd: fused(true, false),
  fnmsub: fused(true, true),
} as const satisfies Record<string, LaneOperation>;

/** Which operands of an FMA form are multiplied and which is added: 132 is first * third + second. */
export type FusedOrder = '132' | '213' | '231';
export type FusedName = 'fmadd' | 'fmsub' | 'fnmadd' | 'fnmsub';

/** FMA form `name` and `order` of the first, second and third operands. */
export function fma(
  e: Environment,
  f: Format,
  name: FusedName,
  order: FusedOrder,
  first: bigint,
  second: bigint,
  third: bigint,
): bigint {
  const operation = laneOperations[name];
  if (order === '132') return operation(e, f, first, third, second);
  if (order === '213') return operation(e, f, second, first, third);
  return operation(e, f, second, third, first);
}

/** The relations that predicates 0 to 15 are true for: LESS, EQUAL, GREATER, UNORDERED from bit 0. */
const TRUE_FOR = [2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15] as const;
/** Predicates (of 0 to 15) for which quiet NaNs raise INVALID; 16 to 31 are the other way round. */
const SIGNALING = 0b0110_0110_0110_0110;

/** Comparison predicate `predicate` (SSE 0 to 7, AVX 0 to 31: SDM vol. 2A table 3-1) of x and y. */
export function comparePredicate(
  e: Environment,
  f: Format,
  x: bigint,
  y: bigint,
  predicate: number,
): boolean {
  const low = predicate & 15;
  const signaling = ((SIGNALING >> low) & 1) !== ((predicate >> 4) & 1);
  const relation = compare(e, operand(e, f, x), operand(e, f, y), signaling);
  return ((TRUE_FOR[low] >> (relation + 1)) & 1) !== 0;
}

/** CVTSS2SD, CVTSD2SS and their packed forms. */
export function convertLane(e: Environment, from: Format, to: Format, x: bigint): bigint {
  return convert(e, to, operand(e, from, x), true);
}

/** VCVTPH2PS: half-precision denormals are never taken for zero, and raise nothing. */
export function fromHalf(e: Environment, x: bigint): bigint {
  return convert(e, F32, unpack(F16, x), false);
}

/**
 * VCVTPS2PH with immediate `control`: rounding by it or, with bit 2, by MXCSR; results are never flushed to zero. A denormal
 * operand underflows with PRECISION even where that is unmasked and the result with an unbounded exponent exact (measured).
 */
export function toHalf(e: Environment, x: bigint, control: number): bigint {
  const { rounding, flushToZero } = e;
  if ((control & 4) === 0) e.rounding = (control & 3) as Rounding;
  e.flushToZero = false;
  const from = operand(e, F32, x);
  const result = convert(e, F16, from, true);
  if (from.denormal && e.flags & UNDERFLOW) e.raise(PRECISION);
  e.rounding = rounding;
  e.flushToZero = flushToZero;
  return result;
}

/** CVTSI2SS and its kind. */
export function integerToLane(e: Environment, f: Format, value: bigint): bigint {
  return fromInteger(e, f, value);
}

/** CVTSS2SI, CVTTSS2SI and their kind: a signed integer of `bits`, as an unsigned BigInt. */
export function laneToInteger(e: Environment, f: Format, bits: number, x: bigint, truncate: boolean): bigint {
  const { rounding } = e;
  if (truncate) e.rounding = TOWARD_ZERO;
  const value = toInteger(e, bits, operand(e, f, x));
  e.rounding = rounding;
  return BigInt.asUintN(bits, value);
}

/** ROUNDSS and its kind, with their immediate: bit 2 takes MXCSR's rounding, bit 3 keeps PRECISION from being raised. */
export function roundLane(e: Environment, f: Format, x: bigint, control: number): bigint {
  const { rounding, flags } = e;
  if ((control & 4) === 0) e.rounding = (control & 3) as Rounding;
  const result = toIntegral(e, f, operand(e, f, x), false);
  e.rounding = rounding;
  if (control & 8) e.flags &= ~PRECISION | (flags & PRECISION);
  return result;
}
