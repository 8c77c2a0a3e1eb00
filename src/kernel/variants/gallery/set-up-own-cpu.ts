/**
 * Set-up of the calling CPU alone, at modify_ldt: the reviewer's sixth question.
 *
 * The prototype set a CPU's ministack up when a task on it first called modify_ldt. But an LDT belongs to a process, whose
 * threads run on any CPU and are moved between them: a thread may load a 16-bit stack segment on a CPU that has never seen
 * the call. There the per-CPU pointers are zero, and the kernel writes the frame to the first page.
 *
 * Difference: modify_ldt sets up the CPU it runs on, under a lock; all CPUs run threads of one process. Schedule: none; CPU
 * 1's thread uses the LDT that CPU 0's thread has filled, at `return_to_ldt`.
 */

import { gs, mem, qword, r15 } from '../../assembler.ts';
import { percpu } from '../../layout.ts';
import type { GalleryEntry } from './entry.ts';
import { emitLock, emitSetUpData, emitUnlock, lazy } from './set-up.ts';

export const setUpOwnCpu: GalleryEntry = {
  name: 'set-up-own-cpu',
  title: 'set-up of the calling CPU at modify_ldt',
  description:
    'modify_ldt sets up the CPU that it runs on. A thread of the same process on another CPU returns to a 16-bit stack with no ministack to return by.',
  verdict: 'unsafe',
  withoutEvents: 'unsafe',
  property: 'progress',
  events: [],
  at: 'return_to_ldt',
  cpus: 2,
  shows: (c) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt' && c.name === '-',
  variant: {
    ...lazy,
    name: 'set-up-own-cpu',
    tasks: { sharedLdt: true },
    emitFunctions(a, build) {
      lazy.emitFunctions(a, build);
      emitSetUpData(a);
      a.label('espfix_init');
      a.cmp(qword(gs, percpu.espfixStack), 0);
      a.jne('.done');
      emitLock(a);
      a.mov(r15, mem(gs, percpu.id));
      a.call('espfix_set_up');
      emitUnlock(a);
      a.label('.done');
      a.ret();
    },
  },
};
