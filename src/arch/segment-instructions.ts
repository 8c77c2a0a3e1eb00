/**
 * Instructions that move segment registers and FS and GS bases. SDM vol. 2B "MOV", "POP", "PUSH"; vol. 2A
 * "LDS/LES/LFS/LGS/LSS"; vol. 2B "RDFSBASE/RDGSBASE"; vol. 2D "WRFSBASE/WRGSBASE".
 */
import { CS, DS, ES, FS, GS, RSP, type SegmentNumber, SHADOW_MOV_SS, SS } from '../isa/state.ts';
import { CR4_FSGSBASE } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { gp, ud } from './fault.ts';
import { type AccessSize, isCanonical, readSegment, writeSegment } from './linear.ts';
import {
  advance,
  effectiveAddress,
  readOperand,
  readRegister,
  registerIndex,
  specialIndex,
  truncate,
  writeOperand,
  writeRegister,
} from './operands.ts';
import { loadSegment } from './segmentation.ts';

/** ES, CS, SS, DS, FS or GS; other encodings raise #UD. */
function segmentNumber(index: number): SegmentNumber {
  if (index > GS) throw ud();
  return index as SegmentNumber;
}

/** MOV Sreg, r/m16: CS cannot be its destination. SS holds off interrupts and debug traps for one instruction. */
export const movToSegment: SystemInstruction = (cpu, instruction) => {
  const segment = segmentNumber(specialIndex(instruction, 0));
  if (segment === CS) throw ud();
  loadSegment(cpu, segment, Number(readOperand(cpu, instruction, 1, 16) & 0xffffn));
  if (segment === SS) cpu.shadow = SHADOW_MOV_SS;
};

/** MOV r/m, Sreg: a 16-bit store to memory; a register of the operand size, zero-extended. */
export const movFromSegment: SystemInstruction = (cpu, instruction) => {
  const segment = segmentNumber(specialIndex(instruction, 1));
  writeOperand(cpu, instruction, 0, BigInt(cpu.segSelector[segment]), 16);
};

/**
 * PUSH Sreg. With a 32-bit operand size ESP goes down by 4 but 16 bits only are written, as Intel Core processors
 * do; with 64 bits, the zero-extended selector.
 */
export const pushSegment: SystemInstruction = (cpu, instruction) => {
  const segment = segmentNumber(specialIndex(instruction, 0));
  const size = instruction.operandSize / 8;
  const top = truncate(cpu.gpr[RSP] - BigInt(size), cpu.stackSize);
  writeSegment(cpu, SS, top, size === 8 ? 8 : 2, BigInt(cpu.segSelector[segment]));
  writeRegister(cpu, RSP, cpu.stackSize, top);
};

/** POP Sreg. Whatever the operand size, 16 bits only are read, as Intel processors do. */
export const popSegment: SystemInstruction = (cpu, instruction) => {
  const segment = segmentNumber(specialIndex(instruction, 0));
  const before = cpu.stackSize;
  const top = readRegister(cpu, RSP, before);
  const selector = Number(readSegment(cpu, SS, top, 2));
  loadSegment(cpu, segment, selector);
  writeRegister(cpu, RSP, before, top + BigInt(instruction.operandSize / 8));
  if (segment === SS) cpu.shadow = SHADOW_MOV_SS;
};

/** LDS, LES, LFS, LGS, LSS r, m16:16/32/64: the offset, then the selector. */
function loadFarPointer(segment: SegmentNumber): SystemInstruction {
  return (cpu, instruction) => {
    const { segment: from, offset } = effectiveAddress(cpu, instruction, 1);
    const width = instruction.operandSize;
    const size = (width / 8) as AccessSize;
    const value = readSegment(cpu, from, offset, size);
    const selector = Number(readSegment(cpu, from, advance(instruction, offset, size), 2));
    loadSegment(cpu, segment, selector);
    writeRegister(cpu, registerIndex(instruction, 0), width, value);
  };
}

export const lds = loadFarPointer(DS);
export const les = loadFarPointer(ES);
export const lfs = loadFarPointer(FS);
export const lgs = loadFarPointer(GS);
export const lss = loadFarPointer(SS);

/** #UD outside 64-bit mode, or unless CR4.FSGSBASE. */
function requireFsGsBase(cpu: Cpu): void {
  if (!cpu.mode64 || (cpu.cr4 & CR4_FSGSBASE) === 0n) throw ud();
}

function readBase(segment: SegmentNumber): SystemInstruction {
  return (cpu, instruction) => {
    requireFsGsBase(cpu);
    writeOperand(cpu, instruction, 0, cpu.segBase[segment]);
  };
}

function writeBase(segment: SegmentNumber): SystemInstruction {
  return (cpu, instruction) => {
    requireFsGsBase(cpu);
    const base = readOperand(cpu, instruction, 0);
    if (!isCanonical(base)) throw gp();
    cpu.segBase[segment] = base;
  };
}

export const rdfsbase = readBase(FS);
export const rdgsbase = readBase(GS);
export const wrfsbase = writeBase(FS);
export const wrgsbase = writeBase(GS);
