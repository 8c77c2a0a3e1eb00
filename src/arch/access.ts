/**
 * The slow path of the interpreter's memory accesses: what its fast TLB does not have. Pages are translated and entered
 * in the fast TLB; accesses across pages, to devices, to pages with decoded code and to pages with data breakpoints are
 * carried out here every time.
 */
import { ACCESS_SIZE, ACCESS_STACK, ACCESS_WRITE } from '../engine/interpreter/handler-builder.ts';
import type { Interpreter } from '../engine/interpreter/interpreter.ts';
import { lowHalf } from '../isa/halves.ts';
import { offsetOf } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { dataBreakpointsOnPage, matchDataBreakpoint } from './debug.ts';
import { AC, Fault } from './fault.ts';
import {
  type Access,
  type AccessSize,
  alignmentChecked,
  atCpl,
  isCanonical,
  notCanonical,
  probeWrite,
  readLinear,
  type VectorAccessSize,
  writeLinear,
} from './linear.ts';
import { pageAccess, translate } from './paging.ts';

const BOUNCE = offsetOf('bounce');

/** The checks before translation; returns the address in its mode's width. */
function checked(cpu: Cpu, linear: bigint, size: number, stack: boolean): bigint {
  if (!cpu.longMode) return linear & 0xffff_ffffn;
  const address = BigInt.asUintN(64, linear);
  const last = crossesPage(address, size) ? BigInt.asUintN(64, address + BigInt(size - 1)) : address;
  if (!isCanonical(address) || !isCanonical(last)) {
    throw notCanonical(cpu, address, size <= 8, stack);
  }
  return address;
}

function crossesPage(address: bigint, size: number): boolean {
  return (lowHalf(address) & 0xfff) + size > 0x1000;
}

/** Leaves a value where generated code finds it; such an access is completed by {@link slowStore}. */
function bounce(cpu: Cpu, value: bigint): number {
  cpu.bounce[0] = value;
  return cpu.address + BOUNCE;
}

/** Bytes that a vector access consists of, for who goes part by part. */
const PART = 8;

/** The linear address `offset` bytes on, in its mode's width. */
function partOf(cpu: Cpu, address: bigint, offset: number): bigint {
  return BigInt.asUintN(cpu.mode64 ? 64 : 32, address + BigInt(offset));
}

/** A vector that is no RAM of one page, part by part, to where generated code finds it. */
function bounceVector(cpu: Cpu, size: number, read: (offset: number) => bigint): number {
  for (let offset = 0; offset < size; offset += PART) cpu.bounce[offset / PART] = read(offset);
  return cpu.address + BOUNCE;
}

/**
 * Slow path of a read, or of the read of a read-modify-write (ACCESS_WRITE).
 * @returns the WebAssembly address of the bytes; the processor's bounce area where they are a copy
 */
export function slowLoad(cpu: Cpu, interpreter: Interpreter, linear: bigint, flags: number): number {
  const size = (flags & ACCESS_SIZE) as VectorAccessSize;
  const write = (flags & ACCESS_WRITE) !== 0;
  const stack = (flags & ACCESS_STACK) !== 0;
  const address = checked(cpu, linear, size, stack);
  const watched = watchedAccess(cpu, address, size);
  const { bus } = cpu;
  let host: number;
  if (crossesPage(address, size)) {
    const access = atCpl(cpu.cpl);
    if (write) probeWrite(cpu, address, size, access, stack);
    if (size > 8) host = readAcross(cpu, address, size, access, stack);
    else host = bounce(cpu, readLinear(cpu, address, size as AccessSize, access, stack));
  } else {
    const aligned = alignmentChecked(cpu);
    if (aligned && size <= 8 && (lowHalf(address) & (size - 1)) !== 0) throw new Fault(AC, 0);
    const physical = translate(cpu, address, pageAccess(cpu.cpl === 3, false, write, false));
    const observer = cpu.hooks.access;
    if (observer) {
      observer(cpu, physical, size, false);
      if (write) observer(cpu, physical, size, true);
    }
    host = bus.ramOffset(physical);
    if (host < 0 || (write && bus.code.hasCode(physical))) {
      if (size > 8) host = bounceVector(cpu, size, (offset) => bus.read(physical + offset, PART));
      else host = bounce(cpu, bus.read(physical, size as AccessSize));
    } else {
      if (write) bus.willWrite(physical);
      if (!watched && !aligned && !observer) {
        interpreter.fillTranslation(
          cpu.index,
          write ? cpu.tlbWrite : cpu.tlbRead,
          address,
          host - (host & 0xfff),
        );
      }
    }
  }
  if (watched) matchDataBreakpoint(cpu, address, size, write);
  return host;
}

