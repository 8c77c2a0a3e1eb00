/**
 * SSE, AVX, FMA and F16C arithmetic, compares and conversions of floating-point numbers (SDM vol. 1 11.4.1, 14.3 to 14.5).
 *
 * The host's arithmetic gives the result where that surely raises nothing but a precision exception that is masked and already
 * flagged: rounding to nearest, neither DAZ nor FTZ, all operands zeros or normal numbers, and a result that is neither tiny nor
 * infinite. Whatever is not so is arch's, which has every rounding, flag and exception.
 */
import type { Builder, FloatOperations, Semantic, Value } from '../../builder.ts';
import { type FloatMnemonic, floatMnemonics } from '../../mnemonics.ts';
import { blend, firstOperand, sourceOperand } from './forms.ts';

type Lane = 32 | 64;

interface Encoding {
  /** All bits but the sign. */
  readonly magnitude: bigint;
  /** Least normal number, and infinity. */
  readonly normal: bigint;
  readonly infinity: bigint;
}

const ENCODINGS: Readonly<Record<Lane, Encoding>> = {
  32: { magnitude: 0x7fff_ffffn, normal: 0x0080_0000n, infinity: 0x7f80_0000n },
  64: {
    magnitude: 0x7fff_ffff_ffff_ffffn,
    normal: 0x0010_0000_0000_0000n,
    infinity: 0x7ff0_0000_0000_0000n,
  },
};

/** All exceptions masked and PRECISION flagged, rounding to nearest, no DAZ, no FTZ. */
const QUIET_MASK = 0xffe0;
const QUIET = 0x1fa0;

function isQuiet(b: Builder, floats: FloatOperations): Value {
  return b.eq(b.and(floats.mxcsr(), b.constant(32, QUIET_MASK)), b.constant(32, QUIET));
}

/** In every lane of `lane` bits. */
function every(b: Builder, lane: Lane, value: bigint): Value {
  return b.splat(b.constant(lane, value));
}

/** Lanes (as masks) whose number is not zero and lies outside [low, infinity). */
function outside(b: Builder, lane: Lane, magnitude: Value, low: bigint, zeroAllowed: Value): Value {
  const { infinity } = ENCODINGS[lane];
  const tooGreat = b.lanes('gtSigned', lane, magnitude, every(b, lane, infinity - 1n));
  const tooSmall = b.lanes('gtSigned', lane, every(b, lane, low), magnitude);
  return b.or(tooGreat, b.and(tooSmall, b.not(zeroAllowed)));
}

/** ADD, SUB, MUL, DIV, SQRT of `lane` bits, packed or scalar. */
function arithmetic(
  operation: 'add' | 'sub' | 'mul' | 'div' | 'sqrt',
  lane: Lane,
  scalar: boolean,
): Semantic {
  const { magnitude, normal } = ENCODINGS[lane];
  return (b) => {
    const { floats } = b;
    if (!floats) {
      b.system();
      return;
    }
    b.when(
      isQuiet(b, floats),
      () => {
        const ys = b.readVector(sourceOperand(b), !b.form.vex);
        const xs = b.readVector(firstOperand(b));
        let bad: Value | undefined;
        const results = ys.map((y, i) => {
          const x = xs[i];
          const result = floats.arithmetic(operation, lane, x, y);
          const signless = every(b, lane, magnitude);
          const zeros = b.constant(128, 0);
          const isZero = (value: Value) => b.lanes('eq', lane, value, zeros);
          const ty = b.and(y, signless);
          const tr = b.and(result, signless);
          const yZero = isZero(ty);
          let wrong = outside(b, lane, ty, normal, yZero);
          let exactZero = yZero;
          if (operation !== 'sqrt') {
            const tx = b.and(x, signless);
            const xZero = isZero(tx);
            wrong = b.or(wrong, outside(b, lane, tx, normal, xZero));
            if (operation === 'mul') exactZero = b.or(xZero, yZero);
            else if (operation === 'div') exactZero = xZero;
            // A difference that is zero is exact.
            else exactZero = isZero(tr);
          }
          // What is as small as the least normal number may have been tiny before.
          wrong = b.or(wrong, outside(b, lane, tr, 2n * normal, b.and(isZero(tr), exactZero)));
          bad = bad === undefined ? wrong : b.or(bad, wrong);
          return result;
        });
        if (bad === undefined) throw new Error('a vector without parts');
        const mask = b.signMask(lane, bad);
        const considered = scalar ? b.and(mask, b.constant(32, 1)) : mask;
        b.when(
          b.eq(considered, b.constant(32, 0)),
          () => {
            if (scalar) writeScalar(b, lane, b.extractLane(lane, results[0], 0));
            else b.writeVector(0, results);
          },
          () => b.system(),
        );
      },
      () => b.system(),
    );
  };
}

