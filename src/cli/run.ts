/** `espfix run`: boots an image on the machine, or goes on with a snapshot, its console on standard input and output. */
import { IF } from '../isa/flags.ts';
import { ImageError } from '../machine/boot/image-error.ts';
import { isLinux } from '../machine/boot/linux.ts';
import { DEFAULT_MEMORY, LINUX_MEMORY } from '../machine/limits.ts';
import { type Backing, Machine, type Stop } from '../machine/machine.ts';
import { SnapshotError } from '../machine/snapshot.ts';
import { encodeSnapshot, isSnapshot } from '../machine/snapshot-file.ts';
import { type DiskFile, openDisk } from './disk-file.ts';
import {
  CLEAN,
  DEADLOCK,
  INSTRUCTION_LIMIT,
  INTERRUPTED,
  RESET,
  TIMEOUT,
  TRIPLE_FAULT,
  UNIMPLEMENTED,
} from './exit-status.ts';
import { fileError, UserError } from './failure.ts';
import { readInput, writeOutput } from './files.ts';
import { InputQueue } from './input-queue.ts';
import type { Io } from './io.ts';
import { Pace } from './pace.ts';
import { shareFolder } from './shared-folder.ts';
import { EscapeKeys, TERMINAL_HELP } from './terminal.ts';

/** What a machine is booted with; a snapshot has its own. */
interface MachineChoices {
  readonly cpus?: number;
  /** Model and features of the processors. */
  readonly cpu?: string;
  /** MiB; by default as much as kernels of the image's kind need. */
  readonly memory?: number;
  readonly append?: string;
  readonly seed?: number;
  readonly initrd?: string;
  /** What the real-time clock shows at first, in seconds since 1970. */
  readonly clock?: number;
}

export interface RunCommandOptions extends MachineChoices {
  readonly disk?: string;
  readonly diskWrite?: boolean;
  readonly share?: string;
  readonly shareWrite?: boolean;
  /** Where input goes: COM1 or the virtio console. */
  readonly console: 'serial' | 'virtio';
  /** Guest time does not run ahead of the host's; default: at a terminal, where an idle guest is to leave the host idle. */
  readonly realtime?: boolean;
  /** Text upon which a snapshot is written, and the file. */
  readonly snapshotAt?: string;
  readonly snapshotTo?: string;
  readonly maxInstructions?: number;
  /** Wall-clock seconds. */
  readonly timeout?: number;
  readonly trace?: string;
}

/** Wall-clock milliseconds that a slice should take, so that input, Ctrl-C and the time limit are minded. */
const SLICE = 20;

const at = (stop: { cpu: number; rip: bigint }) => `processor ${stop.cpu}, RIP 0x${stop.rip.toString(16)}`;

/** Boots and runs the image to its end; returns the exit status. */
export async function run(file: string, options: RunCommandOptions, io: Io): Promise<number> {
  const image = await readInput(file);
  const disk =
    options.disk === undefined
      ? undefined
      : openDisk(options.disk, options.diskWrite === true, (line) => io.stderr.write(`espfix: ${line}\n`));
  try {
    const share =
      options.share === undefined ? undefined : shareFolder(options.share, options.shareWrite === true);
    const backing = { ...(disk ? { disk } : {}), ...(share ? { share } : {}) };
    const machine = isSnapshot(image)
      ? resumed(file, image, options, backing)
      : await booted(file, image, options, backing);
    return await drive(machine, options, io);
  } finally {
    (disk as DiskFile | undefined)?.close();
  }
}

async function booted(
  file: string,
  image: Uint8Array,
  options: RunCommandOptions,
  backing: Backing,
): Promise<Machine> {
  const linux = isLinux(image);
  const initrd = options.initrd === undefined ? undefined : await readInput(options.initrd);
  const machine = create(options, options.memory ?? (linux ? LINUX_MEMORY : DEFAULT_MEMORY), backing);
  const commandLine = options.append ?? (linux ? 'console=ttyS0' : '');
  try {
    machine.boot(image, { commandLine, ...(initrd ? { initrd } : {}) });
  } catch (error) {
    if (error instanceof ImageError) throw fileError(file, error);
    throw error;
  }
  return machine;
}

function create(options: RunCommandOptions, memory: number, backing: Backing): Machine {
  const { cpus, cpu, seed, clock } = options;
  try {
    return Machine.create({
      memory,
      console: true,
      entropy: true,
      ...(cpus === undefined ? {} : { cpus }),
      ...(cpu === undefined ? {} : { cpu }),
      ...(seed === undefined ? {} : { seed }),
      ...(clock === undefined ? {} : { epoch: clock }),
      ...backing,
    });
  } catch (error) {
    // A host that cannot give the memory says so with a RangeError.
    if (error instanceof RangeError) throw new UserError(`--memory ${memory}: ${error.message}`);
    throw error;
  }
}

/** The machine of a snapshot file. */
function resumed(file: string, bytes: Uint8Array, options: RunCommandOptions, backing: Backing): Machine {
  for (const name of ['cpus', 'cpu', 'memory', 'append', 'seed', 'initrd', 'clock'] as const)
    if (options[name] !== undefined)
      throw new UserError(`--${name}: expected with an image; ${file} is a snapshot, which has its own`);
  try {
    return Machine.from(Machine.readSnapshot(bytes), backing);
  } catch (error) {
    if (error instanceof SnapshotError || error instanceof RangeError) throw fileError(file, error);
    throw error;
  }
}

