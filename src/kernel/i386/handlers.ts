/**
 * What the kernel does about each exception and interrupt. A handler gets the saved registers in EDI, and may
 * change any register.
 */

import {
  type Assembler,
  cr2,
  cx,
  dr6,
  dword,
  eax,
  ebp,
  ecx,
  edi,
  edx,
  esi,
  esp,
  fs,
  mem,
  ss,
  sym,
} from '../assembler.ts';
import { apic } from '../boot/start.ts';
import { selector, userCounters, vector } from '../layout.ts';
import type { Texts } from '../texts.ts';
import { LAPIC, percpu, percpuPage, regs, signalFrame, tss } from './layout.ts';
import { msr } from './start.ts';

const TF = 0x100;
const RF = 0x1_0000;
/** DR6 with no condition reported (SDM Vol. 3B, Section 17.2.3). */
const DR6_CLEAR = 0xffff_0ff0;
/** Gate-keeping bound on repeated deaths: more than any case table has. */
const MAX_OOPSES = 4096;

/** Emits the handlers, their table, signal delivery and the oops. */
export function emitHandlers(a: Assembler, texts: Texts): void {
  a.section('.text').bits(32);
  const handlers = new Map<number, string>([
    [1, 'handle_debug'],
    [2, 'handle_event'],
    [3, 'handle_event'],
    [6, 'handle_invalid_opcode'],
    [8, 'oops'],
    [14, 'handle_page_fault'],
    [18, 'handle_machine_check'],
    [vector.timer, 'handle_interrupt'],
    [vector.ipi, 'handle_interrupt'],
    [vector.wake, 'handle_wake'],
    [vector.spurious, 'handle_spurious'],
    [vector.syscall, 'handle_int80'],
  ]);
  // A masked 8259 may still raise its spurious lines 7 and 15.
  for (const line of [7, 15]) handlers.set(vector.legacy + line, 'handle_spurious');

  // Events that need nothing done: NMI, #BP. User space sees a count of those that interrupted it.
  a.label('handle_event');
  a.test(dword(edi, regs.cs), 3);
  a.jz('.done');
  a.mov(eax, mem(fs, percpu.userCounters));
  a.inc(dword(eax, userCounters.events));
  a.label('.done');
  a.ret();

  // The next machine check shuts the processor down unless MCIP is cleared.
  a.label('handle_machine_check');
  a.call('handle_event');
  a.cmp(dword('machine_check_status'), 0);
  a.je('.done');
  a.mov(ecx, msr.machineCheckStatus);
  a.xor(eax, eax);
  a.xor(edx, edx);
  a.wrmsr();
  a.label('.done');
  a.ret();

  a.label('handle_interrupt');
  a.mov(eax, LAPIC);
  a.mov(dword(eax, apic.endOfInterrupt), 0);
  a.jmp('handle_event');

  // One that comes before HLT ends the sleep all the same.
  a.label('handle_wake');
  a.cmp(dword(edi, regs.eip), sym('call.waitTurn.sleeping'));
  a.jne('handle_interrupt');
  a.inc(dword(edi, regs.eip));
  a.jmp('handle_interrupt');

  // A spurious interrupt is not in service and gets no EOI (SDM Vol. 3A, Section 10.9).
  a.label('handle_spurious');
  a.ret();

  // UD2 in user mode stands for an instruction that the kernel emulates: it goes on behind it.
  a.label('handle_invalid_opcode');
  a.test(dword(edi, regs.cs), 3);
  a.jz('oops');
  a.add(dword(edi, regs.eip), 2);
  a.jmp('handle_event');

  // Single steps are counted when they reach the place that the task asked for, and end there.
  a.label('handle_debug');
  a.mov(eax, DR6_CLEAR);
  a.mov(dr6, eax);
  a.test(dword(edi, regs.cs), 3);
  a.jz('.kernel');
  a.mov(eax, mem(edi, regs.eip));
  a.cmp(eax, mem(fs, percpu.stepUntil));
  a.jne('.on');
  a.mov(dword(fs, percpu.stepUntil), 0);
  a.call('handle_event');
  a.label('.stop');
  a.and(dword(edi, regs.eflags), ~TF);
  a.ret();
  // An instruction breakpoint in the kernel is not to be met again at once (SDM Vol. 3B, Section 17.3.1.1).
  a.label('.kernel');
  a.or(dword(edi, regs.eflags), RF);
  a.jmp('.stop');
  a.label('.on');
  // An unfinished walk to the target is not the event that a poke may wait for.
  a.mov(dword(edi, regs.vector), 0);
  a.cmp(dword(fs, percpu.stepUntil), 0);
  a.je('.stop');
  a.ret();

  a.label('handle_page_fault');
  a.mov(eax, cr2);
  a.mov(mem(fs, percpu.cr2), eax);
  a.jmp('handle_exception');

  a.label('handle_exception');
  a.test(dword(edi, regs.cs), 3);
  a.jz('oops');
  a.jmp('deliver_signal');

  a.label('handle_int80');
  a.sti();
  a.call('dispatch_call');
  a.cli();
  a.ret();

  emitSignal(a);
  emitPoke(a);
  emitOops(a, texts);

  a.section('.rodata');
  a.align(4);
  a.label('handlers');
  for (let v = 0; v < 256; v++) a.dd(sym(handlers.get(v) ?? (v < 32 ? 'handle_exception' : 'oops')));
}

