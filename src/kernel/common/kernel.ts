/** What code that both kernels share must know of the one that it is emitted into. */

import {
  type Assembler,
  dword,
  fs,
  gs,
  type Memory,
  type MemoryPart,
  mem,
  qword,
  type Register,
  times,
  wordRegisters,
} from '../assembler.ts';
import * as i386 from '../i386/layout.ts';
import { frame, LAPIC, percpu, percpuPage, regs, selector, signalFrame, tss } from '../layout.ts';

/** Fields of the per-CPU area that both kernels have. */
type PercpuField = Exclude<keyof typeof percpu & keyof typeof i386.percpu, 'size'> | 'pokeIp';

/** A kernel's width, registers by their 16-bit names, and layout. */
export interface Kernel extends ReturnType<typeof wordRegisters> {
  readonly bits: 32 | 64;
  /** Bytes of a word. */
  readonly bytes: 4 | 8;
  /** A memory operand of a word. */
  readonly word: (...parts: MemoryPart[]) => Memory;
  /** The segment register through which the kernel reaches its per-CPU area. */
  readonly area: Register;
  readonly percpu: Readonly<Record<PercpuField, number>>;
  readonly percpuPage: { readonly gdt: number; readonly tss: number; readonly ldt: number };
  /** Offset in the TSS of the stack pointer for CPL 0. */
  readonly stackPointer0: number;
  /** Offsets of the saved registers. */
  readonly regs: Readonly<
    Record<'ax' | 'di' | 'si' | 'vector' | 'error' | 'ip' | 'cs' | 'flags' | 'sp' | 'ss' | 'size', number>
  >;
  /** Offset of the saved register that points at a frame, for calls that take one. */
  readonly frameArgument: number;
  /** Bytes of the processor's frame of an interrupt of user mode. */
  readonly frameSize: number;
  readonly signalFrameSize: number;
  readonly lapic: bigint;
  /** The flat code segment of user code of the kernel's width. */
  readonly userCode: number;
}

export const kernel64: Kernel = {
  bits: 64,
  bytes: 8,
  ...wordRegisters(64),
  word: qword,
  area: gs,
  percpu: { ...percpu, pokeIp: percpu.pokeRip },
  percpuPage,
  stackPointer0: tss.rsp0,
  regs: {
    ...regs,
    ax: regs.rax,
    di: regs.rdi,
    si: regs.rsi,
    ip: regs.rip,
    flags: regs.rflags,
    sp: regs.rsp,
  },
  frameArgument: regs.r9,
  frameSize: frame.size,
  signalFrameSize: signalFrame.size,
  lapic: LAPIC,
  userCode: selector.userCode64,
};

export const kernel32: Kernel = {
  bits: 32,
  bytes: 4,
  ...wordRegisters(32),
  word: dword,
  area: fs,
  percpu: { ...i386.percpu, pokeIp: i386.percpu.pokeEip },
  percpuPage: i386.percpuPage,
  stackPointer0: i386.tss.esp0,
  regs: {
    ...i386.regs,
    ax: i386.regs.eax,
    di: i386.regs.edi,
    si: i386.regs.esi,
    ip: i386.regs.eip,
    flags: i386.regs.eflags,
    sp: i386.regs.esp,
  },
  frameArgument: i386.regs.ecx,
  frameSize: i386.frame.size,
  signalFrameSize: i386.signalFrame.size,
  lapic: i386.LAPIC,
  userCode: selector.userCode32,
};

/** Emits REP MOVS of words; (R|E)CX counts them. */
export function copyWords(a: Assembler, k: Kernel): void {
  if (k.bits === 64) a.rep().movsq();
  else a.rep().movsd();
}

/** Emits a call through entry (R|E)AX of a table of words; (R|E)CX is changed. */
export function callEntry(a: Assembler, k: Kernel, table: string): void {
  a.lea(k.cx, mem(table));
  a.call(k.word(k.cx, times(k.ax, k.bytes)));
}
