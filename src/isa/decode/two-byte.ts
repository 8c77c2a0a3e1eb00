/**
 * The two-byte opcode map (0F xx). SDM vol. 2D appendix A, table A-3.
 *
 * 0F 38 and 0F 3A lead to the three-byte maps. Where CPUID does not report the instructions that later took opcodes
 * of the reserved-NOP range (0F 0D, 0F 18..1F), these are NOPs: MPX, CLDEMOTE, RDSSP.
 */
import { groups } from './groups.ts';
import { type Cell, parseMap, times } from './notation.ts';

/** An operation of MMX and SSE2. */
function integer(name: string): string {
  return `NP ${name} Pq,Qq | 66 ${name} Vx,Wx`;
}
/** An operation of which SSE has the single-precision and SSE2 the double-precision form. */
function packed(name: string): string {
  return `NP ${name}ps Vx,Wx | 66 ${name}pd Vx,Wx`;
}
/** As {@link packed}, with scalar forms. */
function float(name: string): string {
  return `${packed(name)} | F3 ${name}ss Vo,Wd | F2 ${name}sd Vo,Wq`;
}
/** PUNPCKL: of memory, MMX reads the half that it needs. */
function lowHalves(name: string): string {
  return `NP punpckl${name} Pq,Qd | 66 punpckl${name} Vx,Wx`;
}

