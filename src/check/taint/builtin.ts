/**
 * What the memory of the built-in kernels holds that is no secret: what user space gave them to keep, and the bits of
 * ministack addresses that are the same wherever ministacks lie.
 */
import * as i386 from '../../kernel/i386/layout.ts';
import type { KernelImage } from '../../kernel/image.ts';
import { ESPFIX_ALIASES, ESPFIX_STACK_SIZE, percpu, percpuPage, regs } from '../../kernel/layout.ts';
import type { DeclaredKernelMemory, Declassification } from './declassification.ts';

/** Fields of the per-CPU area that user space chose. */
const given64 = [
  'userStack', 'userArea', 'signalHandler', 'signalStack', 'recovery', 'pokeCause', 'pokeCs', 'pokeSs', 'pokeRip',
  'pokeRsp', 'stepUntil',
] as const; // biome-ignore format: a table
const given32 = [
  'userArea', 'signalHandler', 'signalStack', 'recovery', 'pokeCause', 'pokeCs', 'pokeSs', 'pokeEip', 'stepUntil',
] as const; // biome-ignore format: a table

/** Bits 31:16, which choose the alias, and those below the size of a ministack. */
const ALIAS_BITS = BigInt((ESPFIX_ALIASES - 1) * 0x1_0000) | BigInt(ESPFIX_STACK_SIZE - 1);

/** The rules of a built-in kernel's image. */
export function declassificationOf(kernel: KernelImage): Declassification[] {
  // Only the 64-bit kernel tells facts of itself.
  const wide = kernel.facts !== undefined;
  const area = kernel.symbols.get('percpu');
  if (area === undefined) return [];
  const rules: DeclaredKernelMemory[] = [];
  const declare = (start: bigint, size: number, bits?: bigint) =>
    rules.push({
      kind: 'kernelMemory',
      start,
      end: start + BigInt(size),
      ...(bits !== undefined && { bits }),
    });
  const cpus = 1 + Math.max(...kernel.stacks.map(({ cpu }) => cpu));
  for (let cpu = 0; cpu < cpus; cpu++) {
    if (wide) {
      const base = area + BigInt(cpu * percpuPage.size);
      for (const field of given64) declare(base + BigInt(percpu[field]), 8);
      declare(base + BigInt(percpu.espfixStack), 8, ALIAS_BITS);
    } else {
      const base = area + BigInt(cpu * i386.percpuPage.size);
      for (const field of given32) declare(base + BigInt(i386.percpu[field]), 4);
    }
  }
  const addresses = kernel.symbols.get('ministack_addresses');
  if (addresses !== undefined) declare(addresses, 8 * cpus, ALIAS_BITS);
  // The registers of a task that waits for another are at the top of its stack.
  const saved = wide ? regs.size : i386.regs.size;
  for (const { name, range } of kernel.stacks)
    if (name === 'main' || name === 'child') declare(range.end - BigInt(saved), saved);
  return rules;
}
