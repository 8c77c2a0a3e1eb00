/** SYSENTER and SYSEXIT. SDM vol. 2B "SYSENTER", "SYSEXIT", vol. 3A 5.8.7. */
import { IF, RF, VM } from '../isa/flags.ts';
import { RCX, RDX, RSP } from '../isa/state.ts';
import { announcePrivilege } from './code-segment.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { gp } from './fault.ts';
import { isCanonical } from './linear.ts';
import { setFixedCode, setFixedStack } from './syscall.ts';

function baseSelector(cpu: Cpu): number {
  const selector = Number(cpu.sysenterCs & 0xffffn);
  if (!cpu.protectedMode || (selector & 0xfffc) === 0) throw gp();
  return selector;
}

/** SYSENTER, from any level. #GP(0) in real-address mode, or if IA32_SYSENTER_CS names the null selector. */
export const sysenter: SystemInstruction = (cpu) => {
  const selector = baseSelector(cpu) & 0xfffc;
  const from = cpu.cpl;
  cpu.flagsRest &= ~(VM | IF | RF);
  const mask = cpu.longMode ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
  cpu.gpr[RSP] = cpu.sysenterEsp & mask;
  cpu.rip = cpu.sysenterEip & mask;
  setFixedCode(cpu, selector, 0, cpu.longMode ? 64 : 32);
  setFixedStack(cpu, selector + 8, 0);
  announcePrivilege(cpu, from);
};

/**
 * SYSEXIT, to CPL 3. #GP(0) in real-address mode, at CPL above 0, if IA32_SYSENTER_CS names the null selector, or, with
 * a 64-bit operand size, if RCX or RDX is not canonical.
 */
export const sysexit: SystemInstruction = (cpu, instruction) => {
  const selector = baseSelector(cpu);
  if (cpu.cpl !== 0) throw gp();
  const wide = instruction.operandSize === 64;
  const pointer = cpu.gpr[RCX];
  const target = cpu.gpr[RDX];
  if (wide && (!isCanonical(pointer) || !isCanonical(target))) throw gp();
  const mask = wide ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
  cpu.gpr[RSP] = pointer & mask;
  cpu.rip = target & mask;
  const code = selector + (wide ? 32 : 16);
  setFixedCode(cpu, (code & 0xffff) | 3, 3, wide ? 64 : 32);
  setFixedStack(cpu, (code + 8) | 3, 3);
  announcePrivilege(cpu, 0);
};
