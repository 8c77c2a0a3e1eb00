/** First 64-bit code: each processor takes its tables, its stack and its local APIC; CPU 0 wakes the others. */

import {
  type Assembler,
  al,
  cr3,
  cr4,
  ds,
  dword,
  eax,
  ebx,
  ecx,
  edx,
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
import {
  GDT_SIZE,
  LAPIC,
  PHYSICAL_MAP,
  percpu,
  percpuPage,
  selector,
  TRAMPOLINE,
  vector,
} from '../layout.ts';
import type { Build, Variant } from '../variants/variant.ts';

/** Local APIC registers (SDM Vol. 3A, Table 10-1). */
export const apic = {
  id: 0x20,
  taskPriority: 0x80,
  endOfInterrupt: 0xb0,
  spurious: 0xf0,
  commandLow: 0x300,
  commandHigh: 0x310,
  timer: 0x320,
  initialCount: 0x380,
  divide: 0x3e0,
} as const;

/** Interrupt commands (SDM Vol. 3A, Figure 10-12). */
export const INIT_ALL_BUT_SELF = 0x000c_4500;
export const STARTUP_ALL_BUT_SELF = 0x000c_4600;

const msr = {
  star: 0xc000_0081,
  lstar: 0xc000_0082,
  mask: 0xc000_0084,
  gsBase: 0xc000_0101,
  kernelGsBase: 0xc000_0102,
} as const;
/** RFLAGS that SYSCALL clears: TF, IF, DF, IOPL, NT, AC. */
const SYSCALL_MASK = 0x4_7700;

/** CPUID.1:EDX: machine-check exception and architecture. */
const MCE_AND_MCA = (1 << 7) | (1 << 14);

/** Turns of PAUSE that CPU 0 waits for the others after each start-up IPI. */
export const WAIT_TURNS = 50_000;

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

  // Without CR4.MCE a machine check shuts the processor down (SDM Vol. 3B, Section 16.7).
  a.push(rbx);
  a.mov(eax, 1);
  a.xor(ecx, ecx);
  a.cpuid();
  a.and(edx, MCE_AND_MCA);
  a.cmp(edx, MCE_AND_MCA);
  a.jne('.no_mce');
  a.mov(dword('machine_check_status'), 1);
  a.mov(rax, cr4);
  a.bts(rax, 6);
  a.mov(cr4, rax);
  a.label('.no_mce');
  // SMEP, where the processor has it, keeps the kernel from executing user pages.
  a.xor(eax, eax);
  a.cpuid();
  a.cmp(eax, 7);
  a.jb('.no_smep');
  a.mov(eax, 7);
  a.xor(ecx, ecx);
  a.cpuid();
  a.bt(ebx, 7);
  a.jnc('.no_smep');
  a.mov(rax, cr4);
  a.bts(rax, 20);
  a.mov(cr4, rax);
  a.label('.no_smep');
  a.pop(rbx);

  a.mov(rdx, LAPIC);
  a.mov(dword(rdx, apic.taskPriority), 0);
  a.mov(dword(rdx, apic.spurious), 0x100 | vector.spurious);
  a.mov(dword(rdx, apic.timer), vector.timer);
  a.mov(dword(rdx, apic.divide), 0b1011);

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

  a.label('park');
  a.cli();
  a.hlt();
  a.jmp('park');

  emitMask8259(a);

  // INIT, two start-up IPIs, and a while for each processor to say that it is there (SDM Vol. 3A, Section 8.4.4).
  if (cpus > 1) {
    a.label('start_others');
    a.mov(rsi, sym('trampoline_image'));
    a.mov(rdi, PHYSICAL_MAP + TRAMPOLINE);
    a.mov(ecx, sym('trampoline_length'));
    a.rep().movsb();
    a.mov(rdx, LAPIC);
    a.mov(dword(rdx, apic.commandHigh), 0);
    a.mov(dword(rdx, apic.commandLow), INIT_ALL_BUT_SELF);
    a.mov(ecx, 1000);
    a.call('wait_turns');
    for (let i = 0; i < 2; i++) {
      a.mov(dword(rdx, apic.commandLow), STARTUP_ALL_BUT_SELF | Number(TRAMPOLINE >> 12n));
      a.mov(ecx, WAIT_TURNS);
      a.call('wait_turns');
    }
    // From here on a processor that comes too late is left where it is.
    a.ret();

    a.label('wait_turns');
    a.pause();
    a.dec(ecx);
    a.jnz('wait_turns');
    a.ret();
  }

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

  a.section('.data');
  a.align(8);
  a.label('cpus_online');
  a.dq(1);
  // Whether there is an IA32_MCG_STATUS to clear.
  a.label('machine_check_status');
  a.dd(0, 0);
  a.section('.rodata');
  a.align(8);
  a.label('user_start_address');
  a.dq(sym('user_start'));
  a.label('idt_pointer');
  a.dw(256 * 16 - 1);
  a.dq(sym('idt'));
}

/** Emits mask_8259, in 32- or 64-bit code. */
export function emitMask8259(a: Assembler): void {
  // The firmware left the 8259s on exception vectors: move them away and mask every line.
  a.label('mask_8259');
  for (const [port, value] of [
    [0x20, 0x11],
    [0xa0, 0x11],
    [0x21, vector.legacy],
    [0xa1, vector.legacy + 8],
    [0x21, 0x04],
    [0xa1, 0x02],
    [0x21, 0x01],
    [0xa1, 0x01],
    [0x21, 0xff],
    [0xa1, 0xff],
  ]) {
    a.mov(eax, value);
    a.out(port, al);
  }
  a.ret();
}
