/**
 * The notation of the opcode tables, after SDM vol. 2D appendix A.2, and its translation at module load into what
 * the decoder looks up.
 *
 * A cell is a list of variants separated by ` | `. A variant is
 *
 *     [mode] [prefixes] mnemonic [operands] [attributes]      or      [mode] [prefixes] grpN [operands] [attributes]
 *
 * - mode: `i64` (invalid in 64-bit mode), `o64` (only there), `W0`, `W1` (by REX.W or VEX.W; W1 only in 64-bit mode).
 * - prefixes: the mandatory prefixes with which the variant stands: `NP` (none), `66`, `F3`, `F2`, or `NFx` for
 *   `NP 66`. Without any, the variant stands for those that no other variant of the cell claims.
 * - mnemonic: of isa/mnemonics.ts; `*` is `unimplemented`, and so are those of `pendingMnemonics`. Of these, and of `invalid`, the operands only tell the length:
 *   `W` (ModR/M), `M` (ModR/M, memory), `U` (ModR/M, register), `Ib`.
 * - operands: comma-separated, an addressing method and a type as in A.2.1 and A.2.2 (see below).
 * - attributes: the operation's width where it is not that of the first operand: `b` `w` `v` `z` `y` `n` `f64` `d64`;
 *   `l0` `l1` `w0` `w1` (VEX.L and VEX.W must be so); `sib` (must have a SIB byte); `lock` (may be locked when its destination is memory); `rep`, `repe` (string instructions); `modrm` (has a ModR/M
 *   byte though none of the operands needs it); `reg` (mod is taken as 11b).
 *
 * Members of a group that name no operands take those of the group, and its attributes always.
 *
 * Columns that no variant takes are #UD. The processor finds the length of an instruction before it finds that there
 * is no such instruction, and finds it by the opcode alone: so they are `invalid` with the operands of the other
 * columns (or of the group). This tells on a page boundary, where a page fault on the rest goes before #UD.
 */
import type { Mnemonic } from '../mnemonics.ts';
import {
  avxMnemonics,
  floatMnemonics,
  integerMnemonics,
  otherMnemonics,
  pendingMnemonics,
  simdMnemonics,
  systemMnemonics,
} from '../mnemonics.ts';
import { CS, DS, ES, FS, GS, SS } from '../state.ts';

/** Widths: of operands (A.2.2) and of operations. */
export const NO_WIDTH = 0;
/** b, w, d, q: 8, 16, 32, 64 bits. */
export const BYTE = 1;
export const WORD = 2;
export const DOUBLEWORD = 3;
export const QUADWORD = 4;
/** v: the operand size. */
export const OPERAND = 5;
/** z: 16 bits for an operand size of 16, else 32. */
export const UP_TO_32 = 6;
/** y: 64 bits with REX.W or VEX.W in 64-bit mode, else 32; 66 has no effect. */
export const AT_LEAST_32 = 7;
/** n: 64 bits in 64-bit mode, else 32 (control and debug registers, INVPCID). */
export const NATIVE = 8;
/** f64: 64 bits in 64-bit mode, else the operand size. */
export const FORCED_64 = 9;
/** d64: in 64-bit mode 64 bits, 16 with 66; else the operand size. */
export const DEFAULT_64 = 10;
/** o: 128 bits. */
export const OCTAWORD = 11;
/** x: 128 bits, 256 with VEX.L. */
export const VECTOR = 12;
/** h, f, e: a half, a quarter, an eighth of x; as a register, an XMM register. */
export const HALF_VECTOR = 13;
export const QUARTER_VECTOR = 14;
export const EIGHTH_VECTOR = 15;
/** u: x, but of memory with VEX.L 0 only 64 bits (MOVDDUP). */
export const DUPLICATED = 16;
export type WidthRule = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15 | 16;

