/** NOP ENDBR, fences, prefetches, CLFLUSH, CLFLUSHOPT, CLWB, UD (SDM vol. 2): nothing visible to do, or only a fault. */
import type { Semantic } from '../builder.ts';

const INVALID_OPCODE = 6;

/** A memory operand of NOP or PREFETCH is not accessed. */
const nothing: Semantic = () => {};

/** Flushes are checked as the load of a byte, but that the segment need not be readable. */
const flush: Semantic = (b) => {
  b.load('operand', b.effectiveAddress(0), 8);
};

const ud: Semantic = (b) => b.fault(INVALID_OPCODE);

export const miscellaneous = {
  nop: nothing,
  endbr: nothing,
  fence: nothing,
  prefetch: nothing,
  clflush: flush,
  clflushopt: flush,
  clwb: flush,
  ud,
};
