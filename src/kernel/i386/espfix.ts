/**
 * The segment-base trick, in the mode that it was made for.
 *
 * IRET to a stack segment with B = 0 loads SP and leaves ESP[31:16] as they are (SDM Vol. 2A, IRET). So they
 * are made the user's own before: the kernel goes on to a data segment whose base is such that
 *
 *     base + (user ESP[31:16] : kernel ESP[15:0]) = kernel ESP
 *
 * and returns from there. The kernel's stack has not moved; only its name has.
 */

import { type Assembler, ax, dh, dl, dword, dx, eax, edx, esp, fs, mem, word } from '../assembler.ts';
import { selector } from '../layout.ts';
import { percpuPage, regs } from './layout.ts';
import type { Variant32 } from './variant.ts';

/** The TI bit of a selector (SDM Vol. 3A, Figure 3-6): 16-bit segments are to be had in the LDT only. */
const IN_LDT = 4;

/** Bits 23:16 and 31:24 of the base in this CPU's espfix descriptor. Its bits 15:0 are always zero. */
const BASE_MIDDLE = percpuPage.gdt + selector.espfix + 4;
const BASE_HIGH = percpuPage.gdt + selector.espfix + 7;

/** The base of this CPU's espfix segment into EDX. */
function loadBase(a: Assembler): void {
  a.mov(dl, mem(fs, BASE_MIDDLE));
  a.mov(dh, mem(fs, BASE_HIGH));
  a.shl(edx, 16);
}

export const espfix: Variant32 = {
  name: 'espfix32-pae',
  userIretLabels: ['iretd.user', 'iretd.espfix'],

  emitReturn(a, restore) {
    a.test(dword(esp, regs.ss), IN_LDT);
    a.jnz('return_by_espfix');
    restore(a);
    a.add(esp, 8);
    a.label('iretd.user');
    a.iretd();

    a.label('return_by_espfix');
    a.lea(edx, mem(esp, regs.eip));
    a.mov(eax, mem(esp, regs.esp));
    a.mov(ax, dx);
    a.sub(edx, eax);
    a.shr(edx, 16);
    a.mov(mem(fs, BASE_MIDDLE), dl);
    a.mov(mem(fs, BASE_HIGH), dh);
    // The far pointer takes the place of vector and error code. LSS is all that comes before IRETD, so only an
    // NMI, a machine check, a debug exception or IRETD's own fault finds the kernel on this segment.
    a.mov(mem(esp, regs.vector), eax);
    a.mov(dword(esp, regs.error), selector.espfix);
    restore(a);
    a.lss(esp, mem(esp));
    a.label('iretd.espfix');
    a.iretd();
  },

  // The segment's base is still what LSS loaded: it changes only on the way to user mode.
  emitKernelEntry(a) {
    a.cmp(word(esp, regs.stack), selector.espfix);
    a.jne('.flat');
    loadBase(a);
    a.add(edx, esp);
    a.push(selector.kernelData);
    a.push(edx);
    a.lss(esp, mem(esp));
    a.label('.flat');
  },

  // An NMI between LSS and IRETD must find its way back, or that IRETD would return from the flat stack.
  emitKernelReturn(a, restore) {
    a.cmp(word(esp, regs.stack), selector.espfix);
    a.jne('return_to_kernel_flat');
    loadBase(a);
    a.lea(eax, mem(esp, regs.eip));
    a.sub(eax, edx);
    a.mov(mem(esp, regs.vector), eax);
    a.mov(dword(esp, regs.error), selector.espfix);
    restore(a);
    a.lss(esp, mem(esp));
    a.label('iretd.kernel_espfix');
    a.iretd();
    a.label('return_to_kernel_flat');
  },
};