/** A vector across two pages. */
function readAcross(cpu: Cpu, address: bigint, size: number, access: Access, stack: boolean): number {
  return bounceVector(cpu, size, (offset) => {
    let part = 0n;
    for (let i = 0; i < PART; i++)
      part |= readLinear(cpu, partOf(cpu, address, offset + i), 1, access, stack) << BigInt(8 * i);
    return part;
  });
}

/** Slow path of a write of a vector, which stands in the processor's bounce area. */
export function slowStoreVector(cpu: Cpu, interpreter: Interpreter, linear: bigint, flags: number): void {
  const size = (flags & ACCESS_SIZE) as VectorAccessSize;
  const stack = (flags & ACCESS_STACK) !== 0;
  const address = checked(cpu, linear, size, stack);
  const watched = watchedAccess(cpu, address, size);
  const { bus, bounce } = cpu;
  if (crossesPage(address, size)) {
    const access = atCpl(cpu.cpl);
    probeWrite(cpu, address, size, access, stack);
    for (let offset = 0; offset < size; offset++) {
      const byte = (bounce[offset >> 3] >> BigInt(8 * (offset & 7))) & 0xffn;
      writeLinear(cpu, partOf(cpu, address, offset), 1, byte, access, stack);
    }
  } else {
    const aligned = alignmentChecked(cpu);
    const physical = translate(cpu, address, pageAccess(cpu.cpl === 3, false, true, false));
    const observer = cpu.hooks.access;
    observer?.(cpu, physical, size, true);
    for (let offset = 0; offset < size; offset += PART)
      bus.write(physical + offset, PART, bounce[offset / PART]);
    const host = bus.ramOffset(physical);
    if (host >= 0 && !watched && !aligned && !observer && !bus.code.hasCode(physical)) {
      bus.willWrite(physical);
      interpreter.fillTranslation(cpu.index, cpu.tlbWrite, address, host - (host & 0xfff));
    }
  }
  if (watched) matchDataBreakpoint(cpu, address, size, true);
}

/** Slow path of a write. */
export function slowStore(
  cpu: Cpu,
  interpreter: Interpreter,
  linear: bigint,
  flags: number,
  value: bigint,
): void {
  const size = (flags & ACCESS_SIZE) as AccessSize;
  const stack = (flags & ACCESS_STACK) !== 0;
  const address = checked(cpu, linear, size, stack);
  const watched = watchedAccess(cpu, address, size);
  const { bus } = cpu;
  const bits = BigInt.asUintN(size * 8, value);
  if (crossesPage(address, size)) {
    writeLinear(cpu, address, size, bits, atCpl(cpu.cpl), stack);
  } else {
    const aligned = alignmentChecked(cpu);
    if (aligned && (lowHalf(address) & (size - 1)) !== 0) throw new Fault(AC, 0);
    const physical = translate(cpu, address, pageAccess(cpu.cpl === 3, false, true, false));
    const observer = cpu.hooks.access;
    observer?.(cpu, physical, size, true);
    bus.write(physical, size, bits);
    const host = bus.ramOffset(physical);
    if (host >= 0 && !watched && !aligned && !observer && !bus.code.hasCode(physical)) {
      bus.willWrite(physical);
      interpreter.fillTranslation(cpu.index, cpu.tlbWrite, address, host - (host & 0xfff));
    }
  }
  if (watched) matchDataBreakpoint(cpu, address, size, true);
}

/** Faults as a write would. */
export function slowProbe(cpu: Cpu, linear: bigint, flags: number): void {
  const size = (flags & ACCESS_SIZE) as AccessSize;
  const stack = (flags & ACCESS_STACK) !== 0;
  probeWrite(cpu, checked(cpu, linear, size, stack), size, atCpl(cpu.cpl), stack);
}

const DR7 = offsetOf('dr', 7) / 4;
const DR7_ENABLES = 0xff;

function watchedAccess(cpu: Cpu, address: bigint, size: number): boolean {
  if ((cpu.u32[DR7] & DR7_ENABLES) === 0) return false;
  return (
    dataBreakpointsOnPage(cpu, address & ~0xfffn) ||
    (crossesPage(address, size) && dataBreakpointsOnPage(cpu, (address + BigInt(size)) & ~0xfffn))
  );
}
