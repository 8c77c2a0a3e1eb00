/** The variants of the return path that can be built, with what each is documented to do. */

/** What a variant is documented to do to user space: nothing wrong, show it kernel bits, or worse. */
export type Verdict = 'safe' | 'leaks' | 'unsafe';

export const variantNames = ['none', 'prototype', 'linux', 'espfix32', 'none-pae', 'espfix32-pae'] as const;
export type VariantName = (typeof variantNames)[number];

export interface VariantInfo {
  readonly name: VariantName;
  readonly title: string;
  readonly verdict: Verdict;
  readonly description: string;
  /** Whether the kernel runs in 64-bit mode or in 32-bit protected mode with PAE paging. */
  readonly bits: 32 | 64;
}

/** Every variant, in the order in which tables show them. */
export const variants: readonly VariantInfo[] = [
  {
    name: 'none',
    title: 'plain IRETQ',
    verdict: 'leaks',
    bits: 64,
    description:
      'Returns with IRETQ from the kernel stack; a return to compatibility-mode code on a 16-bit stack leaves bits 31:16 of the kernel stack pointer in ESP.',
  },
  {
    name: 'prototype',
    title: 'prototype of April 2014',
    verdict: 'unsafe',
    bits: 64,
    description:
      'Copies the frame to a 64-byte ministack mapped writable at 65,536 addresses and returns from there. No return leaks, but an IRET that faults pushes its exception frame below the 64 bytes: the first CPU of a page dies, the others write into a neighbour.',
  },
  {
    name: 'linux',
    title: 'espfix64 as merged',
    verdict: 'safe',
    bits: 64,
    description:
      'Read-only ministack aliases, a separate address to write the frame, and a double-fault fix-up when the IRET faults.',
  },
  {
    name: 'espfix32',
    title: 'segment base in 64-bit mode',
    verdict: 'unsafe',
    bits: 64,
    description:
      'Returns through a data segment whose base moves the stack, as the 32-bit kernel does; 64-bit mode ignores that base, so IRETQ reads its frame from an address that user space chose.',
  },
  {
    name: 'none-pae',
    title: 'plain IRET in 32-bit mode',
    verdict: 'leaks',
    bits: 32,
    description:
      'The 32-bit protected-mode kernel with PAE paging and a plain IRET: every return to a 16-bit stack leaves bits 31:16 of the kernel stack pointer in ESP.',
  },
  {
    name: 'espfix32-pae',
    title: 'segment base in 32-bit mode',
    verdict: 'safe',
    bits: 32,
    description:
      'The same segment-base return in a 32-bit protected-mode kernel with PAE paging, where the base counts.',
  },
];

/** The entry of a variant. Raises a RangeError for an unknown name. */
export function variantInfo(name: string): VariantInfo {
  const found = variants.find((variant) => variant.name === name);
  if (found === undefined)
    throw new RangeError(`unknown variant "${name}": expected one of ${variantNames.join(', ')}`);
  return found;
}
