/** Shifts of lanes and of whole vectors (SDM vol. 2B: PSLLW/PSLLD/PSLLQ, PSRLx, PSRAx, PSLLDQ, PSRLDQ). */
import type { Semantic } from '../../builder.ts';
import type { LaneShift, LaneWidth } from '../../lanes.ts';
import { binary, firstOperand, sourceOperand, withX87, zero } from './forms.ts';

/**
 * By the immediate, or by the low quadword of the source. A count beyond the lane leaves nothing, of an arithmetic shift the
 * sign.
 */
function shift(operation: LaneShift, lane: LaneWidth): Semantic {
  return (b) =>
    withX87(b, () => {
      const { immediate } = b.form;
      if (immediate >= 0) {
        const count = operation === 'sar' ? Math.min(immediate, lane - 1) : immediate;
        const xs = b.readVector(sourceOperand(b));
        b.writeVector(
          0,
          xs.map((x) => (count < lane ? b.shiftLanes(operation, lane, x, b.constant(8, count)) : zero(b))),
        );
        return;
      }
      const wanted = b.extractLane(64, b.readVector(sourceOperand(b), !b.form.vex)[0], 0);
      const most = b.constant(64, lane - 1);
      const beyond = b.ltUnsigned(most, wanted);
      const count = b.select(beyond, most, wanted);
      const xs = b.readVector(firstOperand(b));
      b.writeVector(
        0,
        xs.map((x) => {
          const shifted = b.shiftLanes(operation, lane, x, count);
          return operation === 'sar' ? shifted : b.select(beyond, zero(b), shifted);
        }),
      );
    });
}

/** PSLLDQ, PSRLDQ: by bytes. */
function shiftBytes(left: boolean): Semantic {
  return (b) => {
    const count = Math.min(b.form.immediate, 16);
    const bytes = Array.from({ length: 16 }, (_, i) => (left ? 16 + i - count : i + count));
    const xs = b.readVector(sourceOperand(b));
    b.writeVector(
      0,
      xs.map((x) => (left ? b.shuffle(zero(b), x, bytes) : b.shuffle(x, zero(b), bytes))),
    );
  };
}

/** VPSLLVx, VPSRLVx, VPSRAVD: each lane by a count of its own. */
function variable(operation: LaneShift, lane: 32 | 64): Semantic {
  return binary((b, x, y) => {
    let result = zero(b);
    for (let i = 0; i < 128 / lane; i++) {
      const wanted = b.extractLane(lane, y, i);
      const most = b.constant(lane, lane - 1);
      const beyond = b.ltUnsigned(most, wanted);
      const value = b.extractLane(lane, x, i);
      const count = b.select(beyond, most, wanted);
      const shifted = b[operation](value, count);
      const kept = operation === 'sar' ? shifted : b.select(beyond, b.constant(lane, 0), shifted);
      result = b.insertLane(lane, result, i, kept);
    }
    return result;
  });
}

export const shift256 = {
  vpsllvd: variable('shl', 32),
  vpsllvq: variable('shl', 64),
  vpsrlvd: variable('shr', 32),
  vpsrlvq: variable('shr', 64),
  vpsravd: variable('sar', 32),
} satisfies Record<string, Semantic>;

export const shift128 = {
  psllw: shift('shl', 16),
  pslld: shift('shl', 32),
  psllq: shift('shl', 64),
  psrlw: shift('shr', 16),
  psrld: shift('shr', 32),
  psrlq: shift('shr', 64),
  psraw: shift('sar', 16),
  psrad: shift('sar', 32),
  pslldq: shiftBytes(true),
  psrldq: shiftBytes(false),
} satisfies Record<string, Semantic>;