/** Addressing methods (A.2.1). */
/** E: general register or memory by mod and rm. `Rv/Mw` is E with a width each. */
export const E = 0;
/** G: general register by reg. */
export const G = 1;
/** I: immediate of the operand's width (z: 16 or 32 bits, sign-extended to the operation's width). */
export const I = 2;
/** sI: 8-bit immediate, sign-extended to the operation's width. */
export const SIGNED_I = 3;
/** J: displacement relative to the next instruction. */
export const J = 4;
/** M: memory only. */
export const M = 5;
/** R: general register by rm only. */
export const R = 6;
/** O: memory by an offset in the instruction. */
export const O = 7;
/** S, C, D: segment, control, debug register by reg. */
export const S = 8;
export const C = 9;
export const D = 10;
/** A: far pointer in the instruction. */
export const A = 11;
/** B: general register by VEX.vvvv. */
export const B = 12;
/** Z: general register by the low three bits of the opcode. */
export const Z = 13;
/** A general register that the opcode implies: AL, rAX, eAX, CL, DX. */
export const FIXED = 14;
/** A segment register that the opcode implies. */
export const FIXED_SEGMENT = 15;
/** The immediate 1 that the opcode implies. */
export const ONE = 16;
/**
 * V, U, H: XMM register by reg, by rm only, by VEX.vvvv; W: XMM register or memory by mod and rm. Of type x it is a YMM
 * register with VEX.L.
 */
export const V = 17;
export const U = 18;
export const W = 19;
export const H = 20;
/** P, N: MM register by reg, by rm only; Q: MM register or memory by mod and rm. */
export const P = 21;
export const N = 22;
export const Q = 23;
/** L: XMM or YMM register by the top four bits of an immediate byte. */
export const L = 24;
/** X: the XMM or YMM register that is the index of a vector SIB (vol. 2A 2.3.12); the memory operand has none then. */
export const X = 25;
/** T, Y, K: tile of AMX by reg, by rm only, by VEX.vvvv; there are eight. */
export const T = 26;
export const Y = 27;
export const K = 28;

export interface OperandRule {
  readonly method: number;
  /** Width as a register, and as memory. */
  readonly width: WidthRule;
  readonly memoryWidth: WidthRule;
  /** Register number of FIXED and FIXED_SEGMENT. */
  readonly number: number;
}

/** Indices into {@link Opcode.members}. */
export const REGISTER_MEMBERS = 8;
const MEMBERS = REGISTER_MEMBERS + 64;

/** One column of one cell: an instruction, or a group that ModR/M chooses from. */
export interface Opcode {
  readonly mnemonic: Mnemonic;
  readonly operands: readonly OperandRule[];
  readonly width: WidthRule;
  readonly modrm: boolean;
  readonly memoryOnly: boolean;
  readonly registerOnly: boolean;
  /** mod is ignored and taken as 11b. */
  readonly forceRegister: boolean;
  readonly lockable: boolean;
  readonly repeat: '' | 'rep' | 'repe';
  /** Low four bits of the opcode are the condition. */
  readonly conditional: boolean;
  readonly usesVvvv: boolean;
  /** It has operands in vector registers; and none in a general one, so that VEX.W counts in all modes. */
  readonly vectors: boolean;
  readonly onlyVectors: boolean;
  /** Its index is a vector register. */
  readonly gather: boolean;
  /** VEX.L and VEX.W as they must be; -1 where either will do. */
  readonly vexL: -1 | 0 | 1;
  readonly vexW: -1 | 0 | 1;
  /** #UD without a SIB byte. */
  readonly sib: boolean;
  /** Bytes of immediates to pass over, where the operands are not told. */
  readonly skip: number;
  /** Of a group: cells for memory by reg (0..7), and for registers by reg and rm (8..71). */
  readonly members: readonly Cell[] | null;
}

/**
 * A cell by column: mandatory prefix (none, 66, F3, F2) + 4 times (0 outside 64-bit mode, 1 in it, 2 in it with
 * REX.W or VEX.W).
 */
export type Cell = readonly Opcode[];

/** A group as it stands in groups.ts, by reg: one row, or one for memory and one for registers, there also by rm. */
export type GroupText =
  | readonly string[]
  | { readonly memory: readonly string[]; readonly register: readonly (string | readonly string[])[] };