// biome-ignore format: a table
const cells: readonly string[] = [
  // 00
  'grp6', 'grp7', 'lar Gv,Ew', 'lsl Gv,Ew', 'invalid', 'o64 syscall', 'clts', 'o64 sysret y',
  'invd', 'wbinvd', 'invalid', 'ud', 'invalid', 'grpP', '*', '* W,Ib',
  // 10
  'NP movups Vx,Wx | 66 movupd Vx,Wx | F3 movss Vo,Wd | F2 movsd Vo,Wq',
  'NP movups Wx,Vx | 66 movupd Wx,Vx | F3 movss Wd,Vo | F2 movsd Wq,Vo',
  'NP grpMovlps | 66 movlpd Vo,Mq | F3 movsldup Vx,Wx | F2 movddup Vo,Wq', 'NP movlps Mq,Vo | 66 movlpd Mq,Vo',
  packed('unpckl'), packed('unpckh'), 'NP grpMovhps | 66 movhpd Vo,Mq | F3 movshdup Vx,Wx', 'NP movhps Mq,Vo | 66 movhpd Mq,Vo',
  'grp16', ...times(5, 'nop modrm'), 'grp1E', 'nop modrm',
  // 20
  'movfromcr Rn,Cn reg', 'movfromdr Rn,Dn reg', 'movcr Cn,Rn reg', 'movdr Dn,Rn reg', ...times(4, 'invalid'),
  packed('mova'), 'NP movaps Wx,Vx | 66 movapd Wx,Vx', 'NP cvtpi2ps Vo,Qq | 66 cvtpi2pd Vo,Qq | F3 cvtsi2ss Vo,Ey | F2 cvtsi2sd Vo,Ey',
  'NP movntps Mx,Vx | 66 movntpd Mx,Vx', 'NP cvttps2pi Pq,Wq | 66 cvttpd2pi Pq,Wo | F3 cvttss2si Gy,Wd | F2 cvttsd2si Gy,Wq',
  'NP cvtps2pi Pq,Wq | 66 cvtpd2pi Pq,Wo | F3 cvtss2si Gy,Wd | F2 cvtsd2si Gy,Wq', 'NP ucomiss Vo,Wd | 66 ucomisd Vo,Wq',
  'NP comiss Vo,Wd | 66 comisd Vo,Wq',
  // 30
  'wrmsr', 'rdtsc', 'rdmsr', 'rdpmc', 'sysenter', 'sysexit y', 'invalid', 'invalid',
  ...times(8, 'invalid'),
  // 40
  ...times(16, 'cmovcc Gv,Ev'),
  // 50
  'NP movmskps Gy,Ux | 66 movmskpd Gy,Ux', float('sqrt'), 'NP rsqrtps Vx,Wx | F3 rsqrtss Vo,Wd', 'NP rcpps Vx,Wx | F3 rcpss Vo,Wd',
  packed('and'), packed('andn'), packed('or'), packed('xor'),
  float('add'), float('mul'), 'NP cvtps2pd Vx,Wq | 66 cvtpd2ps Vx,Wx | F3 cvtss2sd Vo,Wd | F2 cvtsd2ss Vo,Wq',
  'NP cvtdq2ps Vx,Wx | 66 cvtps2dq Vx,Wx | F3 cvttps2dq Vx,Wx', float('sub'), float('min'), float('div'), float('max'),
  // 60
  lowHalves('bw'), lowHalves('wd'), lowHalves('dq'), integer('packsswb'), integer('pcmpgtb'), integer('pcmpgtw'), integer('pcmpgtd'),
  integer('packuswb'),
  integer('punpckhbw'), integer('punpckhwd'), integer('punpckhdq'), integer('packssdw'), '66 punpcklqdq Vx,Wx', '66 punpckhqdq Vx,Wx',
  'W0 NP movd Pq,Ey | W1 NP movq Pq,Ey | W0 66 movd Vo,Ey | W1 66 movq Vo,Ey', 'NP movq Pq,Qq | 66 movdqa Vx,Wx | F3 movdqu Vx,Wx',
  // 70
  'NP pshufw Pq,Qq,Ib | 66 pshufd Vx,Wx,Ib | F3 pshufhw Vx,Wx,Ib | F2 pshuflw Vx,Wx,Ib', 'grp12 U,Ib', 'grp13 U,Ib', 'grp14 U,Ib',
  integer('pcmpeqb'), integer('pcmpeqw'), integer('pcmpeqd'), 'NP emms',
  'NP vmcall modrm', 'NP vmcall modrm', '', '', '66 haddpd Vx,Wx | F2 haddps Vx,Wx', '66 hsubpd Vx,Wx | F2 hsubps Vx,Wx',
  'W0 NP movd Ey,Pq | W1 NP movq Ey,Pq | W0 66 movd Ey,Vo | W1 66 movq Ey,Vo | F3 movq Vo,Wq', 'NP movq Qq,Pq | 66 movdqa Wx,Vx | F3 movdqu Wx,Vx',
  // 80
  ...times(16, 'jcc Jz f64'),
  // 90
  ...times(16, 'setcc Eb'),
  // A0
  'pushsreg FS d64', 'popsreg FS d64', 'cpuid', 'bt Ev,Gv', 'shld Ev,Gv,Ib', 'shld Ev,Gv,CL', '', '',
  'pushsreg GS d64', 'popsreg GS d64', 'rsm', 'bts Ev,Gv lock', 'shrd Ev,Gv,Ib', 'shrd Ev,Gv,CL', 'grp15', 'imul Gv,Ev',
  // B0
  'cmpxchg Eb,Gb lock', 'cmpxchg Ev,Gv lock', 'lss Gv,M', 'btr Ev,Gv lock', 'lfs Gv,M', 'lgs Gv,M', 'movzx Gv,Eb', 'movzx Gv,Ew',
  'F3 popcnt Gv,Ev', 'ud modrm', 'grp8 Ev,Ib', 'btc Ev,Gv lock', 'NP 66 F2 bsf Gv,Ev | F3 tzcnt Gv,Ev', 'NP 66 F2 bsr Gv,Ev | F3 lzcnt Gv,Ev', 'movsx Gv,Eb', 'movsx Gv,Ew',
  // C0
  'xadd Eb,Gb lock', 'xadd Ev,Gv lock', 'NP cmpps Vx,Wx,Ib | 66 cmppd Vx,Wx,Ib | F3 cmpss Vo,Wd,Ib | F2 cmpsd Vo,Wq,Ib', 'NP movnti My,Gy',
  'NP pinsrw Pq,Ry/Mw,Ib | 66 pinsrw Vo,Ry/Mw,Ib', 'NP pextrw Gy,Nq,Ib | 66 pextrw Gy,Uo,Ib', 'NP shufps Vx,Wx,Ib | 66 shufpd Vx,Wx,Ib', 'grp9',
  ...times(8, 'bswap Zv'),
  // D0
  '66 addsubpd Vx,Wx | F2 addsubps Vx,Wx', integer('psrlw'), integer('psrld'), integer('psrlq'), integer('paddq'), integer('pmullw'),
  '66 movq Wq,Vo | F3 movq2dq Vo,Nq | F2 movdq2q Pq,Uo', 'NP pmovmskb Gy,Nq | 66 pmovmskb Gy,Ux',
  integer('psubusb'), integer('psubusw'), integer('pminub'), integer('pand'), integer('paddusb'), integer('paddusw'), integer('pmaxub'), integer('pandn'),
  // E0
  integer('pavgb'), integer('psraw'), integer('psrad'), integer('pavgw'), integer('pmulhuw'), integer('pmulhw'),
  '66 cvttpd2dq Vo,Wx | F3 cvtdq2pd Vx,Wq | F2 cvtpd2dq Vo,Wx', 'NP movntq Mq,Pq | 66 movntdq Mx,Vx',
  integer('psubsb'), integer('psubsw'), integer('pminsw'), integer('por'), integer('paddsb'), integer('paddsw'), integer('pmaxsw'), integer('pxor'),
  // F0
  'F2 lddqu Vx,Mx', integer('psllw'), integer('pslld'), integer('psllq'), integer('pmuludq'), integer('pmaddwd'), integer('psadbw'),
  'NP maskmovq Pq,Nq | 66 maskmovdqu Vo,Uo',
  integer('psubb'), integer('psubw'), integer('psubd'), integer('psubq'), integer('paddb'), integer('paddw'), integer('paddd'), 'ud modrm',
];

export const twoByteMap: readonly Cell[] = parseMap(cells, groups, 'invalid W');
