/**
 * String instructions: MOVS CMPS STOS LODS SCAS and the REP prefixes (SDM vol. 2, vol. 1 7.3.9). The form gives the
 * element (operand size), the width of rSI, rDI and rCX (address size) and the repetition.
 */
import type { Builder, Semantic, Value } from '../builder.ts';
import { RAX, RCX, RDI, RSI } from '../state.ts';
import { setDifferenceFlags } from './arithmetic.ts';
import { isNonzero, isZero, plus } from './values.ts';

function source(b: Builder): Value {
  return b.getRegister(RSI, b.form.addressSize);
}

function destination(b: Builder): Value {
  return b.getRegister(RDI, b.form.addressSize);
}

/** Moves pointers on by an element: up, or down with DF. */
function advance(b: Builder, ...registers: readonly number[]): void {
  const { addressSize, operandSize } = b.form;
  const size = b.constant(addressSize, operandSize / 8);
  const step = b.select(b.getFlag('df'), b.neg(size), size);
  for (const register of registers) {
    b.setRegister(register, b.add(b.getRegister(register, addressSize), step));
  }
}

/**
 * One run of the handler is one iteration: a fault in a later one finds the registers of that iteration's start.
 * `element` does the work; for CMPS and SCAS it returns whether the elements are equal.
 */
function repeated(element: (b: Builder) => Value | undefined): Semantic {
  return (b) => {
    const { repeat, addressSize } = b.form;
    if (repeat === '') {
      element(b);
      return;
    }
    b.when(isNonzero(b, b.getRegister(RCX, addressSize)), () => {
      const equal = element(b);
      const count = plus(b, b.getRegister(RCX, addressSize), -1);
      b.setRegister(RCX, count);
      const left = isNonzero(b, count);
      if (equal === undefined) b.when(left, () => b.again());
      else b.when(b.and(left, repeat === 'rep' ? equal : b.not(equal)), () => b.again());
    });
  };
}

const movs = repeated((b) => {
  b.store('es', destination(b), b.load('operand', source(b), b.form.operandSize));
  advance(b, RSI, RDI);
  return undefined;
});

const stos = repeated((b) => {
  b.store('es', destination(b), b.getRegister(RAX, b.form.operandSize));
  advance(b, RDI);
  return undefined;
});

const lods = repeated((b) => {
  const value = b.load('operand', source(b), b.form.operandSize);
  b.setRegister(RAX, value);
  advance(b, RSI);
  return undefined;
});

/** Flags are those of source - destination. */
const cmps = repeated((b) => {
  const x = b.load('operand', source(b), b.form.operandSize);
  const y = b.load('es', destination(b), b.form.operandSize);
  const difference = b.sub(x, y);
  setDifferenceFlags(b, x, y, difference);
  advance(b, RSI, RDI);
  return isZero(b, difference);
});

/** Flags are those of accumulator - destination. */
const scas = repeated((b) => {
  const x = b.getRegister(RAX, b.form.operandSize);
  const y = b.load('es', destination(b), b.form.operandSize);
  const difference = b.sub(x, y);
  setDifferenceFlags(b, x, y, difference);
  advance(b, RDI);
  return isZero(b, difference);
});

export const string = { movs, cmps, stos, lods, scas };
