/**
 * Entry from interrupts, exceptions and SYSENTER, and the way back. NMIs and machine checks arrive on the stack
 * that they interrupt; only double faults have a stack of their own, through a task gate.
 */

import {
  type Assembler,
  byte,
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
  fs,
  gs,
  mem,
  type Register,
  ss,
  sym,
  times,
  word,
} from '../assembler.ts';
import { cause, selector } from '../layout.ts';
import { KERNEL_FRAME_SIZE, percpu, regs, selector32 } from './layout.ts';
import type { Variant32 } from './variant.ts';

/** General registers from the highest address of `regs` down. */
const generalRegisters: readonly Register[] = [eax, ecx, edx, ebx, ebp, esi, edi];
const dataSegments: readonly Register[] = [ds, es, fs, gs];

/** Exceptions that push an error code (SDM Vol. 3A, Table 6-1). */
const withErrorCode = [8, 10, 11, 12, 13, 14, 17, 21];
/** Faults that a segment load or IRETD may raise: #TS, #NP, #SS, #GP, #PF. */
const LOAD_FAULTS = { first: 10, last: 14 } as const;

const EFLAGS = { TF: 0x100, IF: 0x200, RESERVED: 2 } as const;

/** Emits the code around the saved registers, and remembers where it loads the user's segments. */
class SavedRegisters {
  /** Labels of instructions that load a segment register from the stack and may fault. */
  readonly loads: string[] = [];

  save(a: Assembler): void {
    for (const register of [...dataSegments, ss]) {
      a.push(register);
      // The processor writes bits 15:0 only: above them is what was on the stack before, and signals copy it.
      a.mov(word(esp, 2), 0);
    }
    for (const register of generalRegisters) a.push(register);
  }

  readonly restore = (a: Assembler): void => {
    for (const register of generalRegisters.toReversed()) a.pop(register);
    a.add(esp, 4);
    for (const register of dataSegments.toReversed()) {
      const label = `load.${register.name}.${this.loads.length}`;
      this.loads.push(label);
      a.label(label);
      a.pop(register);
    }
  };
}

/**
 * The kernel's own segments; EAX is changed. GS is not used but must not keep a selector that the kernel may
 * find gone when it returns to itself.
 */
function loadKernelSegments(a: Assembler): void {
  a.mov(eax, selector.kernelData);
  a.mov(ds, eax);
  a.mov(es, eax);
  a.mov(eax, selector32.percpu);
  a.mov(fs, eax);
  a.xor(eax, eax);
  a.mov(gs, eax);
}

/** Emits entries for all 256 vectors and SYSENTER, and the returns to user and kernel mode. */
export function emitEntries(a: Assembler, variant: Variant32): void {
  const saved = new SavedRegisters();
  a.section('.text').bits(32);
  for (let vector = 0; vector < 256; vector++) {
    a.label(`vector.${vector}`);
    if (!withErrorCode.includes(vector)) a.push(0);
    a.push(vector);
    a.jmp('interrupt_entry');
  }
  emitSysenterEntry(a, saved);
  emitReturns(a, variant, saved);
  emitInterruptEntry(a, variant, saved);
}

