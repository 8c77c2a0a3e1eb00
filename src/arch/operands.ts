/**
 * Operands of system instructions: general-purpose registers, immediates and memory.
 * SDM vol. 1 3.4.1 (registers by width), 3.7.5 (effective addresses); vol. 2A 2.1.
 */
import type { CodeSize, Instruction, OperandWidth } from '../isa/instruction.ts';
import type { SegmentNumber } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { ud } from './fault.ts';
import { type AccessSize, readSegment, writeSegment } from './linear.ts';

/** `value` cut to the address or operand size. */
export function truncate(value: bigint, bits: CodeSize | OperandWidth): bigint {
  return BigInt.asUintN(bits, value);
}

/** Low `width` bits of a general-purpose register. */
export function readRegister(cpu: Cpu, index: number, width: OperandWidth): bigint {
  return BigInt.asUintN(width, cpu.gpr[index]);
}

/** Writes a general-purpose register: 32 bits clear bits 63:32, 8 (bits 7:0) and 16 keep the rest. */
export function writeRegister(cpu: Cpu, index: number, width: OperandWidth, value: bigint): void {
  if (width >= 32) cpu.gpr[index] = BigInt.asUintN(width, value);
  else cpu.gpr[index] = (cpu.gpr[index] & ~((1n << BigInt(width)) - 1n)) | BigInt.asUintN(width, value);
}

/** Where memory operand `n` stands: its segment and its offset there, cut to the address size. */
export function effectiveAddress(
  cpu: Cpu,
  instruction: Instruction,
  n: number,
): { segment: SegmentNumber; offset: bigint } {
  const operand = instruction.operands[n];
  if (operand?.kind !== 'memory') throw ud();
  let offset = operand.displacement;
  if (operand.ripRelative) offset += cpu.rip;
  if (operand.base >= 0) offset += cpu.gpr[operand.base];
  if (operand.index >= 0) offset += cpu.gpr[operand.index] << BigInt(operand.scale);
  return { segment: operand.segment, offset: truncate(offset, instruction.addressSize) };
}

/** Offset `by` bytes further on, within the address size. */
export function advance(instruction: Instruction, offset: bigint, by: number): bigint {
  return truncate(offset + BigInt(by), instruction.addressSize);
}

/**
 * Operand `n`, zero-extended: a register or immediate at its width, a memory operand at its width or at `memoryWidth`
 * where that is given.
 */
export function readOperand(
  cpu: Cpu,
  instruction: Instruction,
  n: number,
  memoryWidth: OperandWidth | 0 = 0,
): bigint {
  const operand = instruction.operands[n];
  switch (operand?.kind) {
    case 'register':
      if (operand.high) return (cpu.gpr[operand.index] >> 8n) & 0xffn;
      return readRegister(cpu, operand.index, operand.width);
    case 'memory': {
      const { segment, offset } = effectiveAddress(cpu, instruction, n);
      const width = memoryWidth || operand.width || instruction.operandSize;
      return readSegment(cpu, segment, offset, (width / 8) as AccessSize);
    }
    case 'immediate':
      return operand.value;
    case 'segment':
      return BigInt(cpu.segSelector[operand.index]);
    default:
      throw ud();
  }
}

/** Writes operand `n`, a register or memory, at its width (memory at `memoryWidth` where that is given). */
export function writeOperand(
  cpu: Cpu,
  instruction: Instruction,
  n: number,
  value: bigint,
  memoryWidth: OperandWidth | 0 = 0,
): void {
  const operand = instruction.operands[n];
  if (operand?.kind === 'register') {
    if (operand.high) cpu.gpr[operand.index] = (cpu.gpr[operand.index] & ~0xff00n) | ((value & 0xffn) << 8n);
    else writeRegister(cpu, operand.index, operand.width, value);
  } else if (operand?.kind === 'memory') {
    const { segment, offset } = effectiveAddress(cpu, instruction, n);
    const width = memoryWidth || operand.width || instruction.operandSize;
    writeSegment(cpu, segment, offset, (width / 8) as AccessSize, value);
  } else {
    throw ud();
  }
}

/** Index of the segment, control or debug register or of the tile that operand `n` names. */
export function specialIndex(instruction: Instruction, n: number): number {
  const operand = instruction.operands[n];
  switch (operand?.kind) {
    case 'segment':
    case 'control':
    case 'debug':
    case 'tile':
      return operand.index;
    default:
      throw ud();
  }
}

/** Number of the general-purpose register that operand `n` names. */
export function registerIndex(instruction: Instruction, n: number): number {
  const operand = instruction.operands[n];
  if (operand?.kind !== 'register') throw ud();
  return operand.index;
}
