/**
 * A kernel that nothing is known of but its image: what a checker must know is found by booting and watching it.
 *
 * SDM vol. 3A 6.10, 6.14.1 (IDT descriptors), 10.9 (spurious-interrupt vector).
 */
import type { Cpu } from '../arch/cpu.ts';
import type { Machine } from '../machine/machine.ts';
import type { EventKind } from './event.ts';
import { machineFor } from './ready.ts';
import type { Subject } from './subject.ts';
import { SubjectError } from './subject-error.ts';
import { readSymbols, SymbolError } from './symbols/symbols.ts';

export interface ImageSubjectOptions {
  /** As reports name it; default `kernel`. */
  readonly name?: string;
  readonly cpus?: number;
  /** RAM in MiB; default 64. */
  readonly memory?: number;
  /** The processors' model and features. */
  readonly cpu?: string;
  readonly commandLine?: string;
  readonly initrd?: Uint8Array;
  /** An ELF file or a System.map; default: the image itself. */
  readonly symbols?: Uint8Array;
  /** Instructions within which user mode must be reached. */
  readonly patience?: number;
  /** Instructions to watch the kernel for once it has. */
  readonly watch?: number;
}

const PATIENCE = 2_000_000_000;
const WATCH = 20_000_000;

const NMI = 2;
const DEBUG = 1;
const MACHINE_CHECK = 18;
const CR4_MCE = 1n << 6n;
const APIC_SVR = 0xf0;
const SVR_ENABLED = 0x100;

/** What kernels call the function that ends everything. */
const PANICS = ['panic', 'kernel_panic', 'kpanic'];

/** What was seen of a kernel in use. */
export interface KernelUse {
  /** Vectors that have a present gate. */
  readonly gates: ReadonlySet<number>;
  /** Vectors of interrupts that came from outside. */
  readonly external: ReadonlySet<number>;
  readonly machineChecks: boolean;
  /** The kernel lets its tasks have breakpoints. */
  readonly breakpoints: boolean;
  /** The local APIC's spurious vector, where it is enabled. */
  readonly spurious: number | undefined;
}

interface Watched extends KernelUse {
  /** Instructions from power-on to the first user mode. */
  readonly userAt: number;
}

/**
 * The subject that an image is. Throws ImageError where it cannot be booted, SymbolError where its symbols are damaged,
 * and SubjectError where it does not come to user mode.
 */
export function imageSubject(image: Uint8Array, options: ImageSubjectOptions = {}): Subject {
  const { name = 'kernel', cpus = 1, memory = 64, patience = PATIENCE, watch = WATCH } = options;
  const { cpu, commandLine, initrd } = options;
  const machine = machineFor({ cpus, memory, ...(cpu !== undefined && { cpu }) });
  machine.serial.onOutput = () => {};
  machine.boot(image, {
    ...(commandLine !== undefined && { commandLine }),
    ...(initrd && { initrd }),
  });
  const watched = watchKernel(machine, patience, watch);
  const symbols = symbolsOf(options.symbols ?? image, options.symbols !== undefined);
  const { events, vectors } = eventsFor(watched);
  return {
    name,
    image,
    cpus,
    memory,
    ...(cpu !== undefined && { cpu }),
    ...(commandLine !== undefined && { commandLine }),
    ...(initrd && { initrd }),
    describe: (address) => symbols?.describe(address) ?? `0x${address.toString(16)}`,
    symbol: (symbol) => symbols?.address(symbol),
    events,
    vectors,
    handlers: watched.gates,
    faultable: [],
    declassify: [],
    leaveOut: [],
    work: new Map(),
    awaits: new Map(),
    gaveUp: panics((symbol) => symbols?.address(symbol)),
    ministacks: [],
    mayDiffer: [],
    foreign: true,
    watch: watched.userAt + watch,
  };
}

