/**
 * A decoded instruction as generated code reads it: OP_SIZE bytes in the arena (engine/layout.ts), and the
 * statuses that a handler returns.
 */
import type { Instruction, MemoryOperand, Operand } from '../../isa/instruction.ts';
import { offsetOf } from '../../isa/state.ts';

/** Byte offsets of the fields of an op. Register fields hold offsets in the processor's state. */
export const OP_HANDLER = 0;
/** Offsets of this and of the next instruction from the first of the run (16 bits each). */
export const OP_START = 4;
export const OP_NEXT = 6;
/** Three register operands, four bytes each; a fourth stands where the immediate would. */
export const OP_REGISTER = 8;
export const OP_BASE = 20;
export const OP_INDEX = 24;
export const OP_SCALE = 28;
/** Number of the effective segment times 4 (8 bits): the offset of its element in the 32-bit segment arrays. */
export const OP_SEGMENT = 29;
/** Offset in the state of the base to add in 64-bit mode and legacy mode alike (16 bits). */
export const OP_SEGMENT_BASE = 30;
/** In the first op of a run: how many times it is yet to be entered before it counts as hot. */
export const OP_HEAT = 32;
/** In the first op of a run that is kept, as decoded: where its code stands in WebAssembly memory. */
export const OP_CODE = 36;
/** In the first op of a run of a region: the run's number in it, and how many of the region's ops come before (16 bits each). */
export const OP_RUN = 36;
export const OP_POSITION = 38;
export const OP_DISPLACEMENT = 40;
export const OP_IMMEDIATE = 48;
/** A second immediate (ENTER), 32 bits. */
export const OP_IMMEDIATE_2 = 56;
/** Instructions of the run that follow this one. */
export const OP_AFTER = 60;

/**
 * What a handler returns: a status in the low bits, and above them how many bytes beyond the op that it was called with
 * the op stands at which it left. Handlers of one instruction leave at their own.
 */
export const STATUS_BITS = 4;

export const NEXT = 0;
/** RIP was set: look up where to go on. */
export const JUMP = 1;
/** The same instruction again. */
export const AGAIN = 2;
/** A fault is recorded in the state; nothing else has changed. */
export const FAULT = 3;
/** The instruction is complete; the instruction cycle must look at events before the next. */
export const EXIT = 4;
/** The machine does not have this instruction. */
export const UNIMPLEMENTED = 5;
/** As NEXT, but the interpreter must return before the next instruction. */
export const STOP = 6;
/** From the dispatch loop: no decoded code known for RIP. */
export const MISS = 7;
/** The budget is used up, or was taken back. */
export const BUDGET = 8;
/** The budget does not cover the run at RIP, whose first op is in `slowOp`. */
export const SHORT = 9;
/** The run at RIP, whose first op is in `slowOp`, has been entered so often that it deserves a function of its own. */
export const HOT = 10;
/**
 * Only from the function of a region: the op at which it left is to be carried out by its own handler, from the state as it is,
 * and so is what follows in its run.
 */
export const BY_HANDLER = 11;

const GPR = offsetOf('gpr');
const X87 = offsetOf('x87');
const YMM = offsetOf('ymm');
const ZERO = offsetOf('zero');
const SEGMENT_BASE = offsetOf('segBase');

/** The memory operand of an instruction, which has one at most, or undefined. */
export function memoryOperand(instruction: Instruction): MemoryOperand | undefined {
  return instruction.operands.find((operand): operand is MemoryOperand => operand.kind === 'memory');
}

/** The field that tells where the register of operand `n` lies. */
export function registerField(n: number): number {
  return n < 3 ? OP_REGISTER + 4 * n : OP_IMMEDIATE;
}

/** Where the register of an operand lies in the state. An MM register is the low half of an x87 register. */
export function registerOffset(operand: Operand): number {
  switch (operand.kind) {
    case 'register':
      return GPR + operand.index * 8 + (operand.high ? 1 : 0);
    case 'mm':
      return X87 + operand.index * 16;
    case 'xmm':
    case 'ymm':
      return YMM + operand.index * 32;
    default:
      throw new Error(`an operand of kind ${operand.kind} is no register`);
  }
}

/**
 * Writes the run-time data of `instruction` into the op at `at` of `view`.
 * @param handler table index of its handler
 */
export function writeOp(view: DataView, at: number, instruction: Instruction, handler: number): void {
  view.setUint32(at + OP_HANDLER, handler, true);
  view.setUint8(at + OP_SEGMENT, instruction.segment * 4);
  view.setUint16(at + OP_SEGMENT_BASE, SEGMENT_BASE + instruction.segment * 8, true);
  let immediates = 0;
  for (let n = 0; n < instruction.operands.length; n++) {
    const operand: Operand = instruction.operands[n];
    switch (operand.kind) {
      case 'register':
      case 'mm':
      case 'xmm':
      case 'ymm':
        view.setUint32(at + registerField(n), registerOffset(operand), true);
        break;
      case 'memory':
        view.setUint32(at + OP_BASE, operand.base < 0 ? ZERO : GPR + operand.base * 8, true);
        view.setUint32(at + OP_INDEX, operand.index < 0 ? ZERO : GPR + operand.index * 8, true);
        view.setUint8(at + OP_SCALE, operand.scale);
        view.setBigInt64(at + OP_DISPLACEMENT, BigInt.asIntN(64, operand.displacement), true);
        break;
      case 'immediate':
        if (immediates++ === 0) view.setBigUint64(at + OP_IMMEDIATE, BigInt.asUintN(64, operand.value), true);
        else view.setUint32(at + OP_IMMEDIATE_2, Number(operand.value), true);
        break;
      case 'relative':
        view.setBigInt64(at + OP_IMMEDIATE, operand.displacement, true);
        break;
      default:
        break;
    }
  }
}
