/**
 * Code and stack segments of far transfers: the checks before, and the changes after.
 *
 * SDM vol. 3A 5.8.1 (direct calls and jumps), 5.8.6 (returns), 5.2.1 (L and D flags); vol. 2 "IRET", "RET". The order of
 * the checks of returns is measured on silicon: CS, then SS, then RIP.
 */
import { CS, DS, ES, FS, GS, RSP } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import {
  ATTRIBUTE_DB,
  ATTRIBUTE_L,
  ATTRIBUTE_S,
  type Descriptor,
  readDescriptor,
  TYPE_CODE,
  TYPE_CONFORMING,
  TYPE_WRITABLE,
} from './descriptors.ts';
import { gp, np, ss } from './fault.ts';
import { isCanonical } from './linear.ts';
import { setSegment, updateRanges } from './segmentation.ts';

/** Whether a descriptor is a code segment's. */
export function isCode(d: Descriptor): boolean {
  return !d.system && (d.type & TYPE_CODE) !== 0;
}

/** Whether a code segment is conforming: callable from lower privilege, without a change of CPL. */
export function isConforming(d: Descriptor): boolean {
  return (d.type & TYPE_CONFORMING) !== 0;
}

/** Running `d` means 64-bit mode. */
export function is64BitCode(cpu: Cpu, d: Descriptor): boolean {
  return (d.attributes & ATTRIBUTE_L) !== 0 && cpu.longMode;
}

/** L and D both set: a reserved combination in IA-32e mode. */
export function isReservedSize(cpu: Cpu, d: Descriptor): boolean {
  return (d.attributes & (ATTRIBUTE_L | ATTRIBUTE_DB)) === (ATTRIBUTE_L | ATTRIBUTE_DB) && cpu.longMode;
}

/** The code segment that IRET or RETF returns to. Raises #GP(0) for a null selector, #GP(CS), #NP(CS), #PF. */
export function returnCodeSegment(cpu: Cpu, selector: number): Descriptor {
  const index = selector & 0xfffc;
  const rpl = selector & 3;
  if (index === 0) throw gp();
  const d = readDescriptor(cpu, selector);
  if (!isCode(d) || rpl < cpu.cpl) throw gp(index);
  if (isConforming(d) ? d.dpl > rpl : d.dpl !== rpl) throw gp(index);
  if (isReservedSize(cpu, d)) throw gp(index);
  if (!d.present) throw np(index);
  return d;
}

/**
 * The stack segment that IRET or RETF returns to at privilege `level`; null for a null selector, which is allowed at
 * levels 0 to 2 of 64-bit mode with RPL = level. Raises #GP(0), #GP(SS), #SS(SS), #PF.
 */
export function returnStackSegment(
  cpu: Cpu,
  selector: number,
  level: number,
  to64: boolean,
): Descriptor | null {
  const index = selector & 0xfffc;
  if (index === 0) {
    if (!to64 || level === 3 || (selector & 3) !== level) throw gp();
    return null;
  }
  const d = readDescriptor(cpu, selector);
  const writableData = !d.system && (d.type & TYPE_CODE) === 0 && (d.type & TYPE_WRITABLE) !== 0;
  if ((selector & 3) !== level || !writableData || d.dpl !== level) throw gp(index);
  if (!d.present) throw ss(index);
  return d;
}

/**
 * RIP as code segment `d` takes it: 32 bits of `offset` outside 64-bit mode. Raises #GP(0) beyond the limit, or where
 * not canonical.
 */
export function targetIn(cpu: Cpu, d: Descriptor, offset: bigint): bigint {
  if (is64BitCode(cpu, d)) {
    if (!isCanonical(offset)) throw gp();
    return offset;
  }
  const rip = offset & 0xffff_ffffn;
  if (rip > BigInt(d.limit)) throw gp();
  return rip;
}

/**
 * Loads CS, CPL and RIP. RSP[63:32] is gone once outside 64-bit mode: measured, it reads 0 after the way back.
 * The accessed bit must have been set.
 */
export function enterCode(cpu: Cpu, d: Descriptor, level: number, rip: bigint): void {
  setSegment(cpu, CS, (d.selector & 0xfffc) | level, d);
  cpu.cpl = level;
  cpu.rip = rip;
  if (!cpu.mode64) cpu.gpr[RSP] &= 0xffff_ffffn;
}

/** Tells of a change of privilege. */
export function announcePrivilege(cpu: Cpu, from: number): void {
  if (from !== cpu.cpl) cpu.hooks.privilegeChange?.(cpu, from, cpu.cpl);
}

const DATA_SEGMENTS = [ES, DS, FS, GS] as const;

/**
 * After a return to an outer level: ES, DS, FS and GS that its privilege does not suffice for become null. So do
 * null selectors with an RPL (measured: 1 to 3 become 0). Bases stay, as the hidden parts of FS and GS are still used.
 */
export function dropInnerSegments(cpu: Cpu): void {
  for (const segment of DATA_SEGMENTS) {
    if (cpu.segUsable[segment] !== 0) {
      const attributes = cpu.segAttributes[segment];
      if (((attributes >> 5) & 3) >= cpu.cpl) continue;
      const conforming = TYPE_CODE | TYPE_CONFORMING;
      if (attributes & ATTRIBUTE_S && (attributes & conforming) === conforming) continue;
      cpu.segUsable[segment] = 0;
      cpu.segAttributes[segment] = 0;
      cpu.segSelector[segment] = 0;
      updateRanges(cpu, segment);
    } else if (cpu.segSelector[segment] !== 0) {
      cpu.segSelector[segment] = 0;
    }
  }
}
