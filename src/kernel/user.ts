/** The test task of the 64-bit kernel: what `common/user.ts` leaves to it. */

import {
  type Assembler,
  ds,
  dword,
  eax,
  ebp,
  ecx,
  edi,
  esi,
  esp,
  mem,
  qword,
  r8q,
  r9,
  r10,
  r11,
  r12,
  r13,
  r14,
  r15,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  ss,
  sym,
  times,
  word,
} from './assembler.ts';
import { caseFlag, record } from './case-table.ts';
import { type Case, forgedFrameAt } from './cases.ts';
import { kernel64 } from './common/kernel.ts';
import { emitTask, ldtDescriptors, systemCall } from './common/user.ts';
import {
  call,
  frame,
  LDT_ENTRIES,
  ldtSelector,
  regs,
  selector,
  signalFrame,
  USER_AREA,
  user,
  vector,
} from './layout.ts';
import type { Tasks } from './variants/variant.ts';

/** The stack pointer of the return before all cases. */
const EARLY_STACK_POINTER = 0x5aad_c0de;
/** Not canonical, as RSP need not be. */
const WIDE_STACK_POINTER = 0x8bad_f00d_5aad_c0den;
/** The stack pointer of the forged frame. */
const FORGED_STACK_POINTER = 0x0f0f_0f0f;

/** Values of the registers that 64-bit code alone has, no two alike; R9 and R11 are of use in system calls. */
const highRegisters = [
  [r8q, 0x0800_0808_f8f8_0008n],
  [r10, 0x0a00_0a0a_fafa_000an],
  [r12, 0x0c00_0c0c_fcfc_000cn],
  [r13, 0x0d00_0d0d_fdfd_000dn],
  [r14, 0x0e00_0e0e_fefe_000en],
  [r15, 0x0f00_0f0f_ffff_000fn],
] as const;

/** Registers that a return from a signal brings, each with its place in the frame and its value. */
const given = (
  [
    [rbx, regs.rbx],
    [rdx, regs.rdx],
    [rbp, regs.rbp],
    [rsi, regs.rsi],
    [r8q, regs.r8],
    [r9, regs.r9],
    [r10, regs.r10],
    [r12, regs.r12],
    [r13, regs.r13],
    [r14, regs.r14],
    [r15, regs.r15],
  ] as const
).map(([register, offset]) => [register, offset, 0x5160_0000 + offset] as const);

export interface UserOptions extends Tasks {
  /** Whether the GDT has slots for thread-local segments, in which the task puts a 16-bit one. */
  readonly tls?: boolean;
}

const calls = {
  emitFastCall(a: Assembler) {
    a.syscall();
  },
};

/** Emits the test task and the case table. */
export function emitUser(a: Assembler, cases: readonly Case[], options: UserOptions = {}): void {
  emitTask(a, kernel64, {
    cases,
    targets: [64, 32, 16],
    machineCheck: vector.machineCheckStandIn,
    ...calls,
    emitDirectCall: calls.emitFastCall,
    frameRegister: r9,
    frame: { ip: frame.rip, cs: frame.cs, flags: frame.rflags, sp: frame.rsp, ss: frame.ss },
    poke: [record.frameCs, record.frameSs, record.frameRip, record.set],
    emitBefore: () => emitFill(a, options),
    emitBeforeCase() {
      emitForgedFrame(a);
      // Compatibility-mode code cannot see these, and the kernel has to keep them all the same.
      for (const [register, value] of highRegisters) a.mov(register, value);
      // Nothing in this task uses it, and a kernel that does must clear it first.
      a.std();
    },
    emitAfterCase() {
      for (const [register, value] of highRegisters) {
        a.mov(rax, value);
        a.cmp(register, rax);
        a.jne('.changed');
      }
    },
    emitTargetCall() {
      a.mov(eax, call.touch);
    },
    emitReturnTo() {
      if (cases.some((c) => c.strayStack !== undefined)) {
        a.test(dword(rax, record.flags), caseFlag.strayStack);
        a.jz('.call');
        a.mov(rsp, mem(rax, record.set));
        a.label('.call');
      }
      a.lea(r9, mem(rsi, user.frame));
      systemCall(a, calls, 'returnTo');
    },
  });
}

