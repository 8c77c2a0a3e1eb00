/** Logic on vectors: PAND PANDN POR PXOR, ANDPS and their like, PTEST (SDM vol. 2B "PAND" and following). */
import type { Semantic } from '../../builder.ts';
import { binary } from './forms.ts';

const and = binary((b, x, y) => b.and(x, y));
const andNot = binary((b, x, y) => b.and(b.not(x), y));
const or = binary((b, x, y) => b.or(x, y));
const xor = binary((b, x, y) => b.xor(x, y));

/** ZF: no bit in common; CF: no bit of the source that the destination lacks. */
const ptest: Semantic = (b) => {
  const [y] = b.readVector(1, true);
  const [x] = b.readVector(0);
  const nothing = b.constant(64, 0);
  const isZero = (value: typeof x) =>
    b.eq(b.or(b.extractLane(64, value, 0), b.extractLane(64, value, 1)), nothing);
  const clear = b.constant(1, 0);
  b.setFlags({
    zf: isZero(b.and(x, y)),
    cf: isZero(b.and(b.not(x), y)),
    pf: clear,
    af: clear,
    sf: clear,
    of: clear,
  });
};

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
  ptest,
} satisfies Record<string, Semantic>;
