/**
 * Instructions that ask what a selector would permit. SDM vol. 3A 5.10; vol. 2A "LAR", "LSL", "ARPL"; vol. 2D
 * "VERR/VERW".
 */
import { readFlags, writeFlags, ZF } from '../isa/flags.ts';
import type { Instruction } from '../isa/instruction.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import {
  CALL_GATE,
  CALL_GATE16,
  type Descriptor,
  LDT,
  TASK_GATE,
  TSS_AVAILABLE,
  TSS_BUSY,
  TSS16_AVAILABLE,
  TSS16_BUSY,
  TYPE_CODE,
  TYPE_CONFORMING,
  TYPE_READABLE,
  TYPE_WRITABLE,
  tryReadDescriptor,
} from './descriptors.ts';
import { readOperand, registerIndex, writeOperand, writeRegister } from './operands.ts';
import { requireDescriptors } from './system-tables.ts';

/** System types that LAR and LSL accept outside IA-32e mode and in it (SDM vol. 2A tables 3-54 and 3-57). */
const LAR_LEGACY = [
  TSS16_AVAILABLE,
  LDT,
  TSS16_BUSY,
  CALL_GATE16,
  TASK_GATE,
  TSS_AVAILABLE,
  TSS_BUSY,
  CALL_GATE,
];
const LAR_LONG = [LDT, TSS_AVAILABLE, TSS_BUSY, CALL_GATE];
const LSL_LEGACY = [TSS16_AVAILABLE, LDT, TSS16_BUSY, TSS_AVAILABLE, TSS_BUSY];
const LSL_LONG = [LDT, TSS_AVAILABLE, TSS_BUSY];

function setZero(cpu: Cpu, zero: boolean): void {
  const flags = readFlags(cpu);
  writeFlags(cpu, zero ? flags | ZF : flags & ~ZF);
}

function isConforming(d: Descriptor): boolean {
  return !d.system && (d.type & TYPE_CODE) !== 0 && (d.type & TYPE_CONFORMING) !== 0;
}

/** The descriptor of the selector in operand `n` if it is there and visible at CPL and RPL, else null. */
function visible(cpu: Cpu, instruction: Instruction, n: number): Descriptor | null {
  requireDescriptors(cpu);
  const selector = Number(readOperand(cpu, instruction, n, 16) & 0xffffn);
  const d = tryReadDescriptor(cpu, selector);
  if (!d) return null;
  if (!isConforming(d) && Math.max(cpu.cpl, selector & 3) > d.dpl) return null;
  return d;
}

/** LAR r, r/m16: descriptor bits 55:40 in bits 23:8, limit bits 19:16 among them; the low 16 only with a 16-bit r. */
export const lar: SystemInstruction = (cpu, instruction) => {
  const d = visible(cpu, instruction, 1);
  const types = cpu.longMode ? LAR_LONG : LAR_LEGACY;
  const valid = d !== null && (!d.system || types.includes(d.type));
  if (valid) {
    const rights = BigInt(d.high & 0x00ff_ff00);
    writeRegister(cpu, registerIndex(instruction, 0), instruction.operandSize, rights);
  }
  setZero(cpu, valid);
};

/** LSL r, r/m16: the limit in bytes. */
export const lsl: SystemInstruction = (cpu, instruction) => {
  const d = visible(cpu, instruction, 1);
  const types = cpu.longMode ? LSL_LONG : LSL_LEGACY;
  const valid = d !== null && (!d.system || types.includes(d.type));
  if (valid) writeRegister(cpu, registerIndex(instruction, 0), instruction.operandSize, BigInt(d.limit));
  setZero(cpu, valid);
};

/** VERR r/m16: a data segment or readable code. */
export const verr: SystemInstruction = (cpu, instruction) => {
  const d = visible(cpu, instruction, 0);
  const readable = d !== null && !d.system && ((d.type & TYPE_CODE) === 0 || (d.type & TYPE_READABLE) !== 0);
  setZero(cpu, readable);
};

/** VERW r/m16: a writable data segment. */
export const verw: SystemInstruction = (cpu, instruction) => {
  const d = visible(cpu, instruction, 0);
  const writable = d !== null && !d.system && (d.type & TYPE_CODE) === 0 && (d.type & TYPE_WRITABLE) !== 0;
  setZero(cpu, writable);
};

/** ARPL r/m16, r16: raises the destination's RPL to the source's; memory is written only where it changes. */
export const arpl: SystemInstruction = (cpu, instruction) => {
  requireDescriptors(cpu);
  const destination = readOperand(cpu, instruction, 0, 16);
  const rpl = readOperand(cpu, instruction, 1) & 3n;
  const lower = (destination & 3n) < rpl;
  if (lower) writeOperand(cpu, instruction, 0, (destination & ~3n) | rpl, 16);
  setZero(cpu, lower);
};
