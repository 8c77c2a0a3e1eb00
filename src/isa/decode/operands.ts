/** Builds the operands of a decoded instruction from the rules of the tables. SDM vol. 2D A.2.1, A.2.2. */
import type {
  AccessWidth,
  ImmediateOperand,
  MemoryOperand,
  Operand,
  OperandWidth,
  RegisterOperand,
  SpecialOperand,
  VectorOperand,
} from '../instruction.ts';
import { DS, RBP, RSP, type SegmentNumber, SS } from '../state.ts';
import type { Cursor } from './cursor.ts';
import * as n from './notation.ts';

/** Registers, immediate bytes and the rest of what has few values are shared by all instructions. */
function registersOf(width: OperandWidth): RegisterOperand[] {
  return Array.from({ length: 16 }, (_, index) =>
    Object.freeze({ kind: 'register', width, index, high: false }),
  );
}
const registers8 = registersOf(8);
const registers16 = registersOf(16);
const registers32 = registersOf(32);
const registers64 = registersOf(64);
const registersHigh: RegisterOperand[] = Array.from({ length: 4 }, (_, index) =>
  Object.freeze({ kind: 'register', width: 8, index, high: true }),
);
const immediateBytes: ImmediateOperand[] = Array.from({ length: 256 }, (_, value) =>
  Object.freeze({ kind: 'immediate', width: 8, value: BigInt(value) }),
);
function specials(kind: SpecialOperand['kind'], count: number): SpecialOperand[] {
  return Array.from({ length: count }, (_, index) => Object.freeze({ kind, index }));
}
function vectors(kind: VectorOperand['kind'], width: VectorOperand['width'], count: number): VectorOperand[] {
  return Array.from({ length: count }, (_, index) => Object.freeze({ kind, width, index }));
}
const mmRegisters = vectors('mm', 64, 8);
const xmmRegisters = vectors('xmm', 128, 16);
const ymmRegisters = vectors('ymm', 256, 16);
const segmentRegisters = specials('segment', 6);
const controlRegisters = specials('control', 16);
const debugRegisters = specials('debug', 16);
const tiles = specials('tile', 8);

/** The width that a rule gives to an operation of this instruction. */
export function operationWidth(c: Cursor, rule: n.WidthRule): OperandWidth {
  switch (rule) {
    case n.BYTE:
      return 8;
    case n.WORD:
      return 16;
    case n.DOUBLEWORD:
      return 32;
    case n.QUADWORD:
      return 64;
    case n.UP_TO_32:
      return c.operandSize === 16 ? 16 : 32;
    case n.AT_LEAST_32:
      return c.wide ? 64 : 32;
    case n.NATIVE:
      return c.mode64 ? 64 : 32;
    case n.FORCED_64:
      return c.mode64 ? 64 : c.operandSize;
    case n.DEFAULT_64:
      return !c.mode64 || c.operandSize === 16 ? c.operandSize : 64;
    default:
      return c.operandSize;
  }
}

/** The width that a rule gives to an operand of an operation of width `operation`. */
function operandWidth(c: Cursor, rule: n.WidthRule, operation: OperandWidth): OperandWidth | 0 {
  switch (rule) {
    case n.NO_WIDTH:
      return 0;
    case n.OPERAND:
      return operation;
    case n.UP_TO_32:
      return operation === 16 ? 16 : 32;
    default:
      return operationWidth(c, rule);
  }
}

/** General register `index` (0..15); byte registers 4..7 are AH, CH, DH, BH without a REX prefix. */
function register(c: Cursor, width: OperandWidth | 0, index: number): RegisterOperand {
  switch (width) {
    case 64:
      return registers64[index];
    case 32:
      return registers32[index];
    case 16:
      return registers16[index];
    default:
      return index >= 4 && c.rex === 0 ? registersHigh[index - 4] : registers8[index];
  }
}

/** The segment of a memory operand with `base`, or of the source of a string instruction with base -1. */
export function segmentOf(c: Cursor, base: number): SegmentNumber {
  if (c.segmentOverride !== -1) return c.segmentOverride;
  return base === RSP || base === RBP ? SS : DS;
}

/** The width of a memory operand of an operation of width `operation`. */
function accessWidth(c: Cursor, rule: n.WidthRule, operation: OperandWidth): AccessWidth | 0 {
  if (rule === n.OCTAWORD) return 128;
  const long = c.vectorLength !== 0;
  switch (rule) {
    case n.VECTOR:
      return long ? 256 : 128;
    case n.HALF_VECTOR:
      return long ? 128 : 64;
    case n.QUARTER_VECTOR:
      return long ? 64 : 32;
    case n.EIGHTH_VECTOR:
      return long ? 32 : 16;
    case n.DUPLICATED:
      return long ? 256 : 64;
  }
  return operandWidth(c, rule, operation);
}

/** XMM register `index`, or YMM where the operand is as long as VEX.L says. */
function vector(c: Cursor, rule: n.WidthRule, index: number): VectorOperand {
  const long = rule === n.VECTOR || rule === n.DUPLICATED;
  return long && c.vectorLength !== 0 ? ymmRegisters[index] : xmmRegisters[index];
}

function memory(c: Cursor, width: AccessWidth | 0): MemoryOperand {
  return {
    kind: 'memory',
    width,
    segment: segmentOf(c, c.base),
    base: c.base,
    index: c.index,
    scale: c.scale,
    displacement: BigInt(c.displacement),
    ripRelative: c.ripRelative,
  };
}

