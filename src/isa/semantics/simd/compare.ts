/** Packed compares (SDM vol. 2B: PCMPEQx, PCMPGTx). */
import type { Semantic } from '../../builder.ts';
import type { LaneWidth } from '../../lanes.ts';
import { binary } from './forms.ts';

function equal(lane: LaneWidth): Semantic {
  return binary((b, x, y) => b.lanes('eq', lane, x, y));
}
function greater(lane: LaneWidth): Semantic {
  return binary((b, x, y) => b.lanes('gtSigned', lane, x, y));
}

export const compare128 = {
  pcmpeqb: equal(8),
  pcmpeqw: equal(16),
  pcmpeqd: equal(32),
  pcmpeqq: equal(64),
  pcmpgtb: greater(8),
  pcmpgtw: greater(16),
  pcmpgtd: greater(32),
  pcmpgtq: greater(64),
} satisfies Record<string, Semantic>;
