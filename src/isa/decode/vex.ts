/**
 * VEX- and EVEX-encoded instructions. SDM vol. 2A 2.3 (VEX), 2.7 (EVEX), vol. 2D tables A-3 to A-6 (the rows with
 * a `v` prefix).
 *
 * The general-purpose instructions (BMI1, BMI2), AVX, AVX2, FMA, F16C and AMX (tiles, INT8, BF16) are decoded; of the
 * others it is only known that they exist, by prefix column and opcode. Real-address and virtual-8086 mode do not recognize VEX: there {@link vexMnemonics} are #UD, which the
 * decoder cannot know.
 */
import { avxMnemonics, type Mnemonic, tileMnemonics, vexFloatMnemonics } from '../mnemonics.ts';
import { asInvalid, type Cell, type GroupText, type Opcode, parseCell, times } from './notation.ts';
import { reserved3AMap } from './three-byte-3a.ts';
import { reserved38Map } from './three-byte-38.ts';
import { twoByteMap } from './two-byte.ts';

/** Which opcodes a SIMD map has, by column: ranges of hexadecimal opcodes. */
type Existing = Readonly<Partial<Record<'NP' | '66' | 'F3' | 'F2', string>>>;

function opcodesOf(ranges: string): number[] {
  return ranges.split(' ').flatMap((range) => {
    const [first, last = first] = range.split('-').map((digits) => Number.parseInt(digits, 16));
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Opcodes of map 1 that an immediate byte follows; in map 3 it follows all. */
const immediateInMap1 = new Set([0x70, 0x71, 0x72, 0x73, 0xc2, 0xc4, 0xc5, 0xc6]);

/** An undefined opcode of map 1 is as long as the legacy 0F xx; but 3DNow! has no place here. */
const undefinedInMap1 = twoByteMap.map((cell, opcode): Cell => {
  if (opcode === 0x0f) return parseCell('invalid');
  return new Array<Opcode>(12).fill(asInvalid(cell[4]));
});

/** Maps 5 and 6 are laid out for length as maps 1 and 2 are. */
function simdMap(number: number, existing: Existing): Cell[] {
  const map = number & 3;
  const texts = new Array<string[]>(256).fill([]);
  for (const [column, ranges] of Object.entries(existing)) {
    for (const opcode of opcodesOf(ranges)) texts[opcode] = [...texts[opcode], column];
  }
  return texts.map((columns, opcode) => {
    if (columns.length === 0 && map === 1) return undefinedInMap1[opcode];
    const immediate = map === 3 || (map === 1 && immediateInMap1.has(opcode));
    // VZEROUPPER and VZEROALL have no ModR/M byte.
    const operands = map === 1 && opcode === 0x77 ? '' : immediate ? ' W,Ib' : ' W';
    return parseCell(columns.length === 0 ? `invalid${operands}` : `${columns.join(' ')} *${operands}`);
  });
}

/** Destination, first and second source. */
function three(names: string): string {
  return `66 ${names} Vx,Hx,Wx`;
}
/** As {@link three}, of 128 bits only. */
function three128(name: string): string {
  return `66 ${name} Vo,Ho,Wo l0`;
}
/** NP is the single-precision form, 66 the double-precision one. */
function packed(name: string): string {
  return `NP ${name}ps Vx,Hx,Wx | 66 ${name}pd Vx,Hx,Wx`;
}
/** A shift by the low quadword of an XMM register. */
function byCount(name: string): string {
  return `66 ${name} Vx,Hx,Wo`;
}

/** The four forms of an operation on floating-point numbers with two sources. */
function float(name: string): string {
  return `${packed(name)} | F3 ${name}ss Vo,Ho,Wd | F2 ${name}sd Vo,Ho,Wq`;
}
/** FMA: W1 is the double-precision form. */
function fused(name: string, order: string): string {
  return `W0 66 v${name}${order}ps Vx,Hx,Wx | W1 66 v${name}${order}pd Vx,Hx,Wx`;
}
function fusedScalar(name: string, order: string): string {
  return `W0 66 v${name}${order}ss Vo,Ho,Wd | W1 66 v${name}${order}sd Vo,Ho,Wq`;
}

/** Whether rm is memory decides the operands of scalar and half moves. */
const vexGroups: Readonly<Record<string, GroupText>> = {
  Movss: { memory: times(8, 'vmovss Vo,Md'), register: times(8, 'vmovss Vo,Ho,Uo') },
  Movsd: { memory: times(8, 'vmovsd Vo,Mq'), register: times(8, 'vmovsd Vo,Ho,Uo') },
  StoreSs: { memory: times(8, 'vmovss Md,Vo'), register: times(8, 'vmovss Uo,Ho,Vo') },
  StoreSd: { memory: times(8, 'vmovsd Mq,Vo'), register: times(8, 'vmovsd Uo,Ho,Vo') },
  Movlps: { memory: times(8, 'vmovlps Vo,Ho,Mq l0'), register: times(8, 'vmovhlps Vo,Ho,Uo l0') },
  Movhps: { memory: times(8, 'vmovhps Vo,Ho,Mq l0'), register: times(8, 'vmovlhps Vo,Ho,Uo l0') },
  // Tiles of AMX: 0F 38 49.
  Tile: {
    memory: ['o64 NP ldtilecfg M w0 | o64 66 sttilecfg M w0', '', '', '', '', '', '', ''],
    register: [
      ['o64 NP tilerelease w0 | o64 F2 tilezero T w0'],
      ...new Array(7).fill(['o64 F2 tilezero T w0']),
    ],
  },
  '15': { memory: ['', '', 'NP vldmxcsr Md', 'NP vstmxcsr Md', '', '', '', ''], register: [] },
  '12': ['', '', '66 vpsrlw Hx,Ux,Ib', '', '66 vpsraw Hx,Ux,Ib', '', '66 vpsllw Hx,Ux,Ib', ''],
  '13': ['', '', '66 vpsrld Hx,Ux,Ib', '', '66 vpsrad Hx,Ux,Ib', '', '66 vpslld Hx,Ux,Ib', ''],
  '14': [
    '',
    '',
    '66 vpsrlq Hx,Ux,Ib',
    '66 vpsrldq Hx,Ux,Ib',
    '',
    '',
    '66 vpsllq Hx,Ux,Ib',
    '66 vpslldq Hx,Ux,Ib',
  ],
};

/** Puts cells into a map, from `first` on; empty ones are left. */
function put(map: Cell[], first: number, texts: readonly string[]): void {
  for (const [i, text] of texts.entries()) if (text !== '') map[first + i] = parseCell(text, vexGroups);
}

const vex0F = simdMap(1, {
  NP: '10-17 28-29 2b 2e-2f 41-42 44-47 4a-4b 50-5f 77 90-93 98-99 ae c2 c6',
  '66': '10-17 28-29 2b 2e-2f 41-42 44-47 4a-4b 50-51 54-76 7c-7f 90-93 98-99 c2 c4-c6 d0-ef f1-fe',
  F3: '10-12 16 2a 2c-2d 51-53 58-5f 6f-70 7e-7f c2 e6',
  F2: '10-12 2a 2c-2d 51 58-5a 5c-5f 70 7c-7d 92-93 c2 d0 e6 f0',
});
// biome-ignore format: a table
put(vex0F, 0x10, [
  'NP vmovups Vx,Wx | 66 vmovupd Vx,Wx | F3 grpMovss | F2 grpMovsd', 'NP vmovups Wx,Vx | 66 vmovupd Wx,Vx | F3 grpStoreSs | F2 grpStoreSd',
  'NP grpMovlps | 66 vmovlpd Vo,Ho,Mq l0 | F3 vmovsldup Vx,Wx | F2 vmovddup Vx,Wu', 'NP vmovlps Mq,Vo l0 | 66 vmovlpd Mq,Vo l0',
  packed('vunpckl'), packed('vunpckh'), 'NP grpMovhps | 66 vmovhpd Vo,Ho,Mq l0 | F3 vmovshdup Vx,Wx', 'NP vmovhps Mq,Vo l0 | 66 vmovhpd Mq,Vo l0',
]);
// biome-ignore format: a table
put(vex0F, 0x28, ['NP vmovaps Vx,Wx | 66 vmovapd Vx,Wx', 'NP vmovaps Wx,Vx | 66 vmovapd Wx,Vx', '', 'NP vmovntps Mx,Vx | 66 vmovntpd Mx,Vx']);
// biome-ignore format: a table
put(vex0F, 0x2a, [
  'F3 vcvtsi2ss Vo,Ho,Ey | F2 vcvtsi2sd Vo,Ho,Ey', '', 'F3 vcvttss2si Gy,Wd | F2 vcvttsd2si Gy,Wq', 'F3 vcvtss2si Gy,Wd | F2 vcvtsd2si Gy,Wq',
  'NP vucomiss Vo,Wd | 66 vucomisd Vo,Wq', 'NP vcomiss Vo,Wd | 66 vcomisd Vo,Wq',
]);
// biome-ignore format: a table
put(vex0F, 0x50, [
  'NP vmovmskps Gy,Ux | 66 vmovmskpd Gy,Ux', 'NP vsqrtps Vx,Wx | 66 vsqrtpd Vx,Wx | F3 vsqrtss Vo,Ho,Wd | F2 vsqrtsd Vo,Ho,Wq',
  'NP vrsqrtps Vx,Wx | F3 vrsqrtss Vo,Ho,Wd', 'NP vrcpps Vx,Wx | F3 vrcpss Vo,Ho,Wd', '', '', '', '',
  float('vadd'), float('vmul'), 'NP vcvtps2pd Vx,Wh | 66 vcvtpd2ps Vo,Wx | F3 vcvtss2sd Vo,Ho,Wd | F2 vcvtsd2ss Vo,Ho,Wq',
  'NP vcvtdq2ps Vx,Wx | 66 vcvtps2dq Vx,Wx | F3 vcvttps2dq Vx,Wx', float('vsub'), float('vmin'), float('vdiv'), float('vmax'),
]);
put(vex0F, 0x7c, ['66 vhaddpd Vx,Hx,Wx | F2 vhaddps Vx,Hx,Wx', '66 vhsubpd Vx,Hx,Wx | F2 vhsubps Vx,Hx,Wx']);
put(vex0F, 0xc2, [
  'NP vcmpps Vx,Hx,Wx,Ib | 66 vcmppd Vx,Hx,Wx,Ib | F3 vcmpss Vo,Ho,Wd,Ib | F2 vcmpsd Vo,Ho,Wq,Ib',
]);
put(vex0F, 0xd0, ['66 vaddsubpd Vx,Hx,Wx | F2 vaddsubps Vx,Hx,Wx']);
put(vex0F, 0xe6, ['66 vcvttpd2dq Vo,Wx | F3 vcvtdq2pd Vx,Wh | F2 vcvtpd2dq Vo,Wx']);
put(vex0F, 0x54, [packed('vand'), packed('vandn'), packed('vor'), packed('vxor')]);
// biome-ignore format: a table
put(vex0F, 0x60, [
  three('vpunpcklbw'), three('vpunpcklwd'), three('vpunpckldq'), three('vpacksswb'), three('vpcmpgtb'), three('vpcmpgtw'), three('vpcmpgtd'), three('vpackuswb'),
  three('vpunpckhbw'), three('vpunpckhwd'), three('vpunpckhdq'), three('vpackssdw'), three('vpunpcklqdq'), three('vpunpckhqdq'),
  'W0 66 vmovd Vo,Ey l0 | W1 66 vmovq Vo,Ey l0', '66 vmovdqa Vx,Wx | F3 vmovdqu Vx,Wx',
  // 70
  '66 vpshufd Vx,Wx,Ib | F3 vpshufhw Vx,Wx,Ib | F2 vpshuflw Vx,Wx,Ib', 'grp12 U,Ib', 'grp13 U,Ib', 'grp14 U,Ib',
  three('vpcmpeqb'), three('vpcmpeqw'), three('vpcmpeqd'), 'NP vzeroupper', '', '', '', '', '', '',
  'W0 66 vmovd Ey,Vo l0 | W1 66 vmovq Ey,Vo l0 | F3 vmovq Vo,Wq l0', '66 vmovdqa Wx,Vx | F3 vmovdqu Wx,Vx',
]);
put(vex0F, 0xae, ['NP grp15']);
put(vex0F, 0xc4, [
  '66 vpinsrw Vo,Ho,Ry/Mw,Ib l0',
  '66 vpextrw Gy,Uo,Ib l0',
  'NP vshufps Vx,Hx,Wx,Ib | 66 vshufpd Vx,Hx,Wx,Ib',
]);
// biome-ignore format: a table
put(vex0F, 0xd1, [
  byCount('vpsrlw'), byCount('vpsrld'), byCount('vpsrlq'), three('vpaddq'), three('vpmullw'), '66 vmovq Wq,Vo l0', '66 vpmovmskb Gy,Ux',
  three('vpsubusb'), three('vpsubusw'), three('vpminub'), three('vpand'), three('vpaddusb'), three('vpaddusw'), three('vpmaxub'), three('vpandn'),
  // E0
  three('vpavgb'), byCount('vpsraw'), byCount('vpsrad'), three('vpavgw'), three('vpmulhuw'), three('vpmulhw'), '', '66 vmovntdq Mx,Vx',
  three('vpsubsb'), three('vpsubsw'), three('vpminsw'), three('vpor'), three('vpaddsb'), three('vpaddsw'), three('vpmaxsw'), three('vpxor'),
  // F0
  'F2 vlddqu Vx,Mx', byCount('vpsllw'), byCount('vpslld'), byCount('vpsllq'), three('vpmuludq'), three('vpmaddwd'), three('vpsadbw'),
  '66 vmaskmovdqu Vo,Uo l0',
  three('vpsubb'), three('vpsubw'), three('vpsubd'), three('vpsubq'), three('vpaddb'), three('vpaddw'), three('vpaddd'),
]);

const vex38 = simdMap(2, {
  NP: '49 50-51 5e 6c b0 d2-d3 da',
  '66': '00-0f 13 16-1a 1c-1e 20-25 28-41 45-47 49 4b 50-53 58-5a 5e 6c 78-79 8c 8e 90-93 96-9f a6-b1 b4-bf cf d2-d3 da-df',
  F3: '4b 50-51 5c 5e 72 b0-b1 d2-d3 da',
  F2: '49 4b 50-51 5c 5e b0 cb-cd da',
});
// biome-ignore format: a table
put(vex38, 0x00, [
  three('vpshufb'), three('vphaddw'), three('vphaddd'), three('vphaddsw'), three('vpmaddubsw'), three('vphsubw'), three('vphsubd'), three('vphsubsw'),
  three('vpsignb'), three('vpsignw'), three('vpsignd'), three('vpmulhrsw'),
  '66 vpermilps Vx,Hx,Wx w0', '66 vpermilpd Vx,Hx,Wx w0', '66 vtestps Vx,Wx w0', '66 vtestpd Vx,Wx w0',
  // 10
  '', '', '', '', '', '', '66 vpermps Vx,Hx,Wx l1 w0', '66 vptest Vx,Wx',
  '66 vbroadcastss Vx,Wd w0', '66 vbroadcastsd Vx,Wq l1 w0', '66 vbroadcastf128 Vx,Mo l1 w0', '', '66 vpabsb Vx,Wx', '66 vpabsw Vx,Wx', '66 vpabsd Vx,Wx', '',
  // 20
  '66 vpmovsxbw Vx,Wh', '66 vpmovsxbd Vx,Wf', '66 vpmovsxbq Vx,We', '66 vpmovsxwd Vx,Wh', '66 vpmovsxwq Vx,Wf', '66 vpmovsxdq Vx,Wh', '', '',
  three('vpmuldq'), three('vpcmpeqq'), '66 vmovntdqa Vx,Mx', three('vpackusdw'),
  '66 vmaskmovps Vx,Hx,Mx w0', '66 vmaskmovpd Vx,Hx,Mx w0', '66 vmaskmovps Mx,Hx,Vx w0', '66 vmaskmovpd Mx,Hx,Vx w0',
  // 30
  '66 vpmovzxbw Vx,Wh', '66 vpmovzxbd Vx,Wf', '66 vpmovzxbq Vx,We', '66 vpmovzxwd Vx,Wh', '66 vpmovzxwq Vx,Wf', '66 vpmovzxdq Vx,Wh', '66 vpermd Vx,Hx,Wx l1 w0', three('vpcmpgtq'),
  three('vpminsb'), three('vpminsd'), three('vpminuw'), three('vpminud'), three('vpmaxsb'), three('vpmaxsd'), three('vpmaxuw'), three('vpmaxud'),
  // 40
  three('vpmulld'), '66 vphminposuw Vo,Wo l0', '', '', '', 'W0 66 vpsrlvd Vx,Hx,Wx | W1 66 vpsrlvq Vx,Hx,Wx', '66 vpsravd Vx,Hx,Wx w0', 'W0 66 vpsllvd Vx,Hx,Wx | W1 66 vpsllvq Vx,Hx,Wx',
]);
put(vex38, 0x49, ['grpTile']);
put(vex38, 0x4b, [
  'o64 F2 tileloadd T,M w0 sib | o64 66 tileloaddt1 T,M w0 sib | o64 F3 tilestored M,T w0 sib',
]);
put(vex38, 0x5c, ['o64 F3 tdpbf16ps T,Y,K w0 | o64 F2 * W']);
put(vex38, 0x5e, [
  'o64 NP tdpbuud T,Y,K w0 | o64 66 tdpbusd T,Y,K w0 | o64 F3 tdpbsud T,Y,K w0 | o64 F2 tdpbssd T,Y,K w0',
]);
put(vex38, 0x58, ['66 vpbroadcastd Vx,Wd w0', '66 vpbroadcastq Vx,Wq w0', '66 vbroadcasti128 Vx,Mo l1 w0']);
put(vex38, 0x78, ['66 vpbroadcastb Vx,Wb w0', '66 vpbroadcastw Vx,Ww w0']);
put(vex38, 0x8c, ['W0 66 vpmaskmovd Vx,Hx,Mx | W1 66 vpmaskmovq Vx,Hx,Mx']);
put(vex38, 0x8e, ['W0 66 vpmaskmovd Mx,Hx,Vx | W1 66 vpmaskmovq Mx,Hx,Vx']);
// Of VPGATHERQD and VGATHERQPS with L, the manual calls destination and mask XMM registers.
// biome-ignore format: a table
put(vex38, 0x90, [
  'W0 66 vpgatherdd Vx,Md,Hx,Xx | W1 66 vpgatherdq Vx,Mq,Hx,Xo', 'W0 66 vpgatherqd Vx,Md,Hx,Xx | W1 66 vpgatherqq Vx,Mq,Hx,Xx',
  'W0 66 vgatherdps Vx,Md,Hx,Xx | W1 66 vgatherdpd Vx,Mq,Hx,Xo', 'W0 66 vgatherqps Vx,Md,Hx,Xx | W1 66 vgatherqpd Vx,Mq,Hx,Xx',
]);
put(vex38, 0xdb, [
  '66 vaesimc Vo,Wo l0',
  ...['vaesenc', 'vaesenclast', 'vaesdec', 'vaesdeclast'].map(three128),
]);
put(vex38, 0x13, ['66 vcvtph2ps Vx,Wh w0']);
for (const [i, order] of ['132', '213', '231'].entries()) {
  put(vex38, 0x96 + 0x10 * i, [
    fused('fmaddsub', order),
    fused('fmsubadd', order),
    ...['fmadd', 'fmsub', 'fnmadd', 'fnmsub'].flatMap((name) => [
      fused(name, order),
      fusedScalar(name, order),
    ]),
  ]);
}
vex38[0xf2] = parseCell('NP andn Gy,By,Ey');
vex38[0xf3] = parseCell('NP grp17 By,Ey', {
  '17': ['', 'blsr', 'blsmsk', 'blsi', '', '', '', ''],
});
vex38[0xf5] = parseCell('NP bzhi Gy,Ey,By | F3 pext Gy,By,Ey | F2 pdep Gy,By,Ey');
vex38[0xf6] = parseCell('F2 mulx Gy,By,Ey');
vex38[0xf7] = parseCell('NP bextr Gy,Ey,By | 66 shlx Gy,Ey,By | F3 sarx Gy,Ey,By | F2 shrx Gy,Ey,By');

const vex3A = simdMap(3, {
  '66': '00-02 04-06 08-0f 14-19 1d 20-22 30-33 38-39 40-42 44 46 4a-4c 60-63 ce-cf de-df',
});
// biome-ignore format: a table
put(vex3A, 0x00, [
  '66 vpermq Vx,Wx,Ib l1 w1', '66 vpermpd Vx,Wx,Ib l1 w1', '66 vpblendd Vx,Hx,Wx,Ib w0', '', '66 vpermilps Vx,Wx,Ib w0', '66 vpermilpd Vx,Wx,Ib w0', '66 vperm2f128 Vx,Hx,Wx,Ib l1 w0', '',
  '', '', '', '', '66 vblendps Vx,Hx,Wx,Ib', '66 vblendpd Vx,Hx,Wx,Ib', '66 vpblendw Vx,Hx,Wx,Ib', '66 vpalignr Vx,Hx,Wx,Ib',
  // 10
  '', '', '', '', '66 vpextrb Ry/Mb,Vo,Ib l0', '66 vpextrw Ry/Mw,Vo,Ib l0', 'W0 66 vpextrd Ey,Vo,Ib l0 | W1 66 vpextrq Ey,Vo,Ib l0', '66 vextractps Ry/Md,Vo,Ib l0',
  '66 vinsertf128 Vx,Hx,Wo,Ib l1 w0', '66 vextractf128 Wo,Vx,Ib l1 w0', '', '', '', '', '', '',
  // 20
  '66 vpinsrb Vo,Ho,Ry/Mb,Ib l0', '66 vinsertps Vo,Ho,Wd,Ib l0', 'W0 66 vpinsrd Vo,Ho,Ey,Ib l0 | W1 66 vpinsrq Vo,Ho,Ey,Ib l0',
]);
// biome-ignore format: a table
put(vex3A, 0x08, [
  '66 vroundps Vx,Wx,Ib', '66 vroundpd Vx,Wx,Ib', '66 vroundss Vo,Ho,Wd,Ib', '66 vroundsd Vo,Ho,Wq,Ib',
]);
put(vex3A, 0x1d, ['66 vcvtps2ph Wh,Vx,Ib w0']);
put(vex3A, 0x40, ['66 vdpps Vx,Hx,Wx,Ib', '66 vdppd Vo,Ho,Wo,Ib l0']);
put(vex3A, 0x38, ['66 vinserti128 Vx,Hx,Wo,Ib l1 w0', '66 vextracti128 Wo,Vx,Ib l1 w0']);
// biome-ignore format: a table
put(vex3A, 0x42, [
  '66 vmpsadbw Vx,Hx,Wx,Ib', '', '66 vpclmulqdq Vo,Ho,Wo,Ib l0', '', '66 vperm2i128 Vx,Hx,Wx,Ib l1 w0', '', '', '',
  '66 vblendvps Vx,Hx,Wx,Lx w0', '66 vblendvpd Vx,Hx,Wx,Lx w0', '66 vpblendvb Vx,Hx,Wx,Lx w0',
]);
put(vex3A, 0x60, [
  '66 vpcmpestrm Vo,Wo,Ib l0',
  '66 vpcmpestri Vo,Wo,Ib l0',
  '66 vpcmpistrm Vo,Wo,Ib l0',
  '66 vpcmpistri Vo,Wo,Ib l0',
]);
put(vex3A, 0xdf, ['66 vaeskeygenassist Vo,Wo,Ib l0']);
vex3A[0xf0] = parseCell('F2 rorx Gy,Ey,Ib');

/** VEX maps by mmmmm (0F, 0F 38, 0F 3A). */
const vexMaps: readonly (readonly Cell[] | undefined)[] = [undefined, vex0F, vex38, vex3A];

/** EVEX maps by mmm. */
const evexMaps: readonly (readonly Cell[] | undefined)[] = [
  undefined,
  simdMap(1, {
    NP: '10-17 28-29 2b 2e-2f 51 54-5f 78-79 c2 c6',
    '66': '10-17 28-29 2b 2e-2f 51 54-76 78-7b 7e-7f c2 c4-c6 d1-d6 d8-ef f1-f6 f8-fe',
    F3: '10-12 16 2a 2c-2d 51 58-5f 6f-70 78-7b 7e-7f c2 e6',
    F2: '10-12 2a 2c-2d 51 58-5a 5c-5f 6f-70 78-7b 7f c2 e6',
  }),
  simdMap(2, {
    '66': '00 04 0b-0d 10-16 18-2d 30-40 42-47 4c-55 58-5b 62-66 70-73 75-7f 83 88-8b 8d 8f-93 96-a3 a6-af b4-bf c4 c6-c8 ca-cd cf dc-df',
    F3: '10-15 20-2a 30-35 38-3a 52 72',
    F2: '52-53 68 72 9a-9b aa-ab',
  }),
  simdMap(3, {
    NP: '08 0a 26-27 56-57 66-67 c2',
    '66': '00-01 03-05 08-0b 0f 14-1b 1d-23 25-27 38-3b 3e-3f 42-44 50-51 54-57 66-67 70-73 ce-cf',
    F3: 'c2',
  }),
  undefined,
  simdMap(5, {
    NP: '1d 2e-2f 51 58-5f 78-79 7c-7d',
    '66': '1d 5a-5b 6e 78-7e',
    F3: '10-11 2a 2c-2d 51 58-5f 78-79 7b 7d',
    F2: '5a 7a 7d',
  }),
  simdMap(6, {
    NP: '13',
    '66': '13 2c-2d 42-43 4c-4f 96-9f a6-af b6-bf',
    F3: '56-57 d6-d7',
    F2: '56-57 d6-d7',
  }),
  undefined,
];

/**
 * By the low two bits of a reserved map's number: its instructions are as long as those of maps 1 to 3 (as processors
 * have it). The number is never a multiple of four.
 */
const reservedMaps: readonly (readonly Cell[])[] = [[], simdMap(1, {}), reserved38Map, reserved3AMap];

/** The map of a VEX prefix's mmmmm. */
export function vexMap(number: number): readonly Cell[] {
  return vexMaps[number] ?? reservedMaps[number & 3];
}

/** The map of an EVEX prefix's mmm, or of mmmm, whose top bit is reserved. */
export function evexMap(number: number): readonly Cell[] {
  return evexMaps[number] ?? reservedMaps[number & 3];
}

/** Instructions that only a VEX prefix encodes: #UD in real-address and virtual-8086 mode (SDM vol. 2A 2.6.1). */
export const vexMnemonics: ReadonlySet<Mnemonic> = new Set<Mnemonic>([
  'andn',
  'bextr',
  'blsi',
  'blsmsk',
  'blsr',
  'bzhi',
  'mulx',
  'pdep',
  'pext',
  'rorx',
  'sarx',
  'shlx',
  'shrx',
  ...avxMnemonics,
  ...vexFloatMnemonics,
  'vldmxcsr',
  'vstmxcsr',
  ...tileMnemonics,
]);
