/**
 * Rearrangements: PSHUFx SHUFPx PALIGNR UNPCKx PUNPCKx PBLENDx BLENDPx PINSRx PEXTRx INSERTPS EXTRACTPS (SDM vol. 2B chapter 4).
 */
import type { Builder, Semantic, Value } from '../../builder.ts';
import {
  binary,
  blend,
  every,
  firstOperand,
  isMmx,
  lanesToBytes,
  sourceOperand,
  unary,
  withX87,
  zero,
} from './forms.ts';

/** PSHUFB: bit 7 of an index clears the byte; of the others the low bits count. */
const shuffleBytes = binary((b, x, y) => b.swizzle(x, b.and(y, every(b, 8, isMmx(b) ? 0x87 : 0x8f))));

/** Four two-bit lane numbers of the immediate. */
function selectors(b: Builder): number[] {
  return [0, 2, 4, 6].map((at) => (b.form.immediate >> at) & 3);
}

const shuffleDoublewords = unary((b, x) => b.shuffle(x, x, lanesToBytes(32, selectors(b))));
const shuffleLowWords = unary((b, x) => b.shuffle(x, x, lanesToBytes(16, [...selectors(b), 4, 5, 6, 7])));
const shuffleHighWords = unary((b, x) =>
  b.shuffle(x, x, lanesToBytes(16, [0, 1, 2, 3, ...selectors(b).map((word) => word + 4)])),
);

const shufps = binary((b, x, y) => {
  const [first, second, third, fourth] = selectors(b);
  return b.shuffle(x, y, lanesToBytes(32, [first, second, third + 4, fourth + 4]));
});
const shufpd = binary((b, x, y, part) => {
  const immediate = b.form.immediate >> (2 * part);
  return b.shuffle(x, y, lanesToBytes(64, [immediate & 1, 2 + ((immediate >> 1) & 1)]));
});

/** PALIGNR: destination:source shifted right by bytes. */
const palignr = binary((b, x, y) => {
  const size = isMmx(b) ? 8 : 16;
  const count = b.form.immediate;
  const low = isMmx(b) ? b.shuffle(y, x, lanesToBytes(64, [0, 2])) : y;
  const high = isMmx(b) ? zero(b) : x;
  if (count >= 2 * size) return zero(b);
  const bytes = Array.from({ length: 16 }, (_, i) => i + count);
  // Of MM registers both operands lie in `low`.
  if (count <= 16) return b.shuffle(low, high, bytes);
  return b.shuffle(
    high,
    zero(b),
    bytes.map((byte) => Math.min(byte - 16, 16)),
  );
});

/** Interleaves the low or the high lanes of destination and source. */
function unpack(lane: 8 | 16 | 32 | 64, high: boolean): Semantic {
  return binary((b, x, y) => {
    const count = 128 / lane;
    const first = high ? (isMmx(b) ? count / 4 : count / 2) : 0;
    const lanes = Array.from({ length: count }, (_, i) => {
      const number = first + (i >> 1);
      return i % 2 ? count + number : number;
    });
    return b.shuffle(x, y, lanesToBytes(lane, lanes));
  });
}

/** By bits of the immediate: 1 takes the source's lane. */
function blendImmediate(lane: 16 | 32 | 64): Semantic {
  return binary((b, x, y, part) => {
    const count = 128 / lane;
    // Of words, the eight bits serve both halves.
    const bits = lane === 16 ? b.form.immediate : b.form.immediate >> (count * part);
    const lanes = Array.from({ length: count }, (_, i) => ((bits >> i) & 1 ? count + i : i));
    return b.shuffle(x, y, lanesToBytes(lane, lanes));
  });
}

/** By the top bits of the lanes of XMM0. */
function blendVariable(lane: 8 | 32 | 64): Semantic {
  return binary((b, x, y) => blend(b, b.lanes('gtSigned', lane, zero(b), b.getXmm(0)), y, x));
}

function insert(lane: 8 | 16 | 32 | 64): Semantic {
  return (b) =>
    withX87(b, () => {
      const value = b.truncate(b.read(sourceOperand(b)), lane);
      const index = b.form.immediate & (isMmx(b) ? 3 : 128 / lane - 1);
      b.writeVector(0, [b.insertLane(lane, b.readVector(firstOperand(b))[0], index, value)]);
    });
}

function extract(lane: 8 | 16 | 32 | 64): Semantic {
  return (b) =>
    withX87(b, () => {
      const index = b.form.immediate & (isMmx(b) ? 3 : 128 / lane - 1);
      const value = b.extractLane(lane, b.readVector(1)[0], index);
      const { kind, width } = b.form.operands[0];
      b.write(0, kind === 'register' ? b.zeroExtend(value, width === 64 ? 64 : 32) : value);
    });
}

/** INSERTPS: a doubleword of the source to a place of the destination; then bits 3:0 of the immediate clear doublewords. */
const insertps: Semantic = (b) => {
  const { immediate, operands } = b.form;
  const source = sourceOperand(b);
  const from = operands[source].kind === 'memory' ? 0 : immediate >> 6;
  const value = b.extractLane(32, b.readVector(source)[0], from);
  let result: Value = b.insertLane(32, b.readVector(firstOperand(b))[0], (immediate >> 4) & 3, value);
  for (let lane = 0; lane < 4; lane++)
    if ((immediate >> lane) & 1) result = b.insertLane(32, result, lane, b.constant(32, 0));
  b.writeVector(0, [result]);
};

export const shuffle128 = {
  pshufb: shuffleBytes,
  pshufw: shuffleLowWords,
  pshufd: shuffleDoublewords,
  pshuflw: shuffleLowWords,
  pshufhw: shuffleHighWords,
  shufps,
  shufpd,
  palignr,
  unpcklps: unpack(32, false),
  unpcklpd: unpack(64, false),
  unpckhps: unpack(32, true),
  unpckhpd: unpack(64, true),
  punpcklbw: unpack(8, false),
  punpcklwd: unpack(16, false),
  punpckldq: unpack(32, false),
  punpcklqdq: unpack(64, false),
  punpckhbw: unpack(8, true),
  punpckhwd: unpack(16, true),
  punpckhdq: unpack(32, true),
  punpckhqdq: unpack(64, true),
  pblendvb: blendVariable(8),
  blendvps: blendVariable(32),
  blendvpd: blendVariable(64),
  blendps: blendImmediate(32),
  blendpd: blendImmediate(64),
  pblendw: blendImmediate(16),
  pinsrb: insert(8),
  pinsrw: insert(16),
  pinsrd: insert(32),
  pinsrq: insert(64),
  insertps,
  pextrb: extract(8),
  pextrw: extract(16),
  pextrd: extract(32),
  pextrq: extract(64),
  extractps: extract(32),
} satisfies Record<string, Semantic>;
