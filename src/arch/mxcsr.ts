/** MXCSR. SDM vol. 1 10.2.3, 11.6.6 (its mask); vol. 2A "LDMXCSR", vol. 2B "STMXCSR". */

import { CR0_EM, CR0_TS, CR4_OSFXSR } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { Fault, gp, NM, ud } from './fault.ts';
import { readOperand, writeOperand } from './operands.ts';

export const MXCSR_INITIAL = 0x1f80;
/** Bits that may be set: what FXSAVE tells as MXCSR_MASK. */
export const MXCSR_MASK = 0xffff;

/** Loads MXCSR. Raises #GP(0) for a reserved bit. */
export function setMxcsr(cpu: Cpu, value: number): void {
  if (value & ~MXCSR_MASK) throw gp();
  cpu.mxcsr = value;
}

/** Instructions of SSE: #UD with CR0.EM set or CR4.OSFXSR clear, then #NM with CR0.TS set. */
function requireSse(cpu: Cpu): void {
  if (cpu.cr0 & CR0_EM || (cpu.cr4 & CR4_OSFXSR) === 0n) throw ud();
  if (cpu.cr0 & CR0_TS) throw new Fault(NM);
}

export const ldmxcsr: SystemInstruction = (cpu, instruction) => {
  requireSse(cpu);
  setMxcsr(cpu, Number(readOperand(cpu, instruction, 0, 32)));
};

/** Whether AVX may be used is decided when instructions are decoded. */
export const vldmxcsr: SystemInstruction = (cpu, instruction) =>
  setMxcsr(cpu, Number(readOperand(cpu, instruction, 0, 32)));

export const vstmxcsr: SystemInstruction = (cpu, instruction) =>
  writeOperand(cpu, instruction, 0, BigInt(cpu.mxcsr), 32);

export const stmxcsr: SystemInstruction = (cpu, instruction) => {
  requireSse(cpu);
  writeOperand(cpu, instruction, 0, BigInt(cpu.mxcsr), 32);
};
