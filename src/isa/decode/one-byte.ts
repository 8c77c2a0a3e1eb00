/**
 * The one-byte opcode map. SDM vol. 2D appendix A, table A-2.
 *
 * Prefixes (26 2E 36 3E 40..4F in 64-bit mode, 64..67, F0 F2 F3) and the escapes 0F, 62, C4 and C5 as VEX and EVEX
 * are dealt with before the map is consulted.
 *
 * Conventions of the operands beyond the SDM's notation:
 * - String instructions, XLAT, CBW, CWD, LAHF, PUSHA and the like have no operands; the width of a string's element
 *   is the operation's.
 * - MUL, IMUL, DIV and IDIV with one operand have only r/m.
 * - Shifts by one have an immediate 1, by CL the register CL, each of width 8.
 * - MOV to and from segment registers: see `movsreg` and `movfromsreg`; PUSH and POP of them have the segment operand.
 * - RET and far RET have their immediate (width 16) or nothing.
 */
import { groups } from './groups.ts';
import { type Cell, parseMap, times } from './notation.ts';

/** The six forms of an ALU operation. */
function alu(name: string): string[] {
  const lock = name === 'cmp' ? '' : ' lock';
  return [
    `${name} Eb,Gb${lock}`,
    `${name} Ev,Gv${lock}`,
    `${name} Gb,Eb`,
    `${name} Gv,Ev`,
    `${name} AL,Ib`,
    `${name} rAX,Iz`,
  ];
}

// biome-ignore format: a table
const cells: readonly string[] = [
  // 00
  ...alu('add'), 'i64 pushsreg ES', 'i64 popsreg ES',
  ...alu('or'), 'i64 pushsreg CS', '',
  // 10
  ...alu('adc'), 'i64 pushsreg SS', 'i64 popsreg SS',
  ...alu('sbb'), 'i64 pushsreg DS', 'i64 popsreg DS',
  // 20
  ...alu('and'), '', 'i64 daa',
  ...alu('sub'), '', 'i64 das',
  // 30
  ...alu('xor'), '', 'i64 aaa',
  ...alu('cmp'), '', 'i64 aas',
  // 40
  ...times(8, 'i64 inc Zv'),
  ...times(8, 'i64 dec Zv'),
  // 50
  ...times(8, 'push Zv d64'),
  ...times(8, 'pop Zv d64'),
  // 60
  'i64 pusha', 'i64 popa', 'i64 bound Gv,M', 'i64 arpl Ew,Gw | o64 movsx Gv,Ez', '', '', '', '',
  'push Iz d64', 'imul Gv,Ev,Iz', 'push sIb d64', 'imul Gv,Ev,sIb', 'inss b rep', 'inss z rep', 'outss b rep', 'outss z rep',
  // 70
  ...times(16, 'jcc Jb f64'),
  // 80
  'grp1 Eb,Ib', 'grp1 Ev,Iz', 'i64 grp1 Eb,Ib', 'grp1 Ev,sIb', 'test Eb,Gb', 'test Ev,Gv', 'xchg Eb,Gb lock', 'xchg Ev,Gv lock',
  'mov Eb,Gb', 'mov Ev,Gv', 'mov Gb,Eb', 'mov Gv,Ev', 'movfromsreg Rv/Mw,Sw', 'lea Gv,M', 'movsreg Sw,Ew', 'grp1A Ev d64',
  // 90
  'NP 66 F2 nop | F3 pause', ...times(7, 'xchg Zv,rAX'),
  'cbw', 'cwd', 'i64 callf A', 'wait', 'pushf d64', 'popf d64', 'sahf', 'lahf',
  // A0
  'mov AL,Ob', 'mov rAX,Ov', 'mov Ob,AL', 'mov Ov,rAX', 'movs b rep', 'movs v rep', 'cmps b repe', 'cmps v repe',
  'test AL,Ib', 'test rAX,Iz', 'stos b rep', 'stos v rep', 'lods b rep', 'lods v rep', 'scas b repe', 'scas v repe',
  // B0
  ...times(8, 'mov Zb,Ib'),
  ...times(8, 'mov Zv,Iv'),
  // C0
  'grp2 Eb,Ib', 'grp2 Ev,Ib', 'ret Iw f64', 'ret f64', 'i64 les Gz,M', 'i64 lds Gz,M', 'grp11 Eb,Ib', 'grp11 Ev,Iz',
  'enter Iw,Ib d64', 'leave d64', 'retf Iw v', 'retf', 'int3', 'int Ib v', 'i64 into', 'iret',
  // D0
  'grp2 Eb,1', 'grp2 Ev,1', 'grp2 Eb,CL', 'grp2 Ev,CL', 'i64 aam Ib', 'i64 aad Ib', 'i64 salc b', 'xlat b',
  'grpD8', 'grpD9', 'grpDA', 'grpDB', 'grpDC', 'grpDD', 'grpDE', 'grpDF',
  // E0
  'loopne Jb f64', 'loope Jb f64', 'loop Jb f64', 'jcxz Jb f64', 'in AL,Ib', 'in eAX,Ib', 'out Ib,AL b', 'out Ib,eAX z',
  'call Jz f64', 'jmp Jz f64', 'i64 jmpf A', 'jmp Jb f64', 'in AL,DX', 'in eAX,DX', 'out DX,AL b', 'out DX,eAX z',
  // F0
  '', 'int1', '', '', 'hlt', 'cmc', 'grp3b Eb', 'grp3v Ev',
  'clc', 'stc', 'cli', 'sti', 'cld', 'std', 'grp4 Eb', 'grp5 Ev',
];

export const oneByteMap: readonly Cell[] = parseMap(cells, groups);
