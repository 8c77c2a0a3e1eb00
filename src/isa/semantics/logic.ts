/** Bitwise logic: AND OR XOR TEST NOT (SDM vol. 2). CF and OF are cleared; so is AF, which the manual leaves open. */
import type { Builder, Semantic, Value } from '../builder.ts';

function setLogicFlags(b: Builder, result: Value): void {
  b.setFlags({ result, carries: b.constant(result.width, 0) });
}

function logic(operation: 'and' | 'or' | 'xor'): Semantic {
  return (b) => {
    const x = b.readForWrite(0);
    const result = b[operation](x, b.read(1));
    b.write(0, result);
    setLogicFlags(b, result);
  };
}

const test: Semantic = (b) => {
  const x = b.read(0);
  setLogicFlags(b, b.and(x, b.read(1)));
};

const not: Semantic = (b) => {
  b.write(0, b.not(b.readForWrite(0)));
};

export const logicInstructions = { and: logic('and'), or: logic('or'), xor: logic('xor'), test, not };
