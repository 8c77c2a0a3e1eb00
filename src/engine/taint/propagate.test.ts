/** Each operation against what flipping tainted bits really does, by trying all of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Builder, Value, Width } from '../../isa/builder.ts';
import type { OperandWidth } from '../../isa/instruction.ts';
import { ones } from '../../isa/integers.ts';
import { instruction } from '../../isa/semantics/evaluate.fixture.ts';
import { anyOf, FIRST_LABEL, labelOf, make, maskOf, type Shadow } from './shadow.ts';
import { Evaluation, type TaintedBits, type TaintGuest } from './taint-builder.ts';

const nothing: TaintGuest = {
  rip: 0n,
  flags: 0,
  flagsShadow: null,
  codeLimit: 0n,
  register: () => ({ bits: 0n, shadow: null }),
  vector: () => ({ bits: 0n, shadow: null }),
  x87Pending: false,
  segmentBase: () => ({ bits: 0n, shadow: null }),
  load: () => null,
  canStore: () => false,
  codeAddress: () => null,
};

type Operation = (b: Builder, ...operands: Value[]) => Value;
interface Input {
  readonly bits: bigint;
  readonly mask: bigint;
}

function run(operation: Operation, width: Width, inputs: readonly Input[]): TaintedBits & { width: Width } {
  const b = new Evaluation(instruction('nop', 32, []), nothing, 64);
  const operands = inputs.map(({ bits, mask }, n) =>
    b.value(
      width,
      bits,
      make(mask, (bit) => labelOf(n + 1, bit)),
    ),
  );
  return operation(b, ...operands) as Value & TaintedBits;
}

/** Every number whose 1s are within `mask`. */
function* subsets(mask: bigint): Generator<bigint> {
  let subset = mask;
  for (;;) {
    yield subset;
    if (subset === 0n) return;
    subset = (subset - 1n) & mask;
  }
}

/** The bits of the result that some change of tainted bits changes. */
function dependent(operation: Operation, width: Width, inputs: readonly Input[]): bigint {
  const now = run(
    operation,
    width,
    inputs.map(({ bits }) => ({ bits, mask: 0n })),
  ).bits;
  let differing = 0n;
  const walk = (n: number, chosen: Input[]): void => {
    if (n === inputs.length) differing |= run(operation, width, chosen).bits ^ now;
    else
      for (const flips of subsets(inputs[n].mask))
        walk(n + 1, [...chosen, { bits: inputs[n].bits ^ flips, mask: 0n }]);
  };
  walk(0, []);
  return differing;
}

/** A value of `width` bits with at most `most` tainted ones, often near each other and near the ends. */
function input(width: Width, most: number): fc.Arbitrary<Input> {
  const bits = fc.oneof(
    fc.bigInt(0n, ones(width)),
    fc.constantFrom(0n, 1n, ones(width), ones(width) >> 1n, 1n << BigInt(width - 1)),
  );
  const at = fc.oneof(fc.nat(width - 1), fc.constantFrom(0, 1, width - 1, width - 2));
  const mask = fc
    .array(at, { maxLength: most })
    .map((positions) => positions.reduce((all, position) => all | (1n << BigInt(position)), 0n));
  return fc.record({ bits, mask });
}

