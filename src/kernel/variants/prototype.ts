/**
 * The prototype of April 2014, as its mail describes it. Every return looks up the stack segment; for a 16-bit
 * one the frame is copied to a 64-byte ministack through its own, writable, aliases, and IRETQ executes there.
 * Page tables and per-CPU pointer are set up together, when a task of the CPU first calls modify_ldt, under a
 * lock and with the check repeated inside it.
 *
 * If the IRETQ faults, the exception frame is pushed onto the ministack, and `espfix_fix_stack` moves it to the
 * task's stack. The five words of the refused frame and the six of the exception are more than 64 bytes: they
 * reach into the ministack below, and the first one of a page has none.
 */

import {
  dword,
  eax,
  ecx,
  gs,
  mem,
  qword,
  r12,
  r13,
  r14,
  rax,
  rcx,
  rdi,
  rsi,
  rsp,
  sym,
  times,
} from '../assembler.ts';
import { emitMinistackAddresses, emitRegion, ministackAddress, region } from '../espfix/region.ts';
import {
  ESPFIX_BASE,
  ESPFIX_PGD_SLOT,
  ESPFIX_STACK_SIZE,
  frame,
  PAGE_SIZE,
  PHYSICAL_MAP,
  percpu,
} from '../layout.ts';
import type { Variant } from './variant.ts';

/** The D/B bit of a descriptor's second doubleword, where LAR leaves it. */
const BIG = 1 << 22;
/** Words of a ministack: one unused, RDI, RAX, then the IRETQ frame. */
const ministack = { rdi: 8, rax: 16, frame: 24 } as const;

