/**
 * System calls: number in EAX, arguments in RDI and RSI (or R9), result in RAX. Pointers are of 32 bits, so
 * that code of any width may call.
 */

import {
  type Assembler,
  dword,
  eax,
  ecx,
  edi,
  gs,
  mem,
  qword,
  r8d,
  r8q,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  sym,
  times,
} from '../assembler.ts';
import { apic } from '../boot/start.ts';
import {
  ANSWER,
  call,
  cause,
  frame,
  GDT_SIZE,
  LAPIC,
  LDT_ENTRIES,
  percpu,
  percpuPage,
  regs,
  USER_AREA,
  USER_AREA_STRIDE,
  userCounters,
  vector,
} from '../layout.ts';
import type { Variant } from '../variants/variant.ts';

/** RFLAGS that a user frame may choose: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC. IF is always set. */
const USER_FLAGS = 0x5_0dd5;
const INVALID = -22;
const NO_SYSTEM_CALL = -38;

interface CallOptions {
  readonly cpus: number;
  /** All CPUs have the LDT of CPU 0. */
  readonly sharedLdt: boolean;
}

/** Emits dispatch_call and the calls. */
export function emitCalls(a: Assembler, variant: Variant, { cpus, sharedLdt }: CallOptions): void {
  a.section('.text').bits(64);
  const names = Object.keys(call) as (keyof typeof call)[];

  // dispatch_call(registers in RDI)
  a.label('dispatch_call');
  a.push(rbx);
  a.mov(rbx, rdi);
  a.mov(eax, mem(rbx, regs.rax));
  a.cmp(eax, names.length);
  a.jae('.unknown');
  a.lea(rcx, mem('calls'));
  a.call(qword(rcx, times(rax, 8)));
  a.mov(mem(rbx, regs.rax), rax);
  a.pop(rbx);
  a.ret();
  a.label('.unknown');
  a.mov(qword(rbx, regs.rax), NO_SYSTEM_CALL);
  a.pop(rbx);
  a.ret();

  // Each call finds the saved registers in RBX and answers in RAX.
  a.label('call.touch');
  a.mov(rax, mem(gs, percpu.userCounters));
  a.inc(dword(rax, userCounters.events));
  a.mov(eax, ANSWER);
  a.ret();

  // The descriptor must be a code or data segment (S), for CPL 3, not of 64-bit code.
  a.label('call.modifyLdt');
  variant.emitModifyLdt?.(a);
  a.mov(ecx, mem(rbx, regs.rdi));
  const { tlsSlots = 0 } = variant;
  a.cmp(ecx, LDT_ENTRIES + tlsSlots);
  a.jae('.invalid');
  a.mov(rdx, mem(rbx, regs.rsi));
  a.mov(rax, rdx);
  a.shr(rax, 40);
  a.and(eax, 0x70);
  a.cmp(eax, 0x70);
  a.jne('.invalid');
  a.bt(rdx, 53);
  a.jc('.invalid');
  if (sharedLdt) a.mov(rax, sym('percpu'));
  else a.mov(rax, mem(gs, percpu.self));
  if (tlsSlots > 0) {
    a.cmp(ecx, LDT_ENTRIES);
    a.jb('.ldt');
    a.mov(mem(rax, times(rcx, 8), percpuPage.gdt + GDT_SIZE - 8 * LDT_ENTRIES), rdx);
    a.xor(eax, eax);
    a.ret();
    a.label('.ldt');
  }
  a.mov(mem(rax, times(rcx, 8), percpuPage.ldt), rdx);
  a.xor(eax, eax);
  a.ret();
  a.label('.invalid');
  a.mov(rax, INVALID);
  a.ret();

  a.label('call.setSignal');
  a.mov(eax, mem(rbx, regs.rdi));
  a.mov(mem(gs, percpu.signalHandler), rax);
  a.mov(edi, mem(rbx, regs.rsi));
  a.call('check_user_pointer');
  a.mov(mem(gs, percpu.signalStack), rdi);
  a.ret();

  // The frame's vector and error code do not matter; its selectors get RPL 3 and its flags are filtered.
  a.label('call.sigreturn');
  a.mov(edi, mem(rbx, regs.rdi));
  a.call('check_user_pointer');
  a.mov(rsi, rdi);
  a.mov(rdi, rbx);
  a.mov(ecx, regs.vector / 8);
  a.rep().movsq();
  a.add(rsi, 16);
  a.call('load_user_frame');
  a.mov(rax, mem(rbx, regs.rax));
  a.ret();

  a.label('call.poke');
  a.mov(edi, mem(rbx, regs.rsi));
  a.call('check_user_pointer');
  for (const [i, field] of [percpu.pokeCs, percpu.pokeSs, percpu.pokeRip, percpu.pokeRsp].entries()) {
    a.mov(rax, mem(rdi, 8 * i));
    if (i < 2) a.or(rax, 3);
    a.mov(mem(gs, field), rax);
  }
  a.mov(eax, mem(rbx, regs.rdi));
  a.mov(mem(gs, percpu.pokeCause), rax);
  a.xor(eax, eax);
  a.ret();

  a.label('call.returnTo');
  a.mov(edi, mem(rbx, regs.r9));
  a.call('check_user_pointer');
  a.mov(rsi, rdi);
  a.call('load_user_frame');
  // As SYSCALL left them for that place: only what else the frame says decides between SYSRET and IRET.
  a.mov(rax, mem(rbx, regs.rip));
  a.mov(mem(rbx, regs.rcx), rax);
  a.mov(rax, mem(rbx, regs.rflags));
  a.mov(mem(rbx, regs.r11), rax);
  a.mov(eax, ANSWER);
  a.ret();

  // The child begins with the parent's general registers but RAX, on a kernel stack of its own.
  a.label('call.spawn');
  a.mov(r8d, mem(rbx, regs.r9));
  a.mov(rdi, r8q);
  a.call('check_user_pointer');
  a.cli();
  a.mov(mem(gs, percpu.parentRegs), rbx);
  a.mov(rsi, rbx);
  a.mov(rdi, mem(gs, percpu.childStack));
  a.sub(rdi, regs.size);
  a.mov(rsp, rdi);
  a.mov(rbx, rdi);
  a.mov(ecx, regs.size / 8);
  a.rep().movsq();
  a.mov(qword(rbx, regs.rax), ANSWER);
  a.mov(rsi, r8q);
  a.call('load_user_frame');
  a.call('use_child_stack');
  a.jmp('return_from_interrupt');

  a.label('call.exit');
  a.cli();
  a.call('use_main_stack');
  a.mov(rsp, mem(gs, percpu.parentRegs));
  a.mov(qword(rsp, regs.rax), 0);
  a.jmp('return_from_interrupt');

  a.label('call.raise');
  a.mov(qword(rbx, regs.rax), ANSWER);
  a.mov(qword(rbx, regs.vector), cause.raise);
  a.mov(rdi, rbx);
  a.call('deliver_signal');
  a.mov(eax, ANSWER);
  a.ret();

  a.label('call.setRecovery');
  a.mov(eax, mem(rbx, regs.rdi));
  a.mov(mem(gs, percpu.recovery), rax);
  a.xor(eax, eax);
  a.ret();

  a.label('call.stepUntil');
  a.mov(eax, mem(rbx, regs.rdi));
  a.mov(mem(gs, percpu.stepUntil), rax);
  a.xor(eax, eax);
  a.ret();

  // load_user_frame: RIP, CS, RFLAGS, RSP, SS from RSI into the saved registers.
  a.label('load_user_frame');
  a.lea(rdi, mem(rbx, regs.rip));
  a.mov(ecx, frame.size / 8);
  a.rep().movsq();
  a.or(qword(rbx, regs.cs), 3);
  a.or(qword(rbx, regs.ss), 3);
  a.and(qword(rbx, regs.cs), 0xffff);
  a.and(qword(rbx, regs.ss), 0xffff);
  a.and(qword(rbx, regs.rflags), USER_FLAGS);
  a.or(qword(rbx, regs.rflags), 0x202);
  a.ret();

  // check_user_pointer(RDI): ends the task by an oops unless RDI lies in the tasks' data.
  a.label('check_user_pointer');
  a.mov(rax, rdi);
  a.sub(rax, Number(USER_AREA));
  a.cmp(rax, cpus * Number(USER_AREA_STRIDE));
  a.jae('.bad');
  a.ret();
  a.label('.bad');
  a.mov(rdi, rbx);
  a.jmp('oops');

  emitTurns(a, cpus);

  a.section('.rodata');
  a.align(8);
  a.label('calls');
  for (const name of names) a.dq(sym(`call.${name}`));
}

