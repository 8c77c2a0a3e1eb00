/**
 * The two-byte opcode map (0F xx). SDM vol. 2D appendix A, table A-3.
 *
 * 0F 38 and 0F 3A lead to the three-byte maps. Where CPUID does not report the instructions that later took opcodes
 * of the reserved-NOP range (0F 0D, 0F 18..1F), these are NOPs: MPX, CLDEMOTE, RDSSP.
 */
import { groups } from './groups.ts';
import { type Cell, parseMap, times } from './notation.ts';

// biome-ignore format: a table
const cells: readonly string[] = [
  // 00
  'grp6', 'grp7', 'lar Gv,Ew', 'lsl Gv,Ew', 'invalid', 'o64 syscall', 'clts', 'o64 sysret y',
  'invd', 'wbinvd', 'invalid', 'ud', 'invalid', 'grpP', '*', '* W,Ib',
  // 10
  '* W', '* W', 'NP F3 F2 * W | 66 * M', 'NP 66 * M', 'NP 66 * W', 'NP 66 * W', 'NP F3 * W | 66 * M', 'NP 66 * M',
  'grp16', ...times(5, 'nop modrm'), 'grp1E', 'nop modrm',
  // 20
  'movfromcr Rn,Cn reg', 'movfromdr Rn,Dn reg', 'movcr Cn,Rn reg', 'movdr Dn,Rn reg', ...times(4, 'invalid'),
  'NP 66 * W', 'NP 66 * W', '* W', 'NP 66 * M', '* W', '* W', 'NP 66 * W', 'NP 66 * W',
  // 30
  'wrmsr', 'rdtsc', 'rdmsr', 'rdpmc', 'sysenter', 'sysexit y', 'invalid', 'invalid',
  ...times(8, 'invalid'),
  // 40
  ...times(16, 'cmovcc Gv,Ev'),
  // 50
  'NP 66 * U', '* W', 'NP F3 * W', 'NP F3 * W', 'NP 66 * W', 'NP 66 * W', 'NP 66 * W', 'NP 66 * W',
  '* W', '* W', '* W', 'NP 66 F3 * W', '* W', '* W', '* W', '* W',
  // 60
  ...times(8, 'NP 66 * W'),
  ...times(4, 'NP 66 * W'), '66 * W', '66 * W', 'NP 66 * W', 'NP 66 F3 * W',
  // 70
  '* W,Ib', 'grp12 U,Ib', 'grp13 U,Ib', 'grp14 U,Ib', 'NP 66 * W', 'NP 66 * W', 'NP 66 * W', 'NP *',
  'NP vmcall modrm', 'NP vmcall modrm', '', '', '66 F2 * W', '66 F2 * W', 'NP 66 F3 * W', 'NP 66 F3 * W',
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
  'xadd Eb,Gb lock', 'xadd Ev,Gv lock', '* W,Ib', 'NP * M', 'NP 66 * W,Ib', 'NP 66 * U,Ib', 'NP 66 * W,Ib', 'grp9',
  ...times(8, 'bswap Zv'),
  // D0
  '66 F2 * W', 'NP 66 * W', 'NP 66 * W', 'NP 66 * W', 'NP 66 * W', 'NP 66 * W', '66 * W | F3 F2 * U', 'NP 66 * U',
  ...times(8, 'NP 66 * W'),
  // E0
  ...times(6, 'NP 66 * W'), '66 F3 F2 * W', 'NP 66 * M',
  ...times(8, 'NP 66 * W'),
  // F0
  'F2 * M', ...times(6, 'NP 66 * W'), 'NP 66 * U',
  ...times(7, 'NP 66 * W'), 'ud modrm',
];

export const twoByteMap: readonly Cell[] = parseMap(cells, groups, 'invalid W');
