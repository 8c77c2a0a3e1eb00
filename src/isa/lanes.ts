/**
 * Operations on 128-bit values lane by lane, on known values: unsigned BigInts below 2^128. What executes meanings directly
 * (the tests' evaluator, the taint engine) computes with these; for operands and results see isa/builder.ts.
 */
import { ones } from './integers.ts';

/** Width of a lane in bits. */
export type LaneWidth = 8 | 16 | 32 | 64;

/** Operations on two lanes of equal width. */
export type LaneOperation =
  | 'add'
  | 'sub'
  | 'mul'
  | 'addSaturatingSigned'
  | 'addSaturatingUnsigned'
  | 'subSaturatingSigned'
  | 'subSaturatingUnsigned'
  | 'minSigned'
  | 'minUnsigned'
  | 'maxSigned'
  | 'maxUnsigned'
  | 'average'
  | 'eq'
  | 'gtSigned';

export type LaneShift = 'shl' | 'shr' | 'sar';

/** `x` brought into the range of a number of `width` bits. */
export function saturate(width: number, signed: boolean, x: bigint): bigint {
  const most = signed ? ones(width - 1) : ones(width);
  const least = signed ? -most - 1n : 0n;
  return BigInt.asUintN(width, x > most ? most : x < least ? least : x);
}

/** One lane of an operation. */
export function laneOperation(operation: LaneOperation, width: LaneWidth, x: bigint, y: bigint): bigint {
  const [p, q] = [BigInt.asIntN(width, x), BigInt.asIntN(width, y)];
  const cut = (value: bigint) => BigInt.asUintN(width, value);
  switch (operation) {
    case 'add':
      return cut(x + y);
    case 'sub':
      return cut(x - y);
    case 'mul':
      return cut(x * y);
    case 'addSaturatingSigned':
      return saturate(width, true, p + q);
    case 'addSaturatingUnsigned':
      return saturate(width, false, x + y);
    case 'subSaturatingSigned':
      return saturate(width, true, p - q);
    case 'subSaturatingUnsigned':
      return saturate(width, false, x - y);
    case 'minSigned':
      return p < q ? x : y;
    case 'minUnsigned':
      return x < y ? x : y;
    case 'maxSigned':
      return p > q ? x : y;
    case 'maxUnsigned':
      return x > y ? x : y;
    case 'average':
      return (x + y + 1n) >> 1n;
    case 'eq':
      return x === y ? ones(width) : 0n;
    case 'gtSigned':
      return p > q ? ones(width) : 0n;
  }
}

/** One lane of a shift; `count` is below the width. */
export function laneShift(operation: LaneShift, width: LaneWidth, x: bigint, count: bigint): bigint {
  if (count >= BigInt(width)) throw new Error(`shift of lanes of ${width} bits by ${count}`);
  if (operation === 'shr') return x >> count;
  if (operation === 'shl') return BigInt.asUintN(width, x << count);
  return BigInt.asUintN(width, BigInt.asIntN(width, x) >> count);
}

/** Lane `index` of `x`. */
export function laneOf(x: bigint, width: number, index: number): bigint {
  return (x >> BigInt(width * index)) & ones(width);
}

/** The lanes of `x`, lowest first. */
export function lanesOf(x: bigint, width: LaneWidth): bigint[] {
  return Array.from({ length: 128 / width }, (_, index) => laneOf(x, width, index));
}

/** The value of lanes, lowest first. */
export function fromLanes(width: number, lanes: readonly bigint[]): bigint {
  return lanes.reduceRight((value, lane) => (value << BigInt(width)) | lane, 0n);
}

/** Byte `i` of the result is byte `bytes[i]` of y:x. */
export function shuffleBytes(x: bigint, y: bigint, bytes: readonly number[]): bigint {
  const both = (y << 128n) | x;
  return fromLanes(
    8,
    bytes.map((byte) => laneOf(both, 8, byte)),
  );
}

/** Byte `i` of the result is the byte of `x` that byte `i` of `indices` names, 0 beyond 15. */
export function swizzleBytes(x: bigint, indices: bigint): bigint {
  return fromLanes(
    8,
    lanesOf(indices, 8).map((index) => (index > 15n ? 0n : laneOf(x, 8, Number(index)))),
  );
}

/** Lanes of half the width, saturated: of `x` below, of `y` above. */
export function narrowLanes(lane: LaneWidth, signed: boolean, x: bigint, y: bigint): bigint {
  const half = lane / 2;
  const lanes = [...lanesOf(x, lane), ...lanesOf(y, lane)];
  return fromLanes(
    half,
    lanes.map((value) => saturate(half, signed, BigInt.asIntN(lane, value))),
  );
}

/** The lanes of the low or high half of `x`, extended to numbers. */
function halfLanes(lane: LaneWidth, signed: boolean, high: boolean, x: bigint): bigint[] {
  const lanes = lanesOf(x, lane);
  const half = lanes.length / 2;
  return lanes
    .slice(high ? half : 0, high ? 2 * half : half)
    .map((value) => (signed ? BigInt.asIntN(lane, value) : value));
}

/** Products, of twice the width, of the lanes in one half. */
export function multiplyLanes(lane: LaneWidth, signed: boolean, high: boolean, x: bigint, y: bigint): bigint {
  const factors = halfLanes(lane, signed, high, y);
  const products = halfLanes(lane, signed, high, x).map((value, i) => value * factors[i]);
  return fromLanes(
    2 * lane,
    products.map((product) => BigInt.asUintN(2 * lane, product)),
  );
}

/** The lanes' top bits. */
export function topBits(lane: LaneWidth, x: bigint): bigint {
  return fromLanes(
    1,
    lanesOf(x, lane).map((value) => value >> BigInt(lane - 1)),
  );
}
