/**
 * The x87 environment and state in memory: FLDENV, FNSTENV, FNSAVE, FRSTOR. SDM vol. 1 8.1.10 (figures 8-9 to 8-12), 8.1.8
 * (pointers), 8.1.7 (tags).
 *
 * The processor is one that does not keep FCS and FDS (CPUID.7.0:EBX[13]): they are stored as 0.
 */
import { F80, FINITE, unpack, ZERO } from '../isa/float/format.ts';
import type { Instruction } from '../isa/instruction.ts';
import type { Cpu } from './cpu.ts';
import { type Place, place, probeBlock, readBlock, writeBlock } from './x87-memory.ts';
import {
  EMPTY,
  initialize,
  readPhysical,
  setControlWord,
  summarize,
  top,
  writePhysical,
} from './x87-stack.ts';

/** The tag word with tags as the registers' contents have them: 00 valid, 01 zero, 10 special, 11 empty. */
function fullTagWord(cpu: Cpu): number {
  let word = 0;
  for (let n = 0; n < 8; n++) {
    let tag = (cpu.ftw >> (2 * n)) & 3;
    if (tag !== EMPTY) {
      const x = unpack(F80, readPhysical(cpu, n));
      tag = x.kind === ZERO ? 1 : x.kind === FINITE && !x.denormal ? 0 : 2;
    }
    word |= tag << (2 * n);
  }
  return word;
}

/** Takes over which registers are empty from a tag word. */
function loadTagWord(cpu: Cpu, word: number): void {
  let tags = 0;
  for (let n = 0; n < 8; n++) if (((word >> (2 * n)) & 3) === EMPTY) tags |= EMPTY << (2 * n);
  cpu.ftw = tags;
}

/** Bytes of an environment of the instruction's operand size. */
function environmentBytes(instruction: Instruction): number {
  return instruction.operandSize === 16 ? 14 : 28;
}

const FOP = 0x7ff;

function storeEnvironment(cpu: Cpu, instruction: Instruction, view: DataView): void {
  const ip = Number(cpu.fip & 0xffff_ffffn);
  const dp = Number(cpu.fdp & 0xffff_ffffn);
  const real = cpu.realAddressing;
  if (instruction.operandSize === 16) {
    const words = [cpu.fcw, cpu.fsw, fullTagWord(cpu), ip & 0xffff, 0, dp & 0xffff, 0];
    if (real) {
      words[4] = (((ip >>> 16) & 15) << 12) | cpu.fop;
      words[6] = ((dp >>> 16) & 15) << 12;
    }
    words.forEach((word, i) => {
      view.setUint16(2 * i, word, true);
    });
    return;
  }
  const high = 0xffff_0000;
  const dwords = [high | cpu.fcw, high | cpu.fsw, high | fullTagWord(cpu), ip, cpu.fop << 16, dp, high];
  if (real) {
    dwords[3] = high | (ip & 0xffff);
    dwords[4] = ((ip >>> 16) << 12) | cpu.fop;
    dwords[5] = high | (dp & 0xffff);
    dwords[6] = (dp >>> 16) << 12;
  }
  dwords.forEach((dword, i) => {
    view.setUint32(4 * i, dword, true);
  });
}

function loadEnvironment(cpu: Cpu, instruction: Instruction, view: DataView): void {
  const real = cpu.realAddressing;
  const narrow = instruction.operandSize === 16;
  const at = (i: number): number => (narrow ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true));
  cpu.fsw = at(1) & 0xffff;
  setControlWord(cpu, at(0));
  loadTagWord(cpu, at(2) & 0xffff);
  if (real) {
    const upper = narrow ? 15 : 0xffff;
    cpu.fip = BigInt(((((at(4) >>> 12) & upper) << 16) | (at(3) & 0xffff)) >>> 0);
    cpu.fdp = BigInt(((((at(6) >>> 12) & upper) << 16) | (at(5) & 0xffff)) >>> 0);
    cpu.fop = at(4) & FOP;
  } else {
    cpu.fip = BigInt(at(3));
    cpu.fdp = BigInt(at(5));
    cpu.fop = narrow ? 0 : (at(4) >>> 16) & FOP;
  }
}

const part = (instruction: Instruction) => (instruction.operandSize === 16 ? 2 : 4);

/** The last byte is accessed right after the first part (measured), which tells if the second of two pages is missing. */
function accessEnds(
  cpu: Cpu,
  instruction: Instruction,
  where: Place,
  size: number,
  access: typeof readBlock | typeof probeBlock,
): void {
  access(cpu, instruction, where, 0, part(instruction), part(instruction));
  access(cpu, instruction, where, size - 1, 1, 1);
}

/** FNSTENV: stores, then masks all exceptions. */
export function fnstenv(cpu: Cpu, instruction: Instruction): void {
  const view = new DataView(new ArrayBuffer(32));
  storeEnvironment(cpu, instruction, view);
  const bytes = environmentBytes(instruction);
  const where = place(cpu, instruction);
  accessEnds(cpu, instruction, where, bytes, probeBlock);
  writeBlock(cpu, instruction, where, 0, bytes, view, part(instruction));
  cpu.fcw |= 0x3f;
  summarize(cpu);
}

export function fldenv(cpu: Cpu, instruction: Instruction): void {
  const bytes = environmentBytes(instruction);
  const where = place(cpu, instruction);
  accessEnds(cpu, instruction, where, bytes, readBlock);
  const view = readBlock(cpu, instruction, where, 0, bytes, part(instruction));
  loadEnvironment(cpu, instruction, view);
}

function eachRegister(cpu: Cpu, instruction: Instruction, action: (n: number, from: number) => void): void {
  const first = top(cpu);
  for (let i = 0; i < 8; i++) action((first + i) & 7, environmentBytes(instruction) + 10 * i);
}

/** FNSAVE: environment and registers from ST(0); then as FNINIT. */
export function fnsave(cpu: Cpu, instruction: Instruction): void {
  const where: Place = place(cpu, instruction);
  const bytes = environmentBytes(instruction);
  accessEnds(cpu, instruction, where, bytes + 80, probeBlock);
  probeBlock(cpu, instruction, where, 0, bytes + 80, 2);
  const environment = new DataView(new ArrayBuffer(32));
  storeEnvironment(cpu, instruction, environment);
  writeBlock(cpu, instruction, where, 0, bytes, environment, part(instruction));
  const register = new DataView(new ArrayBuffer(16));
  eachRegister(cpu, instruction, (n, from) => {
    const value = readPhysical(cpu, n);
    register.setBigUint64(0, BigInt.asUintN(64, value), true);
    register.setBigUint64(8, value >> 64n, true);
    writeBlock(cpu, instruction, where, from, 10, register, 2);
  });
  initialize(cpu);
}

/** FRSTOR. */
export function frstor(cpu: Cpu, instruction: Instruction): void {
  const where = place(cpu, instruction);
  const bytes = environmentBytes(instruction);
  accessEnds(cpu, instruction, where, bytes + 80, readBlock);
  const registers: DataView[] = [];
  const environment = readBlock(cpu, instruction, where, 0, bytes, part(instruction));
  for (let i = 0; i < 8; i++) registers.push(readBlock(cpu, instruction, where, bytes + 10 * i, 10, 2));
  loadEnvironment(cpu, instruction, environment);
  const first = top(cpu);
  registers.forEach((view, i) => {
    const value = (BigInt(view.getUint16(8, true)) << 64n) | view.getBigUint64(0, true);
    writePhysical(cpu, (first + i) & 7, value);
  });
}
