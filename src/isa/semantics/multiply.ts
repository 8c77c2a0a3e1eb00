/** Multiplication and division: MUL IMUL MULX DIV IDIV (SDM vol. 2). */
import type { Builder, Semantic, Value } from '../builder.ts';
import { RAX, RDX } from '../state.ts';
import { isZero, signBit, signFill } from './values.ts';

const DIVIDE_ERROR = 0;

/** The upper half of the double-width accumulator: AH for bytes, else rDX. */
function getUpper(b: Builder): Value {
  return b.form.operandSize === 8 ? b.getAh() : b.getRegister(RDX, b.form.operandSize);
}

function setAccumulator(b: Builder, upper: Value, lower: Value): void {
  b.setRegister(RAX, lower);
  if (b.form.operandSize === 8) b.setAh(upper);
  else b.setRegister(RDX, upper);
}

/** CF = OF = the product does not fit in its low half. SF and PF, undefined, follow the low half; AF and ZF are cleared. */
function setProductFlags(b: Builder, low: Value, overflow: Value): void {
  const no = b.constant(1, 0);
  b.setFlags({ result: low, zf: no, cf: overflow, of: overflow, af: no });
}

const mul: Semantic = (b) => {
  const y = b.read(0);
  const x = b.getRegister(RAX, b.form.operandSize);
  const low = b.mul(x, y);
  const high = b.mulHighUnsigned(x, y);
  setAccumulator(b, high, low);
  setProductFlags(b, low, b.not(isZero(b, high)));
};

const imul: Semantic = (b) => {
  const operands = b.form.operands.length;
  const x = operands === 1 ? b.getRegister(RAX, b.form.operandSize) : operands === 2 ? b.read(0) : b.read(1);
  const y = b.read(operands - 1);
  const low = b.mul(x, y);
  const high = b.mulHighSigned(x, y);
  if (operands === 1) setAccumulator(b, high, low);
  else b.write(0, low);
  setProductFlags(b, low, b.ne(high, signFill(b, low)));
};

/** Operands: destination of the high half, of the low half, source. If the destinations are one, it gets the high half. */
const mulx: Semantic = (b) => {
  const y = b.read(2);
  const x = b.getRegister(RDX, b.form.operandSize);
  const low = b.mul(x, y);
  const high = b.mulHighUnsigned(x, y);
  b.write(1, low);
  b.write(0, high);
};

const div: Semantic = (b) => {
  const divisor = b.read(0);
  const { quotient, remainder, fits } = b.divideUnsigned(
    getUpper(b),
    b.getRegister(RAX, b.form.operandSize),
    divisor,
  );
  b.when(b.not(fits), () => b.fault(DIVIDE_ERROR));
  setAccumulator(b, remainder, quotient);
};

/** Divides magnitudes and puts the signs back; the quotient rounds to zero, the remainder has the dividend's sign. */
const idiv: Semantic = (b) => {
  const divisor = b.read(0);
  const width = b.form.operandSize;
  const upper = getUpper(b);
  const lower = b.getRegister(RAX, width);

  const dividendNegative = signBit(b, upper);
  const divisorNegative = signBit(b, divisor);
  const negatedUpper = b.add(b.not(upper), b.zeroExtend(isZero(b, lower), width));
  const { quotient, remainder, fits } = b.divideUnsigned(
    b.select(dividendNegative, negatedUpper, upper),
    b.select(dividendNegative, b.neg(lower), lower),
    b.select(divisorNegative, b.neg(divisor), divisor),
  );

  const quotientNegative = b.xor(dividendNegative, divisorNegative);
  const largest = b.add(
    b.constant(width, (1n << BigInt(width - 1)) - 1n),
    b.zeroExtend(quotientNegative, width),
  );
  b.when(b.not(b.and(fits, b.leUnsigned(quotient, largest))), () => b.fault(DIVIDE_ERROR));
  setAccumulator(
    b,
    b.select(dividendNegative, b.neg(remainder), remainder),
    b.select(quotientNegative, b.neg(quotient), quotient),
  );
};

export const multiply = { mul, imul, mulx, div, idiv };
