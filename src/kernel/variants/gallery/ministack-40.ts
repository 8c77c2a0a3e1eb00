/**
 * Ministacks of 40 bytes.
 *
 * The frame of IRETQ is five words, 40 bytes; the merged espfix keeps RAX in the word below. Counting the frame alone,
 * ministacks of neighbouring CPUs overlap by that word: a CPU's SS lands on the RAX that its neighbour has parked.
 *
 * Difference: ministacks lie 40 bytes apart. Schedule: CPU 1 has written its ministack, up to `pop rax` before
 * `iretq.espfix`; CPU 0 writes the whole of its own; CPU 1 goes on with CPU 0's SS in RAX. The write past 40 bytes is there
 * on one CPU already.
 */

import { linux, randomMinistack } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

const SIZE = 40;

export const ministack40: GalleryEntry = {
  name: 'ministack-40',
  title: 'ministacks of 40 bytes',
  description:
    'Ministacks have room for the IRETQ frame, but not for RAX: neighbouring CPUs overlap by a word, and one returns with the SS of the other in RAX.',
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'ministack',
  events: ['cpu'],
  at: 'return_to_ldt',
  cpus: 2,
  shows: (c) => c.path === 'int80' && c.cs !== 'cs64' && c.ss === 'ss16-ldt' && c.name === '-',
  variant: {
    ...linux,
    name: 'ministack-40',
    ministack: (cpu, build) => randomMinistack(cpu, build, SIZE),
    ministackSize: SIZE,
  },
};
