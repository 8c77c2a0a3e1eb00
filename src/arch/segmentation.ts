/**
 * Segment registers: loading them, and what their hidden parts permit.
 *
 * SDM vol. 3A 3.4.3 (hidden parts), 5.2 to 5.7 (checks), 20.1.1 and 20.2 (real-address and virtual-8086 mode);
 * vol. 2B "MOV", "POP", "LDS/LES/LFS/LGS/LSS" (the checks of a load).
 */
import { CS, type SegmentNumber, SS } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import {
  ATTRIBUTE_DB,
  ATTRIBUTE_S,
  type Descriptor,
  readDescriptor,
  setAccessed,
  TYPE_CODE,
  TYPE_CONFORMING,
  TYPE_EXPAND_DOWN,
  TYPE_READABLE,
  TYPE_WRITABLE,
} from './descriptors.ts';
import { Fault, gp, NP, SS as STACK_FAULT } from './fault.ts';

/** A segment register, visible and hidden parts. */
export interface SegmentValue {
  readonly selector: number;
  readonly base: bigint;
  /** In bytes. */
  readonly limit: number;
  /** As `segAttributes` of the state. */
  readonly attributes: number;
  readonly usable: boolean;
}

/** Attributes of a segment register loaded in virtual-8086 mode: present, DPL 3, writable data, accessed. */
const VIRTUAL_8086_ATTRIBUTES = 0xf3;

/**
 * Derives from a segment's hidden part the offsets that may be read and written through it outside 64-bit mode
 * (`segReadLow`..`segWriteHigh`). Real-address mode makes no type checks, and lets even CS be written.
 */
export function updateRanges(cpu: Cpu, segment: SegmentNumber): void {
  const attributes = cpu.segAttributes[segment];
  const limit = cpu.segLimit[segment];
  const code = (attributes & TYPE_CODE) !== 0;
  const untyped = !cpu.protectedMode;
  const there = cpu.segUsable[segment] !== 0 && (untyped || (attributes & ATTRIBUTE_S) !== 0);
  const readable = there && (untyped || !code || (attributes & TYPE_READABLE) !== 0);
  const writable = there && (untyped || (!code && (attributes & TYPE_WRITABLE) !== 0));
  let low = 0;
  let high = limit;
  if (!code && (attributes & TYPE_EXPAND_DOWN) !== 0) {
    low = limit + 1;
    high = attributes & ATTRIBUTE_DB ? 0xffff_ffff : 0xffff;
    if (low > 0xffff_ffff) {
      low = 1;
      high = 0;
    }
  }
  cpu.segReadLow[segment] = readable ? low : 1;
  cpu.segReadHigh[segment] = readable ? high : 0;
  cpu.segWriteLow[segment] = writable ? low : 1;
  cpu.segWriteHigh[segment] = writable ? high : 0;
}

/** Writes all of a segment register, unchecked. */
export function setSegmentRaw(cpu: Cpu, segment: SegmentNumber, value: SegmentValue): void {
  cpu.segSelector[segment] = value.selector;
  cpu.segBase[segment] = value.base;
  cpu.segLimit[segment] = value.limit;
  cpu.segAttributes[segment] = value.attributes;
  cpu.segUsable[segment] = value.usable ? 1 : 0;
  updateRanges(cpu, segment);
}

/** Loads a segment register from a descriptor, unchecked; the selector's RPL is kept as given. */
export function setSegment(cpu: Cpu, segment: SegmentNumber, selector: number, d: Descriptor): void {
  cpu.segSelector[segment] = selector;
  cpu.segBase[segment] = d.base;
  cpu.segLimit[segment] = d.limit;
  cpu.segAttributes[segment] = d.attributes;
  cpu.segUsable[segment] = 1;
  updateRanges(cpu, segment);
}

/** Loads a null selector: the segment is unusable and its base, FS's and GS's too, becomes 0, as on Intel processors. */
export function setNull(cpu: Cpu, segment: SegmentNumber, selector: number): void {
  cpu.segSelector[segment] = selector;
  cpu.segBase[segment] = 0n;
  cpu.segLimit[segment] = 0;
  cpu.segAttributes[segment] = 0;
  cpu.segUsable[segment] = 0;
  updateRanges(cpu, segment);
}

/**
 * Loads a segment register in real-address or virtual-8086 mode. Real-address mode changes the selector and the
 * base only: limit and attributes stay what they were ("unreal" mode). Virtual-8086 mode sets all.
 */
export function setReal(cpu: Cpu, segment: SegmentNumber, selector: number): void {
  cpu.segSelector[segment] = selector;
  cpu.segBase[segment] = BigInt(selector) << 4n;
  cpu.segUsable[segment] = 1;
  if (cpu.virtual8086) {
    cpu.segLimit[segment] = 0xffff;
    cpu.segAttributes[segment] = VIRTUAL_8086_ATTRIBUTES;
  }
  updateRanges(cpu, segment);
}

/**
 * Loads a data-segment register or SS as MOV, POP, LDS and their like do, in every mode.
 *
 * Raises #GP(0) for a null SS (but at CPL 0..2 in 64-bit mode with RPL = CPL), #GP(selector) for one beyond its
 * table or of unfit type or privilege, #SS(selector) for SS not present, #NP(selector) for others not present, #PF.
 */
export function loadSegment(cpu: Cpu, segment: SegmentNumber, selector: number): void {
  if (cpu.realAddressing) {
    setReal(cpu, segment, selector);
    return;
  }
  const cpl = cpu.cpl;
  const rpl = selector & 3;
  const index = selector & 0xfffc;
  if (index === 0) {
    if (segment === SS && !(cpu.mode64 && cpl < 3 && rpl === cpl)) throw gp();
    setNull(cpu, segment, selector);
    return;
  }
  const d = readDescriptor(cpu, selector);
  const code = (d.type & TYPE_CODE) !== 0;
  if (segment === SS) {
    const writableData = !d.system && !code && (d.type & TYPE_WRITABLE) !== 0;
    if (rpl !== cpl || !writableData || d.dpl !== cpl) throw gp(index);
    if (!d.present) throw new Fault(STACK_FAULT, index);
  } else {
    const readable = !d.system && (!code || (d.type & TYPE_READABLE) !== 0);
    if (!readable) throw gp(index);
    const conforming = code && (d.type & TYPE_CONFORMING) !== 0;
    if (!conforming && Math.max(rpl, cpl) > d.dpl) throw gp(index);
    if (!d.present) throw new Fault(NP, index);
  }
  setAccessed(cpu, d);
  setSegment(cpu, segment, selector, d);
}

/** The ranges of all six segment registers anew: CR0.PE changed. */
export function updateAllRanges(cpu: Cpu): void {
  for (const segment of [0, CS, SS, 3, 4, 5] as const) updateRanges(cpu, segment);
}
