/** The three-byte opcode map 0F 38 xx. SDM vol. 2D appendix A, table A-4. */
import { type Cell, parseMap, times } from './notation.ts';

/** An operation on MM and on XMM registers. */
function both(name: string): string {
  return `NP ${name} Pq,Qq | 66 ${name} Vx,Wx`;
}
function sse(name: string): string {
  return `66 ${name} Vx,Wx`;
}
function sha(name: string): string {
  return `NP ${name} Vo,Wo`;
}

// biome-ignore format: a table
const cells: readonly string[] = [
  // 00
  both('pshufb'), both('phaddw'), both('phaddd'), both('phaddsw'), both('pmaddubsw'), both('phsubw'), both('phsubd'), both('phsubsw'),
  both('psignb'), both('psignw'), both('psignd'), both('pmulhrsw'), '', '', '', '',
  // 10
  sse('pblendvb'), '', '', '', sse('blendvps'), sse('blendvpd'), '', sse('ptest'),
  '', '', '', '', both('pabsb'), both('pabsw'), both('pabsd'), '',
  // 20
  '66 pmovsxbw Vx,Wq', '66 pmovsxbd Vx,Wd', '66 pmovsxbq Vx,Ww', '66 pmovsxwd Vx,Wq', '66 pmovsxwq Vx,Wd', '66 pmovsxdq Vx,Wq', '', '',
  sse('pmuldq'), sse('pcmpeqq'), '66 movntdqa Vx,Mx', sse('packusdw'), '', '', '', '',
  // 30
  '66 pmovzxbw Vx,Wq', '66 pmovzxbd Vx,Wd', '66 pmovzxbq Vx,Ww', '66 pmovzxwd Vx,Wq', '66 pmovzxwq Vx,Wd', '66 pmovzxdq Vx,Wq', '', sse('pcmpgtq'),
  sse('pminsb'), sse('pminsd'), sse('pminuw'), sse('pminud'), sse('pmaxsb'), sse('pmaxsd'), sse('pmaxuw'), sse('pmaxud'),
  // 40
  sse('pmulld'), sse('phminposuw'), ...times(14, ''),
  // 50, 60, 70
  ...times(48, ''),
  // 80
  '66 vmcall Gn,M', '66 vmcall Gn,M', '66 invpcid Gn,M', '', '', '', '', '',
  '', '', '', '', '', '', '', '',
  // 90, A0, B0
  ...times(48, ''),
  // C0
  '', '', '', '', '', '', '', '',
  sha('sha1nexte'), sha('sha1msg1'), sha('sha1msg2'), sha('sha256rnds2'), sha('sha256msg1'), sha('sha256msg2'), '', '66 * W',
  // D0
  '', '', '', '', '', '', '', '',
  'grpWideKeyLocker', '', '', sse('aesimc'), `${sse('aesenc')} | F3 * W`, `${sse('aesenclast')} | F3 * M`, `${sse('aesdec')} | F3 * M`, `${sse('aesdeclast')} | F3 * M`,
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
