/**
 * The test task of the 32-bit kernel, at CPL 3: what `../user.ts` does, in 32-bit code. Cases, targets and the
 * record of what they find are the same.
 */

import {
  type Assembler,
  ax,
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
  gs,
  mem,
  ss,
  sym,
  times,
  word,
} from '../assembler.ts';
import { apic } from '../boot/start.ts';
import { caseFlag, emitCaseTable, entryKinds, record } from '../case-table.ts';
import { type Case, targetEvents } from '../cases.ts';
import {
  ANSWER,
  cause,
  ldtSelector,
  selector,
  USER_AREA,
  USER_AREA_STRIDE,
  USER_LAPIC,
  user,
  userCounters,
  vector,
} from '../layout.ts';
import { emitRecord, emitTarget, ldtDescriptors, PATIENCE, pattern } from '../user.ts';
import { call32, frame, regs } from './layout.ts';

/** Calls by SYSENTER; ECX and EDX are changed. */
function systemCall(a: Assembler, name: keyof typeof call32): void {
  a.mov(eax, call32[name]);
  a.call('sysenter_call');
}

/** Emits the test task and the case table. */
export function emitUser(a: Assembler, cases: readonly Case[]): void {
  a.section('.user.text').bits(32);
  emitDriver(a);
  emitCaseStart(a);
  emitSignalHandler(a);
  for (const bits of [32, 16] as const) {
    for (const event of targetEvents) emitTarget(a, bits, event);
    emitRecord(a, bits, 32);
  }
  emitAfterTarget(a);

  a.section('.user.rodata');
  a.align(8);
  a.label('ldt_descriptors').dq(...ldtDescriptors);
  emitCaseTable(a, cases);
}

function emitDriver(a: Assembler): void {
  // ESP goes to the kernel in ECX, and the kernel returns to this RET.
  a.label('sysenter_call');
  a.mov(ecx, esp);
  a.sysenter();
  a.label('sysenter_return');
  a.ret();

  // EBX: the user area, EBP: the case.
  a.label('user_start');
  a.mov(ebx, edi);
  a.mov(edi, sym('user_signal'));
  a.lea(esi, mem(ebx, user.signalStack));
  systemCall(a, 'setSignal');
  a.xor(ebp, ebp);
  a.label('.ldt');
  a.call('install_descriptor');
  a.inc(ebp);
  a.cmp(ebp, ldtDescriptors.length);
  a.jb('.ldt');
  emitVanishingSegment(a);
  systemCall(a, 'waitTurn');
  a.mov(edi, sym('user_recover'));
  systemCall(a, 'setRecovery');
  a.mov(ebp, sym('cases'));
  a.jmp('next_case');

  // install_descriptor(index in EBP): from the table to the LDT, by way of the user area.
  a.label('install_descriptor');
  a.mov(eax, mem('ldt_descriptors', times(ebp, 8)));
  a.mov(mem(ebx, user.poke), eax);
  a.mov(eax, mem(sym('ldt_descriptors', 4), times(ebp, 8)));
  a.mov(mem(ebx, user.poke + 4), eax);
  a.label('install_poke');
  a.mov(edi, ebp);
  a.lea(esi, mem(ebx, user.poke));
  systemCall(a, 'modifyLdt');
  a.test(eax, eax);
  a.jnz('user_broken');
  a.ret();

  a.label('user_broken');
  a.jmp('user_broken');

  // The kernel died of this case and starts the task again here: vector in EAX, area in EDI.
  a.label('user_recover');
  a.mov(ebx, edi);
  a.mov(ebp, mem(ebx, user.case));
  a.inc(eax);
  a.mov(mem(ebx, user.oops), eax);
  a.label('case_done');
  a.mov(edi, ebp);
  a.mov(esi, ebx);
  systemCall(a, 'report');
  a.add(ebp, record.size);
  a.label('next_case');
  a.cmp(ebp, sym('cases_end'));
  a.jb('run_case');
  systemCall(a, 'finish');
  a.jmp('user_broken');
}

