/**
 * The instruction decoder: bytes and code size to {@link Instruction}. SDM vol. 2A chapter 2, vol. 2D appendix A.
 *
 * What the tables leave to this file: prefixes select the column; LOCK is legal only before instructions that may be
 * locked and have a memory destination (vol. 2A "LOCK"); an instruction longer than 15 bytes is `toolong`.
 *
 * What the rest may rely on, beyond isa/instruction.ts (for operands, see one-byte.ts):
 * - `repeat` is `repne` only of CMPS and SCAS; F2 before the other string instructions repeats as F3 does.
 * - NOP, PREFETCHh and UD0/UD1 with a ModR/M byte have no operands: they access no memory. CLFLUSH, CLFLUSHOPT and
 *   CLWB have the byte, which they access as a load does.
 * - IN and OUT have AL, AX or EAX first or last, and an immediate of width 8 or DX; far CALL and JMP an operand of
 *   kind `far`, or memory of width 0, its format by `operandSize`.
 * - `operandSize` is 64 for LGDT, LIDT, SGDT and SIDT in 64-bit mode, that of IRET and far RET is 32 there by default.
 */
import type { CodeSize, Instruction, Operand, OperandWidth } from '../instruction.ts';
import { type Mnemonic, tileProducts } from '../mnemonics.ts';
import { RSP } from '../state.ts';
import { Cursor, MAXIMUM_LENGTH } from './cursor.ts';
import { readAddress, readModrm } from './modrm.ts';
import { type Cell, type Opcode, REGISTER_MEMBERS } from './notation.ts';
import { oneByteMap } from './one-byte.ts';
import { operand, operationWidth, segmentOf } from './operands.ts';
import { readPrefixes, setSizes } from './prefixes.ts';
import { reserved3AMap, threeByte3AMap } from './three-byte-3a.ts';
import { reserved38Map, threeByte38Map } from './three-byte-38.ts';
import { twoByteMap } from './two-byte.ts';
import { evexMap, vexMap } from './vex.ts';

const cursor = new Cursor();
const noOperands: readonly Operand[] = Object.freeze([]);

/** XCHG r8, rAX: opcode 90 with REX.B is no NOP; but PAUSE stays what it is. */
const exchangeWithR8 = oneByteMap[0x91];

/** What 0F 38 to 0F 3F lead to. */
const threeByteMaps: readonly (readonly Cell[])[] = [
  threeByte38Map,
  reserved38Map,
  threeByte3AMap,
  reserved3AMap,
  reserved38Map,
  reserved38Map,
  reserved3AMap,
  reserved3AMap,
];

/** Products of tiles, which must be three: #UD else. */
const products: ReadonlySet<Mnemonic> = new Set(tileProducts);

/** How the opcode was encoded. */
const LEGACY = 0;
const VEX = 1;
const EVEX = 2;

/**
 * Decodes the instruction at bytes[start] for a code segment of `codeSize`; bytes up to `end` (exclusive) may be read.
 * null: they end before the instruction does (never with 15 bytes).
 */
