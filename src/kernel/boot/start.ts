/** First 64-bit code: each processor takes its tables, its stack and its local APIC; CPU 0 wakes the others. */

import {
  type Assembler,
  cr3,
  ds,
  eax,
  ecx,
  es,
  fs,
  gs,
  mem,
  qword,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  ss,
  sym,
  word,
} from '../assembler.ts';
import { kernel64 } from '../common/kernel.ts';
import { apic, emitPark, emitProcessorSetUp, emitStartOthers } from '../common/start.ts';
import { GDT_SIZE, LAPIC, PHYSICAL_MAP, percpu, percpuPage, selector, TRAMPOLINE } from '../layout.ts';
import type { Build, Variant } from '../variants/variant.ts';

const msr = {
  star: 0xc000_0081,
  lstar: 0xc000_0082,
  mask: 0xc000_0084,
  gsBase: 0xc000_0101,
  kernelGsBase: 0xc000_0102,
} as const;
/** RFLAGS that SYSCALL clears: TF, IF, DF, IOPL, NT, AC. */
const SYSCALL_MASK = 0x4_7700;

/** Emits start64 and what it needs to bring all processors to their first task. */
export function emitStart(
  a: Assembler,
  variant: Variant,
  build: Build & { readonly ministacks: readonly bigint[] },
): void {
  const { cpus } = build;
  a.section('.text').bits(64);

  a.label('start64');
  // The local APIC ID numbers the processors; those that the image has no room for stay here.
  a.mov(rdx, LAPIC);
  a.mov(eax, mem(rdx, apic.id));
  a.shr(eax, 24);
  a.cmp(eax, cpus);
  a.jae('park');
  a.shl(rax, 12);
  a.mov(rbx, sym('percpu'));
  a.add(rbx, rax);
  a.mov(rsp, mem(rbx, percpu.mainStack));
  a.mov(rax, sym('kernel_pml4'));
  a.mov(cr3, rax);

  a.sub(rsp, 16);
  a.mov(word(rsp), GDT_SIZE + 8 * (variant.tlsSlots ?? 0) - 1);
  a.lea(rax, mem(rbx, percpuPage.gdt));
  a.mov(mem(rsp, 2), rax);
  a.lgdt(mem(rsp));
  a.add(rsp, 16);
  a.push(selector.kernelCode);
  a.lea(rax, mem('.reloaded'));
  a.push(rax);
  a.retfq();
  a.label('.reloaded');
  a.mov(eax, selector.kernelData);
  a.mov(ss, eax);
  a.xor(eax, eax);
  for (const register of [ds, es, fs, gs]) a.mov(register, eax);
  a.lidt(mem('idt_pointer'));
  a.mov(eax, selector.tss);
  a.ltr(eax);
  a.mov(eax, selector.ldt);
  a.lldt(eax);

  const writeMsr = (register: number) => {
    a.mov(ecx, register);
    a.mov(rdx, rax);
    a.shr(rdx, 32);
    a.wrmsr();
  };
  a.mov(rax, rbx);
  writeMsr(msr.gsBase);
  a.xor(eax, eax);
  writeMsr(msr.kernelGsBase);
  // SYSRET adds 16 and 8 to the upper selector for CS and SS.
  a.mov(rax, (BigInt(selector.userCode32) << 48n) | (BigInt(selector.kernelCode) << 32n));
  writeMsr(msr.star);
  a.mov(rax, sym('syscall_entry'));
  writeMsr(msr.lstar);
  a.mov(rax, SYSCALL_MASK);
  writeMsr(msr.mask);

  emitProcessorSetUp(a, kernel64);

  a.cmp(qword(rbx, percpu.id), 0);
  a.jne('start_secondary');
  a.call('mask_8259');
  a.call('serial_init');
  variant.emitBootSetup?.(a, build);
  if (cpus > 1) a.call('start_others');
  a.jmp('start_user');

  a.label('start_secondary');
  a.mov(rcx, mem(rbx, percpu.id));
  a.lock().bts(qword('cpus_online'), rcx);
  a.jmp('start_user');

  emitPark(a);
  if (cpus > 1) emitStartOthers(a, kernel64, PHYSICAL_MAP + TRAMPOLINE);

  // The first task of each processor enters user mode through the same return as everything else.
  a.label('start_user');
  a.mov(rsp, mem(gs, percpu.mainStack));
  a.mov(rdi, mem(gs, percpu.userArea));
  a.xor(eax, eax);
  a.lea(rsi, mem('user_start_address'));
  a.mov(rsi, mem(rsi));
  a.jmp('enter_user');

  // enter_user(RDI to pass, RIP in RSI, RAX to pass): starts 64-bit user code on the task's own stack.
  a.label('enter_user');
  a.mov(rcx, mem(gs, percpu.userArea));
  a.add(rcx, sym('user_stack_offset'));
  a.push(selector.userData);
  a.push(rcx);
  a.push(0x202);
  a.push(selector.userCode64);
  a.push(rsi);
  a.push(0);
  a.push(0);
  a.push(rax);
  for (let i = 0; i < 5; i++) a.push(0);
  a.push(rdi);
  for (let i = 0; i < 8; i++) a.push(0);
  a.jmp('return_from_interrupt');

  a.section('.rodata');
  a.align(8);
  a.label('user_start_address');
  a.dq(sym('user_start'));
  a.label('idt_pointer');
  a.dw(256 * 16 - 1);
  a.dq(sym('idt'));
}
