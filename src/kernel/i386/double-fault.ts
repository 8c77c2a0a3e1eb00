/**
 * The double-fault task. In 32-bit mode nothing but a task gate gives an exception a stack of its own (SDM
 * Vol. 3A, Sections 6.14 and 7.2): the processor saves the kernel in the main TSS and runs this task instead. It
 * writes into that TSS that the kernel goes on in `double_fault_landing` with registers as if the exception had
 * come through an interrupt gate, and returns to it by IRET with NT set, which is again a task switch.
 */

import { type Assembler, cr2, dword, eax, edi, esi, esp, fs, mem, sym } from '../assembler.ts';
import { selector } from '../layout.ts';
import { percpu, percpuPage, regs, selector32, tss } from './layout.ts';

const EFLAGS_RESERVED = 2;

/** Registers that the frame takes from the main TSS. */
const copied = [
  ['edi', 'edi'],
  ['esi', 'esi'],
  ['ebp', 'ebp'],
  ['ebx', 'ebx'],
  ['edx', 'edx'],
  ['ecx', 'ecx'],
  ['eax', 'eax'],
  ['stack', 'ss'],
  ['gs', 'gs'],
  ['fs', 'fs'],
  ['es', 'es'],
  ['ds', 'ds'],
  ['eip', 'eip'],
  ['cs', 'cs'],
  ['eflags', 'eflags'],
  ['esp', 'esp'],
  ['ss', 'ss'],
] as const;

/** Emits double_fault_task, where the task begins, and double_fault_landing. */
export function emitDoubleFault(a: Assembler): void {
  const main = (field: keyof typeof tss) => mem(fs, percpuPage.tss + tss[field]);
  a.section('.text').bits(32);
  a.label('double_fault_task');
  a.mov(eax, cr2);
  a.mov(mem(fs, percpu.cr2), eax);
  // The stack that the fault was asked for from still holds something; in any other case all is lost anyway.
  a.mov(edi, mem(fs, percpu.faultStack));
  a.test(edi, edi);
  a.jnz('.stack');
  a.mov(edi, mem(fs, percpu.mainStack));
  a.label('.stack');
  a.sub(edi, regs.size);
  for (const [to, from] of copied) {
    a.mov(eax, main(from));
    a.mov(mem(edi, regs[to]), eax);
  }
  a.mov(dword(edi, regs.vector), 8);
  a.mov(eax, mem(esp));
  a.mov(mem(edi, regs.error), eax);

  for (const [field, value] of [
    ['eip', sym('double_fault_landing')],
    ['eflags', EFLAGS_RESERVED],
    ['cs', selector.kernelCode],
    ['ss', selector.kernelData],
    ['ds', selector.kernelData],
    ['es', selector.kernelData],
    ['fs', selector32.percpu],
    ['gs', 0],
  ] as const)
    a.mov(dword(fs, percpuPage.tss + tss[field]), value);
  a.mov(main('esp'), edi);
  a.mov(main('edi'), edi);
  a.add(esp, 4);
  a.iretd();
  // The next double fault finds the task here.
  a.jmp('double_fault_task');

  // The registers are in EDI, and the stack below them is free.
  a.label('double_fault_landing');
  // A task switch sets TS (SDM Vol. 3A, Section 2.5); nobody here has FPU state to be kept apart.
  a.clts();
  a.cmp(dword(edi, regs.eip), sym('double_fault_asked_for'));
  a.jne('oops');
  a.mov(esp, mem(fs, percpu.faultStack));
  a.xor(esi, esi);
  a.mov(mem(fs, percpu.faultStack), esi);
  // The call counts as an event, and goes on as if nothing had been.
  a.jmp('call.touch');
}
