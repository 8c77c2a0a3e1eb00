/**
 * CPUID: what this processor is. It reports what is implemented and nothing else. SDM vol. 2A "CPUID".
 *
 * Crystal, TSC and local-APIC timer run at 1 GHz: one tick an instruction.
 */
import { RAX, RBX, RCX, RDX } from '../isa/state.ts';
import { CR4_OSXSAVE } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { areaBytes, XCR0_AVX, XCR0_SUPPORTED } from './extended-state.ts';
import { MAXPHYADDR } from './paging.ts';

/** EAX, EBX, ECX, EDX. */
export type CpuidLeaf = readonly [number, number, number, number];

/** Family 6, model 6, stepping 3: also EDX after reset (SDM vol. 3A table 9-1). */
export const SIGNATURE = 0x0663;

const MAXIMUM_BASIC = 0x16;
const MAXIMUM_EXTENDED = 0x8000_0008;
const BRAND = 'espfix x86-64 processor';
const NOTHING: CpuidLeaf = [0, 0, 0, 0];
const HERTZ = 1_000_000_000;
const IA32_APIC_BASE_ENABLE = 0x800n;

/** Bits set, for feature words that read as lists. */
function bits(...positions: number[]): number {
  return positions.reduce((word, position) => word | (1 << position), 0) >>> 0;
}

const FEATURES_EDX = bits(
  0, // x87 FPU
  2, // DE
  3, // PSE
  4, // TSC
  5, // MSR
  6, // PAE
  7, // MCE
  8, // CX8
  11, // SEP
  12, // MTRR
  13, // PGE
  14, // MCA
  15, // CMOV
  16, // PAT
  17, // PSE-36
  19, // CLFSH
  23, // MMX
  24, // FXSR
  25, // SSE
  26, // SSE2
);
const APIC = 9;
const OSXSAVE = 27;
const HTT = 28;
const FEATURES_ECX = bits(
  0, // SSE3
  1, // PCLMULQDQ
  9, // SSSE3
  12, // FMA
  13, // CMPXCHG16B
  17, // PCID
  19, // SSE4.1
  20, // SSE4.2
  21, // x2APIC
  22, // MOVBE
  23, // POPCNT
  24, // TSC deadline
  25, // AES
  26, // XSAVE
  28, // AVX
  29, // F16C
  30, // RDRAND
);
const STRUCTURED_EBX = bits(
  0, // FSGSBASE
  1, // IA32_TSC_ADJUST
  3, // BMI1
  5, // AVX2
  6, // FDP is updated by x87 exceptions only
  7, // SMEP
  8, // BMI2
  10, // INVPCID
  13, // FCS and FDS are not kept
  18, // RDSEED
  19, // ADX
  20, // SMAP
  23, // CLFLUSHOPT
  24, // CLWB
  29, // SHA
);
const STRUCTURED_ECX = bits(22); // RDPID
const EXTENDED_ECX = bits(
  0, // LAHF and SAHF in 64-bit mode
  5, // LZCNT
  8, // PREFETCHW
);
const SYSCALL = 11;
const EXTENDED_EDX = bits(
  20, // NX
  26, // 1-GByte pages
  27, // RDTSCP
  29, // Intel 64
);

/** Bits of an APIC ID that number the processors of a machine of `count`. */
function idBits(count: number): number {
  return Math.ceil(Math.log2(count));
}

/** What CPUID answers for EAX = `leaf`, ECX = `subleaf` in the processor's present mode. */
export function cpuidLeaf(cpu: Cpu, leaf: number, subleaf: number): CpuidLeaf {
  if (leaf >= 0x8000_0000 && leaf <= MAXIMUM_EXTENDED) return extendedLeaf(cpu, leaf);
  // Beyond the maxima, Intel processors answer for the highest basic leaf.
  return basicLeaf(cpu, Math.min(leaf, MAXIMUM_BASIC), subleaf);
}

function basicLeaf(cpu: Cpu, leaf: number, subleaf: number): CpuidLeaf {
  const { index, cpuCount } = cpu;
  switch (leaf) {
    case 0x0:
      return [MAXIMUM_BASIC, ...vendor()];
    case 0x1: {
      const ids = 1 << idBits(cpuCount);
      const apic = cpu.apicBase & IA32_APIC_BASE_ENABLE ? bits(APIC) : 0;
      const several = cpuCount > 1 ? bits(HTT) : 0;
      const ebx = ((index & 0xff) << 24) | (Math.min(ids, 0xff) << 16) | (8 << 8);
      const osxsave = cpu.cr4 & CR4_OSXSAVE ? bits(OSXSAVE) : 0;
      return [SIGNATURE, ebx >>> 0, FEATURES_ECX | osxsave, FEATURES_EDX | apic | several];
    }
    // Caches and TLBs: see leaf 4.
    case 0x2:
      return [0x0000_ff01, 0, 0, 0];
    case 0x4:
      return cacheLeaf(cpuCount, subleaf);
    // The APIC timer never stops.
    case 0x6:
      return [bits(2), 0, 0, 0];
    case 0x7:
      return subleaf === 0 ? [0, STRUCTURED_EBX, STRUCTURED_ECX, 0] : NOTHING;
    case 0xb:
      if (subleaf === 0) return [0, 1, 0x100, index];
      if (subleaf === 1) return [idBits(cpuCount), cpuCount, 0x201, index];
      return [0, 0, subleaf & 0xff, index];
    case 0xd:
      return extendedStateLeaf(cpu, subleaf);
    // TSC = crystal * EBX / EAX.
    case 0x15:
      return [1, 1, HERTZ, 0];
    // Base, maximum and bus frequency in MHz.
    case 0x16:
      return [1000, 1000, 1000, 0];
    default:
      return NOTHING;
  }
}

