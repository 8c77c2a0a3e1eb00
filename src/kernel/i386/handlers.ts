/** Handlers of the 32-bit kernel beyond those of `../common/handlers.ts`. */

import { type Assembler, cx, dword, ebp, ecx, edi, edx, mem, ss } from '../assembler.ts';
import { emitCommonHandlers } from '../common/handlers.ts';
import { kernel32 } from '../common/kernel.ts';
import { selector } from '../layout.ts';
import type { Texts } from '../texts.ts';
import { percpu, regs } from './layout.ts';
import { msr } from './start.ts';

/** Emits the handlers, their table, signal delivery and the oops. */
export function emitHandlers(a: Assembler, texts: Texts): void {
  emitCommonHandlers(a, kernel32, texts, {
    handlers: new Map([
      [8, 'oops'],
      [18, 'handle_machine_check'],
    ]),
    // A stack segment whose base is not zero is the one of the way out.
    emitStackTest() {
      a.mov(ecx, ss);
      a.cmp(cx, selector.kernelData);
      a.jne('oops');
    },
    dataSegments: [regs.ds, regs.es],
    // A frame from kernel mode has no ESP, but for the one that the double-fault task makes: the stack pointer was
    // where that would be.
    emitStackPointer() {
      a.lea(edi, mem(ebp, regs.esp));
      a.cmp(dword(ebp, regs.vector), 8);
      a.cmove(edi, mem(ebp, regs.esp));
      a.test(dword(ebp, regs.cs), 3);
      a.cmovnz(edi, mem(ebp, regs.esp));
    },
    forgotten: [percpu.faultStack],
    emitUseStack() {
      a.mov(ecx, msr.sysenterEsp);
      a.xor(edx, edx);
      a.wrmsr();
    },
  });

  a.label('handle_machine_check');
  a.call('handle_event');
  a.jmp('end_machine_check');
}
