/**
 * Stacks as far transfers, deliveries and returns use them: reads above the top, pushes onto the current stack or
 * onto one about to be switched to, and the stack pointer that results.
 *
 * SDM vol. 1 6.2.3 to 6.2.5 (width of the stack pointer), vol. 3A 5.3 (limits), 5.8.5 (stack switching), 6.14.2.
 */
import type { CodeSize, OperandWidth } from '../isa/instruction.ts';
import { RSP, SS } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { matchDataBreakpoint } from './debug.ts';
import { ATTRIBUTE_DB, type Descriptor, TYPE_EXPAND_DOWN } from './descriptors.ts';
import { ss } from './fault.ts';
import { type Access, atCpl, isCanonical, readSegment, writeLinear } from './linear.ts';

/** Bytes of one stack slot. */
export type SlotSize = 2 | 4 | 8;

/** Bytes of a stack slot of `width` bits. */
export function slotSize(width: OperandWidth): SlotSize {
  return (width >> 3) as SlotSize;
}

/** The linear address of the stack's top. */
export function stackAddress(cpu: Cpu): bigint {
  if (cpu.mode64) return cpu.gpr[RSP];
  return (cpu.segBase[SS] + BigInt.asUintN(cpu.stackSize, cpu.gpr[RSP])) & 0xffff_ffffn;
}

/**
 * What a pop of `size` bytes would read `above` bytes above the stack's top, at the current CPL; the stack pointer
 * stays. Raises #SS(0), #PF, #AC.
 */
export function peek(cpu: Cpu, above: number, size: SlotSize): bigint {
  return readSegment(cpu, SS, BigInt.asUintN(cpu.stackSize, cpu.gpr[RSP] + BigInt(above)), size);
}

/**
 * A selector on the stack. Processors read two bytes, whatever the size of the slot: measured with a slot whose
 * upper part lies beyond the segment's limit or on a page not present.
 */
export function peekSelector(cpu: Cpu, above: number): number {
  return Number(peek(cpu, above, 2));
}

/**
 * Sets the stack pointer as the mode and the stack segment now in force have it: all of RSP in 64-bit mode, ESP
 * where SS.B = 1 (RSP[63:32] then being 0), and SP alone where SS.B = 0: ESP[31:16] keeps what it was before
 * the transfer, which is measured (IRET, RETF), and is the defect that espfix hides.
 */
export function setStackPointer(cpu: Cpu, value: bigint): void {
  if (cpu.mode64) cpu.gpr[RSP] = BigInt.asUintN(64, value);
  else if (cpu.segAttributes[SS] & ATTRIBUTE_DB) cpu.gpr[RSP] = value & 0xffff_ffffn;
  else cpu.gpr[RSP] = (cpu.gpr[RSP] & 0xffff_0000n) | (value & 0xffffn);
}

/** A stack that a transfer pushes on. Nothing of it is in the processor's state until the transfer sets it there. */
export class PushStack {
  /** The whole stack pointer; where `width` is 16, bits above 15 never change. */
  pointer: bigint;
  private readonly cpu: Cpu;
  private readonly width: CodeSize;
  private readonly base: bigint;
  private readonly low: number;
  private readonly high: number;
  private readonly access: Access;
  private readonly errorCode: number;

  private constructor(
    cpu: Cpu,
    pointer: bigint,
    width: CodeSize,
    base: bigint,
    low: number,
    high: number,
    access: Access,
    errorCode: number,
  ) {
    this.cpu = cpu;
    this.pointer = pointer;
    this.width = width;
    this.base = base;
    this.low = low;
    this.high = high;
    this.access = access;
    this.errorCode = errorCode;
  }

  /**
   * The current stack. Far calls push as the mode of the new code segment has it, which is measured: from
   * compatibility to 64-bit mode at RSP whatever SS says, and the other way through SS with its base and size.
   * @param to64 whether the code segment about to be loaded is a 64-bit one
   */
  static current(cpu: Cpu, to64: boolean): PushStack {
    const width = to64 ? 64 : cpu.segAttributes[SS] & ATTRIBUTE_DB ? 32 : 16;
    const pointer = to64 ? cpu.gpr[RSP] : cpu.gpr[RSP] & 0xffff_ffffn;
    const { segBase, segWriteLow, segWriteHigh } = cpu;
    const low = segWriteLow[SS];
    return new PushStack(cpu, pointer, width, segBase[SS], low, segWriteHigh[SS], atCpl(cpu.cpl), 0);
  }

  /** The stack of `segment` for `level`; #SS then names its selector. */
  static inSegment(cpu: Cpu, segment: Descriptor, pointer: bigint, level: number): PushStack {
    const big = (segment.attributes & ATTRIBUTE_DB) !== 0;
    const down = (segment.type & TYPE_EXPAND_DOWN) !== 0;
    return new PushStack(
      cpu,
      pointer,
      big ? 32 : 16,
      segment.base,
      down ? segment.limit + 1 : 0,
      down ? (big ? 0xffff_ffff : 0xffff) : segment.limit,
      atCpl(level),
      segment.selector & 0xfffc,
    );
  }

  /** A 64-bit stack for `level`. */
  static flat(cpu: Cpu, pointer: bigint, level: number): PushStack {
    return new PushStack(cpu, pointer, 64, 0n, 0, 0, atCpl(level), 0);
  }

  /** Raises #SS unless `count` slots may be pushed, as far as limits and canonicality tell. */
  requireRoom(count: number, size: SlotSize): void {
    if (this.width === 64) {
      const first = BigInt.asUintN(64, this.pointer - BigInt(size));
      const last = BigInt.asUintN(64, this.pointer - BigInt(count * size));
      if (!isCanonical(first) || !isCanonical(last)) throw ss(this.errorCode);
      return;
    }
    const mask = this.width === 16 ? 0xffff : 0xffff_ffff;
    const top = Number(this.pointer & 0xffff_ffffn);
    for (let i = 1; i <= count; i++) {
      const offset = ((top - i * size) & mask) >>> 0;
      if (offset < this.low || offset + size - 1 > this.high) {
        // A flat segment has no end: see segmentToLinear.
        const flat = this.low === 0 && this.high === 0xffff_ffff && this.base === 0n;
        if (!flat) throw ss(this.errorCode);
      }
    }
  }

  /** Pushes a slot that {@link requireRoom} has allowed. Raises #PF, #AC; data breakpoints see it. */
  push(size: SlotSize, value: bigint): void {
    const offset = BigInt.asUintN(this.width, this.pointer - BigInt(size));
    this.pointer = this.width === 16 ? (this.pointer & 0xffff_0000n) | offset : offset;
    const linear = this.width === 64 ? offset : (this.base + offset) & 0xffff_ffffn;
    writeLinear(this.cpu, linear, size, value, this.access, true);
    matchDataBreakpoint(this.cpu, linear, size, true);
  }
}
