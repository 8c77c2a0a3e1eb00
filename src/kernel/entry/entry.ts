/**
 * Entry from interrupts, exceptions and SYSCALL, and the way back.
 *
 * GS discipline: the kernel runs with its per-CPU area in GS base. An entry that cannot come from a place with
 * the user's GS base in kernel mode decides by the saved CS; NMI, #DB, #MC and #DF can, have stacks of their
 * own (IST), and decide by reading the GS base itself (SDM Vol. 3A, Section 6.14.5; SWAPGS in Vol. 2B).
 */

import {
  type Assembler,
  byte,
  cl,
  dr7,
  eax,
  ebx,
  ecx,
  edx,
  gs,
  mem,
  qword,
  type Register,
  r8q,
  r9,
  r10,
  r11,
  r12,
  r13,
  r14,
  r15,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  times,
} from '../assembler.ts';
import {
  cause,
  FRAME_SIZE,
  PAGE_SIZE,
  percpu,
  regs,
  STACK_PAGES,
  STACK_STRIDE,
  selector,
  vector as vectors,
} from '../layout.ts';
import type { Variant } from '../variants/variant.ts';

/** General registers from the highest address of `regs` down. */
const pushOrder: readonly Register[] = [
  rax,
  rcx,
  rdx,
  rbx,
  rbp,
  rsi,
  rdi,
  r8q,
  r9,
  r10,
  r11,
  r12,
  r13,
  r14,
  r15,
];

/** Exceptions that push an error code (SDM Vol. 3A, Table 6-1). */
const withErrorCode = [8, 10, 11, 12, 13, 14, 17, 21];
const standIn = vectors.machineCheckStandIn;
/** Vectors that have an interrupt stack of their own. */
const onInterruptStack = [1, 2, 8, 18, standIn];
const MACHINE_CHECK = 18;

/** The machine-check stack: bytes at its top where one arrives and is handled, and places below to return from. */
const MACHINE_CHECK_TOP = 0x400;
const MACHINE_CHECK_ROOM = 0x300;
const MACHINE_CHECK_PLACES = 8;

const IA32_GS_BASE = 0xc000_0101;
/** DR7 with no breakpoint enabled (SDM Vol. 3B, Section 17.2.4). */
const DR7_CLEAR = 0x400;

/** Pushes the general registers, to make up `regs` below vector and error code. */
export function saveRegisters(a: Assembler): void {
  for (const register of pushOrder) a.push(register);
}

/** Pops what `saveRegisters` pushed. */
export function restoreRegisters(a: Assembler): void {
  for (const register of pushOrder.toReversed()) a.pop(register);
}

/** Emits entries for all 256 vectors and SYSCALL, and the returns to user and kernel mode. */
export function emitEntries(a: Assembler, variant: Variant): void {
  a.section('.text').bits(64);
  for (let vector = 0; vector < 256; vector++) {
    a.label(`vector.${vector}`);
    if (!withErrorCode.includes(vector)) a.push(0);
    a.push(vector === standIn ? MACHINE_CHECK : vector);
    const common = onInterruptStack.includes(vector) ? 'paranoid_entry' : 'interrupt_entry';
    a.jmp(variant.entries?.[vector] ?? common);
  }

  emitInterruptEntry(a, variant);
  emitParanoidEntry(a, variant);
  emitSyscallEntry(a, variant);
  emitReturns(a, variant);
}

function emitInterruptEntry(a: Assembler, variant: Variant): void {
  // Vector, error code and the processor's frame are on the stack.
  a.label('interrupt_entry');
  a.cld();
  a.test(byte(rsp, 16 + 8), 3);
  a.jz('.from_kernel');
  a.swapgs();
  a.label('.save');
  saveRegisters(a);
  a.label('.dispatch');
  a.mov(rdi, rsp);
  a.mov(eax, mem(rsp, regs.vector));
  a.lea(rcx, mem('handlers'));
  a.call(qword(rcx, times(rax, 8)));
  a.jmp('return_from_interrupt');

  a.label('.from_kernel');
  variant.emitKernelExceptionEntry?.(a);
  // A fault at an IRETQ to user mode came with the user's GS base; anywhere else the kernel has its own.
  a.push(rax);
  for (const label of variant.userIretLabels) {
    a.lea(rax, mem(label));
    a.cmp(mem(rsp, 8 + 16), rax);
    a.je('.bad_iret');
  }
  a.pop(rax);
  a.jmp('.save');

  // The frame that IRETQ refused is where the faulting RSP points. Pretend that it was taken and that the
  // fault came in user mode: that frame becomes the exception's, on the task's own stack.
  a.label('.bad_iret');
  a.pop(rax);
  a.swapgs();
  saveRegisters(a);
  a.mov(rsi, mem(rsp, regs.rsp));
  a.mov(rdi, mem(gs, percpu.kernelStack));
  a.sub(rdi, FRAME_SIZE);
  a.mov(ecx, FRAME_SIZE / 8);
  a.rep().movsq();
  // The saved registers move up to meet it, highest first, as the two may overlap.
  a.sub(rdi, FRAME_SIZE + 8);
  a.lea(rsi, mem(rsp, regs.error));
  a.mov(ecx, regs.rip / 8);
  a.std();
  a.rep().movsq();
  a.cld();
  a.lea(rsp, mem(rdi, 8));
  a.jmp('.dispatch');
}

