/** What both kernels do on each processor before its first task, and to start the others. */

import { type Assembler, al, cr4, dword, eax, ebx, ecx, edx, sym } from '../assembler.ts';
import { TRAMPOLINE, vector } from '../layout.ts';
import type { Kernel } from './kernel.ts';

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
const INIT_ALL_BUT_SELF = 0x000c_4500;
const STARTUP_ALL_BUT_SELF = 0x000c_4600;

/** CPUID.1:EDX: machine-check exception and architecture. */
const MCE_AND_MCA = (1 << 7) | (1 << 14);

/** Turns of PAUSE that CPU 0 waits for the others after each start-up IPI. */
const WAIT_TURNS = 50_000;

/** Emits the features of the processor that the kernel uses, and its local APIC, in line. BX is kept, DX the APIC after. */
export function emitProcessorSetUp(a: Assembler, k: Kernel): void {
  const { ax: whole, bx, dx } = k;
  // Without CR4.MCE a machine check shuts the processor down (SDM Vol. 3A, Section 6.15, Interrupt 18).
  a.push(bx);
  a.mov(eax, 1);
  a.xor(ecx, ecx);
  a.cpuid();
  a.and(edx, MCE_AND_MCA);
  a.cmp(edx, MCE_AND_MCA);
  a.jne('.no_mce');
  a.mov(dword('machine_check_status'), 1);
  a.mov(whole, cr4);
  a.bts(whole, 6);
  a.mov(cr4, whole);
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
  a.mov(whole, cr4);
  a.bts(whole, 20);
  a.mov(cr4, whole);
  a.label('.no_smep');
  a.pop(bx);

  a.mov(dx, k.lapic);
  a.mov(dword(dx, apic.taskPriority), 0);
  a.mov(dword(dx, apic.spurious), 0x100 | vector.spurious);
  a.mov(dword(dx, apic.timer), vector.timer);
  a.mov(dword(dx, apic.divide), 0b1011);
}

/** Emits `park`, where a processor stays that the image has no room for, mask_8259, and data of the start. */
export function emitPark(a: Assembler): void {
  a.label('park');
  a.cli();
  a.hlt();
  a.jmp('park');

  emitMask8259(a);

  a.section('.data');
  a.align(8);
  a.label('cpus_online');
  a.dq(1);
  // Whether there is an IA32_MCG_STATUS to clear.
  a.label('machine_check_status');
  a.dd(0, 0);
  a.section('.text');
}

/**
 * Emits start_others: INIT, two start-up IPIs, and a while for each processor to say that it is there (SDM Vol. 3A,
 * Section 8.4.4). `trampoline` is the linear address of the place where they begin.
 */
export function emitStartOthers(a: Assembler, k: Kernel, trampoline: bigint): void {
  const { di, dx, si } = k;
  a.label('start_others');
  a.mov(si, sym('trampoline_image'));
  a.mov(di, trampoline);
  a.mov(ecx, sym('trampoline_length'));
  a.rep().movsb();
  a.mov(dx, k.lapic);
  a.mov(dword(dx, apic.commandHigh), 0);
  a.mov(dword(dx, apic.commandLow), INIT_ALL_BUT_SELF);
  a.mov(ecx, 1000);
  a.call('wait_turns');
  for (let i = 0; i < 2; i++) {
    a.mov(dword(dx, apic.commandLow), STARTUP_ALL_BUT_SELF | Number(TRAMPOLINE >> 12n));
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

/** Emits mask_8259. */
function emitMask8259(a: Assembler): void {
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
