/**
 * The registers of the descriptor tables and the task register. SDM vol. 3A 2.4; vol. 2A "LGDT/LIDT", "LLDT", "LTR";
 * vol. 2B "SGDT", "SIDT", "SLDT", "STR".
 */

import type { Instruction } from '../isa/instruction.ts';
import { LDTR, TR } from '../isa/state.ts';
import { requireCpl0 } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import {
  type Descriptor,
  LDT,
  readDescriptor,
  setBusy,
  TSS_AVAILABLE,
  TSS16_AVAILABLE,
} from './descriptors.ts';
import { gp, np, ud } from './fault.ts';
import { isCanonical, probeSegmentWrite, readSegment, writeSegment } from './linear.ts';
import { advance, effectiveAddress, readOperand, writeOperand } from './operands.ts';
import { setNull, setSegment } from './segmentation.ts';

/** #UD in real-address and virtual-8086 mode, which do not know descriptors. */
export function requireDescriptors(cpu: Cpu): void {
  if (cpu.realAddressing) throw ud();
}

/** The pseudo-descriptor at operand 0: a 16-bit limit, then a base of 64, 32 or (operand size 16) 24 bits. */
function readPseudoDescriptor(cpu: Cpu, instruction: Instruction): { limit: number; base: bigint } {
  requireCpl0(cpu);
  const { segment, offset } = effectiveAddress(cpu, instruction, 0);
  const limit = Number(readSegment(cpu, segment, offset, 2));
  const at = advance(instruction, offset, 2);
  let base = readSegment(cpu, segment, at, cpu.mode64 ? 8 : 4);
  if (!cpu.mode64 && instruction.operandSize === 16) base &= 0xff_ffffn;
  if (!isCanonical(base)) throw gp();
  return { limit, base };
}

export const lgdt: SystemInstruction = (cpu, instruction) => {
  const { limit, base } = readPseudoDescriptor(cpu, instruction);
  cpu.gdtrLimit = limit;
  cpu.gdtrBase = base;
};

export const lidt: SystemInstruction = (cpu, instruction) => {
  const { limit, base } = readPseudoDescriptor(cpu, instruction);
  cpu.idtrLimit = limit;
  cpu.idtrBase = base;
};

/** Stores limit and base: 8 bytes of base in 64-bit mode, else 4 whatever the operand size, as Intel 64 processors do. */
function writePseudoDescriptor(cpu: Cpu, instruction: Instruction, limit: number, base: bigint): void {
  const { segment, offset } = effectiveAddress(cpu, instruction, 0);
  const at = advance(instruction, offset, 2);
  const size = cpu.mode64 ? 8 : 4;
  probeSegmentWrite(cpu, segment, offset, 2);
  probeSegmentWrite(cpu, segment, at, size);
  writeSegment(cpu, segment, offset, 2, BigInt(limit));
  writeSegment(cpu, segment, at, size, base);
}

/** SGDT, at any privilege: UMIP is not reported. */
export const sgdt: SystemInstruction = (cpu, instruction) =>
  writePseudoDescriptor(cpu, instruction, cpu.gdtrLimit, cpu.gdtrBase);

/** SIDT, at any privilege. */
export const sidt: SystemInstruction = (cpu, instruction) =>
  writePseudoDescriptor(cpu, instruction, cpu.idtrLimit, cpu.idtrBase);

/** A descriptor of the GDT for LLDT or LTR, whose base must be canonical. Raises #GP(selector). */
function readSystemSegment(cpu: Cpu, selector: number): Descriptor {
  if (selector & 4) throw gp(selector & 0xfffc);
  return readDescriptor(cpu, selector);
}

function requireUsable(d: Descriptor): void {
  if (!d.present) throw np(d.selector & 0xfffc);
  if (!isCanonical(d.base)) throw gp(d.selector & 0xfffc);
}

/** LLDT r/m16. A null selector leaves no LDT. */
export const lldt: SystemInstruction = (cpu, instruction) => {
  requireDescriptors(cpu);
  requireCpl0(cpu);
  const selector = Number(readOperand(cpu, instruction, 0, 16) & 0xffffn);
  if ((selector & 0xfffc) === 0) {
    setNull(cpu, LDTR, selector);
    return;
  }
  const d = readSystemSegment(cpu, selector);
  if (!d.system || d.type !== LDT) throw gp(selector & 0xfffc);
  requireUsable(d);
  setSegment(cpu, LDTR, selector, d);
};

/** LTR r/m16: the TSS must be available, and becomes busy. */
export const ltr: SystemInstruction = (cpu, instruction) => {
  requireDescriptors(cpu);
  requireCpl0(cpu);
  const selector = Number(readOperand(cpu, instruction, 0, 16) & 0xffffn);
  const d = readSystemSegment(cpu, selector);
  const fits = d.type === TSS_AVAILABLE || (d.type === TSS16_AVAILABLE && !cpu.longMode);
  if (!d.system || !fits) throw gp(selector & 0xfffc);
  requireUsable(d);
  setBusy(cpu, d, true);
  setSegment(cpu, TR, selector, d);
};

/** SLDT r/m16, at any privilege. */
export const sldt: SystemInstruction = (cpu, instruction) => {
  requireDescriptors(cpu);
  writeOperand(cpu, instruction, 0, BigInt(cpu.segSelector[LDTR]), 16);
};

/** STR r/m16, at any privilege. */
export const str: SystemInstruction = (cpu, instruction) => {
  requireDescriptors(cpu);
  writeOperand(cpu, instruction, 0, BigInt(cpu.segSelector[TR]), 16);
};
