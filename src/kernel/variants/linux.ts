/**
 * espfix64 as merged in Linux 3.16. A return whose SS is an LDT selector takes its frame to a 64-byte ministack
 * whose aliases are read-only; the frame is written through another mapping of the same page. All ministacks
 * exist before the CPU that uses them runs; which page and slot they take depends on the build seed.
 *
 * If the IRETQ there faults, the processor cannot push the exception frame onto the read-only ministack, and
 * raises #DF, whose handler has a stack of its own: it turns the double fault into the #GP(0) that user space
 * should get.
 */

import {
  type Assembler,
  byte,
  eax,
  ecx,
  gs,
  mem,
  qword,
  r14,
  r15,
  r15d,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  sym,
  times,
} from '../assembler.ts';
import { emitMinistackAddresses, emitRegion, ministackAddress, region } from '../espfix/region.ts';
import {
  ESPFIX_ALIASES,
  ESPFIX_BASE,
  ESPFIX_STACK_SIZE,
  FRAME_SIZE,
  frame,
  PAGE_SIZE,
  PGD_SLOT_SIZE,
  percpu,
  percpuPage,
  regs,
  selector,
} from '../layout.ts';
import { mix } from '../seed.ts';
import type { Build, Variant } from './variant.ts';

/** Ministack pages that fit the PGD slot. */
const PAGES = Number(PGD_SLOT_SIZE) / ESPFIX_ALIASES / PAGE_SIZE;

/** Words of a ministack: RAX, then the IRETQ frame. */
const ministack = { rax: 0, frame: 8 } as const;

/** The lowest alias of a CPU's ministack of `size` bytes, on a page and in a slot that the build seed chooses. */
export function randomMinistack(cpu: number, { seed, slot }: Build, size: number): bigint {
  const random = mix(seed, 0x510);
  const perPage = Math.floor(PAGE_SIZE / size);
  const page = (Math.floor(cpu / perPage) ^ Math.floor(random / perPage)) % PAGES;
  return ministackAddress(BigInt(page * PAGE_SIZE + ((cpu + (slot ?? random)) % perPage) * size));
}

export const linux = {
  name: 'linux',
  ministack: (cpu, build) => randomMinistack(cpu, build, ESPFIX_STACK_SIZE),
  userIretLabels: ['iretq.user'],

  emitReturn(a) {
    a.swapgs();
    a.test(byte(rsp, frame.ss), 4);
    a.jnz('return_to_ldt');
    a.label('iretq.user');
    a.iretq();

    a.label('return_to_ldt');
    a.push(rdi);
    a.swapgs();
    a.mov(rdi, mem(gs, percpu.espfixWrite));
    a.mov(mem(rdi, ministack.rax), rax);
    for (const word of [frame.rip, frame.cs, frame.rflags, frame.ss, frame.rsp]) {
      a.mov(rax, mem(rsp, 8 + word));
      a.mov(mem(rdi, ministack.frame + word), rax);
    }
    // The user's ESP, read last, chooses the alias: IRET keeps bits 31:16 of whatever RSP is.
    a.and(eax, 0xffff_0000);
    a.pop(rdi);
    a.or(rax, mem(gs, percpu.espfixStack));
    a.swapgs();
    a.mov(rsp, rax);
    a.label('on_ministack');
    a.pop(rax);
    a.label('iretq.espfix');
    a.iretq();
  },

  emitBootSetup(a, { cpus }) {
    emitSetUpAll(a, cpus);
  },

  emitFunctions(a, { ministacks }) {
    emitSetUp(a, ministacks, region.readOnly);
  },

  emitDoubleFault(a) {
    // Only the IRETQ on a ministack is expected to get here.
    a.cmp(qword(rdi, regs.cs), selector.kernelCode);
    a.jne('.not_espfix');
    a.lea(rax, mem('iretq.espfix'));
    a.cmp(mem(rdi, regs.rip), rax);
    a.jne('.not_espfix');
    a.mov(rsi, mem(rdi, regs.rsp));
    a.mov(rax, rsi);
    a.shr(rax, 39);
    a.cmp(eax, Number(ESPFIX_BASE >> 39n));
    a.jne('.not_espfix');
    // As if #GP(0) had come in user mode: the frame that IRETQ refused, on the task's stack. The handler
    // returns into the #GP entry with the user's registers and GS base as they were at the IRETQ.
    a.push(rbx);
    a.mov(rbx, rdi);
    a.mov(rdx, mem(gs, percpu.kernelStack));
    a.sub(rdx, FRAME_SIZE);
    a.mov(rdi, rdx);
    a.mov(ecx, FRAME_SIZE / 8);
    a.rep().movsq();
    a.mov(qword(rdx, -8), 0);
    a.sub(rdx, 8);
    a.mov(mem(rbx, regs.rsp), rdx);
    a.lea(rax, mem('vector.13'));
    a.mov(mem(rbx, regs.rip), rax);
    a.pop(rbx);
    a.ret();
    a.label('.not_espfix');
  },
} satisfies Variant;

/** Emits the set-up of all CPUs' ministacks, in line. Clobbers RAX, RCX, RDX, RSI, RDI, R8 to R11, R14 and R15. */
export function emitSetUpAll(a: Assembler, cpus: number): void {
  a.xor(r15d, r15d);
  a.label('.ministack');
  a.call('espfix_set_up');
  a.inc(r15d);
  a.cmp(r15d, cpus);
  a.jb('.ministack');
}

/** Emits `espfix_set_up`, and the region with these bits in the entries of the aliases. */
export function emitSetUp(
  a: Assembler,
  ministacks: readonly bigint[],
  bits: (typeof region)[keyof typeof region],
): void {
  emitRegion(a, bits);
  emitMinistackAddresses(a, ministacks);

  // espfix_set_up(CPU in R15): maps its ministack and tells it where.
  a.label('espfix_set_up');
  a.lea(rax, mem('ministack_addresses'));
  a.mov(rax, mem(rax, times(r15, 8)));
  a.mov(r14, rax);
  a.mov(rdi, rax);
  a.call('espfix_map');
  a.mov(rcx, r14);
  a.and(ecx, PAGE_SIZE - 1);
  a.add(rcx, rax);
  a.mov(rax, r15);
  a.instruction('imul', rax, rax, percpuPage.size);
  a.mov(rdx, sym('percpu'));
  a.mov(mem(rax, rdx, percpu.espfixStack), r14);
  a.mov(mem(rax, rdx, percpu.espfixWrite), rcx);
  a.ret();
}