export function decode(
  bytes: Uint8Array,
  start: number,
  end: number,
  codeSize: CodeSize,
): Instruction | null {
  const c = cursor;
  c.begin(bytes, start, end, codeSize);

  let opcode = readPrefixes(c);
  let map: readonly Cell[] = oneByteMap;
  let encoding = LEGACY;
  let valid = true;
  let column: number = c.column();
  if (opcode === 0x0f) {
    opcode = c.byte();
    map = twoByteMap;
    if (opcode >= 0x38 && opcode <= 0x3f) {
      map = threeByteMaps[opcode - 0x38];
      opcode = c.byte();
    }
  } else if (
    (opcode === 0xc4 || opcode === 0xc5 || opcode === 0x62) &&
    // LES, LDS and BOUND have no register form: mod 11b makes it VEX or EVEX.
    (c.mode64 || c.peek() >= 0xc0) &&
    // A map number that is a multiple of four is none: LES or BOUND, in a form that is #UD.
    (opcode === 0xc5 || (c.peek() & 3) !== 0)
  ) {
    // REX, 66, F2, F3 and LOCK before VEX or EVEX are #UD (SDM vol. 2A 2.3.2, 2.3.4).
    valid = c.rex === 0 && column === 0 && !c.lock;
    if (opcode === 0x62) {
      encoding = EVEX;
      map = readEvex(c);
      if (c.evexReserved) valid = false;
    } else {
      encoding = VEX;
      map = readVex(c, opcode);
    }
    column = c.simdPrefix;
    opcode = c.byte();
  }

  let mode = c.mode64 ? (c.wide ? 8 : 4) : 0;
  // VEX.W tells vector instructions apart in all modes.
  if (c.vexW !== 0 && map[opcode][8 + column].onlyVectors) mode = 8;
  const slot = mode + column;
  let entry = map[opcode][slot];
  if (entry.mnemonic === 'nop' && c.extendBase !== 0 && map === oneByteMap) {
    entry = exchangeWithR8[slot];
  }

  if (entry.modrm) {
    readModrm(c);
    if (entry.forceRegister) c.mod = 3;
    if (c.mod !== 3) readAddress(c);
    if (entry.members !== null) {
      const member: number = c.mod === 3 ? REGISTER_MEMBERS + (c.modrm & 0x3f) : c.reg;
      entry = entry.members[member][slot];
    }
  }
  return instruction(c, entry, opcode, encoding, valid);
}

/** The rest of an instruction whose meaning is found: its operands, and the checks that need them. */
function instruction(
  c: Cursor,
  entry: Opcode,
  opcode: number,
  encoding: number,
  valid: boolean,
): Instruction | null {
  c.position += entry.skip;
  const width = operationWidth(c, entry.width);
  if (
    entry.mnemonic === 'invalid' ||
    (entry.modrm && (c.mod === 3 ? entry.memoryOnly : entry.registerOnly))
  ) {
    valid = false;
  }
  let operands = noOperands;
  const rules = entry.operands;
  if (rules.length !== 0) {
    const list: Operand[] = [];
    for (let i = 0; i < rules.length; i++) {
      const value = operand(c, rules[i], width, opcode);
      if (value === null) valid = false;
      else list.push(value);
    }
    operands = list;
    if (entry.gather) valid = gather(c, list) && valid;
    if (products.has(entry.mnemonic)) valid = new Set(list).size === 3 && valid;
  }

  // MOV to CS is #UD.
  if (entry.mnemonic === 'movsreg' && c.reg === 1) valid = false;
  if (c.lock && !(entry.lockable && operands[0].kind === 'memory')) valid = false;
  // SIB bytes follow where rm is 100b, the number of RSP.
  if (entry.sib && c.rm !== RSP) valid = false;
  if (encoding === VEX && entry.mnemonic !== 'unimplemented') {
    // The general-purpose instructions are VEX.L0; vvvv that is not used must be 1111b.
    const length = entry.vectors || entry.mnemonic === 'vzeroupper' ? entry.vexL : 0;
    if (length >= 0 && c.vectorLength !== length) valid = false;
    if (entry.vexW >= 0 && c.vexW !== entry.vexW) valid = false;
    if (!(entry.usesVvvv || c.vvvvUnused)) valid = false;
  }
  if (!valid) return finish(c, 'invalid');
  if (entry.mnemonic === 'vzeroupper' && c.vectorLength !== 0) return finish(c, 'vzeroall');

  let repeat: '' | 'rep' | 'repne' = '';
  if (entry.repeat !== '' && c.repeatPrefix !== 0) {
    repeat = entry.repeat === 'repe' && c.repeatPrefix === 0xf2 ? 'repne' : 'rep';
  }
  const decoded = finish(c, entry.mnemonic, width, operands, entry.conditional ? opcode & 15 : 0, repeat);
  if (decoded?.mnemonic === 'x87') return { ...decoded, fop: ((opcode & 7) << 8) | c.modrm };
  return decoded;
}