/** Writes the lowest lane; the others are those of the first source. */
function writeScalar(b: Builder, lane: Lane, value: Value): void {
  b.writeVector(0, [b.insertLane(lane, b.readVector(firstOperand(b))[0], 0, value)]);
}

/** `x` is a zero or a normal number below `limit`. */
function isOrdinary(b: Builder, lane: Lane, x: Value, limit: bigint): Value {
  const { magnitude, normal } = ENCODINGS[lane];
  const size = b.and(x, b.constant(lane, magnitude));
  const inRange = b.ltUnsigned(b.sub(size, b.constant(lane, normal)), b.constant(lane, limit - normal));
  return b.or(inRange, b.eq(size, b.constant(lane, 0)));
}

/** An encoding as a signed integer of the same order; both zeros are 0. */
function ordered(b: Builder, lane: Lane, x: Value): Value {
  const { magnitude } = ENCODINGS[lane];
  // A shift by 63 is beyond what counts of width 32 may be; a comparison tells the sign as well.
  const negative = b.ltSigned(x, b.constant(lane, 0));
  const size = b.and(x, b.constant(lane, magnitude));
  return b.select(negative, b.neg(size), size);
}

/** Lanes as signed integers of the same order. */
function orderedLanes(b: Builder, lane: Lane, x: Value): Value {
  const zeros = b.constant(128, 0);
  const negative = b.lanes('gtSigned', lane, zeros, x);
  const size = b.and(x, every(b, lane, ENCODINGS[lane].magnitude));
  return blend(b, negative, b.lanes('sub', lane, zeros, size), size);
}

/**
 * MIN, MAX and CMP of `lane` bits: of zeros and normal numbers they raise nothing, whatever MXCSR says. `make` has the operands, and
 * what compares them.
 */
function comparison(
  lane: Lane,
  scalar: boolean,
  make: (
    b: Builder,
    x: Value,
    y: Value,
    less: () => Value,
    greater: () => Value,
    equal: () => Value,
  ) => Value,
): Semantic {
  const { magnitude, normal } = ENCODINGS[lane];
  return (b) => {
    const ys = b.readVector(sourceOperand(b), !b.form.vex);
    const xs = b.readVector(firstOperand(b));
    let bad: Value | undefined;
    const results = ys.map((y, i) => {
      const x = xs[i];
      for (const operand of [x, y]) {
        const size = b.and(operand, every(b, lane, magnitude));
        const wrong = outside(b, lane, size, normal, b.lanes('eq', lane, size, b.constant(128, 0)));
        bad = bad === undefined ? wrong : b.or(bad, wrong);
      }
      const p = orderedLanes(b, lane, x);
      const q = orderedLanes(b, lane, y);
      return make(
        b,
        x,
        y,
        () => b.lanes('gtSigned', lane, q, p),
        () => b.lanes('gtSigned', lane, p, q),
        () => b.lanes('eq', lane, p, q),
      );
    });
    if (bad === undefined) throw new Error('a vector without parts');
    const mask = b.signMask(lane, bad);
    b.when(
      b.eq(scalar ? b.and(mask, b.constant(32, 1)) : mask, b.constant(32, 0)),
      () => {
        if (scalar) writeScalar(b, lane, b.extractLane(lane, results[0], 0));
        else b.writeVector(0, results);
      },
      () => b.system(),
    );
  };
}

/** The relations of ordered operands that predicates 0 to 15 are true for: less, equal, greater from bit 0 (SDM vol. 2A table 3-1). */
const TRUE_FOR = [2, 1, 3, 0, 5, 6, 4, 7, 2, 1, 3, 0, 5, 6, 4, 7] as const;

function predicate(lane: Lane, scalar: boolean): Semantic {
  return comparison(lane, scalar, (b, _x, _y, less, greater, equal) => {
    const relations = TRUE_FOR[b.form.immediate & (b.form.vex ? 15 : 7)];
    let result = b.constant(128, 0);
    if (relations & 1) result = b.or(result, less());
    if (relations & 2) result = b.or(result, equal());
    if (relations & 4) result = b.or(result, greater());
    return result;
  });
}