/** Events that a kernel in use has handlers for, and vectors of interrupts. Throws SubjectError where there are none. */
export function eventsFor({ gates, external, machineChecks, breakpoints, spurious }: KernelUse): {
  events: readonly EventKind[];
  vectors: readonly number[];
} {
  const events: EventKind[] = [];
  if (gates.has(NMI)) events.push('nmi');
  if (gates.has(MACHINE_CHECK) && machineChecks) events.push('mc');
  const vectors = [...external].filter((vector) => gates.has(vector) && vector !== spurious);
  if (vectors.length > 0) events.push('irq');
  if (spurious !== undefined && gates.has(spurious)) events.push('spurious');
  if (gates.has(DEBUG) && breakpoints) events.push('db-data', 'mov-ss');
  if (events.length === 0)
    throw new SubjectError('it has no handlers for events: no gate for NMI, #MC, or any interrupt that came');
  return { events, vectors };
}

/** Addresses at which a kernel gives up, by the names that such functions have. */
export function panics(address: (symbol: string) => bigint | undefined): bigint[] {
  return PANICS.flatMap((panic) => address(panic) ?? []);
}

/** Symbols of a file; undefined for an image that has none or damaged ones, which it need not have. */
function symbolsOf(bytes: Uint8Array, asked: boolean): ReturnType<typeof readSymbols> | undefined {
  try {
    const symbols = readSymbols(bytes);
    return symbols.count > 0 || asked ? symbols : undefined;
  } catch (error) {
    if (!(error instanceof SymbolError) || asked) throw error;
    return undefined;
  }
}

/** Listens to a machine. @returns ends it and gives what a kernel was seen to use, of which `user` is a processor */
export function listenToUse(machine: Machine): (user: Cpu) => KernelUse {
  const external = new Set<number>();
  let breakpoints = false;
  const off = [
    machine.on('deliver', (_cpu, vector, _error, source) => {
      if (source === 'external') external.add(vector);
      return false;
    }),
    machine.on('privilege-change', (index, _from, to) => {
      if (to !== 3) return;
      if ((machine.cpus[index].dr[7] & 0xffn) !== 0n) breakpoints = true;
    }),
  ];
  return (user) => {
    for (const end of off) end();
    const svr = machine.localApicRegister(APIC_SVR, user.index);
    return {
      gates: gatesOf(machine, user),
      external,
      machineChecks: (user.cr4 & CR4_MCE) !== 0n,
      breakpoints,
      spurious: svr & SVR_ENABLED ? svr & 0xff : undefined,
    };
  };
}

function watchKernel(machine: Machine, patience: number, watch: number): Watched {
  const used = listenToUse(machine);
  const first = machine.on('privilege-change', (_cpu, _from, to) => {
    if (to === 3) machine.stop();
  });
  const stop = machine.run({ maxInstructions: patience });
  first();
  const user = machine.cpus.find(({ cpl }) => cpl === 3);
  if (!user) throw new SubjectError(neverInUserMode(machine, stop, patience));
  const userAt = machine.instructions;
  machine.run({ maxInstructions: watch });
  return { ...used(user), userAt };
}

function neverInUserMode(machine: Machine, stop: ReturnType<Machine['run']>, patience: number): string {
  switch (stop.reason) {
    case 'hook':
    case 'limit':
      return `it does not come to user mode in ${patience} instructions`;
    case 'triple-fault':
      return `it does not come to user mode: triple fault at 0x${stop.rip.toString(16)}`;
    case 'unimplemented':
      return `it does not come to user mode: the machine lacks the instruction at 0x${stop.rip.toString(16)}`;
    case 'deadlock':
      return `it does not come to user mode: ${stop.message}`;
    default:
      return `it does not come to user mode: the kernel ends the machine (${stop.reason}) after ${machine.instructions} instructions`;
  }
}

/** Vectors whose gate in the IDT is present. */
function gatesOf(machine: Machine, cpu: Cpu): Set<number> {
  const gates = new Set<number>();
  const size = cpu.longMode ? 16 : 8;
  for (let vector = 0; vector < 256 && vector * size + size - 1 <= cpu.idtrLimit; vector++) {
    try {
      const [access] = machine.readMemory(cpu.idtrBase + BigInt(vector * size + 5), 1, cpu.index);
      if (access & 0x80) gates.add(vector);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  return gates;
}
