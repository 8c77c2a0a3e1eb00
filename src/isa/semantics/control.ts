/** Near control transfer: JMP Jcc CALL RET LOOPcc JrCXZ, and BOUND (SDM vol. 2, vol. 1 6.4 and 7.3.8). */
import type { Builder, Semantic, Value } from '../builder.ts';
import { RCX, RSP } from '../state.ts';
import { stackPointer } from './stack.ts';
import { isNonzero, isZero, plus, resize } from './values.ts';

const BOUND_RANGE_EXCEEDED = 5;

/** An instruction pointer cut to the operand size: 16-bit branches clear EIP[31:16]. */
function truncateTarget(b: Builder, target: Value): Value {
  return resize(b, resize(b, target, b.form.operandSize), 64);
}

/** Where operand 0 leads: a displacement from the next instruction, or an offset in a register or memory. */
function target(b: Builder): Value {
  const { kind } = b.form.operands[0];
  return truncateTarget(b, kind === 'relative' ? b.add(b.nextRip(), b.relative(0)) : b.read(0));
}

const jmp: Semantic = (b) => {
  const destination = target(b);
  b.checkTarget(destination);
  b.setRip(destination);
};

const jcc: Semantic = (b) => {
  b.when(b.condition(b.form.condition), () => jmp(b));
};

/** The return address is stored before the target is checked, as the processor does; rSP changes after. */
const call: Semantic = (b) => {
  const width = b.form.operandSize;
  const destination = target(b);
  const top = plus(b, stackPointer(b), -width / 8);
  b.store('ss', top, resize(b, b.nextRip(), width));
  b.checkTarget(destination);
  b.setRegister(RSP, top);
  b.setRip(destination);
};

/** With an operand, RET n, that many bytes of parameters are released too. */
const ret: Semantic = (b) => {
  const width = b.form.operandSize;
  const top = stackPointer(b);
  const destination = truncateTarget(b, b.load('ss', top, width));
  b.checkTarget(destination);
  const above = plus(b, top, width / 8);
  const released = b.form.operands.length > 0 ? b.add(above, resize(b, b.read(0), b.form.stackSize)) : above;
  b.setRegister(RSP, released);
  b.setRip(destination);
};

/** Counts rCX, of the address size, down without touching flags; branches while it is not zero and `also` holds. */
function loopWhile(also?: (b: Builder) => Value): Semantic {
  return (b) => {
    const count = plus(b, b.getRegister(RCX, b.form.addressSize), -1);
    const more = isNonzero(b, count);
    b.when(
      also ? b.and(more, also(b)) : more,
      () => {
        const destination = target(b);
        b.checkTarget(destination);
        b.setRegister(RCX, count);
        b.setRip(destination);
      },
      () => b.setRegister(RCX, count),
    );
  };
}

/** JCXZ, JECXZ, JRCXZ by the address size. */
const jcxz: Semantic = (b) => {
  b.when(isZero(b, b.getRegister(RCX, b.form.addressSize)), () => jmp(b));
};

/** Operand 1 is a pair of signed bounds in memory, both inclusive; the upper is read only if the lower one holds. */
const bound: Semantic = (b) => {
  const width = b.form.operandSize;
  const index = b.read(0);
  const address = b.effectiveAddress(1);
  const lower = b.load('operand', address, width);
  b.when(b.ltSigned(index, lower), () => b.fault(BOUND_RANGE_EXCEEDED));
  const upper = b.load('operand', plus(b, address, width / 8), width);
  b.when(b.ltSigned(upper, index), () => b.fault(BOUND_RANGE_EXCEEDED));
};

export const control = {
  jmp,
  jcc,
  call,
  ret,
  loop: loopWhile(),
  loope: loopWhile((b) => b.getFlag('zf')),
  loopne: loopWhile((b) => b.not(b.getFlag('zf'))),
  jcxz,
  bound,
};
