/**
 * Memory as arch code reaches it: by linear address, or by offset in a segment.
 *
 * SDM vol. 3A 3.4 (logical to linear), 5.3 (limit checks), 5.4 (type checks), 6.15 "Interrupt 17" (alignment);
 * vol. 1 3.3.7.1 (canonical addresses).
 */
import { AC as AC_FLAG } from '../isa/flags.ts';
import { highHalf } from '../isa/halves.ts';
import { FS, GS, offsetOf, type SegmentNumber, SS } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { matchDataBreakpoint } from './debug.ts';
import { AC, Fault, GP, SS as STACK_FAULT } from './fault.ts';
import { TLB_NONE, tlbContext } from './mode.ts';
import { cachedTranslation, type PageAccess, pageAccess, translate } from './paging.ts';

/** How an access is judged by paging (SDM vol. 3A 4.6, "Determination of access mode"). */
export interface Access {
  /** A user-mode access: made at CPL 3, and not implicit. */
  readonly user: boolean;
  /** Made by the processor itself, to a system structure: SMAP holds whatever RFLAGS.AC says. */
  readonly implicit: boolean;
}

/** Sizes of accesses in bytes. */
export type AccessSize = 1 | 2 | 4 | 8;
/** With those of vectors, for which #AC is never raised (measured on Intel silicon; SDM vol. 3A 6.15 leaves it open). */
export type VectorAccessSize = AccessSize | 16 | 32;

/** Implicit supervisor-mode access: descriptor tables, IDT, TSS. */
export const SYSTEM: Access = { user: false, implicit: true };

const EXPLICIT_SUPERVISOR: Access = { user: false, implicit: false };
const USER: Access = { user: true, implicit: false };

/** An explicit access by an instruction at `cpl`. */
export function atCpl(cpl: number): Access {
  return cpl === 3 ? USER : EXPLICIT_SUPERVISOR;
}

/** Bits 63:47 of `linear` are all alike: it is canonical for 48-bit linear addresses. */
export function isCanonical(linear: bigint): boolean {
  const top = highHalf(linear) >>> 15;
  return top === 0 || top === 0x1ffff;
}

const CR0_AM = 1 << 18;
const CR0 = offsetOf('cr0') / 4;
const FLAGS = offsetOf('flagsRest') / 4;
const AC_BIT = Number(AC_FLAG);

/** #AC is armed for accesses of CPL 3 (SDM vol. 3A 6.15, "Interrupt 17"). */
export function alignmentChecked(cpu: Cpu): boolean {
  return cpu.cpl === 3 && (cpu.u32[FLAGS] & AC_BIT) !== 0 && (cpu.u32[CR0] & CR0_AM) !== 0;
}

/**
 * The fault of an access that is not canonical in its first or its last byte. One that runs into the hole is misaligned,
 * and #AC comes first, where it is armed (measured on Intel silicon).
 */
export function notCanonical(cpu: Cpu, address: bigint, user: boolean, stack: boolean): Fault {
  if (isCanonical(address) && user && alignmentChecked(cpu)) return new Fault(AC, 0);
  return new Fault(stack ? STACK_FAULT : GP, 0);
}

/**
 * Both physical parts of an access. `second` is the physical address of the second page's first byte where the
 * access crosses into it, else -1; `split` is the number of bytes in the first page.
 */
let second = -1;
let split = 0;

function locate(
  cpu: Cpu,
  linear: bigint,
  size: VectorAccessSize,
  access: Access,
  stack: boolean,
  mode: PageAccess,
): number {
  const last = BigInt(size - 1);
  let address: bigint;
  if (cpu.longMode) {
    address = linear & 0xffff_ffff_ffff_ffffn;
    if (!isCanonical(address) || !isCanonical((address + last) & 0xffff_ffff_ffff_ffffn))
      throw notCanonical(cpu, address, access.user && size <= 8, stack);
  } else {
    address = linear & 0xffff_ffffn;
  }
  const offset = Number(address & 0xfffn);
  if (size > 1 && size <= 8 && (offset & (size - 1)) !== 0 && access.user && alignmentChecked(cpu))
    throw new Fault(AC, 0);
  const first = translate(cpu, address, mode);
  if (offset + size <= 0x1000) {
    second = -1;
    return first;
  }
  split = 0x1000 - offset;
  const next = address + BigInt(split);
  // Compatibility mode makes 32-bit linear addresses: what runs past 4 GiB goes on at 0.
  const narrow = !cpu.longMode || (next === 0x1_0000_0000n && !access.implicit && !cpu.mode64) ? 32 : 64;
  second = translate(cpu, BigInt.asUintN(narrow, next), mode);
  return first;
}

