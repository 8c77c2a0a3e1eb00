/** Orders of quadwords against the flags of a subtraction, by which the SDM defines conditions (vol. 1 appendix B). */
import fc from 'fast-check';
import { ConditionCode } from 'iced-x86';
import { expect, it } from 'vitest';
import { highOf, isSo, lowOf } from './comparison.ts';

const quadword = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.constantFrom(0n, 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n),
);

it('are what CMP and a conditional jump make of them', () => {
  fc.assert(
    fc.property(quadword, quadword, (a, b) => {
      const difference = BigInt.asUintN(64, a - b);
      const cf = a < b;
      const zf = difference === 0n;
      const sf = difference >> 63n === 1n;
      const of = ((a ^ b) & (a ^ difference)) >> 63n === 1n;
      const expected: readonly (readonly [ConditionCode, boolean])[] = [
        [ConditionCode.b, cf],
        [ConditionCode.ae, !cf],
        [ConditionCode.e, zf],
        [ConditionCode.ne, !zf],
        [ConditionCode.be, cf || zf],
        [ConditionCode.a, !cf && !zf],
        [ConditionCode.l, sf !== of],
        [ConditionCode.ge, sf === of],
        [ConditionCode.le, zf || sf !== of],
        [ConditionCode.g, !zf && sf === of],
      ];
      for (const [condition, holds] of expected)
        expect(isSo(condition, highOf(a), lowOf(a), highOf(b), lowOf(b))).toBe(holds);
    }),
  );
});

it.each(['s', 'ns', 'o', 'no', 'p', 'np'] as const)('of %s nothing is said', (name) => {
  expect(isSo(ConditionCode[name], 0, 1, 0, 2)).toBeUndefined();
});
