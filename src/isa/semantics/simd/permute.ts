/**
 * What only AVX and AVX2 have: broadcasts, permutations across halves, masked moves, blends by a fourth operand, VZEROUPPER (SDM
 * vol. 2C, 2D: VBROADCAST, VPERMx, VINSERTx, VEXTRACTx, VMASKMOV, VPMASKMOV, VPBLENDD, VBLENDVPx).
 */
import type { Builder, Semantic, Value } from '../../builder.ts';
import type { LaneWidth } from '../../lanes.ts';
import { binary, blend, lanesToBytes, unary, zero } from './forms.ts';

/** How many parts of 128 bits an operand has. */
function partsOf(b: Builder, n: number): number {
  return b.form.operands[n].width / 128;
}

/** The lowest lane of the source in every lane. */
function broadcast(lane: LaneWidth): Semantic {
  return (b) => {
    const all = b.splat(b.extractLane(lane, b.readVector(1)[0], 0));
    b.writeVector(0, new Array<Value>(partsOf(b, 0)).fill(all));
  };
}

/** 128 bits in both halves. */
const broadcastHalf: Semantic = (b) => {
  const [half] = b.readVector(1);
  b.writeVector(0, [half, half]);
};

/** VPERMILPS, VPERMILPD: lanes within each half, by the immediate or by the lanes of the second source. */
function permuteWithin(lane: 32 | 64): Semantic {
  const count = 128 / lane;
  const byImmediate = unary((b, x, part) => {
    const { immediate } = b.form;
    const lanes = Array.from({ length: count }, (_, i) =>
      lane === 32 ? (immediate >> (2 * i)) & 3 : (immediate >> (2 * part + i)) & 1,
    );
    return b.shuffle(x, x, lanesToBytes(lane, lanes));
  });
  const byLanes = binary((b, x, y) => {
    let result = zero(b);
    for (let i = 0; i < count; i++) {
      const selector = b.extractLane(lane, y, i);
      // Doublewords by bits 1:0, quadwords by bit 1.
      const bits = lane === 32 ? selector : b.shr(selector, b.constant(8, 1));
      result = b.insertLane(lane, result, i, chooseLane(b, lane, [x], bits));
    }
    return result;
  });
  return (b) => (b.form.immediate >= 0 ? byImmediate(b) : byLanes(b));
}

/** The lane of several parts that the low bits of `number` name. */
function chooseLane(b: Builder, lane: 32 | 64, parts: readonly Value[], number: Value): Value {
  let lanes = parts.flatMap((part) =>
    Array.from({ length: 128 / lane }, (_, i) => b.extractLane(lane, part, i)),
  );
  for (let bit = 0; lanes.length > 1; bit++) {
    const odd = b.truncate(b.shr(number, b.constant(8, bit)), 1);
    lanes = Array.from({ length: lanes.length / 2 }, (_, i) => b.select(odd, lanes[2 * i + 1], lanes[2 * i]));
  }
  return lanes[0];
}

/** VPERMD, VPERMPS: lanes of the second source by those of the first. */
const permuteDoublewords: Semantic = (b) => {
  const source = b.readVector(2);
  const selectors = b.readVector(1);
  b.writeVector(
    0,
    selectors.map((selector) => {
      let result = zero(b);
      for (let i = 0; i < 4; i++)
        result = b.insertLane(32, result, i, chooseLane(b, 32, source, b.extractLane(32, selector, i)));
      return result;
    }),
  );
};

/** VPERMQ, VPERMPD. */
const permuteQuadwords: Semantic = (b) => {
  const [low, high] = b.readVector(1);
  const lanes = [0, 2, 4, 6].map((at) => (b.form.immediate >> at) & 3);
  b.writeVector(
    0,
    [lanes.slice(0, 2), lanes.slice(2)].map((half) => b.shuffle(low, high, lanesToBytes(64, half))),
  );
};

/** VPERM2F128, VPERM2I128: each half one of the four halves, or nothing. */
const permuteHalves: Semantic = (b) => {
  const second = b.readVector(2);
  const halves = [...b.readVector(1), ...second];
  b.writeVector(
    0,
    [0, 4].map((at) => {
      const control = (b.form.immediate >> at) & 15;
      return control & 8 ? zero(b) : halves[control & 3];
    }),
  );
};

const insertHalf: Semantic = (b) => {
  const [value] = b.readVector(2);
  const halves = [...b.readVector(1)];
  halves[b.form.immediate & 1] = value;
  b.writeVector(0, halves);
};

const extractHalf: Semantic = (b) => b.writeVector(0, [b.readVector(1)[b.form.immediate & 1]]);

const blendDoublewords = binary((b, x, y, part) => {
  const bits = b.form.immediate >> (4 * part);
  return b.shuffle(
    x,
    y,
    lanesToBytes(
      32,
      [0, 1, 2, 3].map((i) => ((bits >> i) & 1 ? 4 + i : i)),
    ),
  );
});

