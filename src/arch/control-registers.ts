/**
 * Control registers. SDM vol. 3A 2.5 (their bits), 4.10.4.1 (what their changes invalidate), 9.8.5 (switching IA-32e
 * mode); vol. 2B "MOV to/from control registers", "LMSW", "SMSW"; vol. 2A "CLTS".
 */
import type { Instruction } from '../isa/instruction.ts';
import { CS, TR } from '../isa/state.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { ATTRIBUTE_L, TSS16_AVAILABLE, TSS16_BUSY } from './descriptors.ts';
import { gp, ud } from './fault.ts';
import type { Feature } from './features.ts';
import { readOperand, registerIndex, specialIndex, writeOperand, writeRegister } from './operands.ts';
import { loadPdptes, MAXPHYADDR } from './paging.ts';
import { updateAllRanges } from './segmentation.ts';

export const CR0_PE = 1n << 0n;
export const CR0_MP = 1n << 1n;
export const CR0_EM = 1n << 2n;
export const CR0_TS = 1n << 3n;
export const CR0_ET = 1n << 4n;
export const CR0_NE = 1n << 5n;
export const CR0_WP = 1n << 16n;
export const CR0_AM = 1n << 18n;
export const CR0_NW = 1n << 29n;
export const CR0_CD = 1n << 30n;
export const CR0_PG = 1n << 31n;

export const CR4_TSD = 1n << 2n;
export const CR4_DE = 1n << 3n;
export const CR4_PSE = 1n << 4n;
export const CR4_PAE = 1n << 5n;
export const CR4_MCE = 1n << 6n;
export const CR4_PGE = 1n << 7n;
export const CR4_PCE = 1n << 8n;
export const CR4_OSFXSR = 1n << 9n;
export const CR4_OSXMMEXCPT = 1n << 10n;
export const CR4_FSGSBASE = 1n << 16n;
export const CR4_PCIDE = 1n << 17n;
export const CR4_OSXSAVE = 1n << 18n;
export const CR4_SMEP = 1n << 20n;
export const CR4_SMAP = 1n << 21n;

export const EFER_SCE = 1n << 0n;
export const EFER_LME = 1n << 8n;
export const EFER_LMA = 1n << 10n;
export const EFER_NXE = 1n << 11n;

/** CR0 bits that software can change; ET is always 1, others of bits 31:0 read 0 whatever is written. */
const CR0_WRITABLE = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
/** CR4 bits that every processor has. */
const CR4_ALWAYS =
  CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
/** CR4 bits that are reserved where CPUID does not report the feature. */
const CR4_OF_FEATURES: readonly (readonly [bigint, Feature])[] = [
  [CR4_FSGSBASE, 'fsgsbase'],
  [CR4_PCIDE, 'pcid'],
  [CR4_OSXSAVE, 'xsave'],
  [CR4_SMEP, 'smep'],
  [CR4_SMAP, 'smap'],
];
/** Changes of these reload the PDPTE registers where PAE paging is then in use (SDM vol. 3A 4.4.1). */
const CR0_RELOADS = CR0_CD | CR0_NW | CR0_PG;
const CR4_RELOADS = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;

const CR3_NO_FLUSH = 1n << 63n;

/** Raises #GP(0) unless CPL is 0 (which it is in real-address mode). */
export function requireCpl0(cpu: Cpu): void {
  if (cpu.cpl !== 0) throw gp();
}

/** MOV to CR0, and LMSW. Raises #GP(0). */
export function writeCr0(cpu: Cpu, value: bigint): void {
  if (value >> 32n) throw gp();
  const next = (value & CR0_WRITABLE) | CR0_ET;
  const old = cpu.cr0;
  if (next & CR0_PG && (next & CR0_PE) === 0n) throw gp();
  if (next & CR0_NW && (next & CR0_CD) === 0n) throw gp();
  const changed = old ^ next;
  let efer = cpu.efer;
  if (changed & CR0_PG) {
    if (next & CR0_PG) {
      if (efer & EFER_LME) {
        if ((cpu.cr4 & CR4_PAE) === 0n) throw gp();
        if (cpu.segAttributes[CS] & ATTRIBUTE_L) throw gp();
        const tssType = cpu.segAttributes[TR] & 0x1f;
        if (tssType === TSS16_AVAILABLE || tssType === TSS16_BUSY) throw gp();
        efer |= EFER_LMA;
      }
    } else {
      if (cpu.mode64 || cpu.cr4 & CR4_PCIDE) throw gp();
      efer &= ~EFER_LMA;
    }
  }
  const pae = next & CR0_PG && cpu.cr4 & CR4_PAE && (efer & EFER_LMA) === 0n;
  if (pae && changed & CR0_RELOADS) loadPdptes(cpu, cpu.cr3);
  cpu.cr0 = next;
  cpu.efer = efer;
  if (changed & CR0_PE) updateAllRanges(cpu);
  if (changed & CR0_PG && (next & CR0_PG) === 0n) cpu.tlb.invalidateContext(-1, true);
  else if (changed & (CR0_PG | CR0_WP)) cpu.engine.flushTranslations();
}

