/**
 * SYSCALL and SYSRET. SDM vol. 2B "SYSCALL", "SYSRET", vol. 3A 5.8.8.
 *
 * Both set CS and SS to fixed flat segments without reading a descriptor. Single-step traps follow TF as it is after them.
 */
import { RF, readFlags, TF, writeFlags } from '../isa/flags.ts';
import { CS, RCX, RSP, SS } from '../isa/state.ts';
import { announcePrivilege } from './code-segment.ts';
import { EFER_SCE } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { DR6_BS } from './debug.ts';
import { gp, ud } from './fault.ts';
import { NO_STEP_TRAP } from './interrupts.ts';
import { isCanonical } from './linear.ts';
import { setSegmentRaw } from './segmentation.ts';

const R11 = 11;

/** RFLAGS bits that SYSRET loads from R11: not RF, VM nor reserved ones. */
const SYSRET_FLAGS = 0x3c7fd7n;

/** Which of the fixed code segments. */
export type FixedCode = 32 | 64;

/** Loads CS with the fixed flat code segment of `size` bits at privilege `level`, and sets CPL. */
export function setFixedCode(cpu: Cpu, selector: number, level: number, size: FixedCode): void {
  const attributes = 0x809b | (level << 5) | (size === 64 ? 0x2000 : 0x4000);
  setSegmentRaw(cpu, CS, { selector, base: 0n, limit: 0xffff_ffff, attributes, usable: true });
  cpu.cpl = level;
}

/** Loads SS with the fixed flat stack segment of privilege `level`. */
export function setFixedStack(cpu: Cpu, selector: number, level: number): void {
  const attributes = 0xc093 | (level << 5);
  setSegmentRaw(cpu, SS, {
    selector: selector & 0xffff,
    base: 0n,
    limit: 0xffff_ffff,
    attributes,
    usable: true,
  });
}

function requireSyscall(cpu: Cpu): void {
  if (!cpu.mode64 || (cpu.efer & EFER_SCE) === 0n) throw ud();
}

/** SYSCALL. #UD outside 64-bit mode or with EFER.SCE clear. */
export const syscall: SystemInstruction = (cpu) => {
  requireSyscall(cpu);
  const from = cpu.cpl;
  const flags = readFlags(cpu) & ~RF;
  cpu.gpr[RCX] = cpu.rip;
  cpu.gpr[R11] = flags;
  cpu.rip = cpu.lstar;
  writeFlags(cpu, flags & ~cpu.sfmask);
  const selector = Number((cpu.star >> 32n) & 0xffffn);
  setFixedCode(cpu, selector & 0xfffc, 0, 64);
  setFixedStack(cpu, selector + 8, 0);
  stepByNewFlags(cpu, flags);
  announcePrivilege(cpu, from);
};

/**
 * SYSRET. #UD outside 64-bit mode or with EFER.SCE clear; #GP(0) if CPL is not 0, or, with a 64-bit operand size,
 * RCX not canonical: Intel processors raise it at CPL 0.
 */
export const sysret: SystemInstruction = (cpu, instruction) => {
  requireSyscall(cpu);
  if (cpu.cpl !== 0) throw gp();
  const wide = instruction.operandSize === 64;
  const target = cpu.gpr[RCX];
  if (wide && !isCanonical(target)) throw gp();
  const before = cpu.flagsRest;
  cpu.rip = wide ? target : target & 0xffff_ffffn;
  writeFlags(cpu, cpu.gpr[R11] & SYSRET_FLAGS);
  const selector = Number((cpu.star >> 48n) & 0xffffn);
  setFixedCode(cpu, ((selector + (wide ? 16 : 0)) & 0xffff) | 3, 3, wide ? 64 : 32);
  setFixedStack(cpu, (selector + 8) | 3, 3);
  if (!wide) cpu.gpr[RSP] &= 0xffff_ffffn;
  stepByNewFlags(cpu, before);
  announcePrivilege(cpu, 0);
};

/** The single-step trap after the instruction is that of TF as loaded, not of `before`. */
function stepByNewFlags(cpu: Cpu, before: bigint): void {
  if ((cpu.flagsRest & TF) !== 0n) {
    cpu.pendingDebug |= DR6_BS;
  } else if ((before & TF) !== 0n) {
    cpu.pendingDebug |= NO_STEP_TRAP;
  }
}
