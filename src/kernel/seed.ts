/** Where a build seed puts what a kernel would place at random. */

import { alienStackPointers } from './cases.ts';
import { MAX_IMAGE_CPUS } from './limits.ts';

/** A well-mixed 32-bit value of a seed and a purpose (the finalizer of MurmurHash3, public domain). */
export function mix(seed: number, purpose: number): number {
  let h = (seed ^ Math.imul(purpose + 1, 0x9e37_79b9)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b) >>> 0;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

/** Regions for the stacks of one CPU. */
const STACKS = 8;
/** Stacks that one seed tells apart. */
const TAGS = MAX_IMAGE_CPUS * STACKS;

/**
 * Bits 31:16 of the addresses of a kernel stack: different for every stack of every CPU, and different from
 * all that the cases put there.
 */
export function stackTag(seed: number, cpu: number, stack: number): number {
  for (let attempt = 0; ; attempt++) {
    const base = (mix(seed, attempt) % (0x1_0000 / TAGS)) * TAGS;
    if (alienStackPointers.some((value) => value >>> 16 >= base && value >>> 16 < base + TAGS)) continue;
    return base + cpu * STACKS + stack;
  }
}
