/**
 * CLI, STI, PUSHF and POPF. SDM vol. 2 of each; vol. 1 3.4.3; vol. 3A 6.8.1 (IF), 20.2.7 (virtual-8086 mode). Neither
 * the virtual-8086 mode extensions nor protected-mode virtual interrupts are reported.
 */
import { AC, ID, IF, IOPL, RF, readFlags, USER_FLAGS, VM, writeFlags } from '../isa/flags.ts';
import { offsetOf, RSP, SHADOW_STI } from '../isa/state.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { gp } from './fault.ts';
import { PushStack, peek, setStackPointer, slotSize } from './stack.ts';

const FLAGS = offsetOf('flagsRest') / 4;
const IF_BIT = Number(IF);

function iopl(cpu: Cpu): number {
  return (cpu.u32[FLAGS] >>> 12) & 3;
}

/** #GP(0) unless CPL <= IOPL; in virtual-8086 mode CPL is 3, in real-address mode 0. */
function requireIopl(cpu: Cpu): void {
  if (cpu.cpl > iopl(cpu)) throw gp();
}

/** CLI. */
export const cli: SystemInstruction = (cpu) => {
  requireIopl(cpu);
  cpu.u32[FLAGS] &= ~IF_BIT;
};

/** STI: interrupts stay off for one more instruction if they were off. */
export const sti: SystemInstruction = (cpu) => {
  requireIopl(cpu);
  if ((cpu.u32[FLAGS] & IF_BIT) !== 0) return;
  cpu.u32[FLAGS] |= IF_BIT;
  cpu.shadow = SHADOW_STI;
};

/** PUSHF, PUSHFD, PUSHFQ: VM and RF are pushed as 0. #GP(0) in virtual-8086 mode with IOPL below 3. */
export const pushf: SystemInstruction = (cpu, instruction) => {
  if (cpu.virtual8086) requireIopl(cpu);
  const size = slotSize(instruction.operandSize);
  const stack = PushStack.current(cpu, cpu.mode64);
  stack.requireRoom(1, size);
  stack.push(size, readFlags(cpu) & ~(VM | RF));
  setStackPointer(cpu, stack.pointer);
};

/** POPF, POPFD, POPFQ. #GP(0) in virtual-8086 mode with IOPL below 3. */
export const popf: SystemInstruction = (cpu, instruction) => {
  if (cpu.virtual8086) requireIopl(cpu);
  const size = slotSize(instruction.operandSize);
  const image = peek(cpu, 0, size);
  let mask = size === 2 ? USER_FLAGS : USER_FLAGS | AC | ID;
  if (cpu.cpl <= iopl(cpu)) mask |= IF;
  if (cpu.cpl === 0) mask |= IOPL;
  writeFlags(cpu, (readFlags(cpu) & ~(mask | RF)) | (image & mask));
  setStackPointer(cpu, cpu.gpr[RSP] + BigInt(size));
};
