/** System calls: number in EAX, arguments in EDI and ESI (or ECX), result in EAX. */

import {
  type Assembler,
  dword,
  eax,
  ebx,
  ecx,
  edi,
  edx,
  esi,
  esp,
  fs,
  mem,
  sym,
  times,
} from '../assembler.ts';
import { apic } from '../boot/start.ts';
import { ANSWER, cause, LDT_ENTRIES, USER_AREA, USER_AREA_STRIDE, userCounters, vector } from '../layout.ts';
import { call32, frame, LAPIC, percpu, percpuPage, regs, UNMAPPED } from './layout.ts';

/** EFLAGS that a user frame may choose: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC. IF is always set. */
const USER_FLAGS = 0x5_0dd5;
const INVALID = -22;
const NO_SYSTEM_CALL = -38;

/** Emits dispatch_call and the calls. */
export function emitCalls(a: Assembler, cpus: number): void {
  a.section('.text').bits(32);
  const names = Object.keys(call32) as (keyof typeof call32)[];

  // dispatch_call(registers in EDI)
  a.label('dispatch_call');
  a.push(ebx);
  a.mov(ebx, edi);
  a.mov(eax, mem(ebx, regs.eax));
  a.cmp(eax, names.length);
  a.jae('.unknown');
  a.call(dword('calls', times(eax, 4)));
  a.mov(mem(ebx, regs.eax), eax);
  a.pop(ebx);
  a.ret();
  a.label('.unknown');
  a.mov(dword(ebx, regs.eax), NO_SYSTEM_CALL);
  a.pop(ebx);
  a.ret();

  // Each call finds the saved registers in EBX and answers in EAX; it preserves EBX and EBP.
  a.label('call.touch');
  a.mov(eax, mem(fs, percpu.userCounters));
  a.inc(dword(eax, userCounters.events));
  a.mov(eax, ANSWER);
  a.ret();

  // modify_ldt(index, address of the descriptor). It must be a code or data segment (S), for CPL 3.
  a.label('call.modifyLdt');
  a.mov(edi, mem(ebx, regs.esi));
  a.call('check_user_pointer');
  a.mov(ecx, mem(ebx, regs.edi));
  a.cmp(ecx, LDT_ENTRIES);
  a.jae('.invalid');
  a.mov(edx, mem(edi));
  a.mov(edi, mem(edi, 4));
  a.mov(eax, edi);
  a.and(eax, 0x7000);
  a.cmp(eax, 0x7000);
  a.jne('.invalid');
  a.mov(eax, mem(fs, percpu.self));
  a.mov(mem(eax, times(ecx, 8), percpuPage.ldt), edx);
  a.mov(mem(eax, times(ecx, 8), percpuPage.ldt + 4), edi);
  a.xor(eax, eax);
  a.ret();
  a.label('.invalid');
  a.mov(eax, INVALID);
  a.ret();

  a.label('call.setSignal');
  a.mov(eax, mem(ebx, regs.edi));
  a.mov(mem(fs, percpu.signalHandler), eax);
  a.mov(edi, mem(ebx, regs.esi));
  a.call('check_user_pointer');
  a.mov(mem(fs, percpu.signalStack), edi);
  a.ret();

  // The frame's vector and error code do not matter; its selectors get RPL 3 and its flags are filtered.
  a.label('call.sigreturn');
  a.mov(edi, mem(ebx, regs.edi));
  a.call('check_user_pointer');
  a.mov(esi, edi);
  a.mov(edi, ebx);
  a.mov(ecx, regs.vector / 4);
  a.rep().movsd();
  a.add(esi, 8);
  a.call('load_user_frame');
  a.mov(eax, mem(ebx, regs.eax));
  a.ret();

  a.label('call.poke');
  a.mov(edi, mem(ebx, regs.esi));
  a.call('check_user_pointer');
  for (const [i, field] of [percpu.pokeCs, percpu.pokeSs, percpu.pokeEip].entries()) {
    a.mov(eax, mem(edi, 4 * i));
    if (field !== percpu.pokeEip) a.or(eax, 3);
    a.mov(mem(fs, field), eax);
  }
  a.mov(eax, mem(ebx, regs.edi));
  a.mov(mem(fs, percpu.pokeCause), eax);
  a.xor(eax, eax);
  a.ret();

  a.label('call.returnTo');
  a.mov(edi, mem(ebx, regs.ecx));
  a.call('check_user_pointer');
  a.mov(esi, edi);
  a.call('load_user_frame');
  a.mov(eax, ANSWER);
  a.ret();

  // The child begins with the parent's general registers but EAX, on a kernel stack of its own.
  a.label('call.spawn');
  a.mov(edi, mem(ebx, regs.ecx));
  a.call('check_user_pointer');
  a.cli();
  a.mov(mem(fs, percpu.parentRegs), ebx);
  a.mov(esi, ebx);
  a.mov(edi, mem(fs, percpu.childStack));
  a.sub(edi, regs.size);
  a.mov(esp, edi);
  a.mov(ebx, edi);
  a.mov(ecx, regs.size / 4);
  a.rep().movsd();
  a.mov(dword(ebx, regs.eax), ANSWER);
  a.mov(esi, mem(ebx, regs.ecx));
  a.call('load_user_frame');
  a.call('use_child_stack');
  a.jmp('return_from_interrupt');

  a.label('call.exit');
  a.cli();
  a.call('use_main_stack');
  a.mov(esp, mem(fs, percpu.parentRegs));
  a.mov(dword(esp, regs.eax), 0);
  a.jmp('return_from_interrupt');

  a.label('call.raise');
  a.mov(dword(ebx, regs.eax), ANSWER);
  a.mov(dword(ebx, regs.vector), cause.raise);
  a.mov(edi, ebx);
  a.call('deliver_signal');
  a.mov(eax, ANSWER);
  a.ret();

  a.label('call.setRecovery');
  a.mov(eax, mem(ebx, regs.edi));
  a.mov(mem(fs, percpu.recovery), eax);
  a.xor(eax, eax);
  a.ret();

  a.label('call.stepUntil');
  a.mov(eax, mem(ebx, regs.edi));
  a.mov(mem(fs, percpu.stepUntil), eax);
  a.xor(eax, eax);
  a.ret();

  // A push to a stack that is not there: the page fault cannot be delivered, and the task gate's task puts this
  // one back on its stack.
  a.label('call.doubleFault');
  a.mov(mem(fs, percpu.faultStack), esp);
  a.mov(esp, UNMAPPED);
  a.label('double_fault_asked_for');
  a.push(eax);

  // load_user_frame: EIP, CS, EFLAGS, ESP, SS from ESI into the saved registers.
  a.label('load_user_frame');
  a.lea(edi, mem(ebx, regs.eip));
  a.mov(ecx, frame.size / 4);
  a.rep().movsd();
  for (const field of [regs.cs, regs.ss] as const) {
    a.or(dword(ebx, field), 3);
    a.and(dword(ebx, field), 0xffff);
  }
  a.and(dword(ebx, regs.eflags), USER_FLAGS);
  a.or(dword(ebx, regs.eflags), 0x202);
  a.ret();

  // check_user_pointer(EDI): ends the task by an oops unless EDI lies in the tasks' data.
  a.label('check_user_pointer');
  a.mov(eax, edi);
  a.sub(eax, Number(USER_AREA));
  a.cmp(eax, cpus * Number(USER_AREA_STRIDE));
  a.jae('.bad');
  a.ret();
  a.label('.bad');
  a.mov(edi, ebx);
  a.jmp('oops');

  emitTurns(a, cpus);

  a.section('.rodata');
  a.align(4);
  a.label('calls');
  for (const name of names) a.dd(sym(`call.${name}`));
}