/** A segment that is in GS when its descriptor goes: the return finds it gone, and the task a null selector. */
function emitVanishingSegment(a: Assembler): void {
  const index = ldtSelector.data32 >> 3;
  a.mov(eax, ldtSelector.data32);
  a.mov(gs, eax);
  a.mov(ebp, index);
  a.mov(eax, mem('ldt_descriptors', 8 * index));
  a.mov(mem(ebx, user.poke), eax);
  a.mov(eax, mem('ldt_descriptors', 8 * index + 4));
  a.and(eax, ~0x8000);
  a.mov(mem(ebx, user.poke + 4), eax);
  a.call('install_poke');
  a.mov(eax, gs);
  a.test(ax, ax);
  a.jnz('user_broken');
  a.call('install_descriptor');
}

function emitCaseStart(a: Assembler): void {
  a.label('run_case');
  a.mov(mem(ebx, user.case), ebp);
  for (const field of [
    user.rsp,
    user.esp,
    user.fault,
    user.faultError,
    user.oops,
    user.registersChanged,
    user.missed,
  ] as const)
    a.mov(dword(ebx, field), 0);
  a.mov(eax, selector.userData);
  a.mov(ds, eax);
  a.mov(es, eax);

  // A debugger's change of the frame, to be made at the return from the event.
  a.cmp(dword(ebp, record.pokeCause), 0);
  a.je('.no_poke');
  for (const [i, field] of [record.frameCs, record.frameSs, record.frameRip].entries()) {
    a.mov(eax, mem(ebp, field));
    a.mov(mem(ebx, user.poke + 4 * i), eax);
  }
  a.mov(edi, mem(ebp, record.pokeCause));
  a.lea(esi, mem(ebx, user.poke));
  systemCall(a, 'poke');
  a.label('.no_poke');
  a.test(dword(ebp, record.flags), caseFlag.step);
  a.jz('.no_step');
  a.mov(edi, mem(ebp, record.target));
  systemCall(a, 'stepUntil');
  a.label('.no_step');

  // A frame for the kernel to load.
  for (const [to, from] of [
    [frame.eip, record.frameRip],
    [frame.cs, record.frameCs],
    [frame.esp, record.set],
    [frame.ss, record.frameSs],
  ] as const) {
    a.mov(eax, mem(ebp, from));
    a.mov(mem(ebx, user.frame + to), eax);
  }
  a.mov(dword(ebx, user.frame + frame.eflags), 0x202);
  // A far pointer to jump through.
  a.mov(eax, mem(ebp, record.target));
  a.mov(mem(ebx, user.farPointer), eax);
  a.mov(eax, mem(ebp, record.cs));
  a.mov(word(ebx, user.farPointer + 4), ax);
  // This CPU's APIC ID, for interrupt commands without a shorthand.
  a.mov(eax, ebx);
  a.sub(eax, Number(USER_AREA));
  a.shl(eax, 24 - Math.log2(Number(USER_AREA_STRIDE)));
  a.mov(mem(Number(USER_LAPIC) + apic.commandHigh), eax);

  a.mov(esi, ebx);
  a.mov(eax, mem(ebp, record.kind));
  a.mov(ebx, mem(esi, userCounters.events));
  a.mov(mem(esi, user.eventsBefore), ebx);
  a.mov(ecx, PATIENCE);
  a.mov(edx, pattern.edx);
  a.mov(ebp, pattern.ebp);
  a.mov(edi, pattern.edi);
  for (const [i, kind] of entryKinds.entries()) {
    a.cmp(eax, i);
    a.je(`enter.${kind}`);
  }
  a.jmp('user_broken');

  // MOV to SS holds off whatever would use the stack until ESP is loaded, too (SDM Vol. 3A, Section 6.8.3).
  a.label('enter.jump');
  a.mov(eax, mem(esi, user.case));
  a.test(dword(eax, record.flags), caseFlag.step);
  a.jz('.go');
  a.pushfd();
  a.or(dword(esp), 0x100);
  a.popfd();
  a.label('.go');
  a.mov(ss, word(eax, record.ss));
  a.mov(esp, mem(eax, record.set));
  a.test(dword(eax, record.flags), caseFlag.doubleFault);
  a.mov(eax, call32.touch);
  a.jz('.jump');
  a.mov(eax, call32.doubleFault);
  a.label('.jump');
  a.jmpFarIndirect(mem(esi, user.farPointer), 32);

  // ECX is not zero, as if the target had waited.
  a.label('enter.return-to');
  a.lea(ecx, mem(esi, user.frame));
  a.mov(eax, call32.returnTo);
  a.sysenter();

  a.label('enter.spawn');
  a.lea(ecx, mem(esi, user.frame));
  a.mov(eax, call32.spawn);
  a.int(vector.syscall);
  a.mov(ebx, esi);
  a.mov(ebp, mem(ebx, user.case));
  a.jmp('case_done');

  a.label('enter.raise');
  a.mov(eax, call32.raise);
  a.int(vector.syscall);
  a.jmp('user_broken');
}

