/** The stack: PUSH POP PUSHA POPA ENTER LEAVE (SDM vol. 2, vol. 1 chapter 6). */
import type { Builder, Semantic, Value } from '../builder.ts';
import type { OperandWidth } from '../instruction.ts';
import { RBP, RSP } from '../state.ts';
import { isNonzero, plus, resize } from './values.ts';

/** The stack pointer at the stack's width. */
export function stackPointer(b: Builder): Value {
  return b.getRegister(RSP, b.form.stackSize);
}

/** Stores `value` below the top of the stack, then moves the top there. */
export function pushValue(b: Builder, value: Value): void {
  const top = plus(b, stackPointer(b), -value.width / 8);
  b.store('ss', top, value);
  b.setRegister(RSP, top);
}

/** The old rSP is what PUSH rSP pushes. */
const push: Semantic = (b) => pushValue(b, resize(b, b.read(0), b.form.operandSize));

/**
 * A memory destination with base rSP is addressed after rSP has grown. The address is formed with rSP so, but
 * rSP is put back before the store, which may fault.
 */
const pop: Semantic = (b) => {
  const width = b.form.operandSize;
  const top = stackPointer(b);
  const value = b.load('ss', top, width);
  const newTop = plus(b, top, width / 8);
  if (b.form.operands[0].kind === 'memory') {
    const whole = b.getRegister(RSP, 64);
    b.setRegister(RSP, newTop);
    const address = b.effectiveAddress(0);
    b.setRegister(RSP, whole);
    b.store('operand', address, value);
    b.setRegister(RSP, newTop);
  } else {
    b.setRegister(RSP, newTop);
    b.write(0, value);
  }
};

/** Stores in the order of register numbers; SP as it was before. */
const pusha: Semantic = (b) => {
  const width = b.form.operandSize;
  const top = stackPointer(b);
  const slot = (index: number): Value => plus(b, top, (-(index + 1) * width) / 8);
  for (let index = 0; index < 8; index++) b.probeWrite('ss', slot(index), width);
  for (let index = 0; index < 8; index++) b.store('ss', slot(index), b.getRegister(index, width));
  b.setRegister(RSP, slot(7));
};

/** The stored SP is skipped. */
const popa: Semantic = (b) => {
  const width = b.form.operandSize;
  const top = stackPointer(b);
  const values = Array.from({ length: 8 }, (_, slot) =>
    b.load('ss', plus(b, top, (slot * width) / 8), width),
  );
  values.forEach((value, slot) => {
    const index = 7 - slot;
    if (index !== RSP) b.setRegister(index, value);
  });
  b.setRegister(RSP, plus(b, top, width));
};

/**
 * Pushes rBP, then for a nesting level above 0 the frame pointers of the enclosing levels, read below rBP, and the
 * new frame pointer; allocates; and probes the new top for writing. A first round checks every access.
 */
const enter: Semantic = (b) => {
  const width = b.form.operandSize;
  const step = -width / 8;
  const allocation = resize(b, b.read(0), b.form.stackSize);
  const level = b.and(resize(b, b.read(1), 8), b.constant(8, 0x1f));
  const frame = plus(b, stackPointer(b), step);
  const oldBase = b.getRegister(RBP, b.form.stackSize);
  const nested = isNonzero(b, level);

  /** Walks the enclosing frames; `copy` gets where a pointer is read and where it goes. Returns the top after all. */
  const walk = (copy: (from: Value, to: Value) => void, pushFrame: (to: Value) => void): Value => {
    const top = b.variable(frame);
    b.when(nested, () => {
      const base = b.variable(oldBase);
      const left = b.variable(plus(b, level, -1));
      b.loop(
        () => isNonzero(b, left),
        () => {
          b.assign(base, plus(b, base, step));
          b.assign(top, plus(b, top, step));
          copy(base, top);
          b.assign(left, plus(b, left, -1));
        },
      );
      b.assign(top, plus(b, top, step));
      pushFrame(top);
    });
    return top;
  };

  b.probeWrite('ss', frame, width);
  const lowest = walk(
    (from, to) => {
      b.load('ss', from, width);
      b.probeWrite('ss', to, width);
    },
    (to) => b.probeWrite('ss', to, width),
  );
  const newTop = b.sub(lowest, allocation);
  b.probeWrite('ss', newTop, width);

  const framePointer = resize(b, frame, width);
  b.store('ss', frame, b.getRegister(RBP, width));
  walk(
    (from, to) => b.store('ss', to, b.load('ss', from, width)),
    (to) => b.store('ss', to, framePointer),
  );
  b.setRegister(RBP, framePointer);
  b.setRegister(RSP, newTop);
};

const leave: Semantic = (b) => {
  const width: OperandWidth = b.form.operandSize;
  const frame = b.getRegister(RBP, b.form.stackSize);
  const saved = b.load('ss', frame, width);
  b.setRegister(RSP, plus(b, frame, width / 8));
  b.setRegister(RBP, saved);
};

export const stack = { push, pop, pusha, popa, enter, leave };
