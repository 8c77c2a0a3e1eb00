/** Shifts and rotates: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD, RORX SARX SHLX SHRX (SDM vol. 2, vol. 1 7.3.6). */
import type { Builder, Semantic, Value } from '../builder.ts';
import { bit, isNonzero, plus, resize, signBit } from './values.ts';

/** Operand `n` as a shift count: 6 bits for 64-bit operands, else 5; width 8. */
function readCount(b: Builder, n: number): Value {
  return b.and(resize(b, b.read(n), 8), b.constant(8, b.form.operandSize === 64 ? 0x3f : 0x1f));
}

/** Width 1: the two top bits differ, so that a shift left by 1 changes the sign. */
function topBitsDiffer(b: Builder, x: Value): Value {
  return b.xor(signBit(b, x), bit(b, x, x.width - 2));
}

/**
 * A count of zero changes no flag, but writes the destination. `last` is the operand shifted by count - 1, whose
 * outermost bit is the one that goes to CF. OF is defined for counts of 1; for others the processor gives it the value
 * that a count of 1 would. AF, undefined, is cleared.
 */
const shl: Semantic = (b) => {
  const count = readCount(b, 1);
  const x = b.readForWrite(0);
  const result = b.shl(x, count);
  b.write(0, result);
  b.when(isNonzero(b, count), () => {
    const last = b.shl(x, plus(b, count, -1));
    b.setFlags({ result, cf: signBit(b, last), of: topBitsDiffer(b, x), af: b.constant(1, 0) });
  });
};

const shr: Semantic = (b) => {
  const count = readCount(b, 1);
  const x = b.readForWrite(0);
  const result = b.shr(x, count);
  b.write(0, result);
  b.when(isNonzero(b, count), () => {
    const last = b.shr(x, plus(b, count, -1));
    b.setFlags({ result, cf: bit(b, last, 0), of: signBit(b, x), af: b.constant(1, 0) });
  });
};

const sar: Semantic = (b) => {
  const count = readCount(b, 1);
  const x = b.readForWrite(0);
  const result = b.sar(x, count);
  b.write(0, result);
  b.when(isNonzero(b, count), () => {
    const last = b.sar(x, plus(b, count, -1));
    b.setFlags({ result, cf: bit(b, last, 0), of: b.constant(1, 0), af: b.constant(1, 0) });
  });
};

/**
 * OF, given what a count of 1 makes it. It is undefined for other counts: the processor gives the same there if the
 * count is in CL or the operand in memory, and keeps OF for a register and an immediate count.
 */
function rotateOverflow(b: Builder, count: Value, byOne: Value): Value {
  const [operand, by] = b.form.operands;
  if (operand.kind === 'memory' || by.kind === 'register') return byOne;
  return b.select(b.eq(count, b.constant(8, 1)), byOne, b.getFlag('of'));
}

const rol: Semantic = (b) => {
  const count = readCount(b, 1);
  const x = b.readForWrite(0);
  const result = b.rotl(x, b.and(count, b.constant(8, x.width - 1)));
  b.write(0, result);
  b.when(isNonzero(b, count), () => {
    b.setFlags({ cf: bit(b, result, 0), of: rotateOverflow(b, count, topBitsDiffer(b, x)) });
  });
};

const ror: Semantic = (b) => {
  const count = readCount(b, 1);
  const x = b.readForWrite(0);
  const result = b.rotr(x, b.and(count, b.constant(8, x.width - 1)));
  b.write(0, result);
  b.when(isNonzero(b, count), () => {
    const byOne = b.xor(signBit(b, x), bit(b, x, 0));
    b.setFlags({ cf: signBit(b, result), of: rotateOverflow(b, count, byOne) });
  });
};

/** Count of a rotate through carry: modulo the width with CF, 9 or 17, for bytes and words. */
function readCarryCount(b: Builder): Value {
  const count = readCount(b, 1);
  const width = b.form.operandSize;
  if (width > 16) return count;
  return b.divideUnsigned(b.constant(8, 0), count, b.constant(8, width + 1)).remainder;
}

/** `x` with CF as bit `width`, rotated left by `count` of 1..width: the new value and CF. */
function rotateThroughCarry(b: Builder, x: Value, count: Value): { result: Value; cf: Value } {
  const { width } = x;
  if (width === 64) {
    const complement = b.sub(b.constant(8, 64), count);
    const cf = b.truncate(b.shr(x, b.and(complement, b.constant(8, 63))), 1);
    // count is 1..64; shifts by 64 are made of two.
    const upper = b.shl(b.shl(x, plus(b, count, -1)), b.constant(8, 1));
    const carried = b.shl(b.zeroExtend(b.getFlag('cf'), 64), plus(b, count, -1));
    const lower = b.shr(b.shr(x, b.constant(8, 1)), b.and(complement, b.constant(8, 63)));
    return { result: b.or(b.or(upper, carried), lower), cf };
  }
  const wide = b.or(b.zeroExtend(x, 64), b.shl(b.zeroExtend(b.getFlag('cf'), 64), b.constant(8, width)));
  const rotated = b.or(b.shl(wide, count), b.shr(wide, b.sub(b.constant(8, width + 1), count)));
  return { result: b.truncate(rotated, width), cf: bit(b, rotated, width) };
}