/** user_signal(frame in EDI): builds the case's frame when raised on purpose, repairs the frame after a fault. */
function emitSignalHandler(a: Assembler): void {
  const setFrame = (eip: number, cs: number, ss: number) => {
    for (const [to, from] of [
      [regs.eip, eip],
      [regs.cs, cs],
      [regs.ss, ss],
    ] as const) {
      a.mov(eax, mem(ebp, from));
      a.mov(mem(edi, to), eax);
    }
  };
  a.label('user_signal');
  a.mov(ebx, edi);
  a.and(ebx, -Number(USER_AREA_STRIDE));
  a.mov(ebp, mem(ebx, user.case));
  a.mov(dword(edi, regs.eflags), 0x202);
  a.mov(eax, mem(ebp, record.set));
  a.mov(mem(edi, regs.esp), eax);
  a.cmp(dword(edi, regs.vector), cause.raise);
  a.je('.raised');

  // A second fault for one case means that the repaired frame is no good either.
  a.mov(eax, mem(edi, regs.vector));
  a.cmp(dword(ebx, user.fault), 0);
  a.jne('.again');
  a.inc(eax);
  a.mov(mem(ebx, user.fault), eax);
  a.mov(eax, mem(edi, regs.error));
  a.mov(mem(ebx, user.faultError), eax);
  setFrame(record.recordRip, record.cs, record.ss);
  a.jmp('.return');
  a.label('.again');
  a.mov(edi, ebx);
  a.jmp('user_recover');

  a.label('.raised');
  setFrame(record.frameRip, record.frameCs, record.frameSs);
  a.label('.return');
  a.mov(eax, call32.sigreturn);
  a.int(vector.syscall);
  a.jmp('user_broken');
}

function emitAfterTarget(a: Assembler): void {
  a.bits(32);
  a.label('after_target');
  a.mov(mem(esi, user.rsp), esp);
  a.mov(ebx, esi);
  a.mov(eax, selector.userData);
  a.mov(ss, eax);
  a.lea(esp, mem(ebx, user.stack));
  a.mov(ebp, mem(ebx, user.case));

  for (const [offset, value] of [
    [user.eax, ANSWER],
    [user.edx, pattern.edx],
    [user.ebp, pattern.ebp],
    [user.edi, pattern.edi],
  ] as const) {
    a.cmp(dword(ebx, offset), value);
    a.jne('.changed');
  }
  for (const [found, wanted] of [
    [user.cs, record.cs],
    [user.ss, record.ss],
  ] as const) {
    a.mov(eax, mem(ebp, wanted));
    a.cmp(mem(ebx, found), eax);
    a.jne('.changed');
  }
  a.mov(eax, mem(ebx, user.eventsBefore));
  a.cmp(mem(ebx, user.ebx), eax);
  a.je('.unchanged');
  a.label('.changed');
  a.inc(dword(ebx, user.registersChanged));
  a.label('.unchanged');
  a.cmp(dword(ebx, user.ecx), 0);
  a.jne('.came');
  a.inc(dword(ebx, user.missed));
  a.label('.came');
  a.test(dword(ebp, record.flags), caseFlag.child);
  a.jz('case_done');
  systemCall(a, 'exit');
  a.jmp('user_broken');
}
