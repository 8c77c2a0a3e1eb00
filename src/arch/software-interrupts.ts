/**
 * INT n, INT3, INTO and INT1. SDM vol. 2A "INT n/INTO/INT3/INT1"; vol. 3A 20.3.3 (in virtual-8086 mode); 6.4.4.
 */
import { IOPL, OF, readFlags } from '../isa/flags.ts';
import type { Instruction } from '../isa/instruction.ts';
import type { Cpu, EventSource, SystemInstruction } from './cpu.ts';
import { BP, DB, gp, OF as OVERFLOW, ud } from './fault.ts';
import { deliver } from './interrupts.ts';

/** Delivers, or goes back to the instruction if a hook stops the event. */
function raise(cpu: Cpu, instruction: Instruction, vector: number, source: EventSource): void {
  if (!deliver(cpu, vector, source)) cpu.rip -= BigInt(instruction.length);
}

/** INT n. #GP(0) in virtual-8086 mode with IOPL below 3 (its extensions are not reported). */
export const int: SystemInstruction = (cpu, instruction) => {
  const operand = instruction.operands[0];
  if (operand?.kind !== 'immediate') throw ud();
  if (cpu.virtual8086 && (cpu.flagsRest & IOPL) !== IOPL) throw gp();
  raise(cpu, instruction, Number(operand.value & 0xffn), 'software');
};

/** INT3: #BP. Not sensitive to IOPL. */
export const int3: SystemInstruction = (cpu, instruction) => raise(cpu, instruction, BP, 'int3');

/** INTO: #OF if OF is set. #UD in 64-bit mode. */
export const into: SystemInstruction = (cpu, instruction) => {
  if (cpu.mode64) throw ud();
  if ((readFlags(cpu) & OF) !== 0n) raise(cpu, instruction, OVERFLOW, 'into');
};

/**
 * INT1 (ICEBP): #DB without a DPL check. DR6 is left alone, and a data breakpoint that a MOV SS before it has
 * pending is lost (measured by the Linux self-test mov_ss_trap).
 */
export const int1: SystemInstruction = (cpu, instruction) => {
  const pending = cpu.pendingDebug;
  cpu.pendingDebug = 0;
  try {
    raise(cpu, instruction, DB, 'int1');
  } finally {
    if (cpu.stopRequested) cpu.pendingDebug = pending;
  }
};