const by = (n: number) => (b: Builder) => b.constant(8, n);
const exact: Record<string, Operation> = {
  and: (b, x, y) => b.and(x, y),
  or: (b, x, y) => b.or(x, y),
  xor: (b, x, y) => b.xor(x, y),
  'xor of one value with itself': (b, x) => b.xor(x, x),
  'sub of one value from itself': (b, x) => b.sub(x, x),
  'comparison of one value with itself': (b, x) => b.ltSigned(x, x),
  not: (b, x) => b.not(x),
  add: (b, x, y) => b.add(x, y),
  sub: (b, x, y) => b.sub(x, y),
  neg: (b, x) => b.neg(x),
  'mul by a power of two': (b, x) => b.mul(x, b.constant(x.width, 4)),
  'div by a power of two': (b, x) =>
    b.divideUnsigned(b.constant(x.width, 0), x, b.constant(x.width, 8)).quotient,
  'remainder by a power of two': (b, x) =>
    b.divideUnsigned(b.constant(x.width, 0), x, b.constant(x.width, 8)).remainder,
  shl: (b, x) => b.shl(x, by(3)(b)),
  shr: (b, x) => b.shr(x, by(3)(b)),
  sar: (b, x) => b.sar(x, by(3)(b)),
  rotl: (b, x) => b.rotl(x, by(5)(b)),
  rotr: (b, x) => b.rotr(x, by(5)(b)),
  'zero extension': (b, x) => b.zeroExtend(x, 64),
  'sign extension': (b, x) => b.signExtend(x, 64),
  truncation: (b, x) => b.truncate(x, 8),
  'sign bit': (b, x) => b.truncate(b.shr(x, by(7)(b)), 1),
  eq: (b, x, y) => b.eq(x, y),
  ne: (b, x, y) => b.ne(x, y),
  ltUnsigned: (b, x, y) => b.ltUnsigned(x, y),
  leUnsigned: (b, x, y) => b.leUnsigned(x, y),
  ltSigned: (b, x, y) => b.ltSigned(x, y),
  leSigned: (b, x, y) => b.leSigned(x, y),
};

const sound: Record<string, Operation> = {
  mul: (b, x, y) => b.mul(x, y),
  mulHighUnsigned: (b, x, y) => b.mulHighUnsigned(x, y),
  mulHighSigned: (b, x, y) => b.mulHighSigned(x, y),
  'quotient of a long division': (b, x, y) =>
    b.divideUnsigned(b.constant(x.width, 0), x, b.or(y, b.constant(x.width, 1))).quotient,
  'remainder of a long division': (b, x, y) =>
    b.divideUnsigned(b.constant(x.width, 0), x, b.or(y, b.constant(x.width, 1))).remainder,
  'quotient of a double-width division': (b, x, y) => {
    const high = b.and(x, b.constant(x.width, 3));
    return b.divideUnsigned(high, y, b.or(y, b.constant(x.width, 0x4))).quotient;
  },
  fits: (b, x, y) => b.divideUnsigned(x, y, b.constant(x.width, 5)).fits,
  'shl by a value': (b, x, y) => b.shl(x, b.and(y, b.constant(x.width, 31))),
  'shr by a value': (b, x, y) => b.shr(x, b.and(y, b.constant(x.width, 31))),
  'sar by a value': (b, x, y) => b.sar(x, b.and(y, b.constant(x.width, 31))),
  'rotl by a value': (b, x, y) => b.rotl(x, b.and(y, b.constant(x.width, x.width - 1))),
  'rotr by a value': (b, x, y) => b.rotr(x, b.and(y, b.constant(x.width, x.width - 1))),
  countLeadingZeros: (b, x) => b.countLeadingZeros(x),
  countTrailingZeros: (b, x) => b.countTrailingZeros(x),
  countOnes: (b, x) => b.countOnes(x),
  'select by a comparison': (b, x, y) => b.select(b.ltUnsigned(x, y), x, y),
  'a variable assigned on one way': (b, x, y) => {
    const result = b.variable(x);
    b.when(b.eq(b.truncate(y, 1), b.constant(1, 1)), () => b.assign(result, b.add(x, y)));
    return result;
  },
  'a variable assigned on either way, nested': (b, x, y) => {
    const result = b.variable(x);
    b.when(
      b.ltSigned(x, y),
      () => b.when(b.truncate(x, 1), () => b.assign(result, b.not(y))),
      () => b.assign(result, b.constant(x.width, 7)),
    );
    return result;
  },
  'a loop that a value ends': (b, x) => {
    const left = b.variable(b.and(x, b.constant(x.width, 7)));
    const result = b.variable(b.constant(x.width, 1));
    b.loop(
      () => b.ne(left, b.constant(x.width, 0)),
      () => {
        b.assign(result, b.add(result, result));
        b.assign(left, b.sub(left, b.constant(x.width, 1)));
      },
    );
    return result;
  },
};

