/** PCLMULQDQ: the product of two polynomials over GF(2) (SDM vol. 2B "PCLMULQDQ"). */
import type { Semantic } from '../../builder.ts';
import { binary } from './forms.ts';

const multiply = binary((b, x, y) => {
  const { immediate } = b.form;
  const factor = b.extractLane(64, x, immediate & 1);
  const other = b.extractLane(64, y, (immediate >> 4) & 1);
  const low = b.variable(b.constant(64, 0));
  const high = b.variable(b.constant(64, 0));
  // From the highest coefficient down: the sum so far is doubled, and the factor added.
  const left = b.variable(b.constant(64, 64));
  const one = b.constant(8, 1);
  const nothing = b.constant(64, 0);
  b.loop(
    () => b.ne(left, nothing),
    () => {
      b.assign(left, b.sub(left, b.constant(64, 1)));
      b.assign(high, b.or(b.shl(high, one), b.shr(low, b.constant(8, 63))));
      const coefficient = b.signExtend(b.truncate(b.shr(other, left), 1), 64);
      b.assign(low, b.xor(b.shl(low, one), b.and(factor, coefficient)));
    },
  );
  return b.insertLane(64, b.zeroExtend(low, 128), 1, high);
});

export const carryless = { pclmulqdq: multiply } satisfies Record<string, Semantic>;