/** COMISx, UCOMISx: of zeros and normal numbers they raise nothing, whatever MXCSR says. */
function compareToFlags(lane: Lane): Semantic {
  const { infinity } = ENCODINGS[lane];
  return (b) => {
    const y = b.extractLane(lane, b.readVector(1)[0], 0);
    const x = b.extractLane(lane, b.readVector(0)[0], 0);
    b.when(
      b.and(isOrdinary(b, lane, x, infinity), isOrdinary(b, lane, y, infinity)),
      () => {
        const p = ordered(b, lane, x);
        const q = ordered(b, lane, y);
        const zero = b.constant(1, 0);
        b.setFlags({ cf: b.ltSigned(p, q), zf: b.eq(p, q), pf: zero, of: zero, sf: zero, af: zero });
      },
      () => b.system(),
    );
  };
}

/** CVTSI2SS, CVTSI2SD. */
function fromInteger(lane: Lane): Semantic {
  return (b) => {
    const { floats } = b;
    const n = sourceOperand(b);
    if (!floats) {
      b.system();
      return;
    }
    const convert = () => {
      const value = b.read(n);
      writeScalar(b, lane, floats.fromInteger(lane, value));
    };
    // Every integer of 32 bits is a double.
    if (lane === 64 && b.form.operands[n].width === 32) convert();
    else b.when(isQuiet(b, floats), convert, () => b.system());
  };
}

/** CVTTSS2SI, CVTTSD2SI, of numbers whose magnitude surely fits. */
function toInteger(lane: Lane): Semantic {
  return (b) => {
    const { floats } = b;
    const width = b.form.operands[0].width;
    if (!floats || (width !== 32 && width !== 64)) {
      b.system();
      return;
    }
    // 2^(width - 1).
    const limit = lane === 64 ? BigInt(1022 + width) << 52n : BigInt(126 + width) << 23n;
    const x = b.extractLane(lane, b.readVector(1)[0], 0);
    b.when(
      b.and(isQuiet(b, floats), isOrdinary(b, lane, x, limit)),
      () => b.write(0, floats.toInteger(width, x)),
      () => b.system(),
    );
  };
}

/** CVTSS2SD, which is exact, and CVTSD2SS. */
function convertScalar(from: Lane): Semantic {
  const to: Lane = from === 32 ? 64 : 32;
  // In single precision a result of at least 2^-125 was never tiny, and one below 2^127 does not overflow.
  const limit = from === 32 ? ENCODINGS[32].infinity : BigInt(1023 + 127) << 52n;
  const least = BigInt(1023 - 125) << 52n;
  return (b) => {
    const { floats } = b;
    if (!floats) {
      b.system();
      return;
    }
    const x = b.extractLane(from, b.readVector(sourceOperand(b))[0], 0);
    let safe = isOrdinary(b, from, x, limit);
    if (from === 64) {
      const size = b.and(x, b.constant(64, ENCODINGS[64].magnitude));
      const notTiny = b.or(b.leUnsigned(b.constant(64, least), size), b.eq(size, b.constant(64, 0)));
      safe = b.and(b.and(safe, notTiny), isQuiet(b, floats));
    }
    b.when(
      safe,
      () => writeScalar(b, to, floats.convert(x)),
      () => b.system(),
    );
  };
}

const exactly: Semantic = (b) => b.system();

const fast: Record<string, Semantic> = {
  comiss: compareToFlags(32),
  comisd: compareToFlags(64),
  ucomiss: compareToFlags(32),
  ucomisd: compareToFlags(64),
  cvtsi2ss: fromInteger(32),
  cvtsi2sd: fromInteger(64),
  cvttss2si: toInteger(32),
  cvttsd2si: toInteger(64),
  cvtss2sd: convertScalar(32),
  cvtsd2ss: convertScalar(64),
};
for (const operation of ['add', 'sub', 'mul', 'div', 'sqrt'] as const) {
  fast[`${operation}ps`] = arithmetic(operation, 32, false);
  fast[`${operation}pd`] = arithmetic(operation, 64, false);
  fast[`${operation}ss`] = arithmetic(operation, 32, true);
  fast[`${operation}sd`] = arithmetic(operation, 64, true);
}
for (const [suffix, lane, scalar] of [
  ['ps', 32, false],
  ['pd', 64, false],
  ['ss', 32, true],
  ['sd', 64, true],
] as const) {
  // The second operand, unless the first is less (greater).
  fast[`min${suffix}`] = comparison(lane, scalar, (b, x, y, less) => blend(b, less(), x, y));
  fast[`max${suffix}`] = comparison(lane, scalar, (b, x, y, _, greater) => blend(b, greater(), x, y));
  fast[`cmp${suffix}`] = predicate(lane, scalar);
}

export const floatArithmetic = Object.fromEntries(
  floatMnemonics.map((mnemonic) => [mnemonic, fast[mnemonic.replace(/^v/, '')] ?? exactly]),
) as Record<FloatMnemonic, Semantic>;