/** wait_turn and finish: processors run their cases one after another, so that lines do not mix. */
function emitTurns(a: Assembler, cpus: number): void {
  a.label('call.waitTurn');
  a.mov(rcx, mem(gs, percpu.id));
  a.lock().bts(qword('cpus_ready'), rcx);
  a.test(ecx, ecx);
  a.jnz('.sleep');
  // CPU 0 begins when all the others have set up their tasks.
  a.label('.gather');
  a.mov(rax, mem('cpus_online'));
  a.cmp(rax, mem('cpus_ready'));
  a.je('.all');
  a.pause();
  a.jmp('.gather');
  a.label('.all');
  a.call('report_header');
  a.xor(eax, eax);
  a.ret();
  a.label('.sleep');
  a.cli();
  a.mov(rcx, mem(gs, percpu.id));
  a.cmp(rcx, mem('turn'));
  a.je('.go');
  // STI delays interrupts by one instruction, so the wake-up cannot slip in before HLT. An NMI in between ends the
  // delay: see handle_wake.
  a.sti();
  a.label('.sleeping');
  a.hlt();
  a.jmp('.sleep');
  a.label('.go');
  a.sti();
  a.xor(eax, eax);
  a.ret();

  a.label('call.finish');
  a.mov(rcx, mem(gs, percpu.id));
  a.label('.next');
  a.inc(ecx);
  a.cmp(ecx, cpus);
  a.jae('.last');
  a.bt(qword('cpus_online'), rcx);
  a.jnc('.next');
  a.cli();
  a.mov(mem('turn'), rcx);
  a.shl(ecx, 24);
  a.mov(rax, LAPIC);
  a.mov(mem(rax, apic.commandHigh), ecx);
  a.mov(dword(rax, apic.commandLow), 0x4000 | vector.wake);
  a.label('.idle');
  a.cli();
  a.hlt();
  a.jmp('.idle');
  a.label('.last');
  a.call('report_end');
  a.xor(eax, eax);
  a.jmp('stop_machine');

  a.section('.data');
  a.align(8);
  a.label('cpus_ready');
  a.dq(0);
  a.label('turn');
  a.dq(0);
  a.section('.text');
}
