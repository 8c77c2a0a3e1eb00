/** Conversions between sizes of integers (SDM vol. 2B: PACKSSWB PACKSSDW PACKUSWB PACKUSDW, PMOVSX, PMOVZX). */
import type { Semantic } from '../../builder.ts';
import { binary, isMmx, lanesToBytes, zero } from './forms.ts';

/** Lanes of half the width, saturated: the destination's below, the source's above. */
function pack(lane: 16 | 32, signed: boolean): Semantic {
  return binary((b, x, y) =>
    isMmx(b)
      ? b.narrow(lane, signed, b.shuffle(x, y, lanesToBytes(64, [0, 2])), zero(b))
      : b.narrow(lane, signed, x, y),
  );
}

/** The lowest lanes of the source, extended. */
function extend(from: 8 | 16 | 32, to: 16 | 32 | 64, signed: boolean): Semantic {
  return (b) => {
    const [x] = b.readVector(1);
    const parts = b.form.operands[0].width / 128;
    b.writeVector(
      0,
      Array.from({ length: parts }, (_, part) => {
        const bytes = Array.from({ length: 16 }, (_, i) => {
          const within = (i % (to / 8)) * 8;
          // The value stands at the top of its lane where the sign is to be shifted in.
          const offset = signed ? within - (to - from) : within;
          const lane = Math.floor(i / (to / 8)) + part * (128 / to);
          return offset >= 0 && offset < from ? lane * (from / 8) + offset / 8 : 16;
        });
        const placed = b.shuffle(x, zero(b), bytes);
        return signed ? b.shiftLanes('sar', to, placed, b.constant(8, to - from)) : placed;
      }),
    );
  };
}

export const convert128 = {
  packsswb: pack(16, true),
  packssdw: pack(32, true),
  packuswb: pack(16, false),
  packusdw: pack(32, false),
  pmovsxbw: extend(8, 16, true),
  pmovsxbd: extend(8, 32, true),
  pmovsxbq: extend(8, 64, true),
  pmovsxwd: extend(16, 32, true),
  pmovsxwq: extend(16, 64, true),
  pmovsxdq: extend(32, 64, true),
  pmovzxbw: extend(8, 16, false),
  pmovzxbd: extend(8, 32, false),
  pmovzxbq: extend(8, 64, false),
  pmovzxwd: extend(16, 32, false),
  pmovzxwq: extend(16, 64, false),
  pmovzxdq: extend(32, 64, false),
} satisfies Record<string, Semantic>;