const DR7_ENABLES = 0xffn;

function readRam(view: DataView, at: number, size: AccessSize): bigint {
  switch (size) {
    case 1:
      return BigInt(view.getUint8(at));
    case 2:
      return BigInt(view.getUint16(at, true));
    case 4:
      return BigInt(view.getUint32(at, true));
    case 8:
      return view.getBigUint64(at, true);
  }
}

function writeRam(view: DataView, at: number, size: AccessSize, value: bigint): void {
  switch (size) {
    case 1:
      view.setUint8(at, Number(value & 0xffn));
      break;
    case 2:
      view.setUint16(at, Number(value & 0xffffn), true);
      break;
    case 4:
      view.setUint32(at, Number(value & 0xffff_ffffn), true);
      break;
    case 8:
      view.setBigUint64(at, value, true);
      break;
  }
}

/** The WebAssembly address of an access whose translation the engine has at hand, or -1. */
function fastAddress(
  cpu: Cpu,
  linear: bigint,
  size: VectorAccessSize,
  access: Access,
  write: boolean,
): number {
  return cpu.engine.fastAddress(linear, size, tlbContext(cpu, access), write);
}

/** Tells who observes accesses of one that {@link locate} has found at `physical`. */
function report(cpu: Cpu, physical: number, size: AccessSize, write: boolean): void {
  const observer = cpu.hooks.access;
  if (!observer) return;
  observer(cpu, physical, second < 0 ? size : split, write);
  if (second >= 0) observer(cpu, second, size - split, write);
}

/** Gives the engine the translation of an access within one page. */
function keep(cpu: Cpu, linear: bigint, physical: number, access: Access, write: boolean): void {
  if (cpu.hooks.access) return;
  const context = tlbContext(cpu, access);
  const host = cpu.bus.ramOffset(physical);
  if (host < 0 || context === TLB_NONE || (cpu.dr[7] & DR7_ENABLES) !== 0n) return;
  if (write) {
    if (cpu.bus.code.hasCode(physical)) return;
    cpu.bus.willWrite(physical);
  }
  cpu.engine.fillFast(cpu.longMode ? linear : linear & 0xffff_ffffn, host, context, write);
}

/** Gives the engine the translation of a page that the TLB has and that allows the access. @returns whether there is one */
export function recall(cpu: Cpu, linear: bigint, access: Access, write: boolean): boolean {
  if (cpu.longMode && !isCanonical(linear)) return false;
  const mode = pageAccess(access.user, access.implicit, write, false);
  const physical = cachedTranslation(cpu, linear, mode);
  if (physical < 0) return false;
  keep(cpu, linear, physical, access, write);
  return true;
}

/**
 * Reads `size` bytes at `linear`, which wraps to 32 bits outside long mode. In long mode a non-canonical address
 * raises #GP(0), or #SS(0) where `stack`. Raises #PF, and #AC where armed.
 */
export function readLinear(
  cpu: Cpu,
  linear: bigint,
  size: AccessSize,
  access: Access,
  stack = false,
): bigint {
  const fast = fastAddress(cpu, linear, size, access, false);
  if (fast >= 0) return readRam(cpu.view, fast, size);
  const mode = pageAccess(access.user, access.implicit, false, false);
  const physical = locate(cpu, linear, size, access, stack, mode);
  report(cpu, physical, size, false);
  if (second < 0) {
    keep(cpu, linear, physical, access, false);
    return cpu.bus.read(physical, size);
  }
  const rest = second;
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) {
    const at = i < split ? physical + i : rest + i - split;
    value = (value << 8n) | cpu.bus.read(at, 1);
  }
  return value;
}