/** deliver_signal(registers in EDI): the task goes on in its handler, its registers on its signal stack. */
function emitSignal(a: Assembler): void {
  a.label('deliver_signal');
  a.cmp(dword(fs, percpu.signalHandler), 0);
  a.je('oops');
  // Whatever raised this, the kernel must be on its flat stack by now.
  a.mov(ecx, ss);
  a.cmp(cx, selector.kernelData);
  a.jne('oops');
  a.mov(edx, edi);
  a.mov(esi, edi);
  a.mov(edi, mem(fs, percpu.signalStack));
  a.sub(edi, signalFrame.size);
  a.mov(eax, edi);
  a.mov(ecx, regs.size / 4);
  a.rep().movsd();
  a.mov(ecx, mem(fs, percpu.cr2));
  a.mov(mem(edi), ecx);
  a.mov(mem(edx, regs.esp), eax);
  a.mov(mem(edx, regs.edi), eax);
  a.mov(eax, mem(fs, percpu.signalHandler));
  a.mov(mem(edx, regs.eip), eax);
  a.mov(dword(edx, regs.cs), selector.userCode32);
  a.mov(dword(edx, regs.eflags), 0x202);
  for (const segment of [regs.ss, regs.ds, regs.es] as const) a.mov(dword(edx, segment), selector.userData);
  a.ret();
}

/** apply_poke: replaces CS:EIP and SS of the frame if this is the event that was asked for. */
function emitPoke(a: Assembler): void {
  // Jumped to from exit_work: the saved registers are above the return address.
  a.label('apply_poke');
  a.mov(eax, mem(esp, 4 + regs.vector));
  a.cmp(eax, mem(fs, percpu.pokeCause));
  a.jne('.done');
  a.mov(dword(fs, percpu.pokeCause), 0);
  for (const [from, to] of [
    [percpu.pokeCs, regs.cs],
    [percpu.pokeSs, regs.ss],
    [percpu.pokeEip, regs.eip],
  ]) {
    a.mov(eax, mem(fs, from));
    a.mov(mem(esp, 4 + to), eax);
  }
  a.label('.done');
  a.ret();
}

/**
 * oops(registers in EDI): reports a fault that the kernel cannot explain, drops what it was doing and starts
 * the task again at its recovery address with the vector in EAX. Without one the machine stops with status 3.
 */
function emitOops(a: Assembler, texts: Texts): void {
  const hex = (digits: number) => {
    a.mov(esi, digits);
    a.call('put_hex');
  };
  a.label('oops');
  a.cli();
  a.mov(ebp, edi);
  texts.print('oops vector=');
  a.mov(edi, mem(ebp, regs.vector));
  a.call('put_decimal');
  texts.print(' error=');
  a.mov(edi, mem(ebp, regs.error));
  hex(8);
  texts.print(' rip=00000000');
  a.mov(edi, mem(ebp, regs.eip));
  hex(8);
  // A frame from kernel mode has no ESP, but for the one that the double-fault task makes: the stack pointer was
  // where that would be.
  texts.print(' rsp=00000000');
  a.lea(edi, mem(ebp, regs.esp));
  a.cmp(dword(ebp, regs.vector), 8);
  a.cmove(edi, mem(ebp, regs.esp));
  a.test(dword(ebp, regs.cs), 3);
  a.cmovnz(edi, mem(ebp, regs.esp));
  hex(8);
  texts.print(' cr2=00000000');
  a.mov(edi, mem(fs, percpu.cr2));
  hex(8);
  texts.print('\n');

  a.mov(eax, 1);
  a.lock().xadd(mem('oopses'), eax);
  a.cmp(eax, MAX_OOPSES);
  a.jae('.stop');
  a.cmp(dword(fs, percpu.recovery), 0);
  a.je('.stop');
  a.mov(eax, mem(ebp, regs.vector));
  a.mov(esp, mem(fs, percpu.mainStack));
  a.push(eax);
  a.call('use_main_stack');
  a.pop(eax);
  for (const field of [percpu.pokeCause, percpu.stepUntil, percpu.faultStack] as const)
    a.mov(dword(fs, field), 0);
  a.mov(esi, mem(fs, percpu.recovery));
  a.mov(edi, mem(fs, percpu.userArea));
  a.jmp('enter_user');
  a.label('.stop');
  a.mov(eax, 1);
  a.jmp('stop_machine');

  // use_main_stack, use_child_stack: entries from user mode arrive on that stack from now on.
  for (const which of ['main', 'child'] as const) {
    a.label(`use_${which}_stack`);
    a.mov(eax, mem(fs, which === 'main' ? percpu.mainStack : percpu.childStack));
    a.mov(mem(fs, percpu.kernelStack), eax);
    a.mov(mem(fs, percpuPage.tss + tss.esp0), eax);
    a.mov(ecx, msr.sysenterEsp);
    a.xor(edx, edx);
    a.wrmsr();
    a.ret();
  }

  // stop_machine(EAX): the debug-exit port ends the run with status (EAX << 1) | 1.
  a.label('stop_machine');
  a.out(0xf4, eax);
  a.label('.forever');
  a.cli();
  a.hlt();
  a.jmp('.forever');

  a.section('.data');
  a.align(4);
  a.label('oopses');
  a.dd(0);
}
