/** Where the kernel stacks of the 64-bit kernel lie. */

import { PAGE_SIZE, STACK_OFFSET, STACK_PAGES, STACKS_BASE, stackNames } from './layout.ts';
import { stackTag } from './seed.ts';

/** The linear addresses of a CPU's stack, end excluded. */
export function stackRange(
  seed: number,
  cpu: number,
  name: (typeof stackNames)[number],
): { readonly start: bigint; readonly end: bigint } {
  const start = STACKS_BASE + (BigInt(stackTag(seed, cpu, stackNames.indexOf(name))) << 16n) + STACK_OFFSET;
  return { start, end: start + BigInt(STACK_PAGES * PAGE_SIZE) };
}

/** The linear address at which a CPU's stack is empty. */
export function stackTop(seed: number, cpu: number, name: (typeof stackNames)[number]): bigint {
  return stackRange(seed, cpu, name).end;
}
