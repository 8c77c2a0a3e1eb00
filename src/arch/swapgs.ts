/** SWAPGS. SDM vol. 2B "SWAPGS". */
import { GS } from '../isa/state.ts';
import type { SystemInstruction } from './cpu.ts';
import { gp, ud } from './fault.ts';

/** Exchanges the base of GS and IA32_KERNEL_GS_BASE. #UD outside 64-bit mode, #GP(0) if CPL is not 0. */
export const swapgs: SystemInstruction = (cpu) => {
  if (!cpu.mode64) throw ud();
  if (cpu.cpl !== 0) throw gp();
  const base = cpu.segBase[GS];
  cpu.segBase[GS] = cpu.kernelGsBase;
  cpu.kernelGsBase = base;
};