const operandWidths: Readonly<Record<string, WidthRule>> = {
  '': NO_WIDTH,
  b: BYTE,
  w: WORD,
  d: DOUBLEWORD,
  q: QUADWORD,
  v: OPERAND,
  z: UP_TO_32,
  y: AT_LEAST_32,
  n: NATIVE,
  o: OCTAWORD,
  x: VECTOR,
  h: HALF_VECTOR,
  f: QUARTER_VECTOR,
  e: EIGHTH_VECTOR,
  u: DUPLICATED,
};
const operationWidths: Readonly<Record<string, WidthRule>> = {
  ...operandWidths,
  f64: FORCED_64,
  d64: DEFAULT_64,
};
const methods: Readonly<Record<string, number>> = {
  E,
  G,
  I,
  sI: SIGNED_I,
  J,
  M,
  R,
  O,
  S,
  C,
  D,
  A,
  B,
  Z,
  V,
  U,
  W,
  H,
  P,
  N,
  Q,
  L,
  X,
  T,
  Y,
  K,
};
const fixed: Readonly<Record<string, OperandRule>> = {
  AL: { method: FIXED, width: BYTE, memoryWidth: NO_WIDTH, number: 0 },
  rAX: { method: FIXED, width: OPERAND, memoryWidth: NO_WIDTH, number: 0 },
  eAX: { method: FIXED, width: UP_TO_32, memoryWidth: NO_WIDTH, number: 0 },
  CL: { method: FIXED, width: BYTE, memoryWidth: NO_WIDTH, number: 1 },
  DX: { method: FIXED, width: WORD, memoryWidth: NO_WIDTH, number: 2 },
  ES: { method: FIXED_SEGMENT, width: NO_WIDTH, memoryWidth: NO_WIDTH, number: ES },
  CS: { method: FIXED_SEGMENT, width: NO_WIDTH, memoryWidth: NO_WIDTH, number: CS },
  SS: { method: FIXED_SEGMENT, width: NO_WIDTH, memoryWidth: NO_WIDTH, number: SS },
  DS: { method: FIXED_SEGMENT, width: NO_WIDTH, memoryWidth: NO_WIDTH, number: DS },
  FS: { method: FIXED_SEGMENT, width: NO_WIDTH, memoryWidth: NO_WIDTH, number: FS },
  GS: { method: FIXED_SEGMENT, width: NO_WIDTH, memoryWidth: NO_WIDTH, number: GS },
  '1': { method: ONE, width: BYTE, memoryWidth: NO_WIDTH, number: 0 },
  'Rv/Mw': { method: E, width: OPERAND, memoryWidth: WORD, number: 0 },
  'Ry/Mb': { method: E, width: AT_LEAST_32, memoryWidth: BYTE, number: 0 },
  'Ry/Mw': { method: E, width: AT_LEAST_32, memoryWidth: WORD, number: 0 },
  'Ry/Md': { method: E, width: AT_LEAST_32, memoryWidth: DOUBLEWORD, number: 0 },
};
const mnemonics: ReadonlySet<string> = new Set<string>([
  ...integerMnemonics,
  ...simdMnemonics,
  ...floatMnemonics,
  ...avxMnemonics,
  ...systemMnemonics,
  ...otherMnemonics,
]);
const pending: ReadonlySet<string> = new Set(pendingMnemonics);
const columns: Readonly<Record<string, number>> = { NP: 1, '66': 2, F3: 4, F2: 8, NFx: 3 };
/** Thirds of a cell (bits: outside 64-bit mode, 64-bit mode, 64-bit mode with W) by mode tag. */
const modes: Readonly<Record<string, number>> = { i64: 1, o64: 6, W0: 3, W1: 4 };
const conditional: ReadonlySet<string> = new Set(['jcc', 'setcc', 'cmovcc']);

function fail(message: string, text: string): never {
  throw new Error(`opcode table: ${message} in "${text}"`);
}

function parseOperand(text: string): OperandRule {
  const known = fixed[text];
  if (known !== undefined) return known;
  const [, letters, type] = /^(s?[A-Z])([a-z]?)$/.exec(text) ?? fail('operand', text);
  const method = methods[letters] ?? fail('addressing method', text);
  const width = operandWidths[type] ?? fail('operand type', text);
  return { method, width, memoryWidth: width, number: 0 };
}

