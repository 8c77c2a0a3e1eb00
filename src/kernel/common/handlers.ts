/**
 * What both kernels do about exceptions and interrupts. A handler gets the saved registers in DI, and may change any
 * register but BX and BP.
 */

import { type Assembler, cr2, dr6, dword, eax, ecx, edx, mem, sym } from '../assembler.ts';
import { selector, userCounters, vector } from '../layout.ts';
import type { Texts } from '../texts.ts';
import { copyWords, type Kernel } from './kernel.ts';
import { apic } from './start.ts';

/** Of a page fault. */
const PAGE_FAULT = 14;

/** RFLAGS.TF and RF. */
const TF = 0x100;
const RF = 0x1_0000;
/** DR6 with no condition reported (SDM Vol. 3B, Section 17.2.3). */
const DR6_CLEAR = 0xffff_0ff0;
const IA32_MCG_STATUS = 0x17a;
/** Gate-keeping bound on repeated deaths: more than any case table has. */
const MAX_OOPSES = 4096;

/** What a kernel does in its own way. All code is emitted in line. */
export interface HandlerOptions {
  /** Labels of handlers by vector, where they are not the common ones. */
  readonly handlers: ReadonlyMap<number, string>;
  /** Ends in `oops` unless the kernel is on a stack of a task; AX and CX may change. */
  readonly emitStackTest: (a: Assembler) => void;
  /** Jumps to `.done` unless the saved registers, a word above SP, are those of the return that a poke is for. */
  readonly emitPokeTest?: (a: Assembler) => void;
  /** Saved segment registers that a signal handler begins with as user data. */
  readonly dataSegments: readonly number[];
  /** Loads DI with the stack pointer of the saved registers in BP, for a report. */
  readonly emitStackPointer: (a: Assembler) => void;
  /** Fields of the per-CPU area to be zero after an oops. */
  readonly forgotten: readonly number[];
  /** What else an entry from user mode must find its stack by, given in AX; CX and DX may change. */
  readonly emitUseStack?: (a: Assembler) => void;
}

/** Emits the common handlers, the table of all, signal delivery and the oops. */
export function emitCommonHandlers(a: Assembler, k: Kernel, texts: Texts, options: HandlerOptions): void {
  const { ax, di, area, word, regs, percpu } = k;
  a.section('.text').bits(k.bits);

  // Events that need nothing done: NMI, #BP. User space sees a count of those that interrupted it.
  a.label('handle_event');
  a.test(dword(di, regs.cs), 3);
  a.jz('.done');
  a.mov(ax, mem(area, percpu.userCounters));
  a.inc(dword(ax, userCounters.events));
  a.label('.done');
  a.ret();

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
  a.mov(ax, k.lapic);
  a.mov(dword(ax, apic.endOfInterrupt), 0);
  a.jmp('handle_event');

  // One that comes before HLT ends the sleep all the same.
  a.label('handle_wake');
  a.lea(ax, mem('call.waitTurn.sleeping'));
  a.cmp(mem(di, regs.ip), ax);
  a.jne('handle_interrupt');
  a.inc(word(di, regs.ip));
  a.jmp('handle_interrupt');

  // A spurious interrupt is not in service and gets no EOI (SDM Vol. 3A, Section 10.9).
  a.label('handle_spurious');
  a.ret();

  // UD2 in user mode stands for an instruction that the kernel emulates: it goes on behind it.
  a.label('handle_invalid_opcode');
  a.test(dword(di, regs.cs), 3);
  a.jz('oops');
  a.add(word(di, regs.ip), 2);
  a.jmp('handle_event');

  // Single steps are counted when they reach the place that the task asked for, and end there.
  a.label('handle_debug');
  a.mov(eax, DR6_CLEAR);
  a.mov(dr6, ax);
  a.test(dword(di, regs.cs), 3);
  a.jz('.kernel');
  a.mov(ax, mem(di, regs.ip));
  a.cmp(ax, mem(area, percpu.stepUntil));
  a.jne('.on');
  a.mov(word(area, percpu.stepUntil), 0);
  a.call('handle_event');
  a.label('.stop');
  a.and(dword(di, regs.flags), ~TF);
  a.ret();
  // An instruction breakpoint in the kernel is not to be met again at once (SDM Vol. 3B, Section 17.3.1.1).
  a.label('.kernel');
  a.or(dword(di, regs.flags), RF);
  a.jmp('.stop');
  a.label('.on');
  // An unfinished walk to the target is not the event that a poke may wait for.
  a.mov(word(di, regs.vector), 0);
  a.cmp(word(area, percpu.stepUntil), 0);
  a.je('.stop');
  a.ret();

  a.label('handle_page_fault');
  a.mov(ax, cr2);
  a.mov(mem(area, percpu.cr2), ax);
  a.jmp('handle_exception');

  a.label('handle_exception');
  a.test(dword(di, regs.cs), 3);
  a.jz('oops');
  a.jmp('deliver_signal');

  a.label('handle_int80');
  a.sti();
  a.call('dispatch_call');
  a.cli();
  a.ret();

  emitSignal(a, k, options);
  emitPoke(a, k, options);
  emitOops(a, k, texts, options);
  emitTable(a, k, options.handlers);
}

