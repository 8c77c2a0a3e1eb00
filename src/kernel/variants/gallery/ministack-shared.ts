/**
 * Ministacks that two CPUs share.
 *
 * One ministack a CPU is enough because nothing interrupts its use there but what has a stack of its own. A CPU's number
 * halved by mistake, a per-CPU pointer set by the wrong CPU, or hyper-threads taken for one processor give two CPUs the
 * same: each may take the frame of the other.
 *
 * Difference: CPUs 2n and 2n+1 have the same ministack. Schedule: CPU 0 has written its frame, up to `iretq.espfix`; CPU 1
 * writes its own; CPU 0 returns with CPU 1's registers.
 */

import { linux } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

export const ministackShared: GalleryEntry = {
  name: 'ministack-shared',
  title: 'ministacks shared by two CPUs',
  description: 'Two CPUs have one ministack, and each may return by the frame of the other.',
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'ministack',
  events: ['cpu'],
  at: 'return_to_ldt',
  cpus: 2,
  shows: (c) => c.path === 'int80' && c.cs !== 'cs64' && c.ss === 'ss16-ldt' && c.name === '-',
  variant: {
    ...linux,
    name: 'ministack-shared',
    ministack: (cpu, build) => linux.ministack(cpu & ~1, build),
  },
};
