/** The three-byte opcode map 0F 3A xx. SDM vol. 2D appendix A, table A-5. All of it is SIMD. */
import { type Cell, parseMap, times } from './notation.ts';

// biome-ignore format: a table
const cells: readonly string[] = [
  // 00
  '', '', '', '', '', '', '', '',
  '66 roundps Vx,Wx,Ib', '66 roundpd Vx,Wx,Ib', '66 roundss Vo,Wd,Ib', '66 roundsd Vo,Wq,Ib',
  '66 blendps Vx,Wx,Ib', '66 blendpd Vx,Wx,Ib', '66 pblendw Vx,Wx,Ib', 'NP palignr Pq,Qq,Ib | 66 palignr Vx,Wx,Ib',
  // 10
  '', '', '', '', '66 pextrb Ry/Mb,Vo,Ib', '66 pextrw Ry/Mw,Vo,Ib',
  'W0 66 pextrd Ey,Vo,Ib | W1 66 pextrq Ey,Vo,Ib', '66 extractps Ry/Md,Vo,Ib',
  '', '', '', '', '', '', '', '',
  // 20
  '66 pinsrb Vo,Ry/Mb,Ib', '66 insertps Vo,Wd,Ib', 'W0 66 pinsrd Vo,Ey,Ib | W1 66 pinsrq Vo,Ey,Ib', ...times(13, ''),
  // 30
  ...times(16, ''),
  // 40
  '66 dpps Vx,Wx,Ib', '66 dppd Vo,Wo,Ib', '66 mpsadbw Vx,Wx,Ib', '', '66 pclmulqdq Vo,Wo,Ib', ...times(11, ''),
  // 50
  ...times(16, ''),
  // 60
  '66 pcmpestrm Vo,Wo,Ib', '66 pcmpestri Vo,Wo,Ib', '66 pcmpistrm Vo,Wo,Ib', '66 pcmpistri Vo,Wo,Ib', ...times(12, ''),
  // 70, 80, 90, A0, B0
  ...times(80, ''),
  // C0
  '', '', '', '', '', '', '', '',
  '', '', '', '', 'NP sha1rnds4 Vo,Wo,Ib', '', '66 * W,Ib', '66 * W,Ib',
  // D0
  ...times(15, ''), '66 aeskeygenassist Vo,Wo,Ib',
  // E0, F0
  ...times(32, ''),
];

export const threeByte3AMap: readonly Cell[] = parseMap(cells, {}, 'invalid W,Ib');

/** The three-byte maps 0F 3B, 0F 3E and 0F 3F: nothing, at the length of 0F 3A. */
export const reserved3AMap: readonly Cell[] = parseMap(times(256, ''), {}, 'invalid W,Ib');