/** By the top bits of the lanes of the fourth operand. */
function blendVariable(lane: 8 | 32 | 64): Semantic {
  return (b) => {
    const ys = b.readVector(2);
    const xs = b.readVector(1);
    const masks = b.readVector(3);
    b.writeVector(
      0,
      xs.map((x, i) => blend(b, b.lanes('gtSigned', lane, zero(b), masks[i]), ys[i], x)),
    );
  };
}

/**
 * VMASKMOVx, VPMASKMOVx: lanes whose mask's top bit is clear load as zero, or are not stored, and do not fault. There is no
 * alignment, so lanes are taken byte by byte. A load's page fault tells the first byte that is accessed in the page; a store's
 * does too, or the last one if bytes of the page before are stored as well (measured on Intel silicon).
 */
function maskMove(lane: 32 | 64): Semantic {
  const bytes = lane / 8;
  return (b) => {
    const store = b.form.operands[0].kind === 'memory';
    const address = b.effectiveAddress(store ? 0 : 2);
    // Offsets of lanes go on beyond the address size, but outside 64-bit mode not beyond 32 bits (measured).
    const width = b.form.codeSize === 64 ? 64 : 32;
    const start = b.zeroExtend(address, width);
    const at = (offset: number) => (offset === 0 ? start : b.add(start, b.constant(start.width, offset)));
    const [low, high] = b.readVector(1).map((mask) => b.signMask(lane, mask));
    const mask = high ? b.or(low, b.shl(high, b.constant(8, 128 / lane))) : low;
    const lanes = Array.from({ length: b.form.operands[1].width / lane }, (_, index) => ({
      index,
      chosen: b.truncate(b.shr(mask, b.constant(8, index)), 1),
    }));
    b.when(b.ne(mask, b.constant(32, 0)), () => {
      const first = b.mul(b.countTrailingZeros(mask), b.constant(32, bytes));
      const last = b.sub(b.constant(32, 31), b.countLeadingZeros(mask));
      const end = b.add(b.mul(last, b.constant(32, bytes)), b.constant(32, bytes - 1));
      const ends = [first, end].map((offset) => b.add(start, b.zeroExtend(offset, width)));
      for (const offset of ends) b.checkSegment('operand', offset, store);
      if (store) for (const offset of ends) b.probeWrite('operand', offset, 8);
    });
    if (store) {
      const parts = b.readVector(2);
      for (const { index, chosen } of lanes)
        b.when(chosen, () => {
          for (let byte = index * bytes; byte < (index + 1) * bytes; byte++)
            b.store('operand', at(byte), b.extractLane(8, parts[byte >> 4], byte & 15));
        });
      return;
    }
    const loaded = Array.from({ length: partsOf(b, 0) }, () => b.variable(zero(b)));
    for (const { index, chosen } of lanes)
      b.when(chosen, () => {
        for (let byte = index * bytes; byte < (index + 1) * bytes; byte++) {
          const part = loaded[byte >> 4];
          b.assign(part, b.insertLane(8, part, byte & 15, b.load('operand', at(byte), 8)));
        }
      });
    b.writeVector(0, loaded);
  };
}

/** The upper halves, or all, of the registers that there are. */
function clear(all: boolean): Semantic {
  return (b) => {
    for (let index = 0; index < (b.form.codeSize === 64 ? 16 : 8); index++)
      if (all) b.setXmm(index, zero(b));
      else b.clearUpper(index);
  };
}

export const permute = {
  vbroadcastss: broadcast(32),
  vbroadcastsd: broadcast(64),
  vpbroadcastb: broadcast(8),
  vpbroadcastw: broadcast(16),
  vpbroadcastd: broadcast(32),
  vpbroadcastq: broadcast(64),
  vbroadcastf128: broadcastHalf,
  vbroadcasti128: broadcastHalf,
  vpermilps: permuteWithin(32),
  vpermilpd: permuteWithin(64),
  vpermd: permuteDoublewords,
  vpermps: permuteDoublewords,
  vpermq: permuteQuadwords,
  vpermpd: permuteQuadwords,
  vperm2f128: permuteHalves,
  vperm2i128: permuteHalves,
  vinsertf128: insertHalf,
  vinserti128: insertHalf,
  vextractf128: extractHalf,
  vextracti128: extractHalf,
  vpblendd: blendDoublewords,
  vblendvps: blendVariable(32),
  vblendvpd: blendVariable(64),
  vpblendvb: blendVariable(8),
  vmaskmovps: maskMove(32),
  vmaskmovpd: maskMove(64),
  vpmaskmovd: maskMove(32),
  vpmaskmovq: maskMove(64),
  vzeroupper: clear(false),
  vzeroall: clear(true),
} satisfies Record<string, Semantic>;
