/**
 * Model-specific registers and the time-stamp counter. SDM vol. 4 chapter 2 (architectural MSRs), vol. 3A 11.11
 * (MTRRs), 11.12 (PAT), 15.3 (machine check), vol. 1 13.14 (XFD), vol. 3B 17.17 (TSC); vol. 2B "RDMSR", "WRMSR", "RDTSC", "RDTSCP", "RDPMC",
 * "RDPID".
 *
 * An MSR that is not here does not exist, and raises #GP(0). MTRRs and PAT are kept and checked; they change
 * nothing, as memory is always coherent and in order.
 */
import { FS, GS, offsetOf, RAX, RCX, RDX } from '../isa/state.ts';
import {
  CR0_PG,
  CR4_PCE,
  CR4_TSD,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  EFER_SCE,
  requireCpl0,
} from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { RDTSC_TICKS, RDTSCP_TICKS } from './durations.ts';
import { gp } from './fault.ts';
import type { Feature } from './features.ts';
import { isCanonical } from './linear.ts';
import { registerIndex } from './operands.ts';
import { MAXPHYADDR } from './paging.ts';
import { changeTiles, disableable } from './tile-state.ts';

/** Low dwords of fields of the state. */
const TSC_OFFSET = offsetOf('tscOffset') / 4;
const TSC_AUX = offsetOf('tscAux') / 4;

export const IA32_TSC = 0x10;
export const IA32_PLATFORM_ID = 0x17;
export const IA32_APIC_BASE = 0x1b;
export const IA32_TSC_ADJUST = 0x3b;
export const IA32_BIOS_SIGN_ID = 0x8b;
export const IA32_MTRRCAP = 0xfe;
export const IA32_SYSENTER_CS = 0x174;
export const IA32_SYSENTER_ESP = 0x175;
export const IA32_SYSENTER_EIP = 0x176;
export const IA32_MCG_CAP = 0x179;
export const IA32_MCG_STATUS = 0x17a;
export const IA32_MISC_ENABLE = 0x1a0;
/** Extended-feature disable, and what it last disabled; supervisor state components. */
export const IA32_XFD = 0x1c4;
export const IA32_XFD_ERR = 0x1c5;
export const IA32_DEBUGCTL = 0x1d9;
export const IA32_MTRR_PHYSBASE0 = 0x200;
export const IA32_PAT = 0x277;
export const IA32_MTRR_DEF_TYPE = 0x2ff;
export const IA32_TSC_DEADLINE = 0x6e0;
/** x2APIC mode. */
const APIC_BASE_EXTD = 0x400n;
const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;
export const IA32_XSS = 0xda0;
export const IA32_EFER = 0xc000_0080;
export const IA32_STAR = 0xc000_0081;
export const IA32_LSTAR = 0xc000_0082;
export const IA32_CSTAR = 0xc000_0083;
export const IA32_FMASK = 0xc000_0084;
export const IA32_FS_BASE = 0xc000_0100;
export const IA32_GS_BASE = 0xc000_0101;
export const IA32_KERNEL_GS_BASE = 0xc000_0102;
export const IA32_TSC_AUX = 0xc000_0103;

/** Variable-range MTRRs. */
const VARIABLE_RANGES = 8;
/** Eight variable ranges, fixed ranges, write combining. */
const MTRRCAP = BigInt(VARIABLE_RANGES) | (1n << 8n) | (1n << 10n);
/** Fixed-range MTRRs in the order of the state's `mtrrFixed`. */
const FIXED_RANGES = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f] as const;

/** IA32_MISC_ENABLE: fast strings may be changed; BTS and PEBS are reported as unavailable. */
const MISC_ENABLE_WRITABLE = 1n;
const MISC_ENABLE_READ_ONLY = 0x1800n;

const PHYSICAL_RESERVED = ~((1n << BigInt(MAXPHYADDR)) - 1n) & 0xffff_ffff_ffff_ffffn;

