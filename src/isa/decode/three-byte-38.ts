/** The three-byte opcode map 0F 38 xx. SDM vol. 2D appendix A, table A-4. */
import { type Cell, parseMap, times } from './notation.ts';

// biome-ignore format: a table
const cells: readonly string[] = [
  // 00
  ...times(8, 'NP 66 * W'),
  ...times(4, 'NP 66 * W'), '', '', '', '',
  // 10
  '66 * W', '', '', '', '66 * W', '66 * W', '', '66 * W',
  '', '', '', '', 'NP 66 * W', 'NP 66 * W', 'NP 66 * W', '',
  // 20
  ...times(6, '66 * W'), '', '',
  '66 * W', '66 * W', '66 * M', '66 * W', '', '', '', '',
  // 30
  ...times(6, '66 * W'), '', '66 * W',
  ...times(8, '66 * W'),
  // 40
  '66 * W', '66 * W', ...times(14, ''),
  // 50, 60, 70
  ...times(48, ''),
  // 80
  '66 vmcall Gn,M', '66 vmcall Gn,M', '66 invpcid Gn,M', '', '', '', '', '',
  '', '', '', '', '', '', '', '',
  // 90, A0, B0
  ...times(48, ''),
  // C0
  '', '', '', '', '', '', '', '',
  ...times(6, 'NP * W'), '', '66 * W',
  // D0
  '', '', '', '', '', '', '', '',
  'grpWideKeyLocker', '', '', '66 * W', '66 * W | F3 * W', '66 * W | F3 * M', '66 * W | F3 * M', '66 * W | F3 * M',
  // E0
  ...times(16, ''),
  // F0
  'NFx movbe Gv,Mv | F2 crc32 Gy,Eb b', 'NFx movbe Mv,Gv | F2 crc32 Gy,Ev v', '', '', '', '', '66 adcx Gy,Ey | F3 adox Gy,Ey', '',
  '', '', 'F3 * U', 'F3 * U', '', '', '', '',
];

export const threeByte38Map: readonly Cell[] = parseMap(
  cells,
  {
    WideKeyLocker: { memory: times(4, 'F3 * M'), register: [] },
  },
  'invalid W',
);

/** The three-byte maps 0F 39, 0F 3C and 0F 3D: nothing, at the length of 0F 38. */
export const reserved38Map: readonly Cell[] = parseMap(times(256, ''), {}, 'invalid W');
