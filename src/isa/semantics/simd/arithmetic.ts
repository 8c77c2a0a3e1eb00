/** Packed integer arithmetic (SDM vol. 2B: PADDB to PSUBUSW, PABSx, PSIGNx, PMULx, PMADDx, PHADDx, PSADBW, MPSADBW, PHMINPOSUW). */
import type { Builder, Semantic, Value } from '../../builder.ts';
import type { LaneOperation, LaneWidth } from '../../lanes.ts';
import { binary, blend, every, isMmx, lanesToBytes, unary, zero } from './forms.ts';

function lanes(operation: LaneOperation, lane: LaneWidth): Semantic {
  return binary((b, x, y) => b.lanes(operation, lane, x, y));
}

/** The high halves of the products of words, to which `rounding` is added before. */
function multiplyHigh(signed: boolean): Semantic {
  const high = lanesToBytes(16, [1, 3, 5, 7, 9, 11, 13, 15]);
  return binary((b, x, y) =>
    b.shuffle(b.multiplyExtended(16, signed, false, x, y), b.multiplyExtended(16, signed, true, x, y), high),
  );
}

/** PMULHRSW: bits 16:1 of (product >> 14) + 1. */
const multiplyRounded = binary((b, x, y) => {
  const scaled = (high: boolean) => {
    const product = b.multiplyExtended(16, true, high, x, y);
    const shifted = b.shiftLanes('shr', 32, product, b.constant(8, 14));
    return b.shiftLanes('shr', 32, b.lanes('add', 32, shifted, every(b, 32, 1)), b.constant(8, 1));
  };
  return b.shuffle(scaled(false), scaled(true), lanesToBytes(16, [0, 2, 4, 6, 8, 10, 12, 14]));
});

/** PMULUDQ, PMULDQ: products of the even doublewords. */
function multiplyEven(signed: boolean): Semantic {
  const even = lanesToBytes(32, [0, 2, 0, 2]);
  return binary((b, x, y) =>
    b.multiplyExtended(32, signed, false, b.shuffle(x, x, even), b.shuffle(y, y, even)),
  );
}

/** The lanes of even and of odd number of y:x, x's below. */
function pairs(b: Builder, lane: 16 | 32, x: Value, y: Value): [even: Value, odd: Value] {
  const count = 128 / lane;
  // Of MM registers only the low halves count.
  const wanted = Array.from({ length: count }, (_, i) => {
    if (!isMmx(b)) return 2 * i;
    const half = count / 2;
    return i < half / 2 ? 2 * i : i < half ? 2 * i + half : 0;
  });
  return [
    b.shuffle(x, y, lanesToBytes(lane, wanted)),
    b.shuffle(
      x,
      y,
      lanesToBytes(
        lane,
        wanted.map((number) => number + 1),
      ),
    ),
  ];
}

/** PHADDx, PHSUBx: neighbours of the destination, then of the source. */
function horizontal(operation: LaneOperation, lane: 16 | 32): Semantic {
  return binary((b, x, y) => {
    const [even, odd] = pairs(b, lane, x, y);
    return b.lanes(operation, lane, even, odd);
  });
}

/** PMADDWD: sums of two neighbours' products. */
const multiplyAdd = binary((b, x, y) => {
  const low = b.multiplyExtended(16, true, false, x, y);
  const high = b.multiplyExtended(16, true, true, x, y);
  return b.lanes(
    'add',
    32,
    b.shuffle(low, high, lanesToBytes(32, [0, 2, 4, 6])),
    b.shuffle(low, high, lanesToBytes(32, [1, 3, 5, 7])),
  );
});

/** PMADDUBSW: unsigned bytes of the destination, signed ones of the source; the sums saturate. */
const multiplyAddBytes = binary((b, x, y) => {
  const eight = b.constant(8, 8);
  const odd = b.lanes('mul', 16, b.shiftLanes('shr', 16, x, eight), b.shiftLanes('sar', 16, y, eight));
  const even = b.lanes(
    'mul',
    16,
    b.and(x, every(b, 16, 0xff)),
    b.shiftLanes('sar', 16, b.shiftLanes('shl', 16, y, eight), eight),
  );
  return b.lanes('addSaturatingSigned', 16, even, odd);
});

function negate(b: Builder, lane: LaneWidth, x: Value): Value {
  return b.lanes('sub', lane, zero(b), x);
}

function absolute(lane: LaneWidth): Semantic {
  return unary((b, x) => blend(b, b.lanes('gtSigned', lane, zero(b), x), negate(b, lane, x), x));
}

/** PSIGNx: negated, zero or kept by the sign of the source. */
function sign(lane: LaneWidth): Semantic {
  return binary((b, x, y) => {
    const kept = b.and(x, b.lanes('gtSigned', lane, y, zero(b)));
    const negated = b.and(negate(b, lane, x), b.lanes('gtSigned', lane, zero(b), y));
    return b.or(kept, negated);
  });
}

/** |x - y| of unsigned bytes. */
function distance(b: Builder, x: Value, y: Value): Value {
  return b.or(b.lanes('subSaturatingUnsigned', 8, x, y), b.lanes('subSaturatingUnsigned', 8, y, x));
}

