/** A Linux kernel booted as far as where it is to be watched: until its /init says that it is ready. */
import { inspectPage } from '../../arch/paging.ts';
import { ImageError } from '../../machine/boot/image-error.ts';
import { isLinux } from '../../machine/boot/linux.ts';
import type { Machine, Stop } from '../../machine/machine.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { machineFor } from '../ready.ts';
import { SubjectError } from '../subject-error.ts';
import { readKallsyms } from '../symbols/kallsyms.ts';
import { readSymbols, Symbols } from '../symbols/symbols.ts';
import { linuxInitramfs, SAYS } from './program.ts';

export interface LinuxBootOptions {
  readonly cpus: number;
  /** RAM in MiB. */
  readonly memory: number;
  /** The processors' model and features. */
  readonly cpu?: string;
  /** Default: {@link LINUX_COMMAND_LINE}. */
  readonly commandLine?: string;
  /** Default: one with nothing but our program. */
  readonly initrd?: Uint8Array;
  /** What /init prints on the first serial line when it is ready; default: what our program prints. */
  readonly ready?: string;
  /** Instructions within which it has to. */
  readonly patience: number;
}

/**
 * Of the kernel's own messages none, since printing them takes most of the time of an NMI that nobody expects; addresses as in its
 * System.map; and a kernel that panics is not waited for.
 */
export const LINUX_COMMAND_LINE = 'console=ttyS0 loglevel=0 nokaslr panic=-1';

/** Instructions within which /init has to be ready, unless told: half a minute of a kernel with much to do. */
export const LINUX_PATIENCE = 5_000_000_000;

/**
 * Boots a bzImage. Throws ImageError where it cannot be booted, and SubjectError where /init does not come to say that it is
 * ready.
 */
export function bootLinux(image: Uint8Array, options: LinuxBootOptions): Snapshot {
  if (!isLinux(image))
    throw new ImageError('not a Linux bzImage: expected its setup header ("HdrS" at 0x202)');
  const { commandLine = LINUX_COMMAND_LINE, ready = SAYS.ready, patience } = options;
  const machine = machineFor(options);
  const { stop, said } = run(machine, image, { ...options, commandLine }, [ready, SAYS.refused]);
  if (said.includes(SAYS.refused))
    throw new SubjectError(
      'modify_ldt refuses 16-bit segments: expected a kernel with CONFIG_MODIFY_LDT_SYSCALL and CONFIG_X86_16BIT',
    );
  if (stop.reason === 'hook') return machine.snapshot();
  const never = `never becomes ready (${JSON.stringify(ready)} on the serial line)`;
  if (stop.reason === 'limit') throw new SubjectError(`${never}: not in ${patience} instructions`);
  const loud = commandLine.replace('loglevel=0', 'loglevel=4');
  const why = /Kernel panic[^\r\n]*/.exec(
    run(machine, image, { ...options, commandLine: loud }, []).said,
  )?.[0];
  throw new SubjectError(
    `${never}: ${why ?? `ended by ${stop.reason}`} after ${machine.instructions} instructions`,
  );
}

/** Boots and runs until one of the texts is printed. */
function run(
  machine: Machine,
  image: Uint8Array,
  { initrd = linuxInitramfs(), commandLine, patience }: LinuxBootOptions,
  texts: readonly string[],
): { stop: Stop; said: string } {
  let said = '';
  machine.boot(image, { initrd, ...(commandLine !== undefined && { commandLine }) });
  machine.serial.onOutput = (byte) => {
    said += String.fromCharCode(byte);
    if (texts.some((text) => said.endsWith(text))) machine.stop();
  };
  const stop = machine.run({ maxInstructions: patience });
  machine.serial.onOutput = () => {};
  return { stop, said };
}

/** Names of a kernel's places. */
export type KernelSymbols = Pick<Symbols, 'describe' | 'address'>;

/** Kernels are not larger. */
const MOST_BYTES = 128 << 20;
const PAGE = 4096;
/** What IA32_LSTAR holds. */
const SYSCALL_ENTRY = 'entry_SYSCALL_64';

/**
 * The symbols of the kernel that a machine runs: those of a file, moved to where the kernel is, or those that it has in its memory.
 * @param file an ELF file or a System.map. Throws SymbolError where it is damaged, SubjectError where there are no symbols
 */
export function kernelSymbols(machine: Machine, file: Uint8Array | undefined): KernelSymbols {
  const [{ lstar }] = machine.cpus;
  if (file) {
    const symbols = readSymbols(file);
    const linked = symbols.address(SYSCALL_ENTRY);
    if (linked === undefined)
      throw new SubjectError(`no symbol "${SYSCALL_ENTRY}": not the symbols of a 64-bit Linux kernel`);
    const slide = lstar - linked;
    // Only the kernel has moved: not places in a processor's static memory, and not user mode's.
    const move = (address: bigint, by: bigint) =>
      address >> 63n === 0n ? address : BigInt.asUintN(64, address + by);
    return {
      describe: (address) => symbols.describe(move(address, -slide)),
      address(name) {
        const address = symbols.address(name);
        return address === undefined ? undefined : move(address, slide);
      },
    };
  }
  const entry = inspectPage(machine.cpus[0], lstar);
  // Read-only data follows the code; all of the kernel is in one piece.
  const start = entry ? Math.floor(entry.physical / PAGE) * PAGE : 0;
  const size = Math.min(MOST_BYTES, machine.configuration.ramBytes - start);
  const found = entry && readKallsyms(machine.readPhysical(start, size));
  const symbols = found && new Symbols({ bits: 64, ...found, sequences: [], problems: [] });
  if (symbols?.address(SYSCALL_ENTRY) !== lstar)
    throw new SubjectError(
      'the kernel has no symbols in memory (CONFIG_KALLSYMS): give its System.map or vmlinux by --symbols',
    );
  return symbols;
}
