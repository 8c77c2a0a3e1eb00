/**
 * A return path that forgot espfix.
 *
 * A kernel returns to user mode from more than one place, and the prototype's author doubted that he had them all. Here it
 * is the system calls that SYSRET cannot end, which have an IRETQ of their own.
 *
 * Difference: those returns restore the registers and execute a plain IRETQ. Schedule: none; a system call that goes on at a
 * 16-bit stack leaks at `iretq.system_call`. A refused frame has its true error code there, where espfix says #GP(0).
 */

import { rsp } from '../../assembler.ts';
import { restoreRegisters } from '../../entry/entry.ts';
import { linux } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

export const forgottenReturn: GalleryEntry = {
  name: 'forgotten-return',
  title: 'a return path that forgot espfix',
  description:
    'System calls that SYSRET cannot end return by a plain IRETQ, which leaves bits 31:16 of the kernel stack pointer in ESP.',
  verdict: 'unsafe',
  withoutEvents: 'unsafe',
  property: 'kernel-bits',
  events: [],
  at: 'iretq.system_call',
  cpus: 1,
  shows: (c) =>
    c.path === 'syscall' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt' && c.expected === undefined,
  variant: {
    ...linux,
    name: 'forgotten-return',
    userIretLabels: [...linux.userIretLabels, 'iretq.system_call'],
    systemCallReturn: 'return_from_system_call',
    emitFunctions(a, build) {
      linux.emitFunctions(a, build);
      a.label('return_from_system_call');
      restoreRegisters(a);
      a.add(rsp, 16);
      a.swapgs();
      a.label('iretq.system_call');
      a.iretq();
    },
  },
};