function emitParanoidEntry(a: Assembler, variant: Variant): void {
  a.label('paranoid_entry');
  a.cld();
  saveRegisters(a);
  a.test(byte(rsp, regs.cs), 3);
  a.jnz('paranoid_entry_from_user');
  for (const vector of variant.gsBySavedCs ?? []) {
    a.xor(ebx, ebx);
    a.cmp(qword(rsp, regs.vector), vector);
    a.je('.kernel_gs');
  }
  // Kernel addresses have their sign bit set, and user space cannot load such a GS base.
  a.mov(ecx, IA32_GS_BASE);
  a.rdmsr();
  a.xor(ebx, ebx);
  a.test(edx, edx);
  a.js('.kernel_gs');
  a.swapgs();
  a.inc(ebx);
  a.label('.kernel_gs');
  a.mov(rdi, rsp);
  a.mov(eax, mem(rsp, regs.vector));
  a.lea(rcx, mem('handlers'));
  a.call(qword(rcx, times(rax, 8)));
  a.cmp(qword(rsp, regs.vector), MACHINE_CHECK);
  a.je('leave_machine_check_stack');
  a.label('paranoid_exit');
  // Any IRET ends the blocking of NMIs. A #DB or #MC that came while an NMI was being served, on the NMI's stack
  // or nested on one of their own, must leave it in force, or the next NMI would be pushed over the one being
  // served. The three stacks are neighbours.
  a.mov(rdx, mem(rsp, regs.rsp));
  a.sub(rdx, mem(gs, percpu.nmiStack));
  a.add(rdx, STACK_PAGES * PAGE_SIZE);
  a.xor(ecx, ecx);
  a.cmp(rdx, 3 * STACK_STRIDE);
  a.setb(cl);
  // Where RSP is still or already the user's, it may point there too, and means nothing.
  a.mov(rdx, mem(rsp, regs.rip));
  a.lea(rax, mem('user_stack_pointer'));
  a.cmp(rdx, rax);
  a.jb('.in_place');
  a.lea(rax, mem('user_stack_pointer_end'));
  a.cmp(rdx, rax);
  a.jae('.in_place');
  a.xor(ecx, ecx);
  a.label('.in_place');
  a.test(ebx, ebx);
  a.jz('.gs_restored');
  a.swapgs();
  a.label('.gs_restored');
  if (variant.nmiUnblockedInside) a.jmp('return_to_kernel');
  a.test(ecx, ecx);
  a.jz('return_to_kernel');
  a.cmp(qword(rsp, regs.vector), 2);
  a.je('return_to_kernel');

  // RIP and RFLAGS go below the interrupted stack pointer, from where POPFQ and RET take them. POPFQ does not set
  // RF, so an instruction breakpoint would be met again at once: in an NMI handler, one is met once and all end.
  a.label('return_without_iret');
  a.cmp(qword(rsp, regs.vector), 1);
  a.jne('.breakpoints_stay');
  a.mov(eax, DR7_CLEAR);
  a.mov(dr7, rax);
  a.label('.breakpoints_stay');
  a.mov(rax, mem(rsp, regs.rsp));
  a.sub(rax, 16);
  a.mov(rcx, mem(rsp, regs.rip));
  a.mov(mem(rax, 8), rcx);
  a.mov(rcx, mem(rsp, regs.rflags));
  a.mov(mem(rax), rcx);
  a.mov(mem(rsp, regs.rsp), rax);
  restoreRegisters(a);
  a.mov(rsp, mem(rsp, regs.rsp - regs.vector));
  a.popfq();
  a.ret();

  // The next machine check is pushed at the top of its stack again, so the saved registers move away before it
  // may come. They take turns of several places further down: whatever else comes in between, a place is free
  // again long before its turn.
  a.label('leave_machine_check_stack');
  a.mov(rax, mem(gs, percpu.machineChecks));
  a.inc(qword(gs, percpu.machineChecks));
  a.and(eax, MACHINE_CHECK_PLACES - 1);
  a.instruction('imul', eax, eax, MACHINE_CHECK_ROOM);
  a.mov(rdi, mem(gs, percpu.machineCheckStack));
  a.sub(rdi, rax);
  a.sub(rdi, MACHINE_CHECK_TOP + regs.size);
  a.mov(rsi, rsp);
  a.mov(rdx, rdi);
  a.mov(ecx, regs.size / 8);
  a.rep().movsq();
  a.mov(rsp, rdx);
  a.call('end_machine_check');
  a.jmp('paranoid_exit');

  // From user mode there is a whole task stack free: go on there as any other exception does. RSP stays on the
  // interrupt stack until its frame has been copied.
  a.label('paranoid_entry_from_user');
  a.swapgs();
  if (variant.nmiStaysOnItsStack) {
    a.cmp(qword(rsp, regs.vector), 2);
    a.je('.handle');
  }
  a.mov(rsi, rsp);
  a.mov(rdi, mem(gs, percpu.kernelStack));
  a.sub(rdi, regs.size);
  a.mov(rbx, rdi);
  a.mov(ecx, regs.size / 8);
  a.rep().movsq();
  a.mov(rsp, rbx);
  a.label('.handle');
  a.mov(rdi, rsp);
  a.mov(eax, mem(rsp, regs.vector));
  a.lea(rcx, mem('handlers'));
  a.call(qword(rcx, times(rax, 8)));
  a.jmp('return_from_interrupt');
}

