/** Bit tests, scans and fields: BT BTS BTR BTC BSF BSR TZCNT LZCNT POPCNT, BMI1 and BMI2, CRC32 (SDM vol. 2). */
import type { Builder, Semantic, Value } from '../builder.ts';
import { isNonzero, isZero, plus, resize, resizeSigned } from './values.ts';

/**
 * The word that holds the tested bit, and how to put it back. With a bit offset from a register, memory is a bit
 * string: the signed offset reaches words before and after the operand (SDM vol. 1 figure 3-2, vol. 2 3.1.1.9 BitBase).
 */
function bitString(b: Builder, forWrite: boolean): { word: Value; commit(value: Value): void } {
  const [base, index] = b.form.operands;
  if (base.kind !== 'memory' || index.kind === 'immediate') {
    const word = forWrite ? b.readForWrite(0) : b.read(0);
    return { word, commit: (value) => b.write(0, value) };
  }
  const width = b.form.operandSize;
  const words = b.sar(b.read(1), b.constant(8, Math.log2(width)));
  const displacement = b.shl(resizeSigned(b, words, 64), b.constant(8, Math.log2(width / 8)));
  const address = b.add(b.effectiveAddress(0), resize(b, displacement, b.form.addressSize));
  if (!forWrite) return { word: b.load('operand', address, width), commit: () => {} };
  const memory = b.loadForWrite('operand', address, width);
  return { word: memory.value, commit: memory.commit };
}

/** Position of the bit within its word, width 8. */
function bitPosition(b: Builder): Value {
  return b.and(resize(b, b.read(1), 8), b.constant(8, b.form.operandSize - 1));
}

/** CF is the bit; the other flags keep their values. */
function setTested(b: Builder, word: Value, position: Value): void {
  b.setFlags({ cf: b.truncate(b.shr(word, position), 1) });
}

const bt: Semantic = (b) => {
  setTested(b, bitString(b, false).word, bitPosition(b));
};

function modifyBit(change: (b: Builder, word: Value, mask: Value) => Value): Semantic {
  return (b) => {
    const position = bitPosition(b);
    const { word, commit } = bitString(b, true);
    commit(change(b, word, b.shl(b.constant(word.width, 1), position)));
    setTested(b, word, position);
  };
}

const bts = modifyBit((b, word, mask) => b.or(word, mask));
const btr = modifyBit((b, word, mask) => b.and(word, b.not(mask)));
const btc = modifyBit((b, word, mask) => b.xor(word, mask));

/**
 * A zero source sets ZF and leaves the destination, all 64 bits of it. Of the flags that are undefined, the
 * processor clears CF, OF, SF and AF, and gives PF by the index (0 for a zero source).
 */
function scan(position: (b: Builder, source: Value) => Value): Semantic {
  return (b) => {
    const source = b.read(1);
    const zero = isZero(b, source);
    const index = b.select(zero, b.constant(source.width, 0), position(b, source));
    b.when(b.not(zero), () => b.write(0, index));
    b.setFlags({ result: index, zf: zero, carries: b.constant(8, 0) });
  };
}

const bsf = scan((b, source) => b.countTrailingZeros(source));
const bsr = scan((b, source) =>
  b.sub(b.constant(source.width, source.width - 1), b.countLeadingZeros(source)),
);

/** All but CF and ZF are cleared: for POPCNT by definition, for the others by the processor. */
function setCountFlags(b: Builder, cf: Value, zf: Value): void {
  const no = b.constant(1, 0);
  b.setFlags({ cf, zf, pf: no, af: no, sf: no, of: no });
}

function countZeros(count: 'countTrailingZeros' | 'countLeadingZeros'): Semantic {
  return (b) => {
    const source = b.read(1);
    const result = b[count](source);
    b.write(0, result);
    setCountFlags(b, isZero(b, source), isZero(b, result));
  };
}

const popcnt: Semantic = (b) => {
  const source = b.read(1);
  b.write(0, b.countOnes(source));
  setCountFlags(b, b.constant(1, 0), isZero(b, source));
};

/** ZF and SF by the result, CF as given, OF cleared; AF and PF, undefined, are cleared. */
function setFieldFlags(b: Builder, result: Value, cf: Value): void {
  const no = b.constant(1, 0);
  b.setFlags({ result, cf, of: no, af: no, pf: no });
}

const andn: Semantic = (b) => {
  const result = b.and(b.not(b.read(1)), b.read(2));
  b.write(0, result);
  setFieldFlags(b, result, b.constant(1, 0));
};

