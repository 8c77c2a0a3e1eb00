/**
 * System calls that the 32- and the 64-bit kernel share: number in EAX, arguments in EDI and ESI, or a frame's address in
 * the register that `frameArgument` tells. Pointers are of 32 bits, so that code of any width may call.
 */

import { type Assembler, dword, eax, ecx, edi, mem, sym } from '../assembler.ts';
import { ANSWER, cause, USER_AREA, USER_AREA_STRIDE, userCounters, vector } from '../layout.ts';
import { callEntry, copyWords, type Kernel } from './kernel.ts';
import { apic } from './start.ts';

/** RFLAGS that a user frame may choose: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC. IF is always set. */
const USER_FLAGS = 0x5_0dd5;
const NO_SYSTEM_CALL = -38;
/** What modify_ldt answers to what it does not take. */
export const INVALID = -22;

export interface CallOptions {
  readonly cpus: number;
  /** Names of calls in the order of their numbers; each has a label `call.<name>`. */
  readonly names: readonly string[];
  /** Emits what return_to does with its new frame, in line; RAX, RCX and RDX may change. */
  readonly emitReturnTo?: (a: Assembler) => void;
}

/** Emits dispatch_call, its table, and the calls but modify_ldt, report and those of one kernel alone. */
export function emitCommonCalls(a: Assembler, k: Kernel, options: CallOptions): void {
  const { ax, bx, di, si, sp, area, word, regs, percpu } = k;
  const { names, cpus } = options;
  a.section('.text').bits(k.bits);

  // dispatch_call(registers in DI)
  a.label('dispatch_call');
  a.push(bx);
  a.mov(bx, di);
  a.mov(eax, mem(bx, regs.ax));
  a.cmp(eax, names.length);
  a.jae('.unknown');
  callEntry(a, k, 'calls');
  a.mov(mem(bx, regs.ax), ax);
  a.pop(bx);
  a.ret();
  a.label('.unknown');
  a.mov(word(bx, regs.ax), NO_SYSTEM_CALL);
  a.pop(bx);
  a.ret();

  // Each call finds the saved registers in BX and answers in AX; it preserves BX and BP.
  a.label('call.touch');
  a.mov(ax, mem(area, percpu.userCounters));
  a.inc(dword(ax, userCounters.events));
  a.mov(eax, ANSWER);
  a.ret();

  a.label('call.setSignal');
  a.mov(eax, mem(bx, regs.di));
  a.mov(mem(area, percpu.signalHandler), ax);
  a.mov(edi, mem(bx, regs.si));
  a.call('check_user_pointer');
  a.mov(mem(area, percpu.signalStack), di);
  a.ret();

  // The frame's vector and error code do not matter; its selectors get RPL 3 and its flags are filtered.
  a.label('call.sigreturn');
  a.mov(edi, mem(bx, regs.di));
  a.call('check_user_pointer');
  a.mov(si, di);
  a.mov(di, bx);
  a.mov(ecx, regs.vector / k.bytes);
  copyWords(a, k);
  a.add(si, 2 * k.bytes);
  a.call('load_user_frame');
  a.mov(ax, mem(bx, regs.ax));
  a.ret();

  a.label('call.returnTo');
  a.mov(edi, mem(bx, k.frameArgument));
  a.call('check_user_pointer');
  a.mov(si, di);
  a.call('load_user_frame');
  options.emitReturnTo?.(a);
  a.mov(eax, ANSWER);
  a.ret();

  // The child begins with the parent's general registers but AX, on a kernel stack of its own.
  a.label('call.spawn');
  a.mov(edi, mem(bx, k.frameArgument));
  a.call('check_user_pointer');
  a.cli();
  a.mov(mem(area, percpu.parentRegs), bx);
  a.push(di);
  a.mov(si, bx);
  a.mov(di, mem(area, percpu.childStack));
  a.sub(di, regs.size);
  a.mov(bx, di);
  a.mov(ecx, regs.size / k.bytes);
  copyWords(a, k);
  a.mov(word(bx, regs.ax), ANSWER);
  a.pop(si);
  a.mov(sp, bx);
  a.call('load_user_frame');
  a.call('use_child_stack');
  a.jmp('return_from_interrupt');

  a.label('call.exit');
  a.cli();
  a.call('use_main_stack');
  a.mov(sp, mem(area, percpu.parentRegs));
  a.mov(word(sp, regs.ax), 0);
  a.jmp('return_from_interrupt');

  a.label('call.raise');
  a.mov(word(bx, regs.ax), ANSWER);
  a.mov(word(bx, regs.vector), cause.raise);
  a.mov(di, bx);
  a.call('deliver_signal');
  a.mov(eax, ANSWER);
  a.ret();

  for (const [name, field] of [
    ['setRecovery', percpu.recovery],
    ['stepUntil', percpu.stepUntil],
  ] as const) {
    a.label(`call.${name}`);
    a.mov(eax, mem(bx, regs.di));
    a.mov(mem(area, field), ax);
    a.xor(eax, eax);
    a.ret();
  }

  // load_user_frame: IP, CS, flags, SP, SS from SI into the saved registers.
  a.label('load_user_frame');
  a.lea(di, mem(bx, regs.ip));
  a.mov(ecx, k.frameSize / k.bytes);
  copyWords(a, k);
  for (const field of [regs.cs, regs.ss]) {
    a.or(word(bx, field), 3);
    a.and(word(bx, field), 0xffff);
  }
  a.and(word(bx, regs.flags), USER_FLAGS);
  a.or(word(bx, regs.flags), 0x202);
  a.ret();

  // check_user_pointer(DI): ends the task by an oops unless DI lies in the tasks' data.
  a.label('check_user_pointer');
  a.mov(ax, di);
  a.sub(ax, Number(USER_AREA));
  a.cmp(ax, cpus * Number(USER_AREA_STRIDE));
  a.jae('.bad');
  a.ret();
  a.label('.bad');
  a.mov(di, bx);
  a.jmp('oops');

  emitTurns(a, k, cpus);

  a.section('.rodata');
  a.align(8);
  a.label('calls');
  for (const name of names) {
    if (k.bits === 64) a.dq(sym(`call.${name}`));
    else a.dd(sym(`call.${name}`));
  }
  a.section('.text');
}

/** wait_turn and finish: processors run their cases one after another, so that lines do not mix. */
function emitTurns(a: Assembler, k: Kernel, cpus: number): void {
  const { ax, cx, area, word, percpu } = k;
  a.label('call.waitTurn');
  a.mov(cx, mem(area, percpu.id));
  a.lock().bts(word('cpus_ready'), cx);
  a.test(ecx, ecx);
  a.jnz('.sleep');
  // CPU 0 begins when all the others have set up their tasks.
  a.label('.gather');
  for (let part = 0; part < 8; part += k.bytes) {
    a.mov(ax, mem(sym('cpus_online', part)));
    a.cmp(ax, mem(sym('cpus_ready', part)));
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
  a.mov(cx, mem(area, percpu.id));
  a.cmp(cx, mem('turn'));
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
  a.mov(cx, mem(area, percpu.id));
  a.label('.next');
  a.inc(ecx);
  a.cmp(ecx, cpus);
  a.jae('.last');
  a.bt(word('cpus_online'), cx);
  a.jnc('.next');
  a.cli();
  a.mov(mem('turn'), cx);
  a.shl(ecx, 24);
  a.mov(ax, k.lapic);
  a.mov(mem(ax, apic.commandHigh), ecx);
  a.mov(dword(ax, apic.commandLow), 0x4000 | vector.wake);
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
