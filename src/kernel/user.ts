/**
 * The test task, at CPL 3: it walks through the case table, brings itself onto each case's segments and stack
 * pointer, lets the event happen, and records what it finds before anything touches the stack.
 *
 * Target code exists in 16-, 32- and 64-bit form at addresses below 4 GiB. It keeps the user area in ESI and
 * reaches memory through DS, never through SS.
 */

import {
  type Assembler,
  ax,
  type CodeBits,
  cs,
  ds,
  dword,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  edx,
  es,
  esi,
  esp,
  mem,
  qword,
  r9,
  r10d,
  r12,
  r13,
  r14,
  r15,
  r15d,
  rax,
  rcx,
  rdi,
  rsi,
  rsp,
  ss,
  sym,
  times,
  word,
} from './assembler.ts';
import { apic } from './boot/start.ts';
import { caseFlag, emitCaseTable, entryKinds, record } from './case-table.ts';
import { type Case, forgedFrameAt, type TargetEvent, targetEvents } from './cases.ts';
import { segmentDescriptor } from './descriptors.ts';
import {
  ANSWER,
  call,
  cause,
  frame,
  LDT_ENTRIES,
  ldtSelector,
  regs,
  selector,
  USER_AREA,
  USER_AREA_STRIDE,
  USER_LAPIC,
  USER_TEXT,
  user,
  userCounters,
  vector,
} from './layout.ts';
import type { Tasks } from './variants/variant.ts';

/** Values that general registers must keep through an event. EBX keeps the event count, ESI the area. */
export const pattern = { edx: 0x0dd0_0dd1, ebp: 0x0bb0_0bb1, edi: 0x0d1d_0d11 } as const;
/** Turns of the waiting loop before an event counts as missed. */
export const PATIENCE = 0x40_0000;
/** Local APIC timer ticks until the timer interrupt. */
const TIMER_TICKS = 2000;

/** Interrupt commands (SDM Vol. 3A, Figure 10-12): to itself by shorthand, or NMI to the CPU in ICR's high half. */
const SELF_IPI = 0x0004_4000 | vector.ipi;
const NMI_IPI = 0x4400;

/** The stack pointer of the return before all cases. */
const EARLY_STACK_POINTER = 0x5aad_c0de;
/** The stack pointer of the forged frame. */
const FORGED_STACK_POINTER = 0x0f0f_0f0f;

/** LDT entries in the order of `ldtSelector`. */
export const ldtDescriptors = [
  segmentDescriptor({ kind: 'code32', limit: 0xfffff, pages: true, dpl: 3 }),
  segmentDescriptor({ kind: 'code16', base: Number(USER_TEXT), limit: 0xffff, dpl: 3 }),
  segmentDescriptor({ kind: 'data16', limit: 0xffff, dpl: 3 }),
  segmentDescriptor({ kind: 'data32', limit: 0xfffff, pages: true, dpl: 3 }),
  segmentDescriptor({ kind: 'data16', limit: 0xffff, dpl: 3, present: false }),
  segmentDescriptor({ kind: 'read-only16', limit: 0xffff, dpl: 3 }),
  segmentDescriptor({ kind: 'code32', limit: 0xfffff, pages: true, dpl: 3, present: false }),
] as const;

function systemCall(a: Assembler, name: keyof typeof call): void {
  a.mov(eax, call[name]);
  a.syscall();
}

export interface UserOptions extends Tasks {
  /** Whether the GDT has slots for thread-local segments, in which the task puts a 16-bit one. */
  readonly tls?: boolean;
}

/** Emits the test task and the case table. */
export function emitUser(a: Assembler, cases: readonly Case[], options: UserOptions = {}): void {
  a.section('.user.text').bits(64);
  emitDriver(a, cases, options);
  emitSignalHandler(a);
  for (const bits of [64, 32, 16] as const) {
    for (const event of targetEvents) emitTarget(a, bits, event, vector.machineCheckStandIn);
    emitRecord(a, bits, 64);
  }
  emitAfterTarget(a);

  a.section('.user.rodata');
  a.align(8);
  a.label('ldt_descriptors').dq(...ldtDescriptors);
  if (options.tls) a.dq(ldtDescriptors[ldtSelector.data16 >> 3]);
  emitCaseTable(a, cases);
}