const vectorMethods: ReadonlySet<number> = new Set([V, U, W, H, P, N, Q, L, X]);

/** The width of the operation by its first operand; with vectors, that of its general registers. */
function widthOf(operands: readonly OperandRule[]): WidthRule {
  if (operands.some(({ method }) => vectorMethods.has(method))) return AT_LEAST_32;
  const width = operands.length === 0 ? NO_WIDTH : operands[0].width;
  return width === NO_WIDTH ? OPERAND : width;
}

/** No instruction, of the same length. */
export function asInvalid(opcode: Opcode): Opcode {
  return { ...opcode, mnemonic: 'invalid', members: null };
}

const takesModrm: ReadonlySet<number> = new Set([E, G, M, R, S, C, D, V, U, W, P, N, Q, T, Y]);

function parseBody(
  words: readonly string[],
  text: string,
  groups: Readonly<Record<string, GroupText>>,
  inheritedOperands: string,
  inheritedAttributes: readonly string[],
): Opcode {
  const [name, ...rest] = words;
  const hasOperands = rest.length > 0 && /[A-Z]/.test(rest[0]);
  const operandText = hasOperands ? rest[0] : inheritedOperands;
  const attributes = [...inheritedAttributes, ...(hasOperands ? rest.slice(1) : rest)];

  let members: Cell[] | null = null;
  if (name.startsWith('grp')) {
    const group = groups[name.slice(3)] ?? fail('group', text);
    members = parseGroup(group, groups, operandText, attributes);
  }
  const lengthOnly = name === '*' || name === 'invalid';
  const mnemonic = name === '*' || members !== null || pending.has(name) ? 'unimplemented' : name;
  if (!mnemonics.has(mnemonic)) fail('mnemonic', text);

  const operandNames = operandText === '' ? [] : operandText.split(',');
  let modrm = members !== null;
  let memoryOnly = false;
  let registerOnly = false;
  let skip = 0;
  let operands: OperandRule[] = [];
  if ((lengthOnly || members !== null) && operandNames.every((operand) => /^([WMU]|Ib)$/.test(operand))) {
    for (const operand of operandNames) {
      if (operand === 'Ib') skip++;
      else {
        modrm = true;
        if (operand === 'M') memoryOnly = true;
        else if (operand === 'U') registerOnly = true;
      }
    }
  } else {
    operands = operandNames.map(parseOperand);
    for (const { method } of operands) {
      if (takesModrm.has(method)) modrm = true;
      if (method === M) memoryOnly = true;
      if (method === R || method === U || method === N || method === Y) registerOnly = true;
    }
  }

  let width = widthOf(operands);
  let lockable = false;
  let repeat: '' | 'rep' | 'repe' = '';
  let forceRegister = false;
  let vexL: -1 | 0 | 1 = -1;
  let vexW: -1 | 0 | 1 = -1;
  let sib = false;
  for (const attribute of attributes) {
    if (attribute === 'lock') lockable = true;
    else if (attribute === 'rep' || attribute === 'repe') repeat = attribute;
    else if (attribute === 'l0' || attribute === 'l1') vexL = attribute === 'l0' ? 0 : 1;
    else if (attribute === 'w0' || attribute === 'w1') vexW = attribute === 'w0' ? 0 : 1;
    else if (attribute === 'sib') sib = true;
    else if (attribute === 'modrm') modrm = true;
    else if (attribute === 'reg') forceRegister = true;
    else width = operationWidths[attribute] ?? fail(`attribute ${attribute}`, text);
  }
  return {
    mnemonic: mnemonic as Mnemonic,
    operands,
    width,
    modrm,
    memoryOnly,
    registerOnly,
    forceRegister,
    lockable,
    repeat,
    conditional: conditional.has(mnemonic),
    vectors: operands.some(({ method }) => vectorMethods.has(method)),
    onlyVectors:
      operands.some(({ method }) => vectorMethods.has(method)) &&
      !operands.some(({ method }) => method === E || method === G),
    gather: operands.some(({ method }) => method === X),
    vexL,
    vexW,
    sib,
    usesVvvv: operands.some(({ method }) => method === B || method === H || method === K),
    skip,
    members,
  };
}