function emitFill(a: Assembler, { sharedLdt, returnEarly, tls }: UserOptions): void {
  if (sharedLdt) {
    // Threads of one process: the others wait until the first has filled their LDT.
    a.cmp(rbx, Number(USER_AREA));
    a.je('.fill');
    a.mov(ecx, 8 * ldtDescriptors.length - 1);
    a.label('.wait');
    a.pause();
    a.lar(eax, ecx);
    a.jnz('.wait');
    a.jmp('.filled');
    a.label('.fill');
  }
  const install = () => {
    systemCall(a, calls, 'modifyLdt');
    a.test(eax, eax);
    a.jnz('user_broken');
  };
  a.xor(ebp, ebp);
  a.label('.ldt');
  a.mov(edi, ebp);
  a.mov(esi, sym('ldt_descriptors'));
  a.mov(rsi, mem(rsi, times(rdi, 8)));
  install();
  a.inc(ebp);
  a.cmp(ebp, ldtDescriptors.length);
  a.jb('.ldt');
  if (tls) {
    a.mov(edi, LDT_ENTRIES);
    a.mov(rsi, mem('ldt_descriptors', ldtSelector.data16 & ~7));
    install();
  }
  a.label('.filled');
  emitSigreturn(a, 0x203, 0x5160_0a02);
  emitSigreturn(a, 0x202, 0x202);
  emitSigreturn(a, 0x202, 0x202, 'user_broken');
  emitWideStack(a);
  if (returnEarly) emitEarlyReturn(a);
}

/** Emits, in line, a system call with a stack pointer of 64 bits. Without it and its registers the task goes no further. */
function emitWideStack(a: Assembler): void {
  a.mov(rsp, WIDE_STACK_POINTER);
  systemCall(a, calls, 'touch');
  a.mov(rcx, WIDE_STACK_POINTER);
  a.cmp(rsp, rcx);
  a.lea(rsp, mem(rbx, user.stack));
  a.jne('user_broken');
  for (const [register, , value] of given.slice(1)) {
    a.cmp(register, value + 0x202);
    a.jne('user_broken');
  }
}

/**
 * Emits, in line, a return from a signal to the instruction behind the SYSCALL that asks for it, with other registers.
 * SYSRET would not do with other flags than R11, or with RCX elsewhere (a label). Without its registers and flags the task
 * goes no further.
 */
function emitSigreturn(a: Assembler, flags: 0x202 | 0x203, r11Given: number, rcxGiven?: string): void {
  const done = `sigreturn_done.${flags}.${rcxGiven ?? ''}`;
  a.lea(rdi, mem(rbx, user.signalStack - signalFrame.size));
  a.lea(rax, mem(done));
  a.mov(mem(rdi, regs.rip), rax);
  if (rcxGiven !== undefined) a.lea(rax, mem(rcxGiven));
  a.mov(mem(rdi, regs.rcx), rax);
  a.mov(mem(rdi, regs.rdi), rdi);
  a.mov(mem(rdi, regs.rsp), rsp);
  for (const [field, value] of [
    [regs.cs, selector.userCode64],
    [regs.ss, selector.userData],
    [regs.rflags, flags],
    [regs.r11, r11Given],
  ])
    a.mov(qword(rdi, field), value);
  for (const [, offset, value] of given) a.mov(qword(rdi, offset), value + flags);
  systemCall(a, calls, 'sigreturn');
  a.label(done);
  if (flags & 1) a.jnc('user_broken');
  else a.jc('user_broken');
  a.cmp(r11, r11Given);
  a.jne('user_broken');
  for (const [register, , value] of given) {
    a.cmp(register, value + flags);
    a.jne('user_broken');
  }
  a.lea(rbx, mem(rdi, signalFrame.size - user.signalStack));
}

/** Emits, in line, a system call of 32-bit code on a 16-bit stack. Without its stack pointer the task goes no further. */
function emitEarlyReturn(a: Assembler): void {
  a.lea(rax, mem('early_return'));
  a.mov(mem(rbx, user.farPointer), eax);
  a.mov(word(rbx, user.farPointer + 4), selector.userCode32);
  a.mov(rsi, rbx);
  a.mov(eax, selector.userData);
  a.mov(ds, eax);
  a.mov(eax, call.touch);
  a.mov(ecx, ldtSelector.data16);
  a.mov(ss, ecx);
  a.mov(esp, EARLY_STACK_POINTER);
  a.jmpFarIndirect(mem(rbx, user.farPointer), 32);
  a.bits(32);
  a.label('early_return');
  a.int(vector.syscall);
  a.mov(mem(esi, user.esp), esp);
  a.jmpFar(selector.userCode64, 'early_return_done');
  a.bits(64);
  a.label('early_return_done');
  a.mov(eax, selector.userData);
  a.mov(ss, eax);
  a.lea(rsp, mem(rbx, user.stack));
  a.cmp(dword(rbx, user.esp), EARLY_STACK_POINTER);
  a.jne('user_broken');
}

/** If the kernel takes this frame for its own, the record shows the forged stack pointer. */
function emitForgedFrame(a: Assembler): void {
  a.test(dword(rbp, record.flags), caseFlag.forged);
  a.jz('.not_forged');
  a.mov(eax, Number(forgedFrameAt));
  a.lea(rcx, mem('record.64'));
  a.mov(mem(rax, frame.rip), rcx);
  a.mov(qword(rax, frame.cs), selector.userCode64);
  a.mov(qword(rax, frame.rflags), 0x202);
  a.mov(qword(rax, frame.rsp), FORGED_STACK_POINTER);
  a.mov(qword(rax, frame.ss), selector.userData);
  a.label('.not_forged');
}