function emitDriver(
  a: Assembler,
  cases: readonly Case[],
  { sharedLdt, returnEarly, tls }: UserOptions,
): void {
  // R13: the user area, R12: the case.
  a.label('user_start');
  a.mov(r13, rdi);
  a.mov(edi, sym('user_signal'));
  a.lea(rsi, mem(r13, user.signalStack));
  systemCall(a, 'setSignal');
  if (sharedLdt) {
    // Threads of one process: the others wait until the first has filled their LDT.
    a.cmp(r13, Number(USER_AREA));
    a.je('.fill');
    a.mov(ecx, 8 * ldtDescriptors.length - 1);
    a.label('.wait');
    a.pause();
    a.lar(eax, ecx);
    a.jnz('.wait');
    a.jmp('.filled');
    a.label('.fill');
  }
  a.xor(r15d, r15d);
  a.lea(r14, mem('ldt_descriptors'));
  a.label('.ldt');
  a.mov(rdi, r15);
  a.mov(rsi, mem(r14, times(r15, 8)));
  systemCall(a, 'modifyLdt');
  a.test(eax, eax);
  a.jnz('user_broken');
  a.inc(r15d);
  a.cmp(r15d, ldtDescriptors.length);
  a.jb('.ldt');
  if (tls) {
    a.mov(edi, LDT_ENTRIES);
    a.mov(rsi, mem(r14, 8 * ldtDescriptors.length));
    systemCall(a, 'modifyLdt');
    a.test(eax, eax);
    a.jnz('user_broken');
  }
  a.label('.filled');
  if (returnEarly) emitEarlyReturn(a);
  systemCall(a, 'waitTurn');
  a.mov(edi, sym('user_recover'));
  systemCall(a, 'setRecovery');
  a.lea(r12, mem('cases'));
  a.jmp('next_case');

  a.label('user_broken');
  a.ud2();
  a.jmp('user_broken');

  // The kernel died of this case and starts the task again here: vector in RAX, area in RDI.
  a.label('user_recover');
  a.mov(r13, rdi);
  a.mov(r12, mem(r13, user.case));
  a.inc(eax);
  a.mov(mem(r13, user.oops), eax);
  a.label('case_done');
  a.mov(rdi, r12);
  a.mov(rsi, r13);
  systemCall(a, 'report');
  a.add(r12, record.size);
  a.label('next_case');
  a.lea(rax, mem('cases_end'));
  a.cmp(r12, rax);
  a.jb('run_case');
  systemCall(a, 'finish');
  a.jmp('user_broken');

  a.label('run_case');
  a.mov(mem(r13, user.case), r12);
  for (const field of [user.rsp, user.esp] as const) a.mov(qword(r13, field), 0);
  for (const field of [user.fault, user.faultError, user.oops, user.registersChanged, user.missed] as const)
    a.mov(dword(r13, field), 0);
  a.mov(eax, selector.userData);
  a.mov(ds, eax);
  a.mov(es, eax);

  // A debugger's change of the frame, to be made at the return from the event.
  a.cmp(dword(r12, record.pokeCause), 0);
  a.je('.no_poke');
  a.mov(eax, mem(r12, record.frameCs));
  a.mov(mem(r13, user.poke), rax);
  a.mov(eax, mem(r12, record.frameSs));
  a.mov(mem(r13, user.poke + 8), rax);
  a.mov(rax, mem(r12, record.frameRip));
  a.mov(mem(r13, user.poke + 16), rax);
  a.mov(rax, mem(r12, record.set));
  a.mov(mem(r13, user.poke + 24), rax);
  a.mov(edi, mem(r12, record.pokeCause));
  a.lea(rsi, mem(r13, user.poke));
  systemCall(a, 'poke');
  a.label('.no_poke');
  a.test(dword(r12, record.flags), caseFlag.step);
  a.jz('.no_step');
  a.mov(edi, mem(r12, record.target));
  systemCall(a, 'stepUntil');
  a.label('.no_step');

  // A frame for the kernel to load.
  a.mov(rax, mem(r12, record.frameRip));
  a.mov(mem(r13, user.frame + frame.rip), rax);
  a.mov(eax, mem(r12, record.frameCs));
  a.mov(mem(r13, user.frame + frame.cs), rax);
  a.mov(qword(r13, user.frame + frame.rflags), 0x202);
  a.mov(rax, mem(r12, record.set));
  a.mov(mem(r13, user.frame + frame.rsp), rax);
  a.mov(eax, mem(r12, record.frameSs));
  a.mov(mem(r13, user.frame + frame.ss), rax);
  // A far pointer to jump through.
  a.mov(eax, mem(r12, record.target));
  a.mov(mem(r13, user.farPointer), eax);
  a.mov(eax, mem(r12, record.cs));
  a.mov(word(r13, user.farPointer + 4), ax);
  // This CPU's APIC ID, for interrupt commands without a shorthand.
  a.mov(rax, r13);
  a.sub(eax, Number(USER_AREA));
  a.shl(eax, 24 - Math.log2(Number(USER_AREA_STRIDE)));
  a.mov(mem(Number(USER_LAPIC) + apic.commandHigh), eax);

  // If the kernel takes this frame for its own, the record shows the forged stack pointer.
  a.test(dword(r12, record.flags), caseFlag.forged);
  a.jz('.not_forged');
  a.mov(eax, Number(forgedFrameAt));
  a.lea(rcx, mem('record.64'));
  a.mov(mem(rax, frame.rip), rcx);
  a.mov(qword(rax, frame.cs), selector.userCode64);
  a.mov(qword(rax, frame.rflags), 0x202);
  a.mov(qword(rax, frame.rsp), FORGED_STACK_POINTER);
  a.mov(qword(rax, frame.ss), selector.userData);
  a.label('.not_forged');

  a.mov(ebx, mem(r13, userCounters.events));
  a.mov(mem(r13, user.eventsBefore), ebx);
  a.mov(ecx, PATIENCE);
  a.mov(edx, pattern.edx);
  a.mov(ebp, pattern.ebp);
  a.mov(edi, pattern.edi);
  a.mov(rsi, r13);
  a.lea(r9, mem(r13, user.frame));
  a.mov(r10d, mem(r12, record.kind));
  for (const [i, kind] of entryKinds.entries()) {
    a.cmp(r10d, i);
    a.je(`enter.${kind}`);
  }
  a.jmp('user_broken');

  // In 64-bit mode SS means nothing, so the stack pointer can be set exactly before the far jump.
  a.label('enter.jump');
  a.test(dword(r12, record.flags), caseFlag.step);
  a.jz('.go');
  a.pushfq();
  a.or(qword(rsp), 0x100);
  a.popfq();
  a.label('.go');
  a.mov(r10d, mem(r12, record.ss));
  a.mov(eax, call.touch);
  a.mov(ss, r10d);
  a.mov(rsp, mem(r12, record.set));
  a.jmpFarIndirect(mem(r13, user.farPointer), 32);

  a.label('enter.return-to');
  if (cases.some((c) => c.strayStack !== undefined)) {
    a.test(dword(r12, record.flags), caseFlag.strayStack);
    a.jz('.call');
    a.mov(rsp, mem(r12, record.set));
    a.label('.call');
  }
  systemCall(a, 'returnTo');
  a.jmp('user_broken');

  a.label('enter.spawn');
  systemCall(a, 'spawn');
  a.jmp('case_done');

  a.label('enter.raise');
  systemCall(a, 'raise');
  a.jmp('user_broken');
}

