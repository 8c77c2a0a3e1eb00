/** System calls of the 64-bit kernel beyond those of `../common/calls.ts`. */

import { type Assembler, eax, ecx, edi, gs, mem, rax, rbx, rcx, rdi, rdx, sym, times } from '../assembler.ts';
import { emitCommonCalls, INVALID } from '../common/calls.ts';
import { kernel64 } from '../common/kernel.ts';
import { call, GDT_SIZE, LDT_ENTRIES, percpu, percpuPage, regs } from '../layout.ts';
import type { Variant } from '../variants/variant.ts';

interface CallOptions {
  readonly cpus: number;
  /** All CPUs have the LDT of CPU 0. */
  readonly sharedLdt: boolean;
}

/** Emits dispatch_call and the calls. */
export function emitCalls(a: Assembler, variant: Variant, { cpus, sharedLdt }: CallOptions): void {
  emitCommonCalls(a, kernel64, {
    cpus,
    names: Object.keys(call),
    emitReturnTo() {
      // As SYSCALL left them for that place: only what else the frame says decides between SYSRET and IRET.
      a.mov(rax, mem(rbx, regs.rip));
      a.mov(mem(rbx, regs.rcx), rax);
      a.mov(rax, mem(rbx, regs.rflags));
      a.mov(mem(rbx, regs.r11), rax);
    },
  });

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

  // The stack pointer tells the return that is meant from others of the same event.
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
}
