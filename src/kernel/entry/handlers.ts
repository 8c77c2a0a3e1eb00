/** Handlers of the 64-bit kernel beyond those of `../common/handlers.ts`. */

import { type Assembler, cr2, dword, eax, ecx, gs, mem, rax, rbp, rdi, rsp } from '../assembler.ts';
import { emitCommonHandlers } from '../common/handlers.ts';
import { kernel64 } from '../common/kernel.ts';
import { percpu, regs, STACKS_BASE, user } from '../layout.ts';
import type { Texts } from '../texts.ts';
import type { Variant } from '../variants/variant.ts';

/** Emits the handlers, their table, signal delivery and the oops. */
export function emitHandlers(a: Assembler, variant: Variant, texts: Texts): void {
  a.constant('user_stack_offset', user.stack);
  emitCommonHandlers(a, kernel64, texts, {
    handlers: new Map<number, string>([
      [8, 'handle_double_fault'],
      [18, 'handle_machine_check'],
      ...Object.entries(variant.handlers ?? {}).map(([v, label]) => [Number(v), label] as const),
    ]),
    emitStackTest() {
      a.mov(rax, rsp);
      a.shr(rax, 39);
      a.mov(ecx, Number(STACKS_BASE >> 39n));
      a.cmp(eax, ecx);
      a.jne('oops');
    },
    emitPokeTest() {
      a.mov(eax, mem(rsp, 8 + regs.rsp));
      a.cmp(eax, mem(gs, percpu.pokeRsp));
      a.jne('.done');
    },
    dataSegments: [],
    emitStackPointer() {
      a.mov(rdi, mem(rbp, regs.rsp));
    },
    forgotten: [],
  });

  // From user mode this runs on the task's stack, and the next machine check may come; from kernel mode the
  // entry code leaves the machine-check stack first.
  a.label('handle_machine_check');
  a.test(dword(rdi, regs.cs), 3);
  a.jz('handle_event');
  a.call('handle_event');
  a.jmp('end_machine_check');

  a.label('handle_double_fault');
  a.mov(rax, cr2);
  a.mov(mem(gs, percpu.cr2), rax);
  variant.emitDoubleFault?.(a);
  a.jmp('oops');
}