const XSAVE_FEATURES = bits(
  0, // XSAVEOPT
  1, // XSAVEC
  2, // XGETBV with ECX = 1
);

/** Components of extended state: which there are, how long their areas, and where the AVX component stands. */
function extendedStateLeaf(cpu: Cpu, subleaf: number): CpuidLeaf {
  const supported = Number(XCR0_SUPPORTED);
  if (subleaf === 0) return [supported, areaBytes(cpu.xcr0), areaBytes(XCR0_SUPPORTED), 0];
  if (subleaf === 1) return [XSAVE_FEATURES, areaBytes(cpu.xcr0), 0, 0];
  if (subleaf === 2) return [areaBytes(XCR0_AVX) - areaBytes(0n), areaBytes(0n), 0, 0];
  return NOTHING;
}

/** Deterministic cache parameters: 32-KByte L1 data and instruction caches, 1-MByte L2, each a processor's own. */
function cacheLeaf(cpuCount: number, subleaf: number): CpuidLeaf {
  const cores = Math.min(Math.max(1 << idBits(cpuCount), 1), 64) - 1;
  const of = (type: number, level: number, ways: number, sets: number): CpuidLeaf => [
    ((cores << 26) | (1 << 8) | (level << 5) | type) >>> 0,
    (((ways - 1) << 22) | 63) >>> 0,
    sets - 1,
    0,
  ];
  if (subleaf === 0) return of(1, 1, 8, 64);
  if (subleaf === 1) return of(2, 1, 8, 64);
  if (subleaf === 2) return of(3, 2, 16, 1024);
  return NOTHING;
}

function extendedLeaf(cpu: Cpu, leaf: number): CpuidLeaf {
  switch (leaf) {
    case 0x8000_0000:
      return [MAXIMUM_EXTENDED, 0, 0, 0];
    // Intel processors report SYSCALL in 64-bit mode only, where alone it works.
    case 0x8000_0001:
      return [0, 0, EXTENDED_ECX, EXTENDED_EDX | (cpu.mode64 ? bits(SYSCALL) : 0)];
    case 0x8000_0002:
    case 0x8000_0003:
    case 0x8000_0004:
      return brand((leaf & 0xff) - 2);
    // L2: 1024 KBytes, 16-way, lines of 64 bytes.
    case 0x8000_0006:
      return [0, 0, (1024 << 16) | (8 << 12) | 64, 0];
    // Invariant TSC.
    case 0x8000_0007:
      return [0, 0, 0, bits(8)];
    // 48-bit linear addresses.
    case 0x8000_0008:
      return [(48 << 8) | MAXPHYADDR, 0, 0, 0];
    default:
      return NOTHING;
  }
}

function dword(text: string, at: number): number {
  let word = 0;
  for (let i = 3; i >= 0; i--) word = (word << 8) | (text.charCodeAt(at + i) || 0);
  return word >>> 0;
}

/** EBX, ECX, EDX: "Genu", "ntel", "ineI". */
function vendor(): readonly [number, number, number] {
  const text = 'GenuineIntel';
  return [dword(text, 0), dword(text, 8), dword(text, 4)];
}

function brand(part: number): CpuidLeaf {
  const text = BRAND.padEnd(48, '\0');
  const at = part * 16;
  return [dword(text, at), dword(text, at + 4), dword(text, at + 8), dword(text, at + 12)];
}

/** CPUID, at any privilege. */
export const cpuid: SystemInstruction = (cpu) => {
  const leaf = Number(cpu.gpr[RAX] & 0xffff_ffffn);
  const subleaf = Number(cpu.gpr[RCX] & 0xffff_ffffn);
  const [eax, ebx, ecx, edx] = cpuidLeaf(cpu, leaf, subleaf);
  cpu.gpr[RAX] = BigInt(eax >>> 0);
  cpu.gpr[RBX] = BigInt(ebx >>> 0);
  cpu.gpr[RCX] = BigInt(ecx >>> 0);
  cpu.gpr[RDX] = BigInt(edx >>> 0);
};