function emitTable(a: Assembler, k: Kernel, particular: ReadonlyMap<number, string>): void {
  const handlers = new Map<number, string>([
    [1, 'handle_debug'],
    [2, 'handle_event'],
    [3, 'handle_event'],
    [6, 'handle_invalid_opcode'],
    [14, 'handle_page_fault'],
    [vector.timer, 'handle_interrupt'],
    [vector.ipi, 'handle_interrupt'],
    [vector.wake, 'handle_wake'],
    [vector.spurious, 'handle_spurious'],
    [vector.syscall, 'handle_int80'],
    // A masked 8259 may still raise its spurious lines 7 and 15.
    [vector.legacy + 7, 'handle_spurious'],
    [vector.legacy + 15, 'handle_spurious'],
    ...particular,
  ]);
  a.section('.rodata');
  a.align(8);
  a.label('handlers');
  for (let v = 0; v < 256; v++) {
    const handler = sym(handlers.get(v) ?? (v < 32 ? 'handle_exception' : 'oops'));
    if (k.bits === 64) a.dq(handler);
    else a.dd(handler);
  }
  a.section('.text');
}

/** deliver_signal(registers in DI): the task goes on in its handler, its registers on its signal stack. */
function emitSignal(a: Assembler, k: Kernel, { emitStackTest, dataSegments }: HandlerOptions): void {
  const { ax, cx, dx, di, si, area, word, regs, percpu } = k;
  a.label('deliver_signal');
  a.cmp(word(area, percpu.signalHandler), 0);
  a.je('oops');
  // Whatever raised this, the kernel must have left the stack of an IRET that was refused.
  emitStackTest(a);
  a.mov(dx, di);
  a.mov(si, di);
  a.mov(di, mem(area, percpu.signalStack));
  a.sub(di, k.signalFrameSize);
  a.mov(ax, di);
  a.mov(ecx, regs.size / k.bytes);
  copyWords(a, k);
  // Of any other exception CR2 is the kernel's own business: a refused IRET on a ministack leaves its address there.
  a.xor(ecx, ecx);
  a.cmp(word(dx, regs.vector), PAGE_FAULT);
  a.jne('.no_address');
  a.mov(cx, mem(area, percpu.cr2));
  a.label('.no_address');
  a.mov(mem(di), cx);
  a.mov(mem(dx, regs.sp), ax);
  a.mov(mem(dx, regs.di), ax);
  a.mov(ax, mem(area, percpu.signalHandler));
  a.mov(mem(dx, regs.ip), ax);
  a.mov(word(dx, regs.cs), k.userCode);
  a.mov(word(dx, regs.flags), 0x202);
  for (const segment of [regs.ss, ...dataSegments]) a.mov(word(dx, segment), selector.userData);
  a.ret();
}

/** apply_poke: replaces CS:IP and SS of the frame if this is the event that was asked for. */
function emitPoke(a: Assembler, k: Kernel, { emitPokeTest }: HandlerOptions): void {
  const { ax, sp, area, word, bytes, regs, percpu } = k;
  // Jumped to from exit_work: the saved registers are above the return address.
  a.label('apply_poke');
  a.mov(ax, mem(sp, bytes + regs.vector));
  a.cmp(ax, mem(area, percpu.pokeCause));
  a.jne('.done');
  emitPokeTest?.(a);
  a.mov(word(area, percpu.pokeCause), 0);
  for (const [from, to] of [
    [percpu.pokeCs, regs.cs],
    [percpu.pokeSs, regs.ss],
    [percpu.pokeIp, regs.ip],
  ] as const) {
    a.mov(ax, mem(area, from));
    a.mov(mem(sp, bytes + to), ax);
  }
  a.label('.done');
  a.ret();
}

/**
 * oops(registers in DI): reports a fault that the kernel cannot explain, drops what it was doing and starts the task
 * again at its recovery address with the vector in AX. Without one the machine stops with status 3.
 */
function emitOops(a: Assembler, k: Kernel, texts: Texts, options: HandlerOptions): void {
  const { ax, bp, di, si, sp, area, word, regs, percpu } = k;
  /** Addresses are reported with 64 bits. */
  const field = (text: string, digits: 8 | 16, load: () => void) => {
    const known = k.bits === 32 ? 8 : digits;
    texts.print(` ${text}=${'0'.repeat(digits - known)}`);
    load();
    texts.hex(known);
  };
  a.label('oops');
  a.cli();
  a.mov(bp, di);
  texts.print('oops vector=');
  a.mov(di, mem(bp, regs.vector));
  a.call('put_decimal');
  field('error', 8, () => a.mov(di, mem(bp, regs.error)));
  field('rip', 16, () => a.mov(di, mem(bp, regs.ip)));
  field('rsp', 16, () => options.emitStackPointer(a));
  field('cr2', 16, () => a.mov(di, mem(area, percpu.cr2)));
  texts.print('\n');

  a.mov(eax, 1);
  a.lock().xadd(mem('oopses'), eax);
  a.cmp(eax, MAX_OOPSES);
  a.jae('.stop');
  a.cmp(word(area, percpu.recovery), 0);
  a.je('.stop');
  a.mov(ax, mem(bp, regs.vector));
  a.mov(sp, mem(area, percpu.mainStack));
  a.push(ax);
  a.call('use_main_stack');
  a.pop(ax);
  for (const forgotten of [percpu.pokeCause, percpu.stepUntil, ...options.forgotten])
    a.mov(word(area, forgotten), 0);
  a.mov(si, mem(area, percpu.recovery));
  a.mov(di, mem(area, percpu.userArea));
  a.jmp('enter_user');
  a.label('.stop');
  a.mov(eax, 1);
  a.jmp('stop_machine');

  // use_main_stack, use_child_stack: entries from user mode arrive on that stack from now on.
  for (const which of ['main', 'child'] as const) {
    a.label(`use_${which}_stack`);
    a.mov(ax, mem(area, percpu[`${which}Stack`]));
    a.mov(mem(area, percpu.kernelStack), ax);
    a.mov(mem(area, k.percpuPage.tss + k.stackPointer0), ax);
    options.emitUseStack?.(a);
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
  a.align(8);
  a.label('oopses').dd(0);
  a.section('.text');
}
