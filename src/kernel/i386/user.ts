/** The test task of the 32-bit kernel: what `../common/user.ts` leaves to it. */

import {
  type Assembler,
  ax,
  dword,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  esi,
  esp,
  gs,
  mem,
  sym,
  times,
} from '../assembler.ts';
import { caseFlag, record } from '../case-table.ts';
import type { Case } from '../cases.ts';
import { kernel32 } from '../common/kernel.ts';
import { emitTask, ldtDescriptors, systemCall } from '../common/user.ts';
import { ldtSelector, user, vector } from '../layout.ts';
import { call32, frame } from './layout.ts';

/** Calls by SYSENTER; ECX and EDX are changed. */
const calls = {
  emitFastCall(a: Assembler) {
    a.call('sysenter_call');
  },
};

/** Emits the test task and the case table. */
export function emitUser(a: Assembler, cases: readonly Case[]): void {
  emitTask(a, kernel32, {
    cases,
    targets: [32, 16],
    machineCheck: 18,
    ...calls,
    emitDirectCall() {
      a.int(vector.syscall);
    },
    frameRegister: ecx,
    frame: { ip: frame.eip, cs: frame.cs, flags: frame.eflags, sp: frame.esp, ss: frame.ss },
    poke: [record.frameCs, record.frameSs, record.frameRip],
    emitBefore: emitFill,
    emitTargetCall() {
      a.test(dword(eax, record.flags), caseFlag.doubleFault);
      a.mov(eax, call32.touch);
      a.jz('.jump');
      a.mov(eax, call32.doubleFault);
      a.label('.jump');
    },
    // ECX is not zero, as if the target had waited.
    emitReturnTo() {
      a.lea(ecx, mem(esi, user.frame));
      a.mov(eax, call32.returnTo);
      a.sysenter();
    },
  });

  // ESP goes to the kernel in ECX, and the kernel returns to this RET.
  a.label('sysenter_call');
  a.mov(ecx, esp);
  a.sysenter();
  a.label('sysenter_return');
  a.ret();

  // install_descriptor(index in EBP): from the table to the LDT, by way of the user area.
  a.label('install_descriptor');
  a.mov(eax, mem('ldt_descriptors', times(ebp, 8)));
  a.mov(mem(ebx, user.poke), eax);
  a.mov(eax, mem(sym('ldt_descriptors', 4), times(ebp, 8)));
  a.mov(mem(ebx, user.poke + 4), eax);
  a.label('install_poke');
  a.mov(edi, ebp);
  a.lea(esi, mem(ebx, user.poke));
  systemCall(a, calls, 'modifyLdt');
  a.test(eax, eax);
  a.jnz('user_broken');
  a.ret();
}

function emitFill(a: Assembler): void {
  a.xor(ebp, ebp);
  a.label('.ldt');
  a.call('install_descriptor');
  a.inc(ebp);
  a.cmp(ebp, ldtDescriptors.length);
  a.jb('.ldt');

  // A segment that is in GS when its descriptor goes: the return finds it gone, and the task a null selector.
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
