/**
 * The test task of both kernels, at CPL 3: it walks through the case table, brings itself onto each case's segments and
 * stack pointer, lets the event happen, and records what it finds before anything touches the stack.
 *
 * Target code exists in 16- and 32-bit form, and in 64-bit form for the kernel that has it, at addresses below 4 GiB. It
 * keeps the user area in ESI and reaches memory through DS, never through SS.
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
  type Register,
  rsi,
  ss,
  sym,
  word,
} from '../assembler.ts';
import { caseFlag, emitCaseTable, entryKinds, record } from '../case-table.ts';
import { type Case, type TargetEvent, targetEvents } from '../cases.ts';
import { segmentDescriptor } from '../descriptors.ts';
import {
  ANSWER,
  call,
  cause,
  selector,
  USER_AREA,
  USER_AREA_STRIDE,
  USER_LAPIC,
  USER_TEXT,
  user,
  userCounters,
  vector,
} from '../layout.ts';
import type { Kernel } from './kernel.ts';
import { apic } from './start.ts';

/** Values that general registers must keep through an event. EBX keeps the event count, ESI the area. */
const pattern = { edx: 0x0dd0_0dd1, ebp: 0x0bb0_0bb1, edi: 0x0d1d_0d11 } as const;
/** Turns of the waiting loop before an event counts as missed. */
const PATIENCE = 0x40_0000;
/** Local APIC timer ticks until the timer interrupt. */
const TIMER_TICKS = 2000;
const TF = 0x100;

/** Interrupt commands (SDM Vol. 3A, Figure 10-12): to itself by shorthand, or NMI to the CPU in ICR's high half. */
const SELF_IPI = 0x0004_4000 | vector.ipi;
const NMI_IPI = 0x4400;

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

/** What the task of a kernel does in its own way. */
export interface TaskOptions {
  readonly cases: readonly Case[];
  /** Widths of the target code. */
  readonly targets: readonly CodeBits[];
  /** The vector that target code raises for a machine check. */
  readonly machineCheck: number;
  /** Emits, in line, the call that EAX names by the kernel's fast instruction; AX, CX and DX may change. */
  readonly emitFastCall: (a: Assembler) => void;
  /** Emits the call that EAX names as it stands: nothing changes before the kernel is there. */
  readonly emitDirectCall: (a: Assembler) => void;
  /** The register that points at a frame, for calls that take one. */
  readonly frameRegister: Register;
  /** Saved registers that a frame for sigreturn, return_to, spawn and poke consists of, each with its offset. */
  readonly frame: Readonly<Record<'ip' | 'cs' | 'flags' | 'sp' | 'ss', number>>;
  /** Fields of a case's record that poke is given, in order. */
  readonly poke: readonly number[];
  /** Emits what the task does before its cases, the filling of the LDT first, in line; BX is the user area. */
  readonly emitBefore: (a: Assembler) => void;
  /** Emits what is particular before a case: BX is the area, BP the case; AX and CX may change. */
  readonly emitBeforeCase?: (a: Assembler) => void;
  /** Emits, in line, a jump to `.changed` unless registers are as `emitBeforeCase` left them; none may change. */
  readonly emitAfterCase?: (a: Assembler) => void;
  /** Emits loading EAX with the number of the call that target code makes; AX is the case before. */
  readonly emitTargetCall: (a: Assembler) => void;
  /** Emits the call that goes on at the frame; AX is the case, SI the area. */
  readonly emitReturnTo: (a: Assembler) => void;
}

/** Emits the test task and the case table. */
export function emitTask(a: Assembler, k: Kernel, options: TaskOptions): void {
  a.section('.user.text').bits(k.bits);
  emitDriver(a, k, options);
  emitCaseStart(a, k, options);
  emitSignalHandler(a, k);
  for (const bits of options.targets) {
    for (const event of targetEvents) emitTarget(a, bits, event, options.machineCheck);
    emitRecord(a, bits, k.bits);
  }
  emitAfterTarget(a, k, options);

  a.section('.user.rodata');
  a.align(8);
  emitCaseTable(a, options.cases);
  a.label('ldt_descriptors').dq(...ldtDescriptors);
  a.section('.user.text');
}

/** Emits a system call by name, in line. */
export function systemCall(
  a: Assembler,
  { emitFastCall }: Pick<TaskOptions, 'emitFastCall'>,
  name: keyof typeof call,
): void {
  a.mov(eax, call[name]);
  emitFastCall(a);
}

