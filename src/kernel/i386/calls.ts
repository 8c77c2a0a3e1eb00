/** System calls of the 32-bit kernel beyond those of `../common/calls.ts`. */

import { type Assembler, eax, ebx, ecx, edi, edx, esp, fs, mem, times } from '../assembler.ts';
import { emitCommonCalls, INVALID } from '../common/calls.ts';
import { kernel32 } from '../common/kernel.ts';
import { LDT_ENTRIES } from '../layout.ts';
import { call32, percpu, percpuPage, regs, UNMAPPED } from './layout.ts';

/** Emits dispatch_call and the calls. */
export function emitCalls(a: Assembler, cpus: number): void {
  emitCommonCalls(a, kernel32, { cpus, names: Object.keys(call32) });

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

  // A push to a stack that is not there: the page fault cannot be delivered, and the task gate's task puts this
  // one back on its stack.
  a.label('call.doubleFault');
  a.mov(mem(fs, percpu.faultStack), esp);
  a.mov(esp, UNMAPPED);
  a.label('double_fault_asked_for');
  a.push(eax);
}
