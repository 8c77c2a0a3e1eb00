/** VPGATHERDD VPGATHERDQ VPGATHERQD VPGATHERQQ and the VGATHERxPx (SDM vol. 2D). */
import type { Builder, Semantic, Value } from '../../builder.ts';
import { lanesToBytes, zero } from './forms.ts';

const DESTINATION = 0;
const ADDRESS = 1;
const MASK = 2;
const INDEX = 3;

/**
 * Lanes whose mask's top bit is set are loaded one after another, and their mask becomes zero: a fault finds those done that come
 * before it, and the mask as ones and zeros. There is no alignment, so lanes are loaded byte by byte; the upper half of the
 * destination of VPGATHERQD and VGATHERQPS is cleared at the end, as those with VEX.L use YMM registers (all of this was measured
 * on Intel silicon). Indices are of `index` bits, signed;
 * `form.immediate` is their scale.
 */
function gather(lane: 32 | 64, index: 32 | 64): Semantic {
  return (b) => {
    const { addressSize, immediate, operands } = b.form;
    const base = b.effectiveAddress(ADDRESS);
    const indices = b.readVector(INDEX);
    const masks = b.readVector(MASK);
    const signs = masks.map((mask) => b.signMask(lane, mask));
    // With quadword indices of doublewords, only as many lanes as there are indices.
    const count = Math.min(operands[DESTINATION].width / lane, operands[INDEX].width / index);
    const result = b.readVector(DESTINATION).map((x) => b.variable(x));
    const left = masks.map((mask) => b.variable(b.lanes('gtSigned', lane, zero(b), mask)));
    b.writeVector(MASK, left);
    for (let i = 0; i < count; i++) {
      const at = i * lane;
      const part = at >> 7;
      const number = (at & 127) / lane;
      b.when(b.truncate(b.shr(signs[part], b.constant(8, number)), 1), () => {
        const position = i * index;
        const distance = b.extractLane(index, indices[position >> 7], (position & 127) / index);
        const wide = addressSize === 64 ? b.signExtend(distance, 64) : b.truncate(distance, addressSize);
        const offset = b.add(base, b.shl(wide, b.constant(8, immediate)));
        for (const byte of [0, lane / 8 - 1])
          b.checkSegment('operand', b.add(b.zeroExtend(offset, 64), b.constant(64, byte)), false);
        let loaded = result[part] as Value;
        for (let byte = 0; byte < lane / 8; byte++) {
          const from = byte === 0 ? offset : b.add(offset, b.constant(offset.width, byte));
          loaded = b.insertLane(8, loaded, (at & 127) / 8 + byte, b.load('operand', from, 8));
        }
        b.assign(result[part], loaded);
        b.assign(left[part], b.insertLane(lane, left[part], number, b.constant(lane, 0)));
        b.writeVector(DESTINATION, result);
        b.writeVector(MASK, left);
      });
    }
    b.writeVector(
      DESTINATION,
      result.map((x, part) => keepLanes(b, lane, x, count - (part * 128) / lane)),
    );
    b.writeVector(
      MASK,
      masks.map(() => zero(b)),
    );
  };
}

/** The lowest `count` lanes, zeros above. */
function keepLanes(b: Builder, lane: 32 | 64, x: Value, count: number): Value {
  const lanes = 128 / lane;
  if (count >= lanes) return x;
  if (count <= 0) return zero(b);
  const kept = Array.from({ length: lanes }, (_, i) => (i < count ? i : lanes));
  return b.shuffle(x, zero(b), lanesToBytes(lane, kept));
}

export const gathers = {
  vpgatherdd: gather(32, 32),
  vpgatherdq: gather(64, 32),
  vpgatherqd: gather(32, 64),
  vpgatherqq: gather(64, 64),
  vgatherdps: gather(32, 32),
  vgatherdpd: gather(64, 32),
  vgatherqps: gather(32, 64),
  vgatherqpd: gather(64, 64),
} satisfies Record<string, Semantic>;
