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

/** The work of one element; what CMPS and SCAS compared. */
type Element = (b: Builder) => Comparison | undefined;
interface Comparison {
  readonly x: Value;
  readonly y: Value;
  readonly difference: Value;
}

function setFlagsOf(b: Builder, { x, y, difference }: Comparison): void {
  setDifferenceFlags(b, x, y, difference);
}

/**
 * One run of the handler is one iteration: a fault in a later one finds the registers of that iteration's start, but
 * the flags of the whole instruction's start (SDM vol. 2, REP), since the last comparison alone sets them.
 *
 * With 32-bit addresses a repeat prefix clears bits 63:32 of rCX and of `pointers` before anything else:
 * for a count of zero too, and even where the first access faults (measured on Intel silicon).
 */
function repeated(element: Element, pointers: readonly number[] = [], hastened?: 'movs' | 'stos'): Semantic {
  return (b) => {
    const { repeat, addressSize } = b.form;
    if (repeat === '') {
      const comparison = element(b);
      if (comparison) setFlagsOf(b, comparison);
      return;
    }
    if (addressSize === 32)
      for (const register of [RCX, ...pointers]) b.setRegister(register, b.getRegister(register, 32));
    b.when(isNonzero(b, b.getRegister(RCX, addressSize)), () => {
      if (hastened) b.hasten?.(hastened);
      const comparison = element(b);
      const count = plus(b, b.getRegister(RCX, addressSize), -1);
      b.setRegister(RCX, count);
      const left = isNonzero(b, count);
      if (comparison) {
        const equal = isZero(b, comparison.difference);
        b.when(b.and(left, repeat === 'rep' ? equal : b.not(equal)), () => b.again());
        setFlagsOf(b, comparison);
      } else {
        b.when(left, () => b.again());
      }
    });
  };
}

const movs = repeated(
  (b) => {
    b.store('es', destination(b), b.load('operand', source(b), b.form.operandSize));
    advance(b, RSI, RDI);
    return undefined;
  },
  [RSI, RDI],
  'movs',
);

const stos = repeated(
  (b) => {
    b.store('es', destination(b), b.getRegister(RAX, b.form.operandSize));
    advance(b, RDI);
    return undefined;
  },
  [RDI],
  'stos',
);

const lods = repeated((b) => {
  const value = b.load('operand', source(b), b.form.operandSize);
  b.setRegister(RAX, value);
  advance(b, RSI);
  return undefined;
});

/** Flags are those of source - destination. Processors read the destination first: its faults come before the source's. */
const cmps = repeated((b) => {
  const y = b.load('es', destination(b), b.form.operandSize);
  const x = b.load('operand', source(b), b.form.operandSize);
  advance(b, RSI, RDI);
  return { x, y, difference: b.sub(x, y) };
});

/** Flags are those of accumulator - destination. */
const scas = repeated((b) => {
  const x = b.getRegister(RAX, b.form.operandSize);
  const y = b.load('es', destination(b), b.form.operandSize);
  advance(b, RDI);
  return { x, y, difference: b.sub(x, y) };
});

export const string = { movs, cmps, stos, lods, scas };