/** MOV to CR3. Raises #GP(0). */
export function writeCr3(cpu: Cpu, value: bigint): void {
  const pcids = (cpu.cr4 & CR4_PCIDE) !== 0n;
  const next = pcids ? value & ~CR3_NO_FLUSH : value;
  if (next >> BigInt(MAXPHYADDR)) throw gp();
  const pae = cpu.cr0 & CR0_PG && cpu.cr4 & CR4_PAE && !cpu.longMode;
  if (pae) loadPdptes(cpu, next);
  cpu.cr3 = next;
  if (!pcids || (value & CR3_NO_FLUSH) === 0n)
    cpu.tlb.invalidateContext(pcids ? Number(next & 0xfffn) : 0, false);
}

/** MOV to CR4. Raises #GP(0). */
export function writeCr4(cpu: Cpu, value: bigint): void {
  let reserved = value & ~CR4_ALWAYS;
  for (const [bit, feature] of CR4_OF_FEATURES) if (cpu.has(feature)) reserved &= ~bit;
  if (reserved) throw gp();
  const old = cpu.cr4;
  const changed = old ^ value;
  if (cpu.longMode && (value & CR4_PAE) === 0n) throw gp();
  const setsPcide = (changed & value & CR4_PCIDE) !== 0n;
  if (setsPcide && (!cpu.longMode || cpu.cr3 & 0xfffn)) throw gp();
  const pae = cpu.cr0 & CR0_PG && value & CR4_PAE && !cpu.longMode;
  if (pae && changed & CR4_RELOADS) loadPdptes(cpu, cpu.cr3);
  const pcid = old & CR4_PCIDE ? Number(cpu.cr3 & 0xfffn) : 0;
  cpu.cr4 = value;
  if (changed & CR4_PGE || changed & old & CR4_PCIDE) cpu.tlb.invalidateContext(-1, true);
  else if (changed & CR4_PAE || changed & value & CR4_SMEP) cpu.tlb.invalidateContext(pcid, true);
  else if (changed) cpu.engine.flushTranslations();
}

/** MOV CRn, r. */
export const movToControl: SystemInstruction = (cpu, instruction) => {
  const index = controlIndex(cpu, instruction, 0);
  requireCpl0(cpu);
  const value = BigInt.asUintN(cpu.mode64 ? 64 : 32, cpu.gpr[registerIndex(instruction, 1)]);
  if (index === 0) writeCr0(cpu, value);
  else if (index === 2) cpu.cr2 = value;
  else if (index === 3) writeCr3(cpu, value);
  else if (index === 4) writeCr4(cpu, value);
  else {
    if (value >> 4n) throw gp();
    cpu.interrupts.taskPriority = Number(value);
    cpu.engine.endRun();
  }
};

/** MOV r, CRn. */
export const movFromControl: SystemInstruction = (cpu, instruction) => {
  const index = controlIndex(cpu, instruction, 1);
  requireCpl0(cpu);
  const value =
    index === 0
      ? cpu.cr0
      : index === 2
        ? cpu.cr2
        : index === 3
          ? cpu.cr3
          : index === 4
            ? cpu.cr4
            : BigInt(cpu.interrupts.taskPriority);
  writeRegister(cpu, registerIndex(instruction, 0), cpu.mode64 ? 64 : 32, value);
};

/** CR0, CR2, CR3, CR4, and CR8 in 64-bit mode; others raise #UD, at any privilege. */
function controlIndex(cpu: Cpu, instruction: Instruction, operand: number): number {
  const index = specialIndex(instruction, operand);
  if (index !== 0 && index !== 2 && index !== 3 && index !== 4 && !(index === 8 && cpu.mode64)) throw ud();
  return index;
}

/** LMSW: loads PE, MP, EM and TS; PE cannot be cleared. */
export const lmsw: SystemInstruction = (cpu, instruction) => {
  requireCpl0(cpu);
  const value = readOperand(cpu, instruction, 0, 16) & 0xfn;
  writeCr0(cpu, (cpu.cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | value);
};

/** SMSW: stores CR0, 16 bits of it to memory. */
export const smsw: SystemInstruction = (cpu, instruction) => {
  writeOperand(cpu, instruction, 0, cpu.cr0, 16);
};

/** CLTS. */
export const clts: SystemInstruction = (cpu) => {
  requireCpl0(cpu);
  cpu.cr0 &= ~CR0_TS;
};