const runs = { numRuns: 120 };

describe.each(Object.entries(exact))('%s', (_, operation) => {
  it.each([8, 32, 64] as OperandWidth[])('taints exactly the bits that can change, of %i', (width) => {
    const inputs = fc.tuple(input(width, 3), input(width, 3));
    fc.assert(
      fc.property(inputs, (values) => {
        const operands = values.slice(0, operation.length - 1);
        expect(maskOf(run(operation, width, operands).shadow)).toBe(dependent(operation, width, operands));
      }),
      runs,
    );
  });
});

describe.each(Object.entries({ ...exact, ...sound }))('%s', (_, operation) => {
  it.each([8, 16, 64] as OperandWidth[])('taints whatever can change, of %i', (width) => {
    fc.assert(
      fc.property(input(width, 4), input(width, 4), (...values) => {
        const operands = values.slice(0, operation.length - 1);
        const { bits, shadow } = run(operation, width, operands);
        const plain = operands.map(({ bits }) => ({ bits, mask: 0n }));
        expect(bits).toBe(run(operation, width, plain).bits);
        expect(dependent(operation, width, operands) & ~maskOf(shadow)).toBe(0n);
      }),
      runs,
    );
  });

  it('gives each tainted bit a label of an operand, and clean ones none', () => {
    fc.assert(
      fc.property(input(16, 4), input(16, 4), (...values) => {
        const { shadow } = run(operation, 16, values.slice(0, operation.length - 1));
        const labels: number[] = shadow === null ? [] : [...shadow.labels];
        const mask = labels.reduce((m, label, bit) => (label === 0 ? m : m | (1n << BigInt(bit))), 0n);
        expect(mask).toBe(maskOf(shadow));
        for (const label of labels) if (label !== 0) expect(label).toBeGreaterThanOrEqual(FIRST_LABEL);
      }),
      { numRuns: 30 },
    );
  });
});

describe('labels', () => {
  const values = (): [Evaluation, Value, Value] => {
    const b = new Evaluation(instruction('nop', 32, []), nothing, 64);
    return [
      b,
      b.value(
        8,
        0x10n,
        make(0xf0n, (bit) => labelOf(1, bit)),
      ),
      b.value(8, 0x01n, null),
    ];
  };
  const labelsOf = (x: Value): readonly number[] => [
    ...((x as Value & { shadow: Shadow }).shadow?.labels ?? []),
  ];

  it('stay with their bits through moves and shifts', () => {
    const [b, x] = values();
    expect(labelsOf(b.shr(x, b.constant(8, 4)))).toEqual([4, 5, 6, 7].map((bit) => labelOf(1, bit)));
    expect(labelsOf(b.zeroExtend(x, 64))).toEqual(labelsOf(x));
    expect(labelsOf(b.not(x))).toEqual(labelsOf(x));
  });

  it('come from the nearest bit below where a carry goes on', () => {
    const [b] = values();
    const x = b.value(
      8,
      0x0cn,
      make(0x04n, () => labelOf(3, 2)),
    );
    const sum = b.add(x, b.constant(8, 4));
    expect(labelsOf(sum)).toEqual([0, 0, 2, 2, 2].map((bit) => (bit === 0 ? 0 : labelOf(3, bit))));
  });

  it('are of a secret rather than of the unknown', () => {
    const [b, x] = values();
    const unknown = b.value(
      8,
      0n,
      make(0xffn, () => 1),
    );
    const sum = b.xor(unknown, x) as Value & TaintedBits;
    expect(anyOf(sum.shadow)).toBe(labelOf(1, 4));
    expect(labelsOf(sum).slice(4)).toEqual([4, 5, 6, 7].map((bit) => labelOf(1, bit)));
  });
});
