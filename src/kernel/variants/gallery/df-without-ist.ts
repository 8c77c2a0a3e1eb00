/**
 * #DF without an interrupt stack.
 *
 * The merged design lets the exception of a refused IRETQ fail to be pushed on the read-only ministack, and takes the #DF
 * that follows on a stack of its own. That makes the #DF's interrupt stack a part of the return path, and not a place to
 * die in: without it #DF fails the same way, and the processor shuts down.
 *
 * Difference: the gate of vector 8 names no interrupt stack. Schedule: none; a frame that IRETQ refuses at `iretq.espfix` is
 * a triple fault.
 */

import { linux } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

export const dfWithoutIst: GalleryEntry = {
  name: 'df-without-ist',
  title: '#DF without an interrupt stack',
  description:
    'A frame that IRETQ refuses on the ministack is a double fault by design; with no stack for that the processor shuts down.',
  verdict: 'unsafe',
  withoutEvents: 'unsafe',
  property: 'progress',
  events: [],
  at: 'iretq.espfix',
  cpus: 1,
  shows: (c) => c.path === 'int80' && c.cs === 'not-present' && c.ss === 'ss16-ldt',
  variant: { ...linux, name: 'df-without-ist', interruptStacks: { 8: 0 } },
};