/** Memory at an offset given whole (MOV moffs). */
function memoryOffset(c: Cursor, width: OperandWidth | 0): MemoryOperand {
  let displacement: bigint;
  if (c.addressSize === 64) displacement = BigInt.asIntN(64, c.quadword());
  else displacement = BigInt(c.addressSize === 32 ? c.doubleword() : (c.word() << 16) >> 16);
  return {
    kind: 'memory',
    width,
    segment: segmentOf(c, -1),
    base: -1,
    index: -1,
    scale: 0,
    displacement,
    ripRelative: false,
  };
}

/** `value` (signed) as an immediate of `width` bits. */
function immediate(value: number, width: OperandWidth): ImmediateOperand {
  switch (width) {
    case 8:
      return immediateBytes[value & 0xff];
    case 16:
      return { kind: 'immediate', width, value: BigInt(value & 0xffff) };
    case 32:
      return { kind: 'immediate', width, value: BigInt(value >>> 0) };
    case 64:
      return { kind: 'immediate', width, value: BigInt.asUintN(64, BigInt(value)) };
  }
}

/** Reads an immediate of method I and of type `rule`. */
function readImmediate(c: Cursor, rule: n.WidthRule, operation: OperandWidth): ImmediateOperand {
  if (rule === n.BYTE) return immediateBytes[c.byte()];
  if (rule === n.WORD) return immediate(c.word(), 16);
  if (operation === 16) return immediate(c.word(), 16);
  if (rule === n.OPERAND && operation === 64) return { kind: 'immediate', width: 64, value: c.quadword() };
  return immediate(c.doubleword(), operation);
}

function readRelative(c: Cursor, rule: n.WidthRule, operation: OperandWidth): Operand {
  let displacement: number;
  if (rule === n.BYTE) displacement = (c.byte() << 24) >> 24;
  else if (operation === 16) displacement = (c.word() << 16) >> 16;
  else displacement = c.doubleword();
  return { kind: 'relative', displacement: BigInt(displacement) };
}

function readFar(c: Cursor, operation: OperandWidth): Operand {
  const offset = operation === 16 ? c.word() : c.doubleword() >>> 0;
  return { kind: 'far', selector: c.word(), offset };
}

/** CR0, CR2, CR3, CR4 and CR8 are the control registers there are; MOV of another is #UD. */
const existingControlRegisters = 0b1_0001_1101;

/**
 * The operand that `rule` describes; reads its immediate. `opcode` is the last opcode byte. null where the encoded
 * register does not exist (#UD).
 */
export function operand(
  c: Cursor,
  rule: n.OperandRule,
  operation: OperandWidth,
  opcode: number,
): Operand | null {
  switch (rule.method) {
    case n.E:
      return c.mod === 3
        ? register(c, operandWidth(c, rule.width, operation), c.rm | c.extendBase)
        : memory(c, accessWidth(c, rule.memoryWidth, operation));
    case n.G:
      return register(c, operandWidth(c, rule.width, operation), c.reg | c.extendReg);
    case n.I:
      return readImmediate(c, rule.width, operation);
    case n.SIGNED_I:
      return immediate((c.byte() << 24) >> 24, operation);
    case n.J:
      return readRelative(c, rule.width, operation);
    case n.M:
      return memory(c, accessWidth(c, rule.memoryWidth, operation));
    case n.R:
      return register(c, operandWidth(c, rule.width, operation), c.rm | c.extendBase);
    case n.O:
      return memoryOffset(c, operandWidth(c, rule.memoryWidth, operation));
    case n.S:
      // REX.R plays no part.
      return c.reg < 6 ? segmentRegisters[c.reg] : null;
    case n.C: {
      const number = c.reg | c.extendReg;
      return (existingControlRegisters >> number) & 1 ? controlRegisters[number] : null;
    }
    case n.D:
      // DR4 and DR5 are aliases or #UD by CR4.DE, which is for MOV DR itself to decide.
      return c.extendReg === 0 ? debugRegisters[c.reg] : null;
    case n.A:
      return readFar(c, operation);
    case n.B:
      return register(c, operandWidth(c, rule.width, operation), c.vvvv);
    case n.Z:
      return register(c, operandWidth(c, rule.width, operation), (opcode & 7) | c.extendBase);
    case n.FIXED:
      return register(c, operandWidth(c, rule.width, operation), rule.number);
    case n.FIXED_SEGMENT:
      return segmentRegisters[rule.number];
    case n.V:
      return vector(c, rule.width, c.reg | c.extendReg);
    case n.U:
      return vector(c, rule.width, c.rm | c.extendBase);
    case n.W:
      return c.mod === 3
        ? vector(c, rule.width, c.rm | c.extendBase)
        : memory(c, accessWidth(c, rule.memoryWidth, operation));
    case n.H:
      return vector(c, rule.width, c.vvvv);
    case n.L: {
      const byte = c.byte();
      return vector(c, rule.width, c.mode64 ? byte >> 4 : (byte >> 4) & 7);
    }
    case n.X: {
      // Index 100b is a register here; without SIB there is none.
      if (c.rm !== RSP || c.addressSize === 16) return null;
      return vector(c, rule.width, c.vectorIndex);
    }
    case n.T:
      return c.extendReg === 0 ? tiles[c.reg] : null;
    case n.Y:
      return c.extendBase === 0 ? tiles[c.rm] : null;
    case n.K:
      return tiles[c.vvvv] ?? null;
    case n.P:
      return mmRegisters[c.reg];
    case n.N:
      return mmRegisters[c.rm];
    case n.Q:
      return c.mod === 3 ? mmRegisters[c.rm] : memory(c, accessWidth(c, rule.memoryWidth, operation));
    default:
      return immediateBytes[1];
  }
}