/** Memory types of MTRRs: UC, WC, WT, WP, WB. PAT has UC- (7) besides. */
function isMemoryType(type: bigint): boolean {
  return type === 0n || type === 1n || (type >= 4n && type <= 6n);
}

function everyByte(value: bigint, test: (byte: bigint) => boolean): boolean {
  for (let shift = 0n; shift < 64n; shift += 8n) if (!test((value >> shift) & 0xffn)) return false;
  return true;
}

/** The time-stamp counter. */
export function readTsc(cpu: Cpu): bigint {
  return BigInt.asUintN(64, BigInt(cpu.bus.now(cpu.index)) + cpu.tscOffset);
}

function viaInterrupts(index: number): boolean {
  return (
    index === IA32_APIC_BASE || index === IA32_TSC_DEADLINE || (index >= X2APIC_FIRST && index <= X2APIC_LAST)
  );
}

function variableRange(index: number): number {
  const n = index - IA32_MTRR_PHYSBASE0;
  return n >= 0 && n < VARIABLE_RANGES * 2 ? n : -1;
}

/** MSRs that are there only where CPUID reports a feature; any one of several. */
function featuresOf(index: number): readonly Feature[] | undefined {
  if (index === IA32_TSC_ADJUST) return ['tsc-adjust'];
  if (index === IA32_TSC_DEADLINE) return ['tsc-deadline'];
  if (index === IA32_XFD || index === IA32_XFD_ERR) return ['xfd'];
  if (index === IA32_XSS) return ['xsaves'];
  if (index === IA32_TSC_AUX) return ['rdtscp', 'rdpid'];
  return index >= X2APIC_FIRST && index <= X2APIC_LAST ? ['x2apic'] : undefined;
}

function requirePresent(cpu: Cpu, index: number): void {
  const features = featuresOf(index);
  if (features && !features.some((one) => cpu.has(one))) throw gp();
}

/** The value of an MSR. Raises #GP(0) if there is none. */
export function readMsr(cpu: Cpu, index: number): bigint {
  requirePresent(cpu, index);
  switch (index) {
    case IA32_TSC:
      return readTsc(cpu);
    // The TSC runs from 0 with the machine, so what software has added to it is all that sets the two apart.
    case IA32_TSC_ADJUST:
      return cpu.tscOffset;
    case IA32_BIOS_SIGN_ID:
      return BigInt(cpu.processor.microcode) << 32n;
    case IA32_PLATFORM_ID:
    case IA32_MCG_CAP:
    case IA32_DEBUGCTL:
    // There are no supervisor state components.
    case IA32_XSS:
      return 0n;
    case IA32_XFD:
      return cpu.tiles.xfd;
    case IA32_XFD_ERR:
      return cpu.tiles.xfdErr;
    case IA32_MTRRCAP:
      return MTRRCAP;
    case IA32_SYSENTER_CS:
      return cpu.sysenterCs;
    case IA32_SYSENTER_ESP:
      return cpu.sysenterEsp;
    case IA32_SYSENTER_EIP:
      return cpu.sysenterEip;
    case IA32_MCG_STATUS:
      return cpu.mcgStatus;
    case IA32_MISC_ENABLE:
      return cpu.miscEnable;
    case IA32_PAT:
      return cpu.pat;
    case IA32_MTRR_DEF_TYPE:
      return cpu.mtrrDefType;
    case IA32_EFER:
      return cpu.efer;
    case IA32_STAR:
      return cpu.star;
    case IA32_LSTAR:
      return cpu.lstar;
    case IA32_CSTAR:
      return cpu.cstar;
    case IA32_FMASK:
      return cpu.sfmask;
    case IA32_FS_BASE:
      return cpu.segBase[FS];
    case IA32_GS_BASE:
      return cpu.segBase[GS];
    case IA32_KERNEL_GS_BASE:
      return cpu.kernelGsBase;
    case IA32_TSC_AUX:
      return cpu.tscAux;
  }
  if (viaInterrupts(index)) return cpu.interrupts.readMsr(index);
  const range = variableRange(index);
  if (range >= 0) return (range & 1 ? cpu.mtrrMask : cpu.mtrrBase)[range >> 1];
  const fixed = FIXED_RANGES.indexOf(index as (typeof FIXED_RANGES)[number]);
  if (fixed >= 0) return cpu.mtrrFixed[fixed];
  throw gp();
}

