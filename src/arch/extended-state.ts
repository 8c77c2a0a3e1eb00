/**
 * XGETBV and XSETBV. SDM vol. 2D "XGETBV", "XSETBV"; vol. 1 13.3 (XCR0).
 *
 * CPUID does not report XSAVE, so CR4.OSXSAVE is reserved and both raise #UD.
 */
import { RAX, RCX, RDX } from '../isa/state.ts';
import { CR4_OSXSAVE, requireCpl0 } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { gp, ud } from './fault.ts';

const XCR0_X87 = 1n;
const XCR0_SSE = 2n;
const XCR0_AVX = 4n;

function requireXcr0(cpu: Cpu): void {
  if ((cpu.cr4 & CR4_OSXSAVE) === 0n) throw ud();
}

function checkIndex(cpu: Cpu): void {
  if (cpu.gpr[RCX] & 0xffff_ffffn) throw gp();
}

export const xgetbv: SystemInstruction = (cpu) => {
  requireXcr0(cpu);
  checkIndex(cpu);
  cpu.gpr[RAX] = cpu.xcr0 & 0xffff_ffffn;
  cpu.gpr[RDX] = cpu.xcr0 >> 32n;
};

export const xsetbv: SystemInstruction = (cpu) => {
  requireXcr0(cpu);
  requireCpl0(cpu);
  checkIndex(cpu);
  const value = ((cpu.gpr[RDX] & 0xffff_ffffn) << 32n) | (cpu.gpr[RAX] & 0xffff_ffffn);
  if (value & ~(XCR0_X87 | XCR0_SSE | XCR0_AVX) || (value & XCR0_X87) === 0n) throw gp();
  if (value & XCR0_AVX && (value & XCR0_SSE) === 0n) throw gp();
  cpu.xcr0 = value;
};