/** Emits, in line, a system call of 32-bit code on a 16-bit stack. Without its stack pointer the task goes no further. */
function emitEarlyReturn(a: Assembler): void {
  a.lea(rax, mem('early_return'));
  a.mov(mem(r13, user.farPointer), eax);
  a.mov(word(r13, user.farPointer + 4), selector.userCode32);
  a.mov(rsi, r13);
  a.mov(eax, selector.userData);
  a.mov(ds, eax);
  a.mov(eax, call.touch);
  a.mov(ecx, ldtSelector.data16);
  a.mov(ss, ecx);
  a.mov(esp, EARLY_STACK_POINTER);
  a.jmpFarIndirect(mem(r13, user.farPointer), 32);
  a.bits(32);
  a.label('early_return');
  a.int(vector.syscall);
  a.mov(mem(esi, user.esp), esp);
  a.jmpFar(selector.userCode64, 'early_return_done');
  a.bits(64);
  a.label('early_return_done');
  a.mov(eax, selector.userData);
  a.mov(ss, eax);
  a.lea(rsp, mem(r13, user.stack));
  a.cmp(dword(r13, user.esp), EARLY_STACK_POINTER);
  a.jne('user_broken');
}

/** user_signal(frame in RDI): builds the case's frame when raised on purpose, repairs the frame after a fault. */
function emitSignalHandler(a: Assembler): void {
  a.label('user_signal');
  a.mov(r13, rdi);
  a.and(r13, -Number(USER_AREA_STRIDE));
  a.mov(r12, mem(r13, user.case));
  a.mov(qword(rdi, regs.rflags), 0x202);
  a.mov(rax, mem(r12, record.set));
  a.mov(mem(rdi, regs.rsp), rax);
  a.cmp(qword(rdi, regs.vector), cause.raise);
  a.je('.raised');

  // A second fault for one case means that the repaired frame is no good either.
  a.mov(eax, mem(rdi, regs.vector));
  a.cmp(dword(r13, user.fault), 0);
  a.jne('.again');
  a.inc(eax);
  a.mov(mem(r13, user.fault), eax);
  a.mov(eax, mem(rdi, regs.error));
  a.mov(mem(r13, user.faultError), eax);
  a.mov(eax, mem(r12, record.recordRip));
  a.mov(mem(rdi, regs.rip), rax);
  a.mov(eax, mem(r12, record.cs));
  a.mov(mem(rdi, regs.cs), rax);
  a.mov(eax, mem(r12, record.ss));
  a.mov(mem(rdi, regs.ss), rax);
  a.jmp('.return');
  a.label('.again');
  a.mov(rdi, r13);
  a.jmp('user_recover');

  a.label('.raised');
  a.mov(rax, mem(r12, record.frameRip));
  a.mov(mem(rdi, regs.rip), rax);
  a.mov(eax, mem(r12, record.frameCs));
  a.mov(mem(rdi, regs.cs), rax);
  a.mov(eax, mem(r12, record.frameSs));
  a.mov(mem(rdi, regs.ss), rax);
  a.label('.return');
  a.mov(eax, call.sigreturn);
  a.int(0x80);
  a.jmp('user_broken');
}

