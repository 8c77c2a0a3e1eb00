/** Logic on vectors: PAND PANDN POR PXOR, ANDPS and their like, PTEST, VTESTPx (SDM vol. 2B "PAND" and following). */
import type { Semantic, Value } from '../../builder.ts';
import { binary, every } from './forms.ts';

const and = binary((b, x, y) => b.and(x, y));
const andNot = binary((b, x, y) => b.and(b.not(x), y));
const or = binary((b, x, y) => b.or(x, y));
const xor = binary((b, x, y) => b.xor(x, y));

/** ZF: no bit of `mask` in common; CF: none of the source that the destination lacks. Of VTESTPx the mask is of sign bits. */
function test(mask?: 32 | 64): Semantic {
  return (b) => {
    const ys = b.readVector(1, !b.form.vex);
    const xs = b.readVector(0);
    const isZero = (make: (x: Value, y: Value) => Value) => {
      const all = xs.map((x, i) => make(x, ys[i])).reduce((x, y) => b.or(x, y));
      const masked = mask ? b.and(all, every(b, mask, 1n << BigInt(mask - 1))) : all;
      return b.eq(b.or(b.extractLane(64, masked, 0), b.extractLane(64, masked, 1)), b.constant(64, 0));
    };
    const clear = b.constant(1, 0);
    b.setFlags({
      zf: isZero((x, y) => b.and(x, y)),
      cf: isZero((x, y) => b.and(b.not(x), y)),
      pf: clear,
      af: clear,
      sf: clear,
      of: clear,
    });
  };
}

export const logic128 = {
  pand: and,
  andps: and,
  andpd: and,
  pandn: andNot,
  andnps: andNot,
  andnpd: andNot,
  por: or,
  orps: or,
  orpd: or,
  pxor: xor,
  xorps: xor,
  xorpd: xor,
  ptest: test(),
} satisfies Record<string, Semantic>;

export const logic256 = { vtestps: test(32), vtestpd: test(64) } satisfies Record<string, Semantic>;
