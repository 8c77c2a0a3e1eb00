/**
 * CPUID: what this processor is. It reports what there is and nothing else. SDM vol. 2A "CPUID".
 *
 * Crystal, TSC and local-APIC timer run at 1 GHz: one tick an instruction.
 */
import { RAX, RBX, RCX, RDX } from '../isa/state.ts';
import { CR4_OSXSAVE } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { areaBytes, compactedBytes, extendedComponents, supportedComponents } from './extended-state.ts';
import { featureBits, TILE_LEAF, TILE_PRODUCT_LEAF } from './features.ts';
import { MAXPHYADDR } from './paging.ts';
import { ROW_BYTES, ROWS, TILE_BYTES, TILES } from './tile-state.ts';

/** EAX, EBX, ECX, EDX. */
export type CpuidLeaf = readonly [number, number, number, number];

const MAXIMUM_EXTENDED = 0x8000_0008;
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
/** What leaf 7 tells of x87: FDP is updated by exceptions only, and FCS and FDS are not kept. */
const X87_POINTERS = bits(6, 13);
const SYSCALL = 11;
const INTEL_64 = 29;

const EAX = 0;
const EBX = 1;
const ECX = 2;
const EDX = 3;

/** Bits of an APIC ID that number the processors of a machine of `count`. */
function idBits(count: number): number {
  return Math.ceil(Math.log2(count));
}

/** What CPUID answers for EAX = `leaf`, ECX = `subleaf` in the processor's present mode. */
export function cpuidLeaf(cpu: Cpu, leaf: number, subleaf: number): CpuidLeaf {
  if (leaf >= 0x8000_0000 && leaf <= MAXIMUM_EXTENDED) return extendedLeaf(cpu, leaf);
  // Beyond the maxima, Intel processors answer for the highest basic leaf.
  return basicLeaf(cpu, Math.min(leaf, cpu.processor.highestLeaf), subleaf);
}

function basicLeaf(cpu: Cpu, leaf: number, subleaf: number): CpuidLeaf {
  const { index, cpuCount } = cpu;
  const { features, highestLeaf, signature } = cpu.processor;
  switch (leaf) {
    case 0x0:
      return [highestLeaf, ...vendor()];
    case 0x1: {
      const ids = 1 << idBits(cpuCount);
      const apic = cpu.apicBase & IA32_APIC_BASE_ENABLE ? bits(APIC) : 0;
      const several = cpuCount > 1 ? bits(HTT) : 0;
      const ebx = ((index & 0xff) << 24) | (Math.min(ids, 0xff) << 16) | (8 << 8);
      const osxsave = cpu.cr4 & CR4_OSXSAVE ? bits(OSXSAVE) : 0;
      const ecx = featureBits(features, 1, 0, ECX) | osxsave;
      return [signature, ebx >>> 0, ecx, FEATURES_EDX | apic | several];
    }
    // Caches and TLBs: see leaf 4.
    case 0x2:
      return [0x0000_ff01, 0, 0, 0];
    case 0x4:
      return cacheLeaf(cpuCount, subleaf);
    case 0x6:
      return [featureBits(features, 6, 0, EAX), 0, 0, 0];
    case 0x7:
      if (subleaf !== 0) return NOTHING;
      return [
        0,
        featureBits(features, 7, 0, EBX) | X87_POINTERS,
        featureBits(features, 7, 0, ECX),
        featureBits(features, 7, 0, EDX),
      ];
    case 0xb:
      if (subleaf === 0) return [0, 1, 0x100, index];
      if (subleaf === 1) return [idBits(cpuCount), cpuCount, 0x201, index];
      return [0, 0, subleaf & 0xff, index];
    case 0xd:
      return cpu.has('xsave') ? extendedStateLeaf(cpu, subleaf) : NOTHING;
    // TSC = crystal * EBX / EAX.
    case 0x15:
      return [1, 1, HERTZ, 0];
    // Base, maximum and bus frequency in MHz.
    case 0x16:
      return [1000, 1000, 1000, 0];
    case TILE_LEAF:
      return cpu.has('amx-tile') ? tileLeaf(subleaf) : NOTHING;
    // The most dwords of a row and bytes of a column that a product takes.
    case TILE_PRODUCT_LEAF:
      return subleaf === 0 && (cpu.has('amx-int8') || cpu.has('amx-bf16'))
        ? [0, (ROW_BYTES << 8) | ROWS, 0, 0]
        : NOTHING;
    default:
      return NOTHING;
  }
}

/** Palettes: the highest, and of palette 1 bytes of all tiles and of one, bytes of a row, tiles, and rows. */
function tileLeaf(subleaf: number): CpuidLeaf {
  if (subleaf === 0) return [1, 0, 0, 0];
  if (subleaf === 1) return [(TILE_BYTES << 16) | (TILES * TILE_BYTES), (TILES << 16) | ROW_BYTES, ROWS, 0];
  return NOTHING;
}

/** Components of extended state: which there are, how long their areas, and where each stands in the standard format. */
function extendedStateLeaf(cpu: Cpu, subleaf: number): CpuidLeaf {
  const supported = supportedComponents(cpu);
  if (subleaf === 0) return [Number(supported), areaBytes(cpu.xcr0), areaBytes(supported), 0];
  if (subleaf === 1)
    return [
      featureBits(cpu.processor.features, 0xd, 1, EAX),
      cpu.has('xsavec') ? compactedBytes(cpu.xcr0) : 0,
      0,
      0,
    ];
  const component = extendedComponents.find(({ number }) => number === subleaf);
  if (!component || !(supported & component.bit)) return NOTHING;
  const { bytes, offset, aligned, disableable } = component;
  return [bytes, offset, (aligned ? bits(1) : 0) | (disableable ? bits(2) : 0), 0];
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
  const { features } = cpu.processor;
  switch (leaf) {
    case 0x8000_0000:
      return [MAXIMUM_EXTENDED, 0, 0, 0];
    // Intel processors report SYSCALL in 64-bit mode only, where alone it works.
    case 0x8000_0001:
      return [
        0,
        0,
        featureBits(features, leaf, 0, ECX),
        featureBits(features, leaf, 0, EDX) | bits(INTEL_64) | (cpu.mode64 ? bits(SYSCALL) : 0),
      ];
    case 0x8000_0002:
    case 0x8000_0003:
    case 0x8000_0004:
      return brand(cpu.processor.brand, (leaf & 0xff) - 2);
    // L2: 1024 KBytes, 16-way, lines of 64 bytes.
    case 0x8000_0006:
      return [0, 0, (1024 << 16) | (8 << 12) | 64, 0];
    case 0x8000_0007:
      return [0, 0, 0, featureBits(features, leaf, 0, EDX)];
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

function brand(name: string, part: number): CpuidLeaf {
  const text = name.padEnd(48, '\0');
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