/** Writes an MSR. Raises #GP(0) if there is none, it is read-only, or the value sets a reserved bit. */
export function writeMsr(cpu: Cpu, index: number, value: bigint): void {
  requirePresent(cpu, index);
  switch (index) {
    case IA32_TSC:
      cpu.tscOffset = BigInt.asUintN(64, value - BigInt(cpu.bus.now(cpu.index)));
      // The TSC deadline of the local APIC may have come nearer.
      cpu.engine.endRun();
      return;
    case IA32_TSC_ADJUST:
      cpu.tscOffset = value;
      cpu.engine.endRun();
      return;
    // Written before CPUID to ask for the microcode's revision.
    case IA32_BIOS_SIGN_ID:
      return;
    case IA32_SYSENTER_CS:
      cpu.sysenterCs = value & 0xffff_ffffn;
      return;
    case IA32_SYSENTER_ESP:
      cpu.sysenterEsp = canonical(value);
      return;
    case IA32_SYSENTER_EIP:
      cpu.sysenterEip = canonical(value);
      return;
    case IA32_MCG_STATUS:
      cpu.mcgStatus = within(value, 7n);
      return;
    case IA32_MISC_ENABLE:
      within(value, MISC_ENABLE_WRITABLE | MISC_ENABLE_READ_ONLY);
      cpu.miscEnable = (value & MISC_ENABLE_WRITABLE) | MISC_ENABLE_READ_ONLY;
      return;
    // Branch records, traces and single-step on branches are not there.
    case IA32_DEBUGCTL:
    case IA32_XSS:
      within(value, 0n);
      return;
    case IA32_XFD:
      changeTiles(cpu, { xfd: within(value, disableable(cpu)) });
      return;
    case IA32_XFD_ERR:
      changeTiles(cpu, { xfdErr: within(value, disableable(cpu)) });
      return;
    case IA32_PAT:
      if (!everyByte(value, (type) => isMemoryType(type) || type === 7n)) throw gp();
      cpu.pat = value;
      return;
    case IA32_MTRR_DEF_TYPE:
      if (!isMemoryType(value & 0xffn)) throw gp();
      cpu.mtrrDefType = within(value, 0xcffn);
      return;
    case IA32_EFER:
      writeEfer(cpu, value);
      return;
    case IA32_STAR:
      cpu.star = value;
      return;
    case IA32_LSTAR:
      cpu.lstar = canonical(value);
      return;
    case IA32_CSTAR:
      cpu.cstar = canonical(value);
      return;
    case IA32_FMASK:
      cpu.sfmask = within(value, 0xffff_ffffn);
      return;
    case IA32_FS_BASE:
      cpu.segBase[FS] = canonical(value);
      return;
    case IA32_GS_BASE:
      cpu.segBase[GS] = canonical(value);
      return;
    case IA32_KERNEL_GS_BASE:
      cpu.kernelGsBase = canonical(value);
      return;
    case IA32_TSC_AUX:
      cpu.tscAux = within(value, 0xffff_ffffn);
      return;
  }
  if (viaInterrupts(index)) {
    if (index === IA32_APIC_BASE && value & APIC_BASE_EXTD && !cpu.has('x2apic')) throw gp();
    cpu.interrupts.writeMsr(index, value);
    cpu.engine.endRun();
    return;
  }
  const range = variableRange(index);
  if (range >= 0) {
    writeVariableRange(cpu, range, value);
    return;
  }
  const fixed = FIXED_RANGES.indexOf(index as (typeof FIXED_RANGES)[number]);
  if (fixed < 0 || !everyByte(value, isMemoryType)) throw gp();
  cpu.mtrrFixed[fixed] = value;
}

