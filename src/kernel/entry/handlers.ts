/**
 * What the kernel does about each exception and interrupt. A handler gets the saved registers in RDI, and may
 * change any register but RBX and RBP.
 */

import {
  type Assembler,
  cr2,
  dr6,
  dword,
  eax,
  ecx,
  edi,
  edx,
  gs,
  mem,
  qword,
  r12,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  sym,
} from '../assembler.ts';
import { apic } from '../boot/start.ts';
import {
  LAPIC,
  percpu,
  percpuPage,
  regs,
  STACKS_BASE,
  selector,
  signalFrame,
  tss,
  user,
  userCounters,
  vector,
} from '../layout.ts';
import type { Variant } from '../variants/variant.ts';

/** RFLAGS.TF and RF. */
const TF = 0x100;
const RF = 0x1_0000;
/** DR6 with no condition reported (SDM Vol. 3B, Section 17.2.3). */
const DR6_CLEAR = 0xffff_0ff0;
const IA32_MCG_STATUS = 0x17a;
/** Gate-keeping bound on repeated deaths: more than any case table has. */
const MAX_OOPSES = 4096;

/** Emits the handlers, their table, signal delivery and the oops. */
export function emitHandlers(a: Assembler, variant: Variant): void {
  a.section('.text').bits(64);
  const handlers = new Map<number, string>([
    [1, 'handle_debug'],
    [2, 'handle_event'],
    [3, 'handle_event'],
    [6, 'handle_invalid_opcode'],
    [8, 'handle_double_fault'],
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
  for (const [v, label] of Object.entries(variant.handlers ?? {})) handlers.set(Number(v), label);

  // Events that need nothing done: NMI, #BP. User space sees a count of those that interrupted it.
  a.label('handle_event');
  a.test(dword(rdi, regs.cs), 3);
  a.jz('.done');
  a.mov(rax, mem(gs, percpu.userCounters));
  a.inc(dword(rax, userCounters.events));
  a.label('.done');
  a.ret();

  // From user mode this runs on the task's stack, and the next machine check may come; from kernel mode the
  // entry code leaves the machine-check stack first.
  a.label('handle_machine_check');
  a.test(dword(rdi, regs.cs), 3);
  a.jz('handle_event');
  a.call('handle_event');
  a.jmp('end_machine_check');

  // end_machine_check: clears IA32_MCG_STATUS.MCIP, without which the next one shuts the processor down.
  a.label('end_machine_check');
  a.cmp(dword('machine_check_status'), 0);
  a.je('.done');
  a.mov(ecx, IA32_MCG_STATUS);
  a.xor(eax, eax);
  a.xor(edx, edx);
  a.wrmsr();
  a.label('.done');
  a.ret();

  a.label('handle_interrupt');
  a.mov(rax, LAPIC);
  a.mov(dword(rax, apic.endOfInterrupt), 0);
  a.jmp('handle_event');

  // One that comes before HLT ends the sleep all the same.
  a.label('handle_wake');
  a.lea(rax, mem('call.waitTurn.sleeping'));
  a.cmp(mem(rdi, regs.rip), rax);
  a.jne('handle_interrupt');
  a.inc(qword(rdi, regs.rip));
  a.jmp('handle_interrupt');

  // A spurious interrupt is not in service and gets no EOI (SDM Vol. 3A, Section 10.9).
  a.label('handle_spurious');
  a.ret();

  // UD2 in user mode stands for an instruction that the kernel emulates: it goes on behind it.
  a.label('handle_invalid_opcode');
  a.test(dword(rdi, regs.cs), 3);
  a.jz('oops');
  a.add(qword(rdi, regs.rip), 2);
  a.jmp('handle_event');

  // Single steps are counted when they reach the place that the task asked for, and end there.
  a.label('handle_debug');
  a.mov(eax, DR6_CLEAR);
  a.mov(dr6, rax);
  a.test(dword(rdi, regs.cs), 3);
  a.jz('.kernel');
  a.mov(rax, mem(rdi, regs.rip));
  a.cmp(rax, mem(gs, percpu.stepUntil));
  a.jne('.on');
  a.mov(qword(gs, percpu.stepUntil), 0);
  a.call('handle_event');
  a.label('.stop');
  a.and(dword(rdi, regs.rflags), ~TF);
  a.ret();
  // An instruction breakpoint in the kernel is not to be met again at once (SDM Vol. 3B, Section 17.3.1.1).
  a.label('.kernel');
  a.or(dword(rdi, regs.rflags), RF);
  a.jmp('.stop');
  a.label('.on');
  // An unfinished walk to the target is not the event that a poke may wait for.
  a.mov(qword(rdi, regs.vector), 0);
  a.cmp(qword(gs, percpu.stepUntil), 0);
  a.je('.stop');
  a.ret();

  a.label('handle_page_fault');
  a.mov(rax, cr2);
  a.mov(mem(gs, percpu.cr2), rax);
  a.jmp('handle_exception');

  a.label('handle_exception');
  a.test(dword(rdi, regs.cs), 3);
  a.jz('oops');
  a.jmp('deliver_signal');

  a.label('handle_double_fault');
  a.mov(rax, cr2);
  a.mov(mem(gs, percpu.cr2), rax);
  variant.emitDoubleFault?.(a);
  a.jmp('oops');

  a.label('handle_int80');
  a.sti();
  a.call('dispatch_call');
  a.cli();
  a.ret();

  emitSignal(a);
  emitPoke(a);
  emitOops(a);

  a.section('.rodata');
  a.align(8);
  a.label('handlers');
  for (let v = 0; v < 256; v++) a.dq(sym(handlers.get(v) ?? (v < 32 ? 'handle_exception' : 'oops')));
}

/** deliver_signal(registers in RDI): the task goes on in its handler, its registers on its signal stack. */
function emitSignal(a: Assembler): void {
  a.label('deliver_signal');
  a.cmp(qword(gs, percpu.signalHandler), 0);
  a.je('oops');
  // Whatever raised this, the kernel must be on a task's stack by now, not on a ministack.
  a.mov(rax, rsp);
  a.shr(rax, 39);
  a.mov(ecx, Number(STACKS_BASE >> 39n));
  a.cmp(eax, ecx);
  a.jne('oops');
  a.mov(rdx, rdi);
  a.mov(rsi, rdi);
  a.mov(rdi, mem(gs, percpu.signalStack));
  a.sub(rdi, signalFrame.size);
  a.mov(rax, rdi);
  a.mov(ecx, regs.size / 8);
  a.rep().movsq();
  a.mov(rcx, mem(gs, percpu.cr2));
  a.mov(mem(rdi), rcx);
  a.mov(mem(rdx, regs.rsp), rax);
  a.mov(mem(rdx, regs.rdi), rax);
  a.mov(rax, mem(gs, percpu.signalHandler));
  a.mov(mem(rdx, regs.rip), rax);
  a.mov(qword(rdx, regs.cs), selector.userCode64);
  a.mov(qword(rdx, regs.ss), selector.userData);
  a.mov(qword(rdx, regs.rflags), 0x202);
  a.ret();
}

/** apply_poke: replaces CS:RIP and SS of the frame if this is the event that was asked for. */
function emitPoke(a: Assembler): void {
  // Called from exit_work's place: the saved registers are above the return address.
  a.label('apply_poke');
  a.mov(rax, mem(rsp, 8 + regs.vector));
  a.cmp(rax, mem(gs, percpu.pokeCause));
  a.jne('.done');
  a.mov(eax, mem(rsp, 8 + regs.rsp));
  a.cmp(eax, mem(gs, percpu.pokeRsp));
  a.jne('.done');
  a.mov(qword(gs, percpu.pokeCause), 0);
  for (const [from, to] of [
    [percpu.pokeCs, regs.cs],
    [percpu.pokeSs, regs.ss],
    [percpu.pokeRip, regs.rip],
  ]) {
    a.mov(rax, mem(gs, from));
    a.mov(mem(rsp, 8 + to), rax);
  }
  a.label('.done');
  a.ret();
}

/**
 * oops(registers in RDI): reports a fault that the kernel cannot explain, drops what it was doing and starts
 * the task again at its recovery address with the vector in RAX. Without one the machine stops with status 3.
 */
function emitOops(a: Assembler): void {
  a.label('oops');
  a.cli();
  a.mov(r12, rdi);
  const text = (name: string, length: number) => {
    a.lea(rdi, mem(name));
    a.mov(eax, length);
    a.mov(rsi, rax);
    a.call('put_string');
  };
  const texts: [string, string, number, number][] = [
    ['oops_vector', 'oops vector=', regs.vector, 0],
    ['oops_error', ' error=', regs.error, 8],
    ['oops_rip', ' rip=', regs.rip, 16],
    ['oops_rsp', ' rsp=', regs.rsp, 16],
    ['oops_cr2', ' cr2=', -1, 16],
  ];
  for (const [label, content, offset, digits] of texts) {
    text(label, content.length);
    if (offset >= 0) a.mov(rdi, mem(r12, offset));
    else a.mov(rdi, mem(gs, percpu.cr2));
    if (digits === 0) a.call('put_decimal');
    else {
      a.mov(eax, digits);
      a.mov(rsi, rax);
      a.call('put_hex');
    }
  }
  a.mov(edi, 0x0a);
  a.call('put_char');

  a.mov(eax, 1);
  a.lock().xadd(mem('oopses'), eax);
  a.cmp(eax, MAX_OOPSES);
  a.jae('.stop');
  a.cmp(qword(gs, percpu.recovery), 0);
  a.je('.stop');
  a.mov(rax, mem(r12, regs.vector));
  a.mov(rsp, mem(gs, percpu.mainStack));
  a.call('use_main_stack');
  a.mov(qword(gs, percpu.pokeCause), 0);
  a.mov(qword(gs, percpu.stepUntil), 0);
  a.mov(rsi, mem(gs, percpu.recovery));
  a.mov(rdi, mem(gs, percpu.userArea));
  a.jmp('enter_user');
  a.label('.stop');
  a.mov(eax, 1);
  a.jmp('stop_machine');

  // use_main_stack, use_child_stack: entries from user mode arrive on that stack from now on.
  for (const which of ['main', 'child'] as const) {
    a.label(`use_${which}_stack`);
    a.push(rbx);
    a.mov(rbx, mem(gs, which === 'main' ? percpu.mainStack : percpu.childStack));
    a.mov(mem(gs, percpu.kernelStack), rbx);
    a.mov(rdx, mem(gs, percpu.self));
    a.mov(mem(rdx, percpuPage.tss + tss.rsp0), rbx);
    a.pop(rbx);
    a.ret();
  }

  // stop_machine(EAX): the debug-exit port ends the run with status (EAX << 1) | 1.
  a.label('stop_machine');
  a.out(0xf4, eax);
  a.label('.forever');
  a.cli();
  a.hlt();
  a.jmp('.forever');

  a.section('.rodata');
  for (const [label, content] of texts) a.label(label).db(content);
  a.section('.data');
  a.align(8);
  a.label('oopses');
  a.dd(0, 0);
  a.constant('user_stack_offset', user.stack);
}
