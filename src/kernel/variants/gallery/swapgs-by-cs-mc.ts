/**
 * SWAPGS decided by the saved CS alone, for #MC.
 *
 * Between entry and SWAPGS, and between SWAPGS and the return, the kernel runs with the user's GS base. Interrupts are off
 * there; #MC comes all the same. A handler that takes the saved CS for the answer does not execute SWAPGS, and reads its
 * per-CPU area through a base of user space. Linux looks at the base itself; several young kernels do not.
 *
 * Difference: for vector 18 the paranoid entry does not look at the base. Schedule: #MC at any instruction of kernel mode with
 * the user's base, as `iretq.user`.
 */

import { linux } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

export const swapgsByCsMc: GalleryEntry = {
  name: 'swapgs-by-cs-mc',
  title: 'SWAPGS by the saved CS in #MC',
  description:
    'The entry of #MC takes it that kernel mode has the GS base of the kernel. Before SWAPGS on entry, and after it on the way out, it has not.',
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'gs',
  events: ['mc'],
  at: 'iretq.user',
  cpus: 1,
  shows: (c) => c.path === 'int80' && c.cs === 'cs32-gdt' && c.ss === 'flat',
  variant: { ...linux, name: 'swapgs-by-cs-mc', gsBySavedCs: [18] },
};