function emitSyscallEntry(a: Assembler, variant: Variant): void {
  const slow = variant.systemCallReturn ?? 'return_to_user';
  a.label('return_by_sysret');
  restoreRegisters(a);
  a.mov(rsp, mem(rsp, regs.rsp - regs.vector));
  // From here to SYSRET, and from SYSCALL to the next label, the kernel has the user's stack pointer.
  a.label('user_stack_pointer');
  a.swapgs();
  a.label('sysretq.user');
  a.sysretq();

  a.label('syscall_entry');
  a.swapgs();
  a.mov(mem(gs, percpu.userStack), rsp);
  a.mov(rsp, mem(gs, percpu.kernelStack));
  a.label('user_stack_pointer_end');
  a.push(selector.userData);
  a.push(qword(gs, percpu.userStack));
  a.push(r11);
  a.push(selector.userCode64);
  a.push(rcx);
  a.push(0);
  a.push(cause.syscall);
  saveRegisters(a);
  a.mov(rdi, rsp);
  a.sti();
  a.call('dispatch_call');
  a.cli();
  a.call('exit_work');
  // SYSRET can only say what SYSCALL left: 64-bit flat segments, RIP in RCX and RFLAGS in R11. A RIP that is
  // not canonical would fault in kernel mode on the user's stack.
  a.mov(rcx, mem(rsp, regs.rip));
  a.cmp(mem(rsp, regs.rcx), rcx);
  a.jne(slow);
  if (!variant.sysretToAnyRip) {
    a.mov(rax, rcx);
    a.shl(rax, 16);
    a.sar(rax, 16);
    a.cmp(rax, rcx);
    a.jne(slow);
  }
  a.cmp(qword(rsp, regs.cs), selector.userCode64);
  a.jne(slow);
  a.cmp(qword(rsp, regs.ss), selector.userData);
  a.jne(slow);
  a.mov(rax, mem(rsp, regs.rflags));
  a.cmp(mem(rsp, regs.r11), rax);
  a.jne(slow);
  a.test(eax, 0x1_0100);
  a.jz('return_by_sysret');
  a.jmp(slow);
}

function emitReturns(a: Assembler, variant: Variant): void {
  // RSP points at the saved registers of whoever was interrupted.
  a.label('return_from_interrupt');
  a.cli();
  a.test(byte(rsp, regs.cs), 3);
  a.jz('return_to_kernel');
  a.call('exit_work');

  a.label('return_to_user');
  restoreRegisters(a);
  a.add(rsp, 16);
  variant.emitReturn(a);
  a.label('return_to_user_end');

  a.label('return_to_kernel');
  restoreRegisters(a);
  a.add(rsp, 16);
  a.label('iretq.kernel');
  a.iretq();

  // exit_work: what is left to do before a return to user mode; RSP + 8 points at the saved registers.
  a.label('exit_work');
  a.cmp(qword(gs, percpu.pokeCause), 0);
  a.jne('apply_poke');
  a.ret();
}