/** Runs a machine to its end; returns the exit status. */
async function drive(machine: Machine, options: RunCommandOptions, io: Io): Promise<number> {
  // Loaded where it is wanted: the disassembler takes as long as all else to load.
  const trace =
    options.trace === undefined
      ? undefined
      : (await import('./trace.ts')).attachTrace(machine, options.trace);
  const output = new ConsoleOutput(machine, options.snapshotAt);
  const keys = io.stdin.isTerminal ? new EscapeKeys() : undefined;
  let interrupted = false;
  const target = options.console === 'virtio' && machine.console ? machine.console : machine.serial;
  const input = new InputQueue(io, target, (bytes) => {
    if (!keys) return bytes;
    const typed = keys.type(bytes);
    if (typed.help) io.stderr.write(`\r\nespfix: ${TERMINAL_HELP}\r\n`);
    if (typed.quit) interrupted = true;
    return typed.bytes;
  });
  const forget = io.onInterrupt(() => {
    interrupted = true;
    input.wake();
  });
  const resize = () => {
    if (io.stdout.columns && io.stdout.rows) machine.console?.resize(io.stdout.columns, io.stdout.rows);
  };
  const unwatch = io.onResize(resize);
  resize();
  if (keys) io.stdin.setRaw(true);

  const deadline =
    options.timeout === undefined ? Number.POSITIVE_INFINITY : performance.now() + options.timeout * 1000;
  const limit = options.maxInstructions ?? Number.POSITIVE_INFINITY;
  const start = machine.instructions;
  const pace = (options.realtime ?? io.stdin.isTerminal) ? new Pace(machine.time()) : undefined;
  let slice = 10_000;
  let ending: string | undefined;
  try {
    for (;;) {
      const left = limit - (machine.instructions - start);
      if (left <= 0) {
        ending = `instruction limit of ${limit} reached`;
        return INSTRUCTION_LIMIT;
      }
      const from = performance.now();
      const paced = pace?.limit;
      const stop = machine.run({
        maxInstructions: Math.min(slice, left),
        ...(paced === undefined ? {} : { until: () => machine.time() >= paced }),
      });
      const took = performance.now() - from;
      io.stdout.write(output.take());
      await io.stdout.flushed();
      if (output.found) {
        output.found = false;
        if (options.snapshotTo) await writeOutput(options.snapshotTo, encodeSnapshot(machine.snapshot()));
      } else if (stop.reason === 'until' && pace) {
        await input.arrival(Math.min(pace.wait(machine.time()), deadline - performance.now()));
      } else if (stop.reason === 'deadlock' && input.open && machine.cpus.some((cpu) => cpu.flagsRest & IF)) {
        await input.arrival(deadline - performance.now());
      } else if (stop.reason !== 'limit') {
        const { status, line } = describe(stop);
        ending = line;
        return status;
      } else {
        if (took < SLICE / 2) slice *= 2;
        else if (took > SLICE * 2) slice = Math.max(1000, slice >> 1);
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (interrupted) {
        ending = 'interrupted';
        return INTERRUPTED;
      }
      if (performance.now() >= deadline) {
        ending = `time limit of ${options.timeout} s reached`;
        return TIMEOUT;
      }
    }
  } finally {
    forget();
    unwatch();
    input.close();
    trace?.close();
    if (keys) io.stdin.setRaw(false);
    if (ending) io.stderr.write(`espfix: ${ending}\n`);
  }
}

/** How a run ended: the exit status, and a line if there is something to say. */
function describe(stop: Stop): { status: number; line?: string } {
  switch (stop.reason) {
    case 'exit':
      return { status: stop.status & 0xff };
    case 'triple-fault':
      return { status: TRIPLE_FAULT, line: `triple fault at ${at(stop)}` };
    case 'unimplemented': {
      const bytes = Array.from(stop.bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
      return { status: UNIMPLEMENTED, line: `unimplemented instruction at ${at(stop)}: ${bytes}` };
    }
    case 'deadlock':
      return { status: DEADLOCK, line: `deadlock: ${stop.message}` };
    case 'power-off':
      return { status: CLEAN };
    case 'reset':
      return { status: RESET, line: 'the guest asked for a reset' };
    default:
      throw new Error(`the machine stopped for ${stop.reason}`);
  }
}

/** What the guest's consoles print, and whether a text is in it. */
class ConsoleOutput {
  /** The text has been printed; the machine has been stopped right behind it. */
  found = false;
  readonly #bytes: number[] = [];

  constructor(machine: Machine, awaited: string | undefined) {
    const wanted = new TextEncoder().encode(awaited ?? '');
    let tail: number[] = [];
    const put = (byte: number) => {
      this.#bytes.push(byte);
      if (wanted.length === 0) return;
      tail.push(byte);
      if (tail.length > wanted.length) tail = tail.slice(-wanted.length);
      if (tail.length < wanted.length || !wanted.every((each, i) => each === tail[i])) return;
      tail = [];
      this.found = true;
      machine.stop();
    };
    machine.serial.onOutput = put;
    if (machine.console)
      machine.console.onOutput = (bytes) => {
        for (const byte of bytes) put(byte);
      };
  }

  /** All that has not been taken. */
  take(): Uint8Array {
    return Uint8Array.from(this.#bytes.splice(0));
  }
}