const rcl: Semantic = (b) => {
  const count = readCarryCount(b);
  const x = b.readForWrite(0);
  const result = b.variable(x);
  b.when(isNonzero(b, count), () => {
    const rotated = rotateThroughCarry(b, x, count);
    b.assign(result, rotated.result);
    b.setFlags({ cf: rotated.cf, of: topBitsDiffer(b, x) });
  });
  b.write(0, result);
};

/** A rotate right by count is one left by width + 1 - count. */
const rcr: Semantic = (b) => {
  const count = readCarryCount(b);
  const x = b.readForWrite(0);
  const result = b.variable(x);
  b.when(isNonzero(b, count), () => {
    const of = b.xor(signBit(b, x), b.getFlag('cf'));
    const rotated = rotateThroughCarry(b, x, b.sub(b.constant(8, x.width + 1), count));
    b.assign(result, rotated.result);
    b.setFlags({ cf: rotated.cf, of });
  });
  b.write(0, result);
};

/**
 * Counts above 16 are undefined for words: the processor shifts destination:source:destination, which this is (48
 * bits, width 64).
 */
function doubleShiftPattern(b: Builder, x: Value, y: Value): Value {
  const at = (value: Value, position: number): Value =>
    b.shl(b.zeroExtend(value, 64), b.constant(8, position));
  return b.or(b.or(at(x, 32), at(y, 16)), b.zeroExtend(x, 64));
}

/** The shifted destination, CF and OF of a double shift by `count`, which is not zero. */
type DoubleShift = (b: Builder, x: Value, y: Value, count: Value) => { result: Value; cf: Value; of: Value };

/** As with single shifts, OF is what a count of 1 would give: the sign changes. */
const shiftLeftDouble: DoubleShift = (b, x, y, count) => {
  const of = topBitsDiffer(b, x);
  if (x.width === 16) {
    const wide = b.shl(doubleShiftPattern(b, x, y), count);
    return { result: b.truncate(b.shr(wide, b.constant(8, 32)), 16), cf: bit(b, wide, 48), of };
  }
  const complement = b.sub(b.constant(8, x.width), count);
  return {
    result: b.or(b.shl(x, count), b.shr(y, complement)),
    cf: b.truncate(b.shr(x, complement), 1),
    of,
  };
};

const shiftRightDouble: DoubleShift = (b, x, y, count) => {
  const of = b.xor(signBit(b, x), bit(b, y, 0));
  const beforeLast = plus(b, count, -1);
  if (x.width === 16) {
    const wide = b.shr(doubleShiftPattern(b, x, y), beforeLast);
    return { result: b.truncate(b.shr(wide, b.constant(8, 1)), 16), cf: bit(b, wide, 0), of };
  }
  return {
    result: b.or(b.shr(x, count), b.shl(y, b.sub(b.constant(8, x.width), count))),
    cf: b.truncate(b.shr(x, beforeLast), 1),
    of,
  };
};

function doubleShift(shift: DoubleShift): Semantic {
  return (b) => {
    const count = readCount(b, 2);
    const x = b.readForWrite(0);
    const y = b.read(1);
    const result = b.variable(x);
    b.when(isNonzero(b, count), () => {
      const shifted = shift(b, x, y, count);
      b.assign(result, shifted.result);
      b.setFlags({ ...shifted, af: b.constant(1, 0) });
    });
    b.write(0, result);
  };
}

/** Shifts and rotates that leave the flags: destination, source, count. */
function flagless(operation: 'rotr' | 'sar' | 'shl' | 'shr'): Semantic {
  return (b) => {
    const x = b.read(1);
    const count = b.and(resize(b, b.read(2), 8), b.constant(8, x.width - 1));
    b.write(0, b[operation](x, count));
  };
}

export const shift = {
  shl,
  shr,
  sar,
  rol,
  ror,
  rcl,
  rcr,
  shld: doubleShift(shiftLeftDouble),
  shrd: doubleShift(shiftRightDouble),
  rorx: flagless('rotr'),
  sarx: flagless('sar'),
  shlx: flagless('shl'),
  shrx: flagless('shr'),
};