function emitDriver(a: Assembler, k: Kernel, options: TaskOptions): void {
  const { bx, bp, di, si } = k;
  // BX: the user area, BP: the case.
  a.label('user_start');
  a.mov(bx, di);
  a.mov(edi, sym('user_signal'));
  a.lea(si, mem(bx, user.signalStack));
  systemCall(a, options, 'setSignal');
  options.emitBefore(a);
  systemCall(a, options, 'waitTurn');
  a.mov(edi, sym('user_recover'));
  systemCall(a, options, 'setRecovery');
  a.mov(ebp, sym('cases'));
  a.jmp('next_case');

  a.label('user_broken');
  a.jmp('user_broken');

  // The kernel died of this case and starts the task again here: vector in AX, area in DI.
  a.label('user_recover');
  a.mov(bx, di);
  a.mov(bp, mem(bx, user.case));
  a.inc(eax);
  a.mov(mem(bx, user.oops), eax);
  a.label('case_done');
  a.mov(di, bp);
  a.mov(si, bx);
  systemCall(a, options, 'report');
  a.add(bp, record.size);
  a.label('next_case');
  a.cmp(ebp, sym('cases_end'));
  a.jb('run_case');
  systemCall(a, options, 'finish');
  a.jmp('user_broken');
}

function emitCaseStart(a: Assembler, k: Kernel, options: TaskOptions): void {
  const { bits, bytes, ax: whole, bx, bp, si, sp } = k;
  /** Copies a field of the record that is an address or a selector; the latter have 32 bits. */
  const copy = (to: number, from: number) => {
    const selectors: readonly number[] = [record.frameCs, record.frameSs];
    a.mov(selectors.includes(from) ? eax : whole, mem(bp, from));
    a.mov(mem(bx, to), whole);
  };
  a.label('run_case');
  a.mov(mem(bx, user.case), bp);
  for (const field of [
    user.rsp,
    user.rsp + 4,
    user.esp,
    user.eax,
    user.fault,
    user.faultError,
    user.oops,
    user.registersChanged,
    user.missed,
  ])
    a.mov(dword(bx, field), 0);
  a.mov(eax, selector.userData);
  a.mov(ds, eax);
  a.mov(es, eax);

  // A debugger's change of the frame, to be made at the return from the event.
  a.cmp(dword(bp, record.pokeCause), 0);
  a.je('.no_poke');
  for (const [i, field] of options.poke.entries()) copy(user.poke + bytes * i, field);
  a.mov(edi, mem(bp, record.pokeCause));
  a.lea(si, mem(bx, user.poke));
  systemCall(a, options, 'poke');
  a.label('.no_poke');
  a.test(dword(bp, record.flags), caseFlag.step);
  a.jz('.no_step');
  a.mov(edi, mem(bp, record.target));
  systemCall(a, options, 'stepUntil');
  a.label('.no_step');

  // A frame for the kernel to load.
  copy(user.frame + options.frame.ip, record.frameRip);
  copy(user.frame + options.frame.cs, record.frameCs);
  a.mov(k.word(bx, user.frame + options.frame.flags), 0x202);
  copy(user.frame + options.frame.sp, record.set);
  copy(user.frame + options.frame.ss, record.frameSs);
  // A far pointer to jump through.
  a.mov(eax, mem(bp, record.target));
  a.mov(mem(bx, user.farPointer), eax);
  a.mov(eax, mem(bp, record.cs));
  a.mov(word(bx, user.farPointer + 4), ax);
  // This CPU's APIC ID, for interrupt commands without a shorthand.
  a.mov(eax, ebx);
  a.sub(eax, Number(USER_AREA));
  a.shl(eax, 24 - Math.log2(Number(USER_AREA_STRIDE)));
  a.mov(mem(Number(USER_LAPIC) + apic.commandHigh), eax);
  options.emitBeforeCase?.(a);

  a.mov(si, bx);
  a.mov(eax, mem(bp, record.kind));
  a.mov(ebx, mem(si, userCounters.events));
  a.mov(mem(si, user.eventsBefore), ebx);
  a.mov(ecx, PATIENCE);
  a.mov(edx, pattern.edx);
  a.mov(ebp, pattern.ebp);
  a.mov(edi, pattern.edi);
  for (const [i, kind] of entryKinds.entries()) {
    a.cmp(eax, i);
    a.je(`enter.${kind}`);
  }
  a.jmp('user_broken');

  // In 64-bit mode SS means nothing, so the stack pointer can be set exactly before the far jump. Elsewhere MOV to SS holds
  // off whatever would use the stack until it is set (SDM Vol. 3A, Section 6.8.3).
  a.label('enter.jump');
  a.mov(whole, mem(si, user.case));
  a.test(dword(whole, record.flags), caseFlag.step);
  a.jz('.go');
  if (bits === 64) a.pushfq();
  else a.pushfd();
  a.or(dword(sp), TF);
  if (bits === 64) a.popfq();
  else a.popfd();
  a.label('.go');
  a.mov(ss, word(whole, record.ss));
  a.mov(sp, mem(whole, record.set));
  options.emitTargetCall(a);
  a.jmpFarIndirect(mem(si, user.farPointer), 32);

  a.label('enter.return-to');
  a.mov(whole, mem(si, user.case));
  options.emitReturnTo(a);
  a.jmp('user_broken');

  a.label('enter.spawn');
  a.lea(options.frameRegister, mem(si, user.frame));
  a.mov(eax, call.spawn);
  options.emitDirectCall(a);
  a.mov(bx, si);
  a.mov(bp, mem(bx, user.case));
  a.jmp('case_done');

  a.label('enter.raise');
  a.mov(eax, call.raise);
  options.emitDirectCall(a);
  a.jmp('user_broken');
}

