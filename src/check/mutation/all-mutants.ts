/** All mutants of a kernel: of its entry and return code and of the tables that bring the processor there. */
import type { KernelImage } from '../../kernel/image.ts';
import { KERNEL_BASE, vector } from '../../kernel/layout.ts';
import { symbolAt } from '../check-variant.ts';
import { codeMutants } from './code.ts';
import { type Mutant, type ReadPhysical, withoutDoubles } from './mutant.ts';
import {
  areaMutants,
  descriptorMutants,
  entryPages,
  gateMutants,
  pageMutants,
  taskStateMutants,
} from './tables.ts';

/** Vectors that come: by what the test tasks do, by events, and by faults of IRET. Nothing raises the others. */
export const vectors: readonly number[] = [
  1,
  2,
  3,
  6,
  8,
  11,
  13,
  18,
  vector.timer,
  vector.ipi,
  vector.syscall,
  vector.machineCheckStandIn,
  vector.spurious,
];

/** Code from one label up to another. */
const ranges: readonly (readonly [from: string, to: string])[] = [
  ...vectors.map((v) => [`vector.${v}`, v === 255 ? 'interrupt_entry' : `vector.${v + 1}`] as const),
  // Entries, returns, exit_work, and handlers; but page faults, which do not come, and the wake-up of other processors.
  ['interrupt_entry', 'handle_wake'],
  ['handle_spurious', 'handle_page_fault'],
  ['handle_exception', 'deliver_signal'],
  ['handle_machine_check', 'dispatch_call'],
  ['espfix_map', 'espfix_set_up'],
];

/** Bits 31:16 of the stack pointer that the chosen cases have, and of another. */
const aliases = [0x5aadn, 0n];

/** Bytes of espfix_set_up, up to its RET. */
const SET_UP_BYTES = 0x47;

/** @param read RAM of the kernel once it has set itself up */
export function mutantsOf(kernel: KernelImage, read: ReadPhysical): Mutant[] {
  const { symbols } = kernel;
  const symbol = (name: string) => symbols.get(name) as bigint;
  const physical = (linear: bigint) => Number(linear - KERNEL_BASE);
  const names = { describe: (linear: bigint) => symbolAt(linear, symbols), physical };
  const code = (start: bigint, end: bigint) =>
    codeMutants({ start, bytes: read(physical(start), Number(end - start)) }, names);
  const setUp = symbol('espfix_set_up');
  return withoutDoubles([
    ...ranges.flatMap(([from, to]) => code(symbol(from), symbol(to))),
    ...code(setUp, setUp + BigInt(SET_UP_BYTES)),
    ...gateMutants(kernel, read, vectors),
    ...descriptorMutants(kernel, read),
    ...taskStateMutants(kernel, read),
    ...areaMutants(kernel, read),
    ...pageMutants(kernel, read, entryPages(kernel, aliases)),
  ]);
}