/** wait_turn and finish: processors run their cases one after another, so that lines do not mix. */
function emitTurns(a: Assembler, cpus: number): void {
  a.label('call.waitTurn');
  a.mov(ecx, mem(fs, percpu.id));
  a.lock().bts(dword('cpus_ready'), ecx);
  a.test(ecx, ecx);
  a.jnz('.sleep');
  // CPU 0 begins when all the others have set up their tasks.
  a.label('.gather');
  for (const half of [0, 4]) {
    a.mov(eax, mem('cpus_online', half));
    a.cmp(eax, mem('cpus_ready', half));
    a.jne('.gather_on');
  }
  a.call('report_header');
  a.xor(eax, eax);
  a.ret();
  a.label('.gather_on');
  a.pause();
  a.jmp('.gather');
  a.label('.sleep');
  a.cli();
  a.mov(ecx, mem(fs, percpu.id));
  a.cmp(ecx, mem('turn'));
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
  a.mov(ecx, mem(fs, percpu.id));
  a.label('.next');
  a.inc(ecx);
  a.cmp(ecx, cpus);
  a.jae('.last');
  a.bt(dword('cpus_online'), ecx);
  a.jnc('.next');
  a.cli();
  a.mov(mem('turn'), ecx);
  a.shl(ecx, 24);
  a.mov(eax, LAPIC);
  a.mov(mem(eax, apic.commandHigh), ecx);
  a.mov(dword(eax, apic.commandLow), 0x4000 | vector.wake);
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
  a.dd(0);
  a.section('.text');
}
