/** Decimal adjustment: AAA AAS AAM AAD DAA DAS (SDM vol. 2, vol. 1 7.3.8). */
import type { Builder, Semantic, Value } from '../builder.ts';
import { RAX } from '../state.ts';
import { borrowsOfDifference, carriesOfSum, gate, isZero, plus, resize } from './values.ts';

const DIVIDE_ERROR = 0;

/** (AL AND 0FH) > 9 or AF = 1. */
function lowDigitNeedsAdjustment(b: Builder, al: Value): Value {
  const digit = b.and(al, b.constant(8, 0x0f));
  return b.or(b.ltUnsigned(b.constant(8, 9), digit), b.getFlag('af'));
}

function setAsciiFlags(b: Builder, adjust: Value): void {
  const no = b.constant(1, 0);
  b.setFlags({ result: b.getRegister(RAX, 8), cf: adjust, af: adjust, of: no });
}

const aaa: Semantic = (b) => {
  const ax = b.getRegister(RAX, 16);
  const adjust = lowDigitNeedsAdjustment(b, b.getRegister(RAX, 8));
  const adjusted = b.select(adjust, plus(b, ax, 0x106), ax);
  b.setRegister(RAX, b.and(adjusted, b.constant(16, 0xff0f)));
  setAsciiFlags(b, adjust);
};

const aas: Semantic = (b) => {
  const ax = b.getRegister(RAX, 16);
  const adjust = lowDigitNeedsAdjustment(b, b.getRegister(RAX, 8));
  const adjusted = b.select(adjust, plus(b, ax, -0x106), ax);
  b.setRegister(RAX, b.and(adjusted, b.constant(16, 0xff0f)));
  setAsciiFlags(b, adjust);
};

const aam: Semantic = (b) => {
  const base = resize(b, b.read(0), 8);
  b.when(isZero(b, base), () => b.fault(DIVIDE_ERROR));
  const { quotient, remainder } = b.divideUnsigned(b.constant(8, 0), b.getRegister(RAX, 8), base);
  b.setRegister(RAX, remainder);
  b.setAh(quotient);
  b.setFlags({ result: remainder, carries: b.constant(8, 0) });
};

const aad: Semantic = (b) => {
  const base = resize(b, b.read(0), 8);
  const al = b.getRegister(RAX, 8);
  const tens = b.mul(b.getAh(), base);
  const result = b.add(al, tens);
  b.setRegister(RAX, result);
  b.setAh(b.constant(8, 0));
  b.setFlags({ result, carries: carriesOfSum(b, al, tens, result) });
};

/** AL > 99H or CF = 1. */
function highDigitNeedsAdjustment(b: Builder, al: Value): Value {
  return b.or(b.ltUnsigned(b.constant(8, 0x99), al), b.getFlag('cf'));
}

const daa: Semantic = (b) => {
  const al = b.getRegister(RAX, 8);
  const low = lowDigitNeedsAdjustment(b, al);
  const high = highDigitNeedsAdjustment(b, al);
  const correction = b.or(gate(b, low, b.constant(8, 0x06)), gate(b, high, b.constant(8, 0x60)));
  const result = b.add(al, correction);
  b.setRegister(RAX, result);
  b.setFlags({
    result,
    carries: carriesOfSum(b, al, correction, result),
    cf: high,
    af: low,
    of: b.constant(1, 0),
  });
};

const das: Semantic = (b) => {
  const al = b.getRegister(RAX, 8);
  const low = lowDigitNeedsAdjustment(b, al);
  const high = highDigitNeedsAdjustment(b, al);
  const correction = b.or(gate(b, low, b.constant(8, 0x06)), gate(b, high, b.constant(8, 0x60)));
  const result = b.sub(al, correction);
  // Taking 6 from a digit group below 6 borrows even where the high digit needs no correction.
  const borrow = b.and(low, b.ltUnsigned(al, b.constant(8, 6)));
  b.setRegister(RAX, result);
  b.setFlags({
    result,
    carries: borrowsOfDifference(b, al, correction, result),
    cf: b.or(high, borrow),
    af: low,
    of: b.constant(1, 0),
  });
};

export const decimal = { aaa, aas, aam, aad, daa, das };
