/** First code behind paging: each processor takes its tables, its stack and its local APIC; CPU 0 wakes the others. */

import {
  type Assembler,
  cr3,
  ds,
  dword,
  eax,
  ebx,
  ecx,
  edi,
  edx,
  es,
  esi,
  esp,
  fs,
  gs,
  mem,
  ss,
  sym,
  word,
} from '../assembler.ts';
import { kernel32 } from '../common/kernel.ts';
import { apic, emitPark, emitProcessorSetUp, emitStartOthers } from '../common/start.ts';
import { selector, TRAMPOLINE, user } from '../layout.ts';
import { GDT_SIZE, KERNEL_BASE, LAPIC, percpu, percpuPage, selector32 } from './layout.ts';

/** SYSENTER's registers (SDM Vol. 2B, SYSENTER). */
export const msr = {
  sysenterCs: 0x174,
  sysenterEsp: 0x175,
  sysenterEip: 0x176,
} as const;

/** Emits start32 and what it needs to bring all processors to their first task. */
export function emitStart(a: Assembler, cpus: number): void {
  a.section('.text').bits(32);

  a.label('start32');
  // The local APIC ID numbers the processors; those that the image has no room for stay here.
  a.mov(edx, LAPIC);
  a.mov(eax, mem(edx, apic.id));
  a.shr(eax, 24);
  a.cmp(eax, cpus);
  a.jae('park');
  a.shl(eax, 12);
  a.lea(ebx, mem('percpu', eax));
  a.mov(esp, mem(ebx, percpu.mainStack));
  a.mov(eax, sym('kernel_pdpt'));
  a.mov(cr3, eax);

  a.sub(esp, 8);
  a.mov(word(esp), GDT_SIZE - 1);
  a.lea(eax, mem(ebx, percpuPage.gdt));
  a.mov(mem(esp, 2), eax);
  a.lgdt(mem(esp));
  a.add(esp, 8);
  a.jmpFar(selector.kernelCode, '.reloaded');
  a.label('.reloaded');
  a.mov(eax, selector.kernelData);
  for (const register of [ss, ds, es]) a.mov(register, eax);
  a.mov(eax, selector32.percpu);
  a.mov(fs, eax);
  a.xor(eax, eax);
  a.mov(gs, eax);
  a.lidt(mem('idt_pointer'));
  a.mov(eax, selector.tss);
  a.ltr(eax);
  a.mov(eax, selector.ldt);
  a.lldt(eax);

  for (const [register, value] of [
    [msr.sysenterCs, selector.kernelCode],
    [msr.sysenterEsp, mem(ebx, percpu.mainStack)],
    [msr.sysenterEip, sym('sysenter_entry')],
  ] as const) {
    a.mov(ecx, register);
    a.mov(eax, value);
    a.xor(edx, edx);
    a.wrmsr();
  }

  emitProcessorSetUp(a, kernel32);

  a.cmp(dword(ebx, percpu.id), 0);
  a.jne('start_secondary');
  a.call('mask_8259');
  a.call('serial_init');
  if (cpus > 1) a.call('start_others');
  a.jmp('start_user');

  a.label('start_secondary');
  a.mov(ecx, mem(ebx, percpu.id));
  a.lock().bts(dword('cpus_online'), ecx);
  a.jmp('start_user');

  emitPark(a);
  if (cpus > 1) emitStartOthers(a, kernel32, KERNEL_BASE + TRAMPOLINE);

  // The first task of each processor enters user mode through the same return as everything else.
  a.label('start_user');
  a.mov(esp, mem(fs, percpu.mainStack));
  a.mov(edi, mem(fs, percpu.userArea));
  a.xor(eax, eax);
  a.mov(esi, sym('user_start'));
  a.jmp('enter_user');

  // enter_user(EDI to pass, EIP in ESI, EAX to pass): starts user code on the task's own stack.
  a.label('enter_user');
  a.mov(ecx, mem(fs, percpu.userArea));
  a.add(ecx, user.stack);
  a.push(selector.userData);
  a.push(ecx);
  a.push(0x202);
  a.push(selector.userCode32);
  a.push(esi);
  a.push(0);
  a.push(0);
  a.push(selector.userData);
  a.push(selector.userData);
  a.push(0);
  a.push(0);
  a.push(selector.kernelData);
  a.push(eax);
  for (let i = 0; i < 5; i++) a.push(0);
  a.push(edi);
  a.jmp('return_from_interrupt');

  a.section('.rodata');
  a.align(4);
  a.label('idt_pointer');
  a.dw(256 * 8 - 1);
  a.dd(sym('idt'));
}