/**
 * Of a gather, the index is an operand and not the memory's. #UD if two of its registers are the same (SDM vol. 2D "VPGATHERDD").
 */
function gather(c: Cursor, list: Operand[]): boolean {
  const [destination, address, mask, index] = list;
  if (address?.kind !== 'memory' || !index) return false;
  list[1] = { ...address, index: -1, scale: c.sibScale };
  const numbers = [destination, mask, index].map((operand) => ('index' in operand ? operand.index : -1));
  return new Set(numbers).size === 3;
}

/** Makes the instruction, unless the bytes that were read were not all there. */
function finish(
  c: Cursor,
  mnemonic: Mnemonic,
  operandSize: OperandWidth = c.operandSize,
  operands: readonly Operand[] = noOperands,
  condition = 0,
  repeat: '' | 'rep' | 'repne' = '',
): Instruction | null {
  let length = c.position - c.start;
  if (c.position > c.limit) {
    if (c.limit - c.start < MAXIMUM_LENGTH) return null;
    mnemonic = 'toolong';
    length = MAXIMUM_LENGTH;
    operands = noOperands;
  }
  let segment = segmentOf(c, -1);
  for (let i = 0; i < operands.length; i++) {
    const one = operands[i];
    if (one.kind === 'memory') segment = one.segment;
  }
  return {
    mnemonic,
    length,
    codeSize: c.codeSize,
    operandSize,
    addressSize: c.addressSize,
    operands,
    condition,
    repeat,
    lock: c.lock,
    segment,
  };
}

/** Reads the rest of a VEX prefix and finds its map (SDM vol. 2A 2.3.5). */
function readVex(c: Cursor, first: number): readonly Cell[] {
  let number = 1;
  let last = c.byte();
  c.extendReg = last & 0x80 ? 0 : 8;
  if (first === 0xc4) {
    number = last & 0x1f;
    c.extendIndex = last & 0x40 ? 0 : 8;
    c.extendBase = last & 0x20 ? 0 : 8;
    last = c.byte();
    c.vexW = last >> 7;
    c.wide = c.mode64 && c.vexW !== 0;
  }
  readVectorFields(c, last);
  c.vectorLength = (last >> 2) & 1;
  return vexMap(number);
}

/** Reads the rest of an EVEX prefix and finds its map (SDM vol. 2A 2.7.1). */
function readEvex(c: Cursor): readonly Cell[] {
  const first = c.byte();
  const number = first & 15;
  c.extendIndex = first & 0x40 ? 0 : 8;
  c.extendBase = first & 0x20 ? 0 : 8;
  const second = c.byte();
  c.wide = c.mode64 && (second & 0x80) !== 0;
  readVectorFields(c, second);
  c.evexReserved = (second & 4) === 0;
  c.byte();
  return evexMap(number);
}

/** vvvv and pp, which VEX and EVEX have in the same place; and the sizes. */
function readVectorFields(c: Cursor, byte: number): void {
  c.simdPrefix = byte & 3;
  c.vvvv = (~byte >> 3) & 15;
  c.vvvvUnused = c.vvvv === 0;
  if (!c.mode64) {
    // Only the eight registers there are: B is ignored, as is the top bit of vvvv as a register; R and X are 1, else it
    // were no VEX.
    c.extendBase = 0;
    c.extendReg = 0;
    c.extendIndex = 0;
    c.vvvv &= 7;
  }
  // 66 before VEX is #UD, and not even the length depends on it.
  c.operandPrefix = false;
  // VEX has taken the place of REX: no register is AH, CH, DH or BH.
  c.rex = 0x40;
  setSizes(c);
}
