/**
 * The 32-bit kernel's workaround, tried in 64-bit mode. The return loads SS with a data segment whose base is
 * chosen so that base + (the user's ESP[31:16] : the kernel's SP) is the kernel stack, and ESP with that offset.
 *
 * In 64-bit mode the processor takes the base of SS for zero (SDM Vol. 3A, Section 3.2.4), so IRETQ reads its
 * frame at an address below 4 GiB that user space chose the upper half of.
 */

import { ax, byte, dh, dl, dx, eax, edx, esp, gs, mem, rax, rdx, rsp, word } from '../assembler.ts';
import { frame, percpu, percpuPage, selector } from '../layout.ts';
import type { Variant } from './variant.ts';

const DESCRIPTOR = percpuPage.gdt + selector.espfix;

export const espfix32: Variant = {
  name: 'espfix32',
  userIretLabels: ['iretq.user', 'iretq.espfix'],
  emitReturn(a) {
    a.test(byte(rsp, frame.ss), 4);
    a.jnz('return_through_segment');
    a.swapgs();
    a.label('iretq.user');
    a.iretq();

    a.label('return_through_segment');
    a.push(rax);
    a.push(rdx);
    // EAX: the user's ESP[31:16] with the kernel's SP; EDX: the base that would make up for it.
    a.lea(rdx, mem(rsp, 16));
    a.mov(eax, mem(rsp, 16 + frame.rsp));
    a.mov(ax, dx);
    a.sub(edx, eax);
    a.mov(mem(gs, percpu.espfixPointer), eax);
    a.mov(word(gs, percpu.espfixPointer + 4), selector.espfix);
    a.mov(rax, mem(gs, percpu.self));
    a.mov(mem(rax, DESCRIPTOR + 2), dx);
    a.shr(edx, 16);
    a.mov(mem(rax, DESCRIPTOR + 4), dl);
    a.mov(mem(rax, DESCRIPTOR + 7), dh);
    a.pop(rdx);
    a.pop(rax);
    a.instruction('lss', esp, mem(gs, percpu.espfixPointer));
    a.swapgs();
    a.label('iretq.espfix');
    a.iretq();
  },
};
