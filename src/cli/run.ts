/** `espfix run`: boots an image on the machine, with COM1 on standard input and output. */
import { IF } from '../isa/flags.ts';
import { ImageError } from '../machine/boot/image-error.ts';
import { isLinux } from '../machine/boot/linux.ts';
import { DEFAULT_MEMORY, LINUX_MEMORY } from '../machine/limits.ts';
import { Machine, type Stop } from '../machine/machine.ts';
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
import { readInput } from './files.ts';
import type { Io } from './io.ts';
import { attachTrace } from './trace.ts';

export interface RunCommandOptions {
  readonly cpus: number;
  /** MiB; by default as much as kernels of the image's kind need. */
  readonly memory?: number;
  readonly append: string;
  readonly seed: number;
  readonly initrd?: string;
  readonly maxInstructions?: number;
  /** Wall-clock seconds. */
  readonly timeout?: number;
  readonly trace?: string;
}

/** Wall-clock milliseconds that a slice should take, so that input, Ctrl-C and the time limit are minded. */
const SLICE = 20;
/** Input bytes that may wait for the guest before no more is taken. */
const INPUT_AHEAD = 1 << 16;

const at = (stop: { cpu: number; rip: bigint }) => `processor ${stop.cpu}, RIP 0x${stop.rip.toString(16)}`;

/** Boots and runs the image to its end; returns the exit status. */
export async function run(file: string, options: RunCommandOptions, io: Io): Promise<number> {
  const image = await readInput(file);
  const initrd = options.initrd === undefined ? undefined : await readInput(options.initrd);
  const machine = create(options, options.memory ?? (isLinux(image) ? LINUX_MEMORY : DEFAULT_MEMORY));
  try {
    machine.boot(image, { commandLine: options.append, ...(initrd ? { initrd } : {}) });
  } catch (error) {
    if (error instanceof ImageError) throw fileError(file, error);
    throw error;
  }
  const trace = options.trace === undefined ? undefined : attachTrace(machine, options.trace);

  const output: number[] = [];
  machine.serial.onOutput = (byte) => output.push(byte);
  const input = new InputQueue(io, machine);
  let interrupted = false;
  const forget = io.onInterrupt(() => {
    interrupted = true;
    input.wake();
  });
  const flush = () => {
    if (output.length > 0) io.stdout.write(Uint8Array.from(output.splice(0)));
  };

  const deadline =
    options.timeout === undefined ? Number.POSITIVE_INFINITY : performance.now() + options.timeout * 1000;
  const limit = options.maxInstructions ?? Number.POSITIVE_INFINITY;
  const start = machine.instructions;
  let slice = 10_000;
  try {
    for (;;) {
      const left = limit - (machine.instructions - start);
      if (left <= 0) return end(io, INSTRUCTION_LIMIT, `instruction limit of ${limit} reached`);
      const from = performance.now();
      const stop = machine.run({ maxInstructions: Math.min(slice, left) });
      const took = performance.now() - from;
      flush();
      await io.stdout.flushed();
      if (stop.reason === 'deadlock' && input.open && machine.cpus.some((cpu) => cpu.flagsRest & IF)) {
        await input.arrival(deadline - performance.now());
      } else if (stop.reason !== 'limit') return report(stop, io);
      else {
        if (took < SLICE / 2) slice *= 2;
        else if (took > SLICE * 2) slice = Math.max(1000, slice >> 1);
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (interrupted) return end(io, INTERRUPTED, 'interrupted');
      if (performance.now() >= deadline)
        return end(io, TIMEOUT, `time limit of ${options.timeout} s reached`);
    }
  } finally {
    forget();
    input.close();
    trace?.close();
  }
}

function create(options: RunCommandOptions, memory: number): Machine {
  try {
    return Machine.create({ cpus: options.cpus, memory, seed: options.seed });
  } catch (error) {
    // A host that cannot give the memory says so with a RangeError.
    if (error instanceof RangeError) throw new UserError(`--memory ${memory}: ${error.message}`);
    throw error;
  }
}

function end(io: Io, status: number, line: string): number {
  io.stderr.write(`espfix: ${line}\n`);
  return status;
}

function report(stop: Stop, io: Io): number {
  switch (stop.reason) {
    case 'exit':
      return stop.status & 0xff;
    case 'triple-fault':
      return end(io, TRIPLE_FAULT, `triple fault at ${at(stop)}`);
    case 'unimplemented': {
      const bytes = Array.from(stop.bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
      return end(io, UNIMPLEMENTED, `unimplemented instruction at ${at(stop)}: ${bytes}`);
    }
    case 'deadlock':
      return end(io, DEADLOCK, `deadlock: ${stop.message}`);
    case 'power-off':
      return CLEAN;
    case 'reset':
      return end(io, RESET, 'the guest asked for a reset');
    default:
      throw new Error(`the machine stopped for ${stop.reason}`);
  }
}

/** Standard input on its way to COM1, no faster than the guest reads it. */
class InputQueue {
  open = true;
  readonly #machine: Machine;
  readonly #pieces: Uint8Array[] = [];
  readonly #stop: () => void;
  #wake: (() => void) | undefined;

  constructor(io: Io, machine: Machine) {
    this.#machine = machine;
    this.#stop = io.stdin.listen((data) => {
      if (data) this.#pieces.push(data);
      else this.open = false;
      this.#feed();
      this.wake();
    });
  }

  /** Resolves when something arrives, at the end of input, on `wake`, or after so many milliseconds. */
  async arrival(milliseconds: number): Promise<void> {
    if (this.#pieces.length > 0) {
      this.#feed(true);
      return;
    }
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (milliseconds < 2 ** 31) {
        const timer = setTimeout(resolve, Math.max(0, milliseconds));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      }
    });
    this.#wake = undefined;
  }

  wake(): void {
    this.#wake?.();
  }

  close(): void {
    this.#stop();
  }

  #feed(always = false): void {
    while (this.#pieces.length > 0 && (always || this.#machine.serial.waiting < INPUT_AHEAD)) {
      const piece = this.#pieces.shift();
      if (piece) this.#machine.serial.write(piece);
    }
  }
}
