/** Built-in kernels, stopped where a test task enters them. */
import { buildImage, type CaseInfo, type KernelImage } from '../../kernel/image.ts';
import type { VariantName } from '../../kernel/variants/index.ts';
import { Machine } from '../../machine/machine.ts';
import type { Snapshot } from '../../machine/snapshot.ts';

export interface Entry {
  readonly machine: Machine;
  readonly kernel: KernelImage;
  /** The machine in user mode, the delivery of the vector being next. */
  readonly snapshot: Snapshot;
}

export interface EntryOptions {
  readonly path?: CaseInfo['path'];
  readonly cs?: CaseInfo['cs'];
  readonly ss?: CaseInfo['ss'];
  readonly vector?: number;
  readonly seed?: number;
}

const BOOT = 500_000_000;

/** Boots a variant on one processor to where a case's target code enters the kernel by `vector`. */
export function entryOf(variant: VariantName, options: EntryOptions = {}): Entry {
  const { path = 'int80', cs = 'cs16-ldt', ss = 'ss16-ldt', vector = 0x80, seed = 1 } = options;
  let only = 1;
  const kernel = buildImage(variant, {
    cpus: 1,
    seed,
    only: (c) => c.path === path && c.cs === cs && c.ss === ss && c.set === 0x5aadc0de && only-- > 0,
  });
  const machine = Machine.create();
  machine.boot(kernel.elf);
  const [cpu] = machine.cpus;
  const off = machine.on('deliver', (_, delivered) => delivered === vector && cpu.cpl === 3);
  const stop = machine.run({ maxInstructions: BOOT });
  off();
  if (stop.reason !== 'hook') throw new Error(`${variant} does not get to vector ${vector}: ${stop.reason}`);
  return { machine, kernel, snapshot: machine.snapshot() };
}

/**
 * Puts `code` in place of the kernel's first instructions after INT 80H, with the machine in user mode before that. The
 * frame is then on top of the stack.
 */
export function kernelCode({ machine, kernel, snapshot }: Entry, code: readonly number[]): void {
  machine.restore(snapshot);
  machine.writeMemory(kernel.symbols.get('vector.128') as bigint, new Uint8Array(code));
}