/** Writes the low `size` bytes of `value` at `linear`; faults as {@link readLinear}, before a byte is written. */
export function writeLinear(
  cpu: Cpu,
  linear: bigint,
  size: AccessSize,
  value: bigint,
  access: Access,
  stack = false,
): void {
  const fast = fastAddress(cpu, linear, size, access, true);
  if (fast >= 0) {
    writeRam(cpu.view, fast, size, value);
    return;
  }
  const mode = pageAccess(access.user, access.implicit, true, false);
  const physical = locate(cpu, linear, size, access, stack, mode);
  report(cpu, physical, size, true);
  const bits = BigInt.asUintN(size * 8, value);
  if (second < 0) {
    keep(cpu, linear, physical, access, true);
    cpu.bus.write(physical, size, bits);
    return;
  }
  const rest = second;
  for (let i = 0; i < size; i++) {
    const at = i < split ? physical + i : rest + i - split;
    cpu.bus.write(at, 1, (bits >> BigInt(8 * i)) & 0xffn);
  }
}

/** Faults as a write there would; sets accessed and dirty flags, writes nothing. */
export function probeWrite(
  cpu: Cpu,
  linear: bigint,
  size: VectorAccessSize,
  access: Access,
  stack = false,
): void {
  if (fastAddress(cpu, linear, size, access, true) >= 0) return;
  locate(cpu, linear, size, access, stack, pageAccess(access.user, access.implicit, true, false));
}

/**
 * The linear address of `size` bytes at `offset` in segment `segment`, checked. Outside 64-bit mode the offset is of
 * 32 bits and must lie in the range that the segment's type and limit permit; #SS(0) for SS, else #GP(0).
 *
 * An access that runs past offset 2^32 - 1 goes on at linear address 0 if the segment is flat (base 0, limit 4 GiB),
 * and faults otherwise: SDM vol. 3A 5.3 leaves this open, Intel processors (Cascade Lake and later) do so.
 */
export function segmentToLinear(
  cpu: Cpu,
  segment: SegmentNumber,
  offset: bigint,
  size: number,
  write: boolean,
): bigint {
  if (cpu.mode64) {
    if (segment === FS || segment === GS) return (cpu.segBase[segment] + offset) & 0xffff_ffff_ffff_ffffn;
    return offset & 0xffff_ffff_ffff_ffffn;
  }
  const low = write ? cpu.segWriteLow[segment] : cpu.segReadLow[segment];
  const high = write ? cpu.segWriteHigh[segment] : cpu.segReadHigh[segment];
  const first = Number(offset & 0xffff_ffffn);
  if (first < low || first + size - 1 > high) {
    const flat = low === 0 && high === 0xffff_ffff && cpu.segBase[segment] === 0n;
    if (!flat) throw new Fault(segment === SS ? STACK_FAULT : GP, 0);
  }
  return (cpu.segBase[segment] + BigInt(first)) & 0xffff_ffffn;
}

const DR7 = offsetOf('dr', 7);

/** An explicit access was made: data breakpoints trap after the instruction. */
function watch(cpu: Cpu, linear: bigint, size: AccessSize, write: boolean): void {
  if (cpu.view.getUint8(cpu.address + DR7) !== 0) matchDataBreakpoint(cpu, linear, size, write);
}

/** Reads through a segment register, by default as an instruction at the current CPL. */
export function readSegment(
  cpu: Cpu,
  segment: SegmentNumber,
  offset: bigint,
  size: AccessSize,
  access: Access = atCpl(cpu.cpl),
): bigint {
  const linear = segmentToLinear(cpu, segment, offset, size, false);
  const value = readLinear(cpu, linear, size, access, segment === SS);
  watch(cpu, linear, size, false);
  return value;
}

/** Writes through a segment register, by default as an instruction at the current CPL. */
export function writeSegment(
  cpu: Cpu,
  segment: SegmentNumber,
  offset: bigint,
  size: AccessSize,
  value: bigint,
  access: Access = atCpl(cpu.cpl),
): void {
  const linear = segmentToLinear(cpu, segment, offset, size, true);
  writeLinear(cpu, linear, size, value, access, segment === SS);
  watch(cpu, linear, size, true);
}

/** Faults as {@link writeSegment} there would. */
export function probeSegmentWrite(
  cpu: Cpu,
  segment: SegmentNumber,
  offset: bigint,
  size: AccessSize,
  access: Access = atCpl(cpu.cpl),
): void {
  const linear = segmentToLinear(cpu, segment, offset, size, true);
  probeWrite(cpu, linear, size, access, segment === SS);
}