/** Cells by their text and what they inherit: most texts stand in many places, and start-up counts. */
const parsed = new Map<string, Cell>();

/** Translates one cell; see the notation above. An empty text is `invalid`. */
export function parseCell(
  text: string,
  groups: Readonly<Record<string, GroupText>> = {},
  inheritedOperands = '',
  inheritedAttributes: readonly string[] = [],
): Cell {
  // What a group is depends on `groups`.
  if (text.includes('grp')) return translate(text, groups, inheritedOperands, inheritedAttributes);
  const key = `${text}/${inheritedOperands}/${inheritedAttributes.join(' ')}`;
  let cell = parsed.get(key);
  if (cell === undefined) {
    cell = translate(text, groups, inheritedOperands, inheritedAttributes);
    parsed.set(key, cell);
  }
  return cell;
}

function translate(
  text: string,
  groups: Readonly<Record<string, GroupText>>,
  inheritedOperands: string,
  inheritedAttributes: readonly string[],
): Cell {
  const cell: Opcode[] = new Array(12);
  if (text === '')
    return cell.fill(parseBody(['invalid'], text, groups, inheritedOperands, inheritedAttributes));
  const claimed = new Array<boolean>(12).fill(false);
  // Variants that name their prefixes go first, so that the others take what is left.
  const variants = text.split(' | ').map((variant) => {
    const words = variant.split(' ');
    let mode = 7;
    let prefixes = 0;
    for (;;) {
      const word = words[0];
      if (modes[word] !== undefined) mode = modes[word];
      else if (columns[word] !== undefined) prefixes |= columns[word];
      else break;
      words.shift();
    }
    return { words, mode, prefixes };
  });
  let sibling: Opcode | null = null;
  variants.sort((x, y) => Number(x.prefixes === 0) - Number(y.prefixes === 0));
  for (const { words, mode, prefixes } of variants) {
    const opcode = parseBody(words, text, groups, inheritedOperands, inheritedAttributes);
    for (let column = 0; column < 12; column++) {
      if ((mode & (1 << (column >> 2))) === 0) continue;
      if (prefixes !== 0 && (prefixes & (1 << (column & 3))) === 0) continue;
      if (claimed[column]) {
        if (prefixes !== 0) fail('two variants for a column', text);
        continue;
      }
      cell[column] = opcode;
      claimed[column] = true;
    }
    sibling ??= opcode;
  }
  if (sibling !== null) {
    const invalid = asInvalid(sibling);
    for (let column = 0; column < 12; column++) cell[column] ??= invalid;
  }
  return cell;
}

function parseGroup(
  group: GroupText,
  groups: Readonly<Record<string, GroupText>>,
  operands: string,
  attributes: readonly string[],
): Cell[] {
  const memory = 'memory' in group ? group.memory : group;
  const register = 'memory' in group ? group.register : group;
  const members: Cell[] = new Array(MEMBERS);
  for (let reg = 0; reg < 8; reg++) {
    members[reg] = parseCell(memory[reg] ?? '', groups, operands, attributes);
    const entry = register[reg] ?? '';
    const whole = typeof entry === 'string' ? parseCell(entry, groups, operands, attributes) : null;
    for (let rm = 0; rm < 8; rm++) {
      members[REGISTER_MEMBERS + reg * 8 + rm] =
        whole ?? parseCell((entry as readonly string[])[rm] ?? '', groups, operands, attributes);
    }
  }
  return members;
}

/** Translates an opcode map of 256 cells; empty ones are `empty`. */
export function parseMap(
  cells: readonly string[],
  groups: Readonly<Record<string, GroupText>>,
  empty = '',
): readonly Cell[] {
  if (cells.length !== 256) throw new Error(`opcode table: ${cells.length} cells`);
  return cells.map((text) => parseCell(text === '' ? empty : text, groups));
}

/** The same text for several cells in a row. */
export function times(count: number, text: string): string[] {
  return new Array<string>(count).fill(text);
}
