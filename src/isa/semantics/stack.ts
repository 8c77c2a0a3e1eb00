/** The stack: PUSH POP PUSHA POPA ENTER LEAVE (SDM vol. 2, vol. 1 chapter 6). */
import type { Builder, Semantic, Value } from '../builder.ts';
import type { OperandWidth } from '../instruction.ts';
import { RBP, RSP } from '../state.ts';
import { isNonzero, plus, resize } from './values.ts';

/** The stack pointer at the stack's width. */
export function stackPointer(b: Builder): Value {
  return b.getRegister(RSP, b.form.stackSize);
}

/** The old rSP is what PUSH rSP pushes. */
const push: Semantic = (b) => {
  const width = b.form.operandSize;
  const value = resize(b, b.read(0), width);
  const top = plus(b, stackPointer(b), -width / 8);
  b.store('ss', top, value);
  b.setRegister(RSP, top);
};

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

/**
 * Stores in the order of register numbers; SP as it was before. A fault in the middle leaves what was stored so
 * far, as the processor does; no register has changed.
 */
const pusha: Semantic = (b) => {
  const width = b.form.operandSize;
  const top = stackPointer(b);
  const slot = (index: number): Value => plus(b, top, (-(index + 1) * width) / 8);
  for (let index = 0; index < 8; index++) b.store('ss', slot(index), b.getRegister(index, width));
  b.setRegister(RSP, slot(7));
};

/**
 * The stored SP is skipped. A fault in the middle leaves the registers loaded so far, as the processor does, but SP
 * where it was, so that the instruction can start again.
 */
const popa: Semantic = (b) => {
  const width = b.form.operandSize;
  const top = stackPointer(b);
  for (let slot = 0; slot < 8; slot++) {
    const value = b.load('ss', plus(b, top, (slot * width) / 8), width);
    const index = 7 - slot;
    if (index !== RSP) b.setRegister(index, value);
  }
  b.setRegister(RSP, plus(b, top, width));
};

/**
 * The frame pointer at the operand size: the top of the stack after the first push. A 32-bit one on a 16-bit stack
 * takes bits 31:16 from ESP.
 */
function framePointer(b: Builder, frame: Value): Value {
  const { operandSize, stackSize } = b.form;
  if (operandSize <= stackSize) return resize(b, frame, operandSize);
  const above = b.and(b.getRegister(RSP, operandSize), b.constant(operandSize, ~0n << BigInt(stackSize)));
  return b.or(above, resize(b, frame, operandSize));
}

/**
 * Pushes rBP, then for a nesting level above 0 the frame pointers of the enclosing levels, read below rBP, and the
 * new frame pointer; allocates; and probes the new top for writing. A fault in the middle leaves what was pushed so
 * far in memory, as the processor does; no register has changed.
 */
const enter: Semantic = (b) => {
  const width = b.form.operandSize;
  const step = -width / 8;
  const allocation = resize(b, b.read(0), b.form.stackSize);
  const level = b.and(resize(b, b.read(1), 8), b.constant(8, 0x1f));

  const frame = plus(b, stackPointer(b), step);
  const newBase = framePointer(b, frame);
  const top = b.variable(frame);
  b.store('ss', frame, b.getRegister(RBP, width));
  b.when(isNonzero(b, level), () => {
    const enclosing = b.variable(b.getRegister(RBP, b.form.stackSize));
    const left = b.variable(plus(b, level, -1));
    b.loop(
      () => isNonzero(b, left),
      () => {
        b.assign(enclosing, plus(b, enclosing, step));
        b.assign(top, plus(b, top, step));
        b.store('ss', top, b.load('ss', enclosing, width));
        b.assign(left, plus(b, left, -1));
      },
    );
    b.assign(top, plus(b, top, step));
    b.store('ss', top, newBase);
  });

  const newTop = b.sub(top, allocation);
  b.probeWrite('ss', newTop, width);
  b.setRegister(RBP, newBase);
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