/** The low `count` bits of `x`; all of it for a count of the width or more. `count` has width 8. */
function lowBits(b: Builder, x: Value, count: Value): Value {
  const mask = plus(b, b.shl(b.constant(x.width, 1), b.and(count, b.constant(8, x.width - 1))), -1);
  return b.select(b.ltUnsigned(count, b.constant(8, x.width)), b.and(x, mask), x);
}

const bextr: Semantic = (b) => {
  const source = b.read(1);
  const control = b.read(2);
  const start = b.truncate(control, 8);
  const length = b.truncate(b.shr(control, b.constant(8, 8)), 8);
  const inside = b.ltUnsigned(start, b.constant(8, source.width));
  const shifted = b.shr(source, b.and(start, b.constant(8, source.width - 1)));
  const result = b.select(inside, lowBits(b, shifted, length), b.constant(source.width, 0));
  b.write(0, result);
  const no = b.constant(1, 0);
  b.setFlags({ zf: isZero(b, result), cf: no, of: no, sf: no, af: no, pf: no });
};

const blsi: Semantic = (b) => {
  const source = b.read(1);
  const result = b.and(b.neg(source), source);
  b.write(0, result);
  setFieldFlags(b, result, isNonzero(b, source));
};

const blsmsk: Semantic = (b) => {
  const source = b.read(1);
  const result = b.xor(plus(b, source, -1), source);
  b.write(0, result);
  setFieldFlags(b, result, isZero(b, source));
};

const blsr: Semantic = (b) => {
  const source = b.read(1);
  const result = b.and(plus(b, source, -1), source);
  b.write(0, result);
  setFieldFlags(b, result, isZero(b, source));
};

const bzhi: Semantic = (b) => {
  const source = b.read(1);
  const count = b.truncate(b.read(2), 8);
  const result = lowBits(b, source, count);
  b.write(0, result);
  setFieldFlags(b, result, b.leUnsigned(b.constant(8, source.width), count));
};

/** Scatters the source's low bits, in order, to the set bits of the mask. */
const pdep: Semantic = (b) => {
  const source = b.variable(b.read(1));
  const mask = b.variable(b.read(2));
  const result = b.variable(b.constant(source.width, 0));
  b.loop(
    () => isNonzero(b, mask),
    () => {
      const lowest = b.and(mask, b.neg(mask));
      const taken = b.truncate(source, 1);
      b.assign(result, b.or(result, b.select(taken, lowest, b.constant(source.width, 0))));
      b.assign(source, b.shr(source, b.constant(8, 1)));
      b.assign(mask, b.xor(mask, lowest));
    },
  );
  b.write(0, result);
};

/** Gathers the source's bits at the set bits of the mask into the low bits. */
const pext: Semantic = (b) => {
  const source = b.read(1);
  const mask = b.variable(b.read(2));
  const target = b.variable(b.constant(source.width, 1));
  const result = b.variable(b.constant(source.width, 0));
  b.loop(
    () => isNonzero(b, mask),
    () => {
      const lowest = b.and(mask, b.neg(mask));
      const taken = isNonzero(b, b.and(source, lowest));
      b.assign(result, b.or(result, b.select(taken, target, b.constant(source.width, 0))));
      b.assign(target, b.shl(target, b.constant(8, 1)));
      b.assign(mask, b.xor(mask, lowest));
    },
  );
  b.write(0, result);
};

/** The polynomial 11EDC6F41H with its bits reversed, as the data are. */
const CASTAGNOLI = 0x82f63b78;

/** Divides the remainder so far, with the data added at its low end, bit by bit; all in the reversed notation. */
const crc32: Semantic = (b) => {
  const remainder = b.truncate(b.read(0), 32);
  const data = b.read(1);
  const width = data.width === 64 ? 64 : 32;
  const polynomial = b.constant(width, CASTAGNOLI);
  const register = b.variable(b.xor(resize(b, remainder, width), resize(b, data, width)));
  const left = b.variable(b.constant(32, data.width));
  b.loop(
    () => isNonzero(b, left),
    () => {
      const out = b.truncate(register, 1);
      const shifted = b.shr(register, b.constant(8, 1));
      b.assign(register, b.select(out, b.xor(shifted, polynomial), shifted));
      b.assign(left, plus(b, left, -1));
    },
  );
  b.write(0, resize(b, b.truncate(register, 32), b.form.operands[0].width === 64 ? 64 : 32));
};

export const bitInstructions = {
  bt,
  bts,
  btr,
  btc,
  bsf,
  bsr,
  tzcnt: countZeros('countTrailingZeros'),
  lzcnt: countZeros('countLeadingZeros'),
  popcnt,
  andn,
  bextr,
  blsi,
  blsmsk,
  blsr,
  bzhi,
  pdep,
  pext,
  crc32,
};
