/**
 * NMI without an interrupt stack.
 *
 * The ministack is 64 bytes because NMI and #MC leave it by themselves: their gates name interrupt stacks. Without, an NMI is
 * pushed wherever RSP is: on the read-only ministack, which makes it a #DF, or, at SYSCALL's first instruction, on the
 * user's stack. Kernels that reserve interrupt stacks for #DF only are like that.
 *
 * Difference: the gate of vector 2 names no interrupt stack. Schedule: NMI at `iretq.espfix`, which the #DF handler takes for
 * a fault of the IRETQ, so that user space gets a #GP for nothing; or at the POP before it, which kills the kernel's work.
 */

import { linux } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

export const nmiWithoutIst: GalleryEntry = {
  name: 'nmi-without-ist',
  title: 'NMI without an interrupt stack',
  description:
    'An NMI is pushed wherever RSP is: on the ministack, where it becomes a double fault and then a #GP that user space has not deserved.',
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'transparent',
  events: ['nmi'],
  at: 'iretq.espfix',
  cpus: 1,
  shows: (c) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt',
  variant: { ...linux, name: 'nmi-without-ist', interruptStacks: { 2: 0 } },
};