/** user_signal(frame in DI): builds the case's frame when raised on purpose, repairs the frame after a fault. */
function emitSignalHandler(a: Assembler, k: Kernel): void {
  const { ax: whole, bx, bp, di, regs } = k;
  const setFrame = (fields: readonly { to: number; from: number; wide?: boolean }[]) => {
    for (const { to, from, wide } of fields) {
      a.mov(wide ? whole : eax, mem(bp, from));
      a.mov(mem(di, to), whole);
    }
  };
  a.label('user_signal');
  a.mov(bx, di);
  a.and(bx, -Number(USER_AREA_STRIDE));
  a.mov(bp, mem(bx, user.case));
  a.mov(k.word(di, regs.flags), 0x202);
  setFrame([{ to: regs.sp, from: record.set, wide: true }]);
  a.cmp(k.word(di, regs.vector), cause.raise);
  a.je('.raised');

  // A second fault for one case means that the repaired frame is no good either.
  a.mov(eax, mem(di, regs.vector));
  a.cmp(dword(bx, user.fault), 0);
  a.jne('.again');
  a.inc(eax);
  a.mov(mem(bx, user.fault), eax);
  a.mov(eax, mem(di, regs.error));
  a.mov(mem(bx, user.faultError), eax);
  setFrame([
    { to: regs.ip, from: record.recordRip },
    { to: regs.cs, from: record.cs },
    { to: regs.ss, from: record.ss },
  ]);
  a.jmp('.return');
  a.label('.again');
  a.mov(di, bx);
  a.jmp('user_recover');

  a.label('.raised');
  setFrame([
    { to: regs.ip, from: record.frameRip, wide: true },
    { to: regs.cs, from: record.frameCs },
    { to: regs.ss, from: record.frameSs },
  ]);
  a.label('.return');
  a.mov(eax, call.sigreturn);
  a.int(vector.syscall);
  a.jmp('user_broken');
}

/** The code that a case runs, in 16-, 32- or 64-bit code: lets the event happen and goes on to `record.<bits>`. */
function emitTarget(a: Assembler, bits: CodeBits, event: TargetEvent, machineCheck: number): void {
  const area = bits === 64 ? rsi : esi;
  a.bits(bits);
  // A kernel that goes back instead of on finds an endless loop: JMP to itself.
  if (event === 'exception') a.db(0xeb, 0xfe);
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
function emitRecord(a: Assembler, bits: CodeBits, kernelBits: 32 | 64): void {
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

function emitAfterTarget(a: Assembler, k: Kernel, options: TaskOptions): void {
  const { bx, bp, si, sp } = k;
  a.bits(k.bits);
  a.label('after_target');
  // 64-bit code finds the upper half as compatibility mode left it.
  if (k.bits === 64) a.mov(esi, esi);
  a.mov(mem(si, user.rsp), sp);
  a.mov(bx, si);
  a.mov(eax, selector.userData);
  a.mov(ss, eax);
  a.lea(sp, mem(bx, user.stack));
  a.mov(bp, mem(bx, user.case));

  for (const [offset, value] of [
    [user.eax, ANSWER],
    [user.edx, pattern.edx],
    [user.ebp, pattern.ebp],
    [user.edi, pattern.edi],
  ] as const) {
    a.cmp(dword(bx, offset), value);
    a.jne('.changed');
  }
  for (const [found, wanted] of [
    [user.cs, record.cs],
    [user.ss, record.ss],
  ] as const) {
    a.mov(eax, mem(bp, wanted));
    a.cmp(mem(bx, found), eax);
    a.jne('.changed');
  }
  options.emitAfterCase?.(a);
  a.mov(eax, mem(bx, user.eventsBefore));
  a.cmp(mem(bx, user.ebx), eax);
  a.je('.unchanged');
  a.label('.changed');
  a.inc(dword(bx, user.registersChanged));
  a.label('.unchanged');
  // An event that comes when hardly a turn is left does not come: what is in ECX then may be anything small.
  a.cmp(dword(bx, user.ecx), 16);
  a.jae('.came');
  a.inc(dword(bx, user.missed));
  a.label('.came');
  a.test(dword(bp, record.flags), caseFlag.child);
  a.jz('case_done');
  systemCall(a, options, 'exit');
  a.jmp('user_broken');
}