function canonical(value: bigint): bigint {
  if (!isCanonical(value)) throw gp();
  return value;
}

/** `value`, which may only have bits of `mask`. */
function within(value: bigint, mask: bigint): bigint {
  if (value & ~mask) throw gp();
  return value;
}

/** IA32_EFER: LMA is the processor's own; LME may not change while paging is on. */
function writeEfer(cpu: Cpu, value: bigint): void {
  within(value, EFER_SCE | EFER_LME | EFER_LMA | (cpu.has('nx') ? EFER_NXE : 0n));
  const changed = value ^ cpu.efer;
  if (changed & EFER_LME && cpu.cr0 & CR0_PG) throw gp();
  cpu.efer = (value & ~EFER_LMA) | (cpu.efer & EFER_LMA);
  if (changed & EFER_NXE) cpu.engine.flushTranslations();
}

function writeVariableRange(cpu: Cpu, range: number, value: bigint): void {
  if (value & PHYSICAL_RESERVED) throw gp();
  if (range & 1) {
    if (value & 0x7ffn) throw gp();
    cpu.mtrrMask[range >> 1] = value;
  } else {
    if (value & 0xf00n || !isMemoryType(value & 0xffn)) throw gp();
    cpu.mtrrBase[range >> 1] = value;
  }
}

function setEdxEax(cpu: Cpu, value: bigint): void {
  cpu.gpr[RAX] = value & 0xffff_ffffn;
  cpu.gpr[RDX] = value >> 32n;
}

const low32 = (cpu: Cpu, register: number): bigint => cpu.gpr[register] & 0xffff_ffffn;

/** RDMSR. */
export const rdmsr: SystemInstruction = (cpu) => {
  requireCpl0(cpu);
  setEdxEax(cpu, readMsr(cpu, Number(low32(cpu, RCX))));
};

/** WRMSR. */
export const wrmsr: SystemInstruction = (cpu) => {
  requireCpl0(cpu);
  writeMsr(cpu, Number(low32(cpu, RCX)), (low32(cpu, RDX) << 32n) | low32(cpu, RAX));
};

function requireTsc(cpu: Cpu): void {
  if (cpu.cpl > 0 && cpu.cr4 & CR4_TSD) throw gp();
}

/** The TSC in EDX:EAX. Kernels that wait read it millions of times, so mostly without BigInt. */
function setToTsc(cpu: Cpu): void {
  const { u32 } = cpu;
  if (u32[TSC_OFFSET] !== 0 || u32[TSC_OFFSET + 1] !== 0) {
    setEdxEax(cpu, readTsc(cpu));
    return;
  }
  const ticks = cpu.bus.now(cpu.index);
  u32[2 * RAX] = ticks;
  u32[2 * RAX + 1] = 0;
  u32[2 * RDX] = ticks / 0x1_0000_0000;
  u32[2 * RDX + 1] = 0;
}

/** RDTSC: #GP(0) above CPL 0 where CR4.TSD. */
export const rdtsc: SystemInstruction = (cpu) => {
  requireTsc(cpu);
  setToTsc(cpu);
  cpu.engine.spend(RDTSC_TICKS - 1);
};

/** RDTSCP: RDTSC with IA32_TSC_AUX in ECX. */
export const rdtscp: SystemInstruction = (cpu) => {
  requireTsc(cpu);
  setToTsc(cpu);
  cpu.u32[2 * RCX] = cpu.u32[TSC_AUX];
  cpu.u32[2 * RCX + 1] = 0;
  cpu.engine.spend(RDTSCP_TICKS - 1);
};

/** RDPMC: there are no counters (CPUID.0AH reports none), so every index is invalid. */
export const rdpmc: SystemInstruction = (cpu) => {
  if ((cpu.cr4 & CR4_PCE) === 0n) requireCpl0(cpu);
  throw gp();
};

/** RDPID r. */
export const rdpid: SystemInstruction = (cpu, instruction) => {
  cpu.gpr[registerIndex(instruction, 0)] = cpu.tscAux & 0xffff_ffffn;
};
