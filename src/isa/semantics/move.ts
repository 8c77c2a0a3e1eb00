/** Data movement and conversion: MOV MOVZX MOVSX MOVBE XCHG LEA BSWAP CMOVcc SETcc XLAT CBW CWD CMPXCHG* (SDM vol. 2). */
import type { Builder, Semantic, Value } from '../builder.ts';
import type { OperandWidth } from '../instruction.ts';
import { RAX, RBX, RCX, RDX } from '../state.ts';
import { setDifferenceFlags } from './arithmetic.ts';
import { isNonzero, plus, resize, resizeSigned, signFill } from './values.ts';

const GENERAL_PROTECTION = 13;

const mov: Semantic = (b) => b.write(0, b.read(1));

function destinationWidth(b: Builder): OperandWidth {
  return (b.form.operands[0].width as OperandWidth | 0) || b.form.operandSize;
}

const movzx: Semantic = (b) => b.write(0, resize(b, b.read(1), destinationWidth(b)));

/** Also MOVSXD. */
const movsx: Semantic = (b) => b.write(0, resizeSigned(b, b.read(1), destinationWidth(b)));

/** Reverses the bytes: swaps the halves, then the quarters within each half, down to bytes. */
function swapBytes(b: Builder, x: Value): Value {
  let swapped = b.rotl(x, b.constant(8, x.width / 2));
  for (let group = x.width / 4; group >= 8; group /= 2) {
    // The lower group of each pair: 00FF00FFH for bytes of 32 bits.
    const lower = b.constant(x.width, ((1n << BigInt(x.width)) - 1n) / ((1n << BigInt(group)) + 1n));
    const distance = b.constant(8, group);
    swapped = b.or(b.shl(b.and(swapped, lower), distance), b.and(b.shr(swapped, distance), lower));
  }
  return swapped;
}

const movbe: Semantic = (b) => b.write(0, swapBytes(b, b.read(1)));

/** BSWAP of a 16-bit register is undefined; the processor clears it. */
const bswap: Semantic = (b) => {
  const x = b.read(0);
  b.write(0, x.width === 16 ? b.constant(16, 0) : swapBytes(b, x));
};

const xchg: Semantic = (b) => {
  const x = b.readForWrite(0);
  const y = b.readForWrite(1);
  b.write(0, y);
  b.write(1, x);
};

const lea: Semantic = (b) => b.write(0, resize(b, b.effectiveAddress(1), b.form.operandSize));

/** The source is read, and may fault, whatever the condition; a 32-bit destination is written (bits 63:32 clear) either way. */
const cmovcc: Semantic = (b) => {
  const source = b.read(1);
  b.write(0, b.select(b.condition(b.form.condition), source, b.read(0)));
};

const setcc: Semantic = (b) => b.write(0, b.zeroExtend(b.condition(b.form.condition), 8));

const xlat: Semantic = (b) => {
  const address = b.add(
    b.getRegister(RBX, b.form.addressSize),
    b.zeroExtend(b.getRegister(RAX, 8), b.form.addressSize),
  );
  b.setRegister(RAX, b.load('operand', address, 8));
};

/** CBW, CWDE, CDQE. */
const cbw: Semantic = (b) => {
  const width = b.form.operandSize;
  b.setRegister(RAX, b.signExtend(b.getRegister(RAX, (width / 2) as OperandWidth), width));
};

/** CWD, CDQ, CQO. */
const cwd: Semantic = (b) => {
  b.setRegister(RDX, signFill(b, b.getRegister(RAX, b.form.operandSize)));
};

/**
 * Where the comparison fails, memory is written with what it held, but a register is not written (bits 63:32 of a
 * 32-bit one stay); the accumulator is written only then.
 */
const cmpxchg: Semantic = (b) => {
  const destination = b.readForWrite(0);
  const source = b.read(1);
  const accumulator = b.getRegister(RAX, b.form.operandSize);
  const equal = b.eq(accumulator, destination);
  if (b.form.operands[0].kind === 'memory') {
    b.write(0, b.select(equal, source, destination));
    b.when(b.not(equal), () => b.setRegister(RAX, destination));
  } else {
    b.when(
      equal,
      () => b.write(0, source),
      () => b.setRegister(RAX, destination),
    );
  }
  setDifferenceFlags(b, accumulator, destination, b.sub(accumulator, destination));
};

const cmpxchg8b: Semantic = (b) => {
  const memory = b.loadForWrite('operand', b.effectiveAddress(0), 64);
  const join = (high: number, low: number): Value =>
    b.or(
      b.shl(b.zeroExtend(b.getRegister(high, 32), 64), b.constant(8, 32)),
      b.zeroExtend(b.getRegister(low, 32), 64),
    );
  const equal = b.eq(memory.value, join(RDX, RAX));
  memory.commit(b.select(equal, join(RCX, RBX), memory.value));
  b.when(b.not(equal), () => {
    b.setRegister(RAX, b.truncate(memory.value, 32));
    b.setRegister(RDX, b.truncate(b.shr(memory.value, b.constant(8, 32)), 32));
  });
  b.setFlags({ zf: equal });
};

/** The only integer instruction whose operand must be aligned, to 16 bytes of linear address. */
const cmpxchg16b: Semantic = (b) => {
  const misalignment = b.and(b.linear(0), b.constant(64, 15));
  b.when(isNonzero(b, misalignment), () => b.fault(GENERAL_PROTECTION, 0));
  const lowAddress = b.effectiveAddress(0);
  const highAddress = plus(b, lowAddress, 8);
  b.probeWrite('operand', lowAddress, 64);
  b.probeWrite('operand', highAddress, 64);
  const low = b.load('operand', lowAddress, 64);
  const high = b.load('operand', highAddress, 64);
  const equal = b.and(b.eq(low, b.getRegister(RAX, 64)), b.eq(high, b.getRegister(RDX, 64)));
  b.store('operand', lowAddress, b.select(equal, b.getRegister(RBX, 64), low));
  b.store('operand', highAddress, b.select(equal, b.getRegister(RCX, 64), high));
  b.when(b.not(equal), () => {
    b.setRegister(RAX, low);
    b.setRegister(RDX, high);
  });
  b.setFlags({ zf: equal });
};

export const move = {
  mov,
  movzx,
  movsx,
  movbe,
  bswap,
  xchg,
  lea,
  cmovcc,
  setcc,
  xlat,
  cbw,
  cwd,
  cmpxchg,
  cmpxchg8b,
  cmpxchg16b,
};
