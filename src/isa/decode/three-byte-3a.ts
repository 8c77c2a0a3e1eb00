/** The three-byte opcode map 0F 3A xx. SDM vol. 2D appendix A, table A-5. All of it is SIMD. */
import { type Cell, parseMap, times } from './notation.ts';

// biome-ignore format: a table
const cells: readonly string[] = [
  // 00
  '', '', '', '', '', '', '', '',
  ...times(7, '66 * W,Ib'), 'NP 66 * W,Ib',
  // 10
  '', '', '', '', '66 * W,Ib', '66 * W,Ib', '66 * W,Ib', '66 * W,Ib',
  '', '', '', '', '', '', '', '',
  // 20
  '66 * W,Ib', '66 * W,Ib', '66 * W,Ib', ...times(13, ''),
  // 30
  ...times(16, ''),
  // 40
  '66 * W,Ib', '66 * W,Ib', '66 * W,Ib', '', '66 * W,Ib', ...times(11, ''),
  // 50
  ...times(16, ''),
  // 60
  ...times(4, '66 * W,Ib'), ...times(12, ''),
  // 70, 80, 90, A0, B0
  ...times(80, ''),
  // C0
  '', '', '', '', '', '', '', '',
  '', '', '', '', 'NP * W,Ib', '', '66 * W,Ib', '66 * W,Ib',
  // D0
  ...times(15, ''), '66 * W,Ib',
  // E0, F0
  ...times(32, ''),
];

export const threeByte3AMap: readonly Cell[] = parseMap(cells, {}, 'invalid W,Ib');

/** The three-byte maps 0F 3B, 0F 3E and 0F 3F: nothing, at the length of 0F 3A. */
export const reserved3AMap: readonly Cell[] = parseMap(times(256, ''), {}, 'invalid W,Ib');