export const prototype: Variant = {
  name: 'prototype',
  ministack: (cpu, { slot = 0 }) =>
    ministackAddress(BigInt(((cpu + slot) % (PAGE_SIZE / ESPFIX_STACK_SIZE)) * ESPFIX_STACK_SIZE)),
  ministacksTakeFrames: true,
  userIretLabels: ['iretq.user', 'iretq.espfix'],

  emitReturn(a) {
    a.push(rax);
    a.lar(eax, mem(rsp, 8 + frame.ss));
    a.jnz('.ordinary');
    a.test(eax, BIG);
    a.jz('return_to_16_bit_stack');
    a.label('.ordinary');
    a.pop(rax);
    a.swapgs();
    a.label('iretq.user');
    a.iretq();

    a.label('return_to_16_bit_stack');
    a.push(rdi);
    a.mov(rdi, mem(gs, percpu.espfixStack));
    for (const [from, to] of [
      [0, ministack.rdi],
      [8, ministack.rax],
      [16 + frame.rip, ministack.frame + frame.rip],
      [16 + frame.cs, ministack.frame + frame.cs],
      [16 + frame.rflags, ministack.frame + frame.rflags],
      [16 + frame.ss, ministack.frame + frame.ss],
      [16 + frame.rsp, ministack.frame + frame.rsp],
    ]) {
      a.mov(rax, mem(rsp, from));
      a.mov(mem(rdi, to), rax);
    }
    a.and(eax, 0xffff_0000);
    a.lea(rsp, mem(rdi, rax, ministack.rdi));
    a.pop(rdi);
    a.pop(rax);
    a.swapgs();
    a.label('iretq.espfix');
    a.iretq();
  },

  emitModifyLdt(a) {
    a.call('init_espfix_cpu');
  },

  emitFunctions(a, { ministacks }) {
    emitRegion(a, region.writable);
    emitMinistackAddresses(a, ministacks);

    a.label('init_espfix_cpu');
    a.cmp(qword(gs, percpu.espfixStack), 0);
    a.jne('.done');
    a.mov(rcx, mem(gs, percpu.id));
    a.lea(rax, mem('ministack_addresses'));
    a.mov(r14, mem(rax, times(rcx, 8)));
    a.call('espfix_already_there');
    a.je('.there');
    a.label('.lock');
    a.mov(eax, 1);
    a.xchg(mem('espfix_lock'), eax);
    a.test(eax, eax);
    a.jz('.locked');
    a.pause();
    a.jmp('.lock');
    a.label('.locked');
    // Another CPU may have been here meanwhile.
    a.call('espfix_already_there');
    a.je('.unlock');
    a.mov(rdi, r14);
    a.call('espfix_map');
    a.label('.unlock');
    a.mov(dword('espfix_lock'), 0);
    a.label('.there');
    // Everything is mapped by now, so this only finds the page.
    a.mov(rdi, r14);
    a.call('espfix_map');
    a.mov(rcx, r14);
    a.and(ecx, PAGE_SIZE - 1);
    a.add(rax, rcx);
    a.mov(mem(gs, percpu.espfixWrite), rax);
    a.mov(mem(gs, percpu.espfixStack), r14);
    a.label('.done');
    a.ret();

    // espfix_already_there(address in R14): ZF set if every entry of every alias is present.
    a.label('espfix_already_there');
    a.mov(r12, PHYSICAL_MAP);
    a.mov(r13, 0x000f_ffff_ffff_f000n);
    a.mov(rax, sym('kernel_pml4'));
    a.lea(rsi, mem(rax, r12, 8 * ESPFIX_PGD_SLOT));
    const levels: { shift: number; mask: number; count: number; stride: number }[] = [
      { shift: 0, mask: 0, count: 1, stride: 1 },
      { shift: 30, mask: 0x1fc, count: 4, stride: 1 },
      { shift: 0, mask: 0, count: 512, stride: 1 },
      { shift: 12, mask: 15, count: 32, stride: 16 },
    ];
    for (const [i, { shift, mask, count, stride }] of levels.entries()) {
      if (i > 0) {
        a.and(rax, r13);
        a.lea(rsi, mem(rax, r12));
        if (mask !== 0) {
          a.mov(rcx, r14);
          a.shr(rcx, shift);
          a.and(ecx, mask);
          a.shl(ecx, 3);
          a.add(rsi, rcx);
        }
      }
      a.mov(ecx, count);
      a.label(`.level${i}`);
      a.mov(rax, mem(rsi));
      a.add(rsi, 8 * stride);
      a.test(eax, 1);
      a.jz('.absent');
      a.dec(ecx);
      a.jnz(`.level${i}`);
    }
    a.xor(eax, eax);
    a.ret();
    a.label('.absent');
    a.or(eax, 1);
    a.ret();

    // espfix_fix_stack: on the ministack are the return address, the vector, the error code and the five
    // words that the processor pushed. They move to the top of the task's stack, and RSP with them.
    a.label('espfix_fix_stack');
    a.swapgs();
    a.mov(mem(gs, percpu.fixScratch), rdi);
    a.mov(rdi, mem(gs, percpu.kernelStack));
    a.sub(rdi, 8 * 8);
    a.mov(mem(rdi, -8), rsi);
    a.mov(mem(rdi, -16), rcx);
    a.mov(rsi, rsp);
    a.lea(rsp, mem(rdi, -16));
    a.mov(ecx, 8);
    a.rep().movsq();
    a.mov(rdi, mem(gs, percpu.fixScratch));
    a.pop(rcx);
    a.pop(rsi);
    a.swapgs();
    a.ret();

    a.section('.data');
    a.align(8);
    a.label('espfix_lock').dd(0, 0);
    a.section('.text');
  },

  emitKernelExceptionEntry(a) {
    a.push(rdi);
    a.mov(rdi, rsp);
    a.sar(rdi, 39);
    a.cmp(rdi, BigInt.asIntN(64, ESPFIX_BASE) >> 39n);
    a.pop(rdi);
    a.jne('.not_on_ministack');
    a.call('espfix_fix_stack');
    a.label('.not_on_ministack');
  },
};