/** The code that a case runs, in 16-, 32- or 64-bit code: lets the event happen and goes on to `record.<bits>`. */
export function emitTarget(a: Assembler, bits: CodeBits, event: TargetEvent, machineCheck = 18): void {
  const area = bits === 64 ? rsi : esi;
  a.bits(bits);
  a.label(`target.${bits}.${event}`);
  switch (event) {
    case 'int80':
      a.int(vector.syscall);
      break;
    case 'interrupt':
      a.mov(dword(Number(USER_LAPIC) + apic.commandLow), SELF_IPI);
      break;
    case 'timer':
      a.mov(dword(Number(USER_LAPIC) + apic.initialCount), TIMER_TICKS);
      break;
    case 'exception':
      a.ud2();
      break;
    case 'breakpoint':
      a.int3();
      break;
    case 'nmi':
      a.mov(dword(Number(USER_LAPIC) + apic.commandLow), NMI_IPI);
      break;
    case 'mc':
      // An image cannot provoke a machine check; a gate lets CPL 3 call the handler instead.
      a.int(machineCheck);
      break;
    case 'db':
      // The single-step trap came before this instruction.
      break;
  }
  a.label('.wait');
  a.cmp(dword(area, userCounters.events), ebx);
  a.jne(`record.${bits}`);
  a.pause();
  a.dec(ecx);
  a.jnz('.wait');
  a.jmp(`record.${bits}`);
}

/** Stores the stack pointer, all registers, CS and SS, then leaves for code of the kernel's width. */
export function emitRecord(a: Assembler, bits: CodeBits, kernelBits: 32 | 64): void {
  const area = bits === 64 ? rsi : esi;
  a.bits(bits);
  a.label(`record.${bits}`);
  a.mov(mem(area, user.esp), esp);
  for (const [offset, register] of [
    [user.eax, eax],
    [user.ecx, ecx],
    [user.edx, edx],
    [user.ebx, ebx],
    [user.ebp, ebp],
    [user.edi, edi],
  ] as const)
    a.mov(mem(area, offset), register);
  for (const [offset, segment] of [
    [user.cs, cs],
    [user.ss, ss],
  ] as const) {
    a.mov(eax, segment);
    a.mov(mem(area, offset), eax);
  }
  if (bits === kernelBits) a.jmp('after_target');
  else a.jmpFar(kernelBits === 64 ? selector.userCode64 : selector.userCode32, 'after_target');
}

function emitAfterTarget(a: Assembler): void {
  a.bits(64);
  a.label('after_target');
  a.mov(esi, esi);
  a.mov(mem(rsi, user.rsp), rsp);
  a.mov(r13, rsi);
  a.mov(eax, selector.userData);
  a.mov(ss, eax);
  a.lea(rsp, mem(r13, user.stack));
  a.mov(r12, mem(r13, user.case));

  for (const [offset, value] of [
    [user.eax, ANSWER],
    [user.edx, pattern.edx],
    [user.ebp, pattern.ebp],
    [user.edi, pattern.edi],
  ] as const) {
    a.cmp(dword(r13, offset), value);
    a.jne('.changed');
  }
  for (const [found, wanted] of [
    [user.cs, record.cs],
    [user.ss, record.ss],
  ] as const) {
    a.mov(eax, mem(r12, wanted));
    a.cmp(mem(r13, found), eax);
    a.jne('.changed');
  }
  a.mov(eax, mem(r13, user.eventsBefore));
  a.cmp(mem(r13, user.ebx), eax);
  a.je('.unchanged');
  a.label('.changed');
  a.inc(dword(r13, user.registersChanged));
  a.label('.unchanged');
  a.cmp(dword(r13, user.ecx), 0);
  a.jne('.came');
  a.inc(dword(r13, user.missed));
  a.label('.came');
  a.test(dword(r12, record.flags), caseFlag.child);
  a.jz('case_done');
  systemCall(a, 'exit');
  a.jmp('user_broken');
}