function emitInterruptEntry(a: Assembler, variant: Variant32, saved: SavedRegisters): void {
  // Vector, error code and the processor's frame are on the stack.
  a.label('interrupt_entry');
  a.cld();
  saved.save(a);
  loadKernelSegments(a);
  a.test(byte(esp, regs.cs), 3);
  a.jz('.from_kernel');
  a.label('.dispatch');
  a.mov(edi, esp);
  a.mov(eax, mem(esp, regs.vector));
  a.call(dword('handlers', times(eax, 4)));
  a.jmp('return_from_interrupt');

  a.label('.from_kernel');
  variant.emitKernelEntry?.(a);
  a.mov(eax, mem(esp, regs.vector));
  a.sub(eax, LOAD_FAULTS.first);
  a.cmp(eax, LOAD_FAULTS.last - LOAD_FAULTS.first);
  a.ja('.dispatch');
  a.mov(eax, mem(esp, regs.eip));
  for (const label of variant.userIretLabels) {
    a.cmp(eax, sym(label));
    a.je('.bad_iret');
  }
  for (const label of saved.loads) {
    a.cmp(eax, sym(label));
    a.je('.bad_segment');
  }
  a.jmp('.dispatch');

  // A selector that was good when the task was interrupted is no more: the task gets a null one. The word that
  // POP would not take lies where a frame from user mode has its ESP.
  a.label('.bad_segment');
  a.mov(dword(esp, regs.esp), 0);
  a.jmp('return_to_kernel');

  // The frame that IRETD refused lies above the one of its fault. Pretend that it was taken and that the fault
  // came in user mode: the saved registers, the vector and the error code move up to meet it.
  a.label('.bad_iret');
  a.lea(esi, mem(esp, regs.error));
  a.lea(edi, mem(esi, KERNEL_FRAME_SIZE));
  a.mov(ecx, regs.eip / 4);
  a.std();
  a.rep().movsd();
  a.cld();
  a.lea(esp, mem(edi, 4));
  a.jmp('.dispatch');
}

// SYSENTER says nothing of where it came from: the caller passes ESP in ECX, and all calls return to one place.
// It changes ECX and EDX.
function emitSysenterEntry(a: Assembler, saved: SavedRegisters): void {
  a.label('sysenter_entry');
  a.push(selector.userData);
  a.push(ecx);
  a.pushfd();
  a.or(dword(esp), EFLAGS.IF);
  a.push(selector.userCode32);
  a.push(sym('sysenter_return'));
  a.push(0);
  a.push(cause.syscall);
  saved.save(a);
  // SYSENTER leaves TF, NT, AC and DF as the user had them (SDM Vol. 2B, SYSENTER).
  a.push(EFLAGS.RESERVED);
  a.popfd();
  loadKernelSegments(a);
  a.mov(edi, esp);
  a.sti();
  a.call('dispatch_call');
  a.cli();
  a.call('exit_work');
  for (const [field, value] of [
    [regs.eip, sym('sysenter_return')],
    [regs.cs, selector.userCode32],
    [regs.ss, selector.userData],
  ] as const) {
    a.cmp(dword(esp, field), value);
    a.jne('return_to_user');
  }
  a.test(dword(esp, regs.eflags), EFLAGS.TF);
  a.jnz('return_to_user');
  a.label('return_by_sysexit');
  saved.restore(a);
  a.mov(edx, mem(esp, regs.eip - regs.vector));
  a.mov(ecx, mem(esp, regs.esp - regs.vector));
  a.add(esp, regs.eflags - regs.vector);
  a.and(dword(esp), ~EFLAGS.IF);
  a.popfd();
  // STI delays interrupts by one instruction.
  a.sti();
  a.label('sysexit.user');
  a.sysexit();
}

function emitReturns(a: Assembler, variant: Variant32, saved: SavedRegisters): void {
  // ESP points at the saved registers of whoever was interrupted.
  a.label('return_from_interrupt');
  a.cli();
  a.test(byte(esp, regs.cs), 3);
  a.jz('return_to_kernel');
  a.call('exit_work');

  a.label('return_to_user');
  variant.emitReturn(a, saved.restore);
  a.label('return_to_user_end');

  a.label('return_to_kernel');
  variant.emitKernelReturn?.(a, saved.restore);
  saved.restore(a);
  a.add(esp, 8);
  a.label('iretd.kernel');
  a.iretd();

  // exit_work: what is left to do before a return to user mode; ESP + 4 points at the saved registers.
  a.label('exit_work');
  a.cmp(dword(fs, percpu.pokeCause), 0);
  a.jne('apply_poke');
  a.ret();
}
