/** Binary arithmetic: ADD ADC SUB SBB CMP INC DEC NEG, ADCX ADOX, XADD (SDM vol. 2). */
import type { Builder, Semantic, Value } from '../builder.ts';
import { borrowsOfDifference, carriesOfSum, signBit } from './values.ts';

function setSumFlags(b: Builder, x: Value, y: Value, sum: Value): void {
  b.setFlags({ result: sum, carries: carriesOfSum(b, x, y, sum) });
}

/** Flags of `x - y`, as CMP leaves them. Shared with CMPS, SCAS and CMPXCHG. */
export function setDifferenceFlags(b: Builder, x: Value, y: Value, difference: Value): void {
  b.setFlags({ result: difference, carries: borrowsOfDifference(b, x, y, difference) });
}

const add: Semantic = (b) => {
  const x = b.readForWrite(0);
  const y = b.read(1);
  const sum = b.add(x, y);
  b.write(0, sum);
  setSumFlags(b, x, y, sum);
};

const adc: Semantic = (b) => {
  const x = b.readForWrite(0);
  const y = b.read(1);
  const sum = b.add(b.add(x, y), b.zeroExtend(b.getFlag('cf'), x.width));
  b.write(0, sum);
  setSumFlags(b, x, y, sum);
};

const sub: Semantic = (b) => {
  const x = b.readForWrite(0);
  const y = b.read(1);
  const difference = b.sub(x, y);
  b.write(0, difference);
  setDifferenceFlags(b, x, y, difference);
};

const sbb: Semantic = (b) => {
  const x = b.readForWrite(0);
  const y = b.read(1);
  const difference = b.sub(b.sub(x, y), b.zeroExtend(b.getFlag('cf'), x.width));
  b.write(0, difference);
  setDifferenceFlags(b, x, y, difference);
};

const cmp: Semantic = (b) => {
  const x = b.read(0);
  const y = b.read(1);
  setDifferenceFlags(b, x, y, b.sub(x, y));
};

const inc: Semantic = (b) => {
  const x = b.readForWrite(0);
  const one = b.constant(x.width, 1);
  const sum = b.add(x, one);
  const cf = b.getFlag('cf');
  b.write(0, sum);
  b.setFlags({ result: sum, carries: carriesOfSum(b, x, one, sum), cf });
};

const dec: Semantic = (b) => {
  const x = b.readForWrite(0);
  const one = b.constant(x.width, 1);
  const difference = b.sub(x, one);
  const cf = b.getFlag('cf');
  b.write(0, difference);
  b.setFlags({ result: difference, carries: borrowsOfDifference(b, x, one, difference), cf });
};

const neg: Semantic = (b) => {
  const x = b.readForWrite(0);
  const zero = b.constant(x.width, 0);
  const difference = b.neg(x);
  b.write(0, difference);
  setDifferenceFlags(b, zero, x, difference);
};

const adcx: Semantic = (b) => {
  const x = b.read(0);
  const y = b.read(1);
  const sum = b.add(b.add(x, y), b.zeroExtend(b.getFlag('cf'), x.width));
  b.write(0, sum);
  b.setFlags({ cf: signBit(b, carriesOfSum(b, x, y, sum)) });
};

const adox: Semantic = (b) => {
  const x = b.read(0);
  const y = b.read(1);
  const sum = b.add(b.add(x, y), b.zeroExtend(b.getFlag('of'), x.width));
  b.write(0, sum);
  b.setFlags({ of: signBit(b, carriesOfSum(b, x, y, sum)) });
};

/** The sum is written last: XADD of a register with itself leaves the sum. */
const xadd: Semantic = (b) => {
  const x = b.readForWrite(0);
  const y = b.read(1);
  const sum = b.add(x, y);
  b.write(1, x);
  b.write(0, sum);
  setSumFlags(b, x, y, sum);
};

export const arithmetic = { add, adc, sub, sbb, cmp, inc, dec, neg, adcx, adox, xadd };