/** PSADBW: sums of eight distances. */
const sumOfDistances = binary((b, x, y) => {
  let sum = distance(b, x, y);
  for (const [lane, bits, mask] of [
    [16, 8, 0xff],
    [32, 16, 0xffff],
    [64, 32, 0xffff_ffff],
  ] as const) {
    const low = b.and(sum, every(b, lane, mask));
    sum = b.lanes('add', lane, low, b.shiftLanes('shr', lane, sum, b.constant(8, bits)));
  }
  return sum;
});

/** MPSADBW: distances of one group of four bytes of the source from eight places of the destination. */
const multipleSums = binary((b, x, y, part) => {
  const immediate = b.form.immediate >> (3 * part);
  const group = (immediate & 3) * 4;
  const first = immediate & 4;
  let sum: Value | undefined;
  for (let i = 0; i < 4; i++) {
    // Byte i of each of the eight windows, as words.
    const window = Array.from({ length: 16 }, (_, at) => (at % 2 ? 16 : first + (at >> 1) + i));
    const bytes = b.shuffle(x, zero(b), window);
    const other = b.shuffle(
      y,
      zero(b),
      Array.from({ length: 16 }, (_, at) => (at % 2 ? 16 : group + i)),
    );
    const apart = distance(b, bytes, other);
    sum = sum ? b.lanes('add', 16, sum, apart) : apart;
  }
  return sum ?? zero(b);
});

/** PHMINPOSUW: the least word, and its position. Word and position together order as the words do, lowest position first. */
const leastWord = unary((b, x) => {
  const keyed = (high: boolean) => {
    const words = high ? [4, 5, 6, 7] : [0, 1, 2, 3];
    const shuffled = b.shuffle(
      zero(b),
      x,
      words.flatMap((word) => [0, 0, 16 + 2 * word, 17 + 2 * word]),
    );
    const positions = words.reduce((all, word, i) => all | (BigInt(word) << BigInt(32 * i)), 0n);
    return b.or(shuffled, b.constant(128, positions));
  };
  let least = b.lanes('minUnsigned', 32, keyed(false), keyed(true));
  for (const order of [
    [2, 3, 0, 1],
    [1, 0, 3, 2],
  ])
    least = b.lanes('minUnsigned', 32, least, b.shuffle(least, least, lanesToBytes(32, order)));
  return b.shuffle(least, zero(b), [2, 3, 0, 1, ...new Array(12).fill(16)]);
});

export const arithmetic128 = {
  paddb: lanes('add', 8),
  paddw: lanes('add', 16),
  paddd: lanes('add', 32),
  paddq: lanes('add', 64),
  paddsb: lanes('addSaturatingSigned', 8),
  paddsw: lanes('addSaturatingSigned', 16),
  paddusb: lanes('addSaturatingUnsigned', 8),
  paddusw: lanes('addSaturatingUnsigned', 16),
  psubb: lanes('sub', 8),
  psubw: lanes('sub', 16),
  psubd: lanes('sub', 32),
  psubq: lanes('sub', 64),
  psubsb: lanes('subSaturatingSigned', 8),
  psubsw: lanes('subSaturatingSigned', 16),
  psubusb: lanes('subSaturatingUnsigned', 8),
  psubusw: lanes('subSaturatingUnsigned', 16),
  phaddw: horizontal('add', 16),
  phaddd: horizontal('add', 32),
  phaddsw: horizontal('addSaturatingSigned', 16),
  phsubw: horizontal('sub', 16),
  phsubd: horizontal('sub', 32),
  phsubsw: horizontal('subSaturatingSigned', 16),
  pavgb: lanes('average', 8),
  pavgw: lanes('average', 16),
  psadbw: sumOfDistances,
  mpsadbw: multipleSums,
  phminposuw: leastWord,
  pmullw: lanes('mul', 16),
  pmulld: lanes('mul', 32),
  pmulhw: multiplyHigh(true),
  pmulhuw: multiplyHigh(false),
  pmulhrsw: multiplyRounded,
  pmuludq: multiplyEven(false),
  pmuldq: multiplyEven(true),
  pmaddwd: multiplyAdd,
  pmaddubsw: multiplyAddBytes,
  pminub: lanes('minUnsigned', 8),
  pminuw: lanes('minUnsigned', 16),
  pminud: lanes('minUnsigned', 32),
  pminsb: lanes('minSigned', 8),
  pminsw: lanes('minSigned', 16),
  pminsd: lanes('minSigned', 32),
  pmaxub: lanes('maxUnsigned', 8),
  pmaxuw: lanes('maxUnsigned', 16),
  pmaxud: lanes('maxUnsigned', 32),
  pmaxsb: lanes('maxSigned', 8),
  pmaxsw: lanes('maxSigned', 16),
  pmaxsd: lanes('maxSigned', 32),
  pabsb: absolute(8),
  pabsw: absolute(16),
  pabsd: absolute(32),
  psignb: sign(8),
  psignw: sign(16),
  psignd: sign(32),
} satisfies Record<string, Semantic>;
