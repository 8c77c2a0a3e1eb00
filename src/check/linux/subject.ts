/**
 * Linux as a subject: what it is checked for is its returns to 16-bit stack segments, which go through `native_irq_return_ldt`.
 *
 * Documentation/x86/x86_64/mm.rst (the espfix region); arch/x86/kernel/espfix_64.c (64 bytes a processor, bits 31:16 of an address
 * free); arch/x86/entry/entry_64.S.
 */
import { inspectPage } from '../../arch/paging.ts';
import { GS } from '../../isa/state.ts';
import type { Machine } from '../../machine/machine.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { eventsFor, type KernelUse, listenToUse, panics } from '../foreign.ts';
import type { Plan } from '../plan.ts';
import { machineFor } from '../ready.ts';
import type { Ministack, Subject } from '../subject.ts';
import { SubjectError } from '../subject-error.ts';
import type { Declassification } from '../taint/index.ts';
import { kernelSymbols } from './boot.ts';
import { applyPatches, type Patch } from './patch.ts';

export interface LinuxSubjectOptions {
  /** As reports name it. */
  readonly name: string;
  readonly image: Uint8Array;
  /** The machine with the kernel, booted as far as where it is to be watched (`bootLinux`). */
  readonly booted: Snapshot;
  /** /init is our program: what it does not mean to change is known. */
  readonly ownProgram: boolean;
  /** An ELF file or a System.map; default: what the kernel has of itself in memory. */
  readonly symbols?: Uint8Array;
  /** What is changed of the kernel before it is watched. */
  readonly patches?: readonly Patch[];
  /** Instructions to watch it for. */
  readonly watch?: number;
}

/** Where returns to 16-bit stack segments leave the common path. */
export const ESPFIX_RETURN = 'native_irq_return_ldt';

/** Two rounds of our program, or more. */
const WATCH = 60_000_000;
/** ESPFIX_BASE_ADDR >> PGDIR_SHIFT: the region of 512 GiB. */
const REGION = 0xffff_ff00_0000_0000n >> 39n;
const MINISTACK_BYTES = 64;
const ALIAS_BITS = 0xffff_0000n;
/** Static memory of a processor is not more. */
const PER_CPU_BYTES = 1n << 20n;
/** The frame's place in a ministack: RAX is parked before it. */
const FRAME_AT = 8n;

/** Which visits are explored unless a plan says: those of the espfix path, and those that should have taken it. */
export const linuxVisits: NonNullable<Plan['visits']> = {
  only: [{ through: ESPFIX_RETURN }, { to: 'cs32 ss16 ldt' }, { to: 'cs16 ss16 ldt' }],
};

export interface LinuxSubject {
  readonly subject: Subject;
  /** What was done to the kernel, in words. */
  readonly notes: readonly string[];
}

/**
 * The subject. Throws SymbolError where the symbols are damaged, SubjectError where a kernel has no espfix64, PatchError for a
 * patch that does not fit.
 */
export function linuxSubject(options: LinuxSubjectOptions): LinuxSubject {
  const { name, image, booted, ownProgram, patches = [], watch = WATCH } = options;
  const { cpus, cpu, ramBytes } = booted.configuration;
  const memory = ramBytes / (1 << 20);
  const machine = machineFor({ cpus, memory, cpu });
  machine.serial.onOutput = () => {};
  machine.restore(booted);
  const symbols = kernelSymbols(machine, options.symbols);
  if (symbols.address(ESPFIX_RETURN) === undefined)
    throw new SubjectError(
      `no symbol "${ESPFIX_RETURN}": a kernel without CONFIG_X86_ESPFIX64, or not for 64-bit x86`,
    );
  const { use, ministacks } = watchLinux(machine, watch);
  if (ministacks.length === 0)
    throw new SubjectError(
      `no return through ${ESPFIX_RETURN} in ${watch} instructions: nothing returns to a 16-bit stack`,
    );
  machine.restore(booted);
  const declassify = ministacks.flatMap((ministack) => publicBits(machine, ministack));
  const notes = applyPatches(machine, 0, patches, (symbol) => symbols.address(symbol));
  return {
    notes,
    subject: {
      name,
      image,
      cpus,
      memory,
      booted: patches.length > 0 ? machine.snapshot() : booted,
      describe: (address) => symbols.describe(address),
      symbol: (symbol) => symbols.address(symbol),
      // ptrace lets any task have breakpoints.
      ...eventsFor({ ...use, breakpoints: true }),
      handlers: use.gates,
      faultable: [],
      declassify,
      leaveOut: [],
      work: new Map(),
      awaits: new Map(),
      gaveUp: panics((symbol) => symbols.address(symbol)),
      ministacks,
      mayDiffer: [],
      foreign: true,
      watch,
      ...(ownProgram && { keeps: kept }),
    },
  };
}

/** Registers that our program gets back: all but where it wants an answer or an exception. */
function kept(entry: string): readonly string[] {
  if (entry.startsWith('interrupt ') || entry === '#PF')
    return ['rsp', 'rip', 'rbx', 'rsi', 'rdi', 'rax', 'rcx'];
  return entry === 'INT 0x80' ? ['rsp', 'rbx', 'rsi', 'rdi'] : [];
}

/** What the kernel uses, and the ministacks that it returns from. */
function watchLinux(machine: Machine, watch: number): { use: KernelUse; ministacks: Ministack[] } {
  const ministacks = new Map<string, Ministack>();
  const used = listenToUse(machine);
  const off = machine.on('interrupt-return', (cpu, pointer) => {
    if (pointer >> 39n !== REGION) return;
    const address = (pointer - FRAME_AT) & ~ALIAS_BITS;
    const key = `${cpu} ${address}`;
    // The processor may not push to it: Linux maps the aliases read-only.
    if (!ministacks.has(key))
      ministacks.set(key, { cpu, address, size: MINISTACK_BYTES, aliasBits: ALIAS_BITS, takesFrames: false });
  });
  machine.run({ maxInstructions: watch });
  off();
  return { use: used(machine.cpus[0]), ministacks: [...ministacks.values()] };
}

/**
 * The bits of a ministack's address that are 0 in every kernel: 31:16, over which the bits of user mode's ESP are put, and those of
 * its alignment. Where the kernel keeps it is found by its value in the processor's own memory, from the GS base on.
 */
function publicBits(machine: Machine, { cpu: index, address }: Ministack): Declassification[] {
  const cpu = machine.cpus[index];
  const [own, other] = [cpu.segBase[GS], cpu.kernelGsBase];
  const base = own >> 63n ? own : other;
  const found: Declassification[] = [];
  for (let linear = base & ~0xfffn; linear < base + PER_CPU_BYTES; linear += 0x1000n) {
    const page = inspectPage(cpu, linear);
    if (!page) break;
    const bytes = machine.readPhysical(page.physical, 0x1000);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let at = 0; at < 0x1000; at += 8) {
      if (view.getBigUint64(at, true) !== address) continue;
      const start = BigInt(page.physical + at);
      found.push({
        kind: 'kernelMemory',
        start,
        end: start + 8n,
        bits: ALIAS_BITS | BigInt(MINISTACK_BYTES - 1),
        physical: true,
      });
    }
  }
  return found;
}
