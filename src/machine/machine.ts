/**
 * The machine: processors, memory, devices, schedule and snapshots behind one door.
 *
 * ```ts
 * const machine = Machine.create({ cpus: 2, memory: 64 });
 * machine.boot(image, { commandLine: 'quiet' });
 * machine.serial.onOutput = (byte) => console.log(byte);
 * const stop = machine.run({ maxInstructions: 1_000_000 });
 * ```
 */
import { Cpu, type EventSource } from '../arch/cpu.ts';
import { Execution, type RunEnd } from '../arch/cycle.ts';
import { TripleFault, UnimplementedInstruction } from '../arch/fault.ts';
import { inspectPage } from '../arch/paging.ts';
import { DEFAULT_MODEL, type Processor, processorOf } from '../arch/processor.ts';
import { initReset, reset } from '../arch/reset.ts';
import { layOut } from '../engine/layout.ts';
import { SHUTDOWN } from '../isa/state.ts';
import { Board } from './board.ts';
import { acpiTables } from './boot/acpi/tables.ts';
import { type BootOptions, loadImage } from './boot/load.ts';
import { initialiseMemoryTypes } from './boot/memory-types.ts';
import { mpTable } from './boot/mp-table.ts';
import { FIXED } from './devices/apic-message.ts';
import type { Plain } from './devices/device.ts';
import { DEFAULT_EPOCH } from './devices/rtc.ts';
import { VirtioNine } from './devices/virtio/9p/device.ts';
import { FileError, type FileTree } from './devices/virtio/9p/file-tree.ts';
import { type Disk, VirtioBlock } from './devices/virtio/block.ts';
import { VirtioConsole } from './devices/virtio/console.ts';
import { VirtioEntropy } from './devices/virtio/entropy.ts';
import type { VirtioModel, VirtioPort } from './devices/virtio/transport.ts';
import { MAX_CPUS, MAX_MEMORY_MIB } from './limits.ts';
import { PAGE_SIZE, SystemBus } from './memory.ts';
import { Random } from './random.ts';
import { readRegisters, writeRegister } from './registers.ts';
import { describeDeadlock, Schedule, type ScheduleEnd } from './schedule.ts';
import { type Configuration, type Snapshot, SnapshotError, SnapshotKeeper } from './snapshot.ts';
import { decodeSnapshot, type SnapshotSchema } from './snapshot-file.ts';

const MIB = 1 << 20;

export interface MachineOptions {
  /** Processors, 1 to 64; default 1. */
  readonly cpus?: number;
  /** RAM in MiB, 1 to 3072; default 64. */
  readonly memory?: number;
  /** Ticks (instructions) that a processor runs before the next has its turn; default 1000. */
  readonly quantum?: number;
  /** Seed of the schedule's jitter and of RDRAND; 0, the default, leaves slices regular. */
  readonly seed?: number;
  /** What the real-time clock shows at guest time 0, in seconds since 1970; default 2000-01-01. */
  readonly epoch?: number;
  /**
   * The processors' model, and after commas switches of features: `haswell,-avx2,+sha`. Default: all that is implemented. What CPUID
   * does not report raises #UD or #GP.
   */
  readonly cpu?: string;
  /** Virtio devices on the PCI bus: a console, a source of random numbers (of the seed), a disk, and files. */
  readonly console?: boolean;
  readonly entropy?: boolean;
  readonly disk?: Disk;
  /** Files that the guest mounts by 9P, under the tag `share`. */
  readonly share?: FileTree;
}

export interface RunOptions {
  /** Instructions in all, over all processors; default unlimited. */
  readonly maxInstructions?: number;
  /** Looked at between slices and device events; the run ends with reason `until` when it holds. */
  readonly until?: () => boolean;
}

/** Why a run ended. */
export type Stop =
  /** The guest wrote `value` to the debug-exit port; `status` is (value << 1) | 1. */
  | { readonly reason: 'exit'; readonly status: number; readonly value: number }
  | { readonly reason: 'triple-fault'; readonly cpu: number; readonly rip: bigint }
  | {
      readonly reason: 'unimplemented';
      readonly cpu: number;
      readonly rip: bigint;
      readonly bytes: Uint8Array;
    }
  /** `maxInstructions` were executed. */
  | { readonly reason: 'limit' }
  | { readonly reason: 'until' }
  /** Every processor waits, and nothing of the machine's own will wake one; input may. */
  | { readonly reason: 'deadlock'; readonly message: string }
  /** The guest asked for a reset (port CF9H, 92H or the keyboard controller). */
  | { readonly reason: 'reset' }
  /** The guest turned the machine off (ACPI soft-off). */
  | { readonly reason: 'power-off' }
  /** A listener stopped the run. */
  | { readonly reason: 'hook' };

/** What listeners are told, by event. */
export interface MachineEvents {
  /**
   * An interrupt or exception is about to be delivered. Returning true ends the run with it undelivered: it is
   * delivered when the machine runs on, of which the listener is told again.
   */
  deliver: (cpu: number, vector: number, errorCode: number | undefined, source: EventSource) => unknown;
  /** An interrupt or exception has been delivered: RSP and CS:RIP are the handler's. */
  delivered: (cpu: number, vector: number) => void;
  /** CPL changed. */
  'privilege-change': (cpu: number, from: number, to: number) => void;
  /** IRET has completed; `pointer` is the linear address that its frame was taken from. */
  'interrupt-return': (cpu: number, pointer: bigint) => void;
  /**
   * `size` bytes at a physical address are read or written: by an instruction, a delivery, or a walk of the paging
   * structures, whose accessed and dirty flags count as writes. Fetches of code are not told. A read-modify-write is
   * told as a read and a write. Listening slows the machine down.
   */
  access: (cpu: number, physical: number, size: number, write: boolean) => void;
  'port-read': (cpu: number, port: number, size: 1 | 2 | 4, value: number) => void;
  'port-write': (cpu: number, port: number, size: 1 | 2 | 4, value: number) => void;
}

/** Called after each instruction that completed, with the RIP it stood at. */
export type Trace = (cpu: number, rip: bigint) => void;

/** The virtio console. */
export interface Console {
  /** Called with what the guest sends. */
  onOutput: (bytes: Uint8Array) => void;
  /** Sends bytes to the guest. */
  write(bytes: Uint8Array): void;
  /** Bytes sent that the guest has not taken yet. */
  readonly waiting: number;
  /** Tells the guest how large the console is, in characters. */
  resize(columns: number, rows: number): void;
}

/** COM1. */
export interface Serial {
  /** Called with each byte that the guest sends. */
  onOutput: (byte: number) => void;
  /** Sends bytes to the guest. */
  write(bytes: Uint8Array): void;
  /** Bytes sent that the guest has not read yet. */
  readonly waiting: number;
}

/**
 * A PC with one or more x86-64 processors. Nothing in it depends on the host's time or chance: image, options and input
 * determine a run. `run` and `step` drive it; in between it may be read, changed, and taken back by snapshots.
 */
export class Machine {
  /** The processors' state, for those who look closely. */
  readonly cpus: readonly Cpu[];
  readonly configuration: Configuration;
  readonly serial: Serial;
  /** The virtio console, if the machine has one. */
  readonly console: Console | undefined;

  readonly #bus: SystemBus;
  readonly #board: Board;
  readonly #schedule: Schedule;
  readonly #random: Random;
  readonly #execution: Execution;
  readonly #keeper: SnapshotKeeper;
  readonly #powerOn: Snapshot;
  readonly #listeners: { [K in keyof MachineEvents]: Set<MachineEvents[K]> } = {
    deliver: new Set(),
    delivered: new Set(),
    'privilege-change': new Set(),
    'interrupt-return': new Set(),
    access: new Set(),
    'port-read': new Set(),
    'port-write': new Set(),
  };
  #trace: Trace | undefined;
  /** The latest event delivered while tracing. */
  #delivered: EventSource | undefined;
  #stop: Stop | undefined;
  #until: (() => boolean) | undefined;
  #running = false;

  private constructor(configuration: Configuration, backing: Backing) {
    checkConfiguration(configuration);
    this.configuration = configuration;
    let virtioConsole: VirtioConsole | undefined;
    const plugged = deviceNames(configuration).map((name) => (port: VirtioPort): VirtioModel => {
      if (name === 'console') {
        virtioConsole = new VirtioConsole(port);
        return virtioConsole;
      }
      if (name === 'share') return new VirtioNine(port, backing.share ?? NO_FILES);
      if (name === 'entropy') return new VirtioEntropy(port, configuration.seed);
      return new VirtioBlock(port, backing.disk ?? NO_DISK);
    });
    const { cpus: count, ramBytes, quantum, seed, epoch } = configuration;
    const layout = layOut(count, ramBytes);
    const memory = new WebAssembly.Memory({ initial: layout.pages, maximum: layout.pages });
    this.#random = new Random(seed, 1);
    this.#bus = new SystemBus(
      memory,
      layout.ram,
      ramBytes,
      {
        now: (index) => this.#schedule.time(index),
        spend: (index, ticks) => this.#schedule.spend(index, ticks),
      },
      () => this.#random.next64(),
    );
    this.#board = new Board(this.#bus, {
      cpus: count,
      epoch,
      plugged,
      timeOf: (index) => this.#schedule.time(index),
      current: () => this.#schedule.current,
      endRun: (index) => {
        if (this.#running && index === this.#schedule.current) this.cpus[index].engine.endRun();
      },
      takeInit: (index) => {
        if (!this.#running || index !== this.#schedule.current) initReset(this.cpus[index]);
      },
      exit: (value) => this.#end({ reason: 'exit', status: value * 2 + 1, value }),
      reset: () => this.#end({ reason: 'reset' }),
      powerOff: () => this.#end({ reason: 'power-off' }),
    });
    const { localApics } = this.#board;
    const model = processorOf(configuration.cpu);
    this.cpus = localApics.map((apic, index) => {
      const cpu = new Cpu(memory, layout.state(index), index, this.#bus, apic, layout.arch(index));
      cpu.cpuCount = count;
      cpu.processor = model;
      return cpu;
    });
    this.cpus[0].numericError = this.#board.numericError;
    this.#execution = new Execution(memory, layout, this.cpus, this.#bus);
    this.#schedule = new Schedule(
      {
        cpus: this.cpus,
        timers: localApics,
        devices: this.#board.timed,
        execute: (cpu, budget) => this.#execute(cpu, budget),
        interrupted: () => this.#interrupted(),
        unmaskable: () => this.#board.hasUnmaskable,
      },
      quantum,
      seed,
    );
    for (const cpu of this.cpus) {
      localApics[cpu.index].attach(cpu);
      reset(cpu);
    }
    const { uart } = this.#board;
    this.serial = {
      get onOutput() {
        return uart.onOutput;
      },
      set onOutput(listener) {
        uart.onOutput = listener;
      },
      write: (bytes) => {
        this.#board.touch();
        uart.receive(bytes);
      },
      get waiting() {
        return uart.waiting;
      },
    };
    this.console = virtioConsole && consoleOf(virtioConsole, () => this.#board.touch());
    this.#keeper = new SnapshotKeeper(memory, layout, this.#bus, this.cpus);
    this.#powerOn = this.snapshot();
  }

  /** A machine that has been powered on and has nothing to run. Throws RangeError for impossible options. */
  static create(options: MachineOptions = {}): Machine {
    return new Machine(configurationOf(options), options);
  }

  /**
   * A machine of a snapshot's configuration, restored to it. Throws SnapshotError where what stands behind its devices
   * is missing.
   */
  static from(snapshot: Snapshot, backing: Backing = {}): Machine {
    const { configuration } = snapshot;
    for (const name of ['disk', 'share'] as const)
      if (deviceNames(configuration).includes(name) !== (backing[name] !== undefined))
        throw new SnapshotError(
          backing[name] ? `${name}: the machine had none` : `${name}: the machine had one, and none is given`,
        );
    const machine = new Machine(configuration, backing);
    machine.restore(snapshot);
    return machine;
  }

  /** Reads a snapshot file (`encodeSnapshot` writes one). Throws SnapshotError with one line that says what is wrong. */
  static readSnapshot(bytes: Uint8Array): Snapshot {
    return decodeSnapshot(bytes, schema);
  }

  /**
   * Powers the machine on anew and loads an image: a Linux bzImage, a Multiboot 1 or 2 image or a PVH ELF, recognised by content. Processor 0 then
   * stands at its entry; the others wait for start-up IPIs. Throws ImageError where the image cannot be booted.
   */
  boot(image: Uint8Array, options: BootOptions = {}): void {
    this.#idle();
    const load = loadImage(image, this.#bus.ramBytes, options);
    this.restore(this.#powerOn);
    for (const { address, bytes } of [
      ...mpTable(this.cpus.length, this.cpus[0].processor.signature),
      ...acpiTables(this.cpus.length),
      ...load.pieces,
    ])
      this.#bus.copyIn(address, bytes);
    this.#board.touch();
    this.#board.initialiseAsFirmware();
    for (const cpu of this.cpus) initialiseMemoryTypes(cpu);
    load.enter(this.cpus[0]);
  }

  /**
   * Runs until something ends it. A run may be continued by another; cutting it changes nothing. Throws RangeError for a
   * limit that is not a number of instructions.
   */
  run(options: RunOptions = {}): Stop {
    const { maxInstructions = Number.POSITIVE_INFINITY } = options;
    if (!(maxInstructions >= 0))
      throw new RangeError(`maxInstructions: ${maxInstructions}, expected 0 or more`);
    this.#board.touch();
    return this.#drive(options.until, () => this.#schedule.run(maxInstructions));
  }

  /**
   * One instruction, or the delivery of one event: of the processor whose turn it is, or of processor `cpu` out of
   * turn. The reason is `limit` where nothing else ended it.
   */
  step(cpu?: number): Stop {
    if (cpu === undefined) return this.run({ maxInstructions: 1 });
    const stepped = this.#cpu(cpu);
    this.#board.touch();
    return this.#drive(undefined, () => this.#schedule.step(stepped, 1));
  }

  /**
   * Runs processor `cpu` by itself for up to `maxInstructions`: the other processors stand still, and no timer or device
   * fires whatever its clock shows. What follows is this processor's doing alone. The reason is `deadlock` where it
   * waits for something.
   */
  runAlone(cpu: number, maxInstructions: number): Stop {
    const alone = this.#cpu(cpu);
    return this.#drive(undefined, () => this.#schedule.alone(alone, maxInstructions));
  }

  /** Ends the run in progress after the present instruction, with reason `hook`. For listeners. */
  stop(): void {
    this.#end({ reason: 'hook' });
  }

  /** Bytes of physical RAM. Throws RangeError outside RAM; devices are not read. */
  readPhysical(address: number, size: number): Uint8Array {
    if (address < 0 || size < 0 || address + size > this.#bus.ramBytes) throw outside('physical', address);
    return this.#bus.bytes.slice(address, address + size);
  }

  /** The bytes of the 4-KiB page of physical RAM of a number, as they stand from now on: to be read only. */
  physicalPage(page: number): Uint8Array {
    return this.#bus.bytes.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
  }

  /** All RAM, by dwords, as it stands from now on: to be read only. */
  get ramDwords(): Uint32Array {
    return this.#bus.dwords;
  }

  /** Whether all devices are as in a snapshot of this machine. */
  devicesAre({ parts }: Snapshot): boolean {
    return this.#board.same(parts);
  }

  /** How often devices have been asked or told something, by memory or by ports. */
  get deviceAccesses(): number {
    return this.#bus.deviceAccesses;
  }

  /** Writes physical RAM. Throws RangeError outside RAM, having written nothing. */
  writePhysical(address: number, bytes: Uint8Array): void {
    if (address < 0 || address + bytes.length > this.#bus.ramBytes) throw outside('physical', address);
    this.#bus.copyIn(address, bytes);
  }

  /** Numbers of the 4-KiB pages of physical RAM written since the latest snapshot or restore; valid until the next write. */
  changedPages(): Uint32Array {
    return this.#bus.dirty.list();
  }

  /**
   * Bytes at a linear address, by the page tables in memory of processor `cpu`, without rights and side effects.
   * Throws RangeError where a page is not mapped to RAM.
   */
  readMemory(linear: bigint, size: number, cpu = 0): Uint8Array {
    const bytes = new Uint8Array(size);
    for (const { physical, offset, length } of this.#pieces(linear, size, cpu))
      bytes.set(this.#bus.bytes.subarray(physical, physical + length), offset);
    return bytes;
  }

  /** As `readMemory`. Read-only pages are written as well. Throws having written nothing. */
  writeMemory(linear: bigint, bytes: Uint8Array, cpu = 0): void {
    for (const { physical, offset, length } of this.#pieces(linear, bytes.length, cpu))
      this.#bus.copyIn(physical, bytes.subarray(offset, offset + length));
  }

  /** All registers of a processor by name (`registerNames`). */
  registers(cpu = 0): Record<string, bigint> {
    return readRegisters(this.#cpu(cpu));
  }

  /**
   * Sets a register as a debugger does: `rax`, `rip`, `rflags`, `cr3`, `cs`, `cs.base` and so on. Throws RangeError
   * for a name it does not know.
   */
  setRegister(name: string, value: bigint, cpu = 0): void {
    writeRegister(this.#cpu(cpu), name, value);
  }

  /** Instructions executed and events delivered, over all processors. */
  get instructions(): number {
    return this.cpus.reduce((sum, cpu) => sum + Number(cpu.instructions), 0);
  }

  /** Guest time of a processor in ticks, nominally nanoseconds. */
  time(cpu = 0): number {
    return this.#schedule.time(this.#cpu(cpu).index);
  }

  /** Latches a non-maskable interrupt at a processor. */
  injectNmi(cpu = 0): void {
    this.#cpu(cpu).nmiPending = 1;
    this.#attention(cpu);
  }

  /** Latches a machine check at a processor. */
  injectMachineCheck(cpu = 0): void {
    this.#cpu(cpu).machineCheckPending = 1;
    this.#attention(cpu);
  }

  /**
   * Requests the edge-triggered fixed interrupt `vector` (16 to 255) of a processor's local APIC, as an IPI would.
   * @returns whether the local APIC is enabled and takes it
   */
  injectInterrupt(vector: number, cpu = 0): boolean {
    const apic = this.#board.localApics[this.#cpu(cpu).index];
    if (!apic.accepting) return false;
    apic.accept(FIXED, vector, false);
    return true;
  }

  /** IRR and ISR of a processor's local APIC: 8 dwords each, to be read only. */
  interruptRequests(cpu = 0): { readonly requested: Uint32Array; readonly inService: Uint32Array } {
    return this.#board.localApics[this.#cpu(cpu).index].requests;
  }

  /** A register of a processor's local APIC at byte `offset` of its page, 32 bits. */
  localApicRegister(offset: number, cpu = 0): number {
    return this.#board.localApics[this.#cpu(cpu).index].read(offset, 4);
  }

  /** Asserts interrupt line `irq`: 0 to 15 are the ISA lines, 16 to 23 go to the I/O APIC only. */
  raiseIrq(irq: number): void {
    this.#board.touch();
    this.#board.setIrq(irq, true);
  }

  lowerIrq(irq: number): void {
    this.#board.touch();
    this.#board.setIrq(irq, false);
  }

  /** All of the machine as it stands. Costs the pages written since the last snapshot or restore. */
  snapshot(): Snapshot {
    this.#idle();
    const parts: Record<string, Plain> = {
      ...this.#board.save(),
      schedule: this.#schedule.save(),
      random: this.#random.save(),
    };
    const snapshot = this.#keeper.take(this.configuration, parts);
    this.#execution.interpreter.flushWrites();
    return snapshot;
  }

  /**
   * Goes back, or over, to a snapshot of this machine or of one of equal configuration. Costs the pages written since
   * the last snapshot or restore and those that differ between that and this. Throws SnapshotError if it does not fit.
   */
  restore(snapshot: Snapshot): void {
    this.#idle();
    checkFits(snapshot.configuration, this.configuration);
    const flush = this.#keeper.restore(snapshot);
    this.#board.restore(snapshot.parts);
    this.#schedule.restore(snapshot.parts.schedule as ReturnType<Schedule['save']>);
    this.#random.restore(snapshot.parts.random as Uint32Array);
    if (flush) this.#execution.interpreter.flushWrites();
  }

  /** Listens to an event; returns a function that ends it. Throws RangeError for an event that there is not. */
  on<K extends keyof MachineEvents>(event: K, listener: MachineEvents[K]): () => void {
    if (!Object.hasOwn(this.#listeners, event)) throw new RangeError(`no event is named ${event}`);
    const listeners: Set<MachineEvents[K]> = this.#listeners[event];
    listeners.add(listener);
    this.#attachListeners();
    return () => {
      listeners.delete(listener);
      this.#attachListeners();
    };
  }

  /** Set to be called at each instruction; this slows the machine down. */
  get trace(): Trace | undefined {
    return this.#trace;
  }

  set trace(trace: Trace | undefined) {
    this.#trace = trace;
    this.#attachListeners();
  }

  #drive(until: (() => boolean) | undefined, action: () => ScheduleEnd): Stop {
    this.#idle();
    this.#stop = undefined;
    this.#until = until;
    this.#running = true;
    let end: ScheduleEnd;
    try {
      end = action();
    } catch (error) {
      return this.#stopFor(error);
    } finally {
      this.#running = false;
      this.#until = undefined;
    }
    if (this.#stop) return this.#stop;
    switch (end) {
      case 'deadlock':
        return { reason: 'deadlock', message: describeDeadlock(this.cpus) };
      case 'interrupted':
        return { reason: 'until' };
      default:
        return { reason: end };
    }
  }

  #stopFor(error: unknown): Stop {
    const cpu = this.cpus[this.#schedule.current];
    if (error instanceof TripleFault) {
      cpu.activity = SHUTDOWN;
      return { reason: 'triple-fault', cpu: cpu.index, rip: error.rip };
    }
    if (error instanceof UnimplementedInstruction)
      return { reason: 'unimplemented', cpu: cpu.index, rip: error.rip, bytes: error.bytes };
    throw error;
  }

  #execute(cpu: Cpu, budget: number): RunEnd {
    this.#keeper.touch(cpu.index);
    const trace = this.#trace;
    if (!trace) return this.#execution.run(cpu, budget);
    const { rip } = cpu;
    const before = cpu.instructions;
    this.#delivered = undefined;
    const end = this.#execution.run(cpu, 1);
    const source = this.#delivered as EventSource | undefined;
    const instruction =
      source === undefined || (source !== 'external' && source !== 'nmi' && source !== 'exception');
    if (cpu.instructions !== before && instruction) trace(cpu.index, rip);
    return end;
  }

  #interrupted(): boolean {
    return this.#stop !== undefined || (this.#until?.() ?? false);
  }

  #end(stop: Stop): void {
    this.#stop ??= stop;
    if (this.#running) this.cpus[this.#schedule.current].engine.endRun();
  }

  /** A processor must look at its events before its next instruction. */
  #attention(cpu: number): void {
    if (this.#running && cpu === this.#schedule.current) this.cpus[cpu].engine.endRun();
  }

  #idle(): void {
    if (this.#running) throw new Error('not while the machine runs');
  }

  #cpu(index: number): Cpu {
    const cpu = this.cpus[index];
    if (!cpu) throw new RangeError(`no processor ${index}: the machine has ${this.cpus.length}`);
    return cpu;
  }

  /** Where a range of linear memory stands in RAM. */
  #pieces(
    linear: bigint,
    size: number,
    index: number,
  ): { physical: number; offset: number; length: number }[] {
    const cpu = this.#cpu(index);
    const pieces: { physical: number; offset: number; length: number }[] = [];
    for (let offset = 0; offset < size; ) {
      const at = BigInt.asUintN(64, linear + BigInt(offset));
      const length = Math.min(size - offset, PAGE_SIZE - Number(at & 0xfffn));
      const page = inspectPage(cpu, at);
      if (!page || page.physical + length > this.#bus.ramBytes) throw outside('linear', at);
      pieces.push({ physical: page.physical, offset, length });
      offset += length;
    }
    return pieces;
  }

  /** Absent hooks cost nothing, so they are there only while somebody listens. */
  #attachListeners(): void {
    const {
      deliver,
      delivered,
      'privilege-change': privilege,
      'interrupt-return': interruptReturn,
      access,
      'port-read': read,
      'port-write': write,
    } = this.#listeners;
    for (const cpu of this.cpus) {
      const { index } = cpu;
      cpu.hooks = {};
      if (deliver.size > 0 || this.#trace) {
        cpu.hooks.deliver = (_cpu, vector, errorCode, source) => {
          let stop = false;
          for (const listener of deliver)
            if (listener(index, vector, errorCode, source) === true) stop = true;
          if (!stop) this.#delivered = source;
          return stop;
        };
      }
      if (delivered.size > 0) {
        cpu.hooks.delivered = (_cpu, vector) => {
          for (const listener of delivered) listener(index, vector);
        };
      }
      if (privilege.size > 0) {
        cpu.hooks.privilegeChange = (_cpu, from, to) => {
          for (const listener of privilege) listener(index, from, to);
        };
      }
      if (interruptReturn.size > 0) {
        cpu.hooks.interruptReturn = (_cpu, pointer) => {
          for (const listener of interruptReturn) listener(index, pointer);
        };
      }
      if (access.size > 0) {
        cpu.hooks.access = (_cpu, physical, size, write) => {
          for (const listener of access) listener(index, physical, size, write);
        };
        // What is there already would hide accesses.
        cpu.engine.flushTranslations();
      }
    }
    const observe = (listeners: ReadonlySet<MachineEvents['port-read']>) =>
      listeners.size === 0
        ? undefined
        : (port: number, size: 1 | 2 | 4, value: number) => {
            for (const listener of listeners) listener(this.#schedule.current, port, size, value);
          };
    this.#bus.onPortRead = observe(read);
    this.#bus.onPortWrite = observe(write);
  }
}

/** What stands behind a machine's devices, and is not part of its snapshots. */
export type Backing = Pick<MachineOptions, 'disk' | 'share'>;

/** Devices that can be plugged in, in the order of their slots. */
const DEVICES = ['console', 'entropy', 'disk', 'share'] as const;

function deviceNames({ devices }: Configuration): readonly string[] {
  return devices === '' ? [] : devices.split(',');
}

/** For the shape of a machine's state. */
const NO_DISK: Disk = {
  size: 0,
  writable: false,
  read: () => false,
  write: () => false,
  flush: () => false,
};

const absent = (): never => {
  throw new FileError('EIO');
};
const NO_FILES: FileTree = {
  status: absent,
  list: absent,
  readLink: absent,
  open: absent,
  create: absent,
  makeFolder: absent,
  makeLink: absent,
  remove: absent,
  rename: absent,
  change: absent,
};

/** @param touch tells that the device is about to change */
function consoleOf(device: VirtioConsole, touch: () => void): Console {
  return {
    get onOutput() {
      return device.onOutput;
    },
    set onOutput(listener) {
      device.onOutput = listener;
    },
    write: (bytes) => {
      touch();
      device.receive(bytes);
    },
    get waiting() {
      return device.waiting;
    },
    resize: (columns, rows) => {
      touch();
      device.resize(columns, rows);
    },
  };
}

function configurationOf(options: MachineOptions): Configuration {
  return {
    cpus: options.cpus ?? 1,
    ramBytes: (options.memory ?? 64) * MIB,
    quantum: options.quantum ?? 1000,
    seed: options.seed ?? 0,
    epoch: options.epoch ?? DEFAULT_EPOCH,
    cpu: processor(options.cpu ?? DEFAULT_MODEL).name,
    devices: DEVICES.filter((name) => options[name]).join(','),
  };
}

/** Throws RangeError. */
function processor(text: string): Processor {
  try {
    return processorOf(text);
  } catch (error) {
    throw error instanceof RangeError ? new RangeError(`cpu: ${error.message}`) : error;
  }
}

function checkConfiguration({ cpus, ramBytes, quantum, seed, epoch, cpu, devices }: Configuration): void {
  const check = (name: string, value: number, from: number, to: number) => {
    if (!Number.isInteger(value) || value < from || value > to)
      throw new RangeError(`${name}: ${value}, expected a whole number from ${from} to ${to}`);
  };
  check('cpus', cpus, 1, MAX_CPUS);
  check('memory', ramBytes / MIB, 1, MAX_MEMORY_MIB);
  check('quantum', quantum, 1, 2 ** 31 - 1);
  check('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  check('epoch', epoch, 0, 2 ** 33);
  const { name } = processor(cpu);
  if (cpu !== name) throw new RangeError(`cpu: "${cpu}", expected "${name}"`);
  if (devices !== DEVICES.filter((name) => devices.split(',').includes(name)).join(','))
    throw new RangeError(`devices: expected some of ${DEVICES.join(', ')}, in this order`);
}

function checkFits(snapshot: Configuration, machine: Configuration): void {
  if (snapshot === machine) return;
  for (const name of ['cpus', 'ramBytes', 'quantum', 'seed', 'epoch', 'cpu', 'devices'] as const)
    if (snapshot[name] !== machine[name])
      throw new SnapshotError(
        `${name}: ${snapshot[name]} in the snapshot, expected ${machine[name]} as in the machine`,
      );
}

function outside(kind: 'physical' | 'linear', address: number | bigint): RangeError {
  return new RangeError(`${kind} address 0x${address.toString(16)} is not in RAM`);
}

const shapes = new Map<string, Readonly<Record<string, Plain>>>();

/** The shape of a machine's parts depends on its processors and devices only: a small machine of the same shows it. */
const schema: SnapshotSchema = {
  check: checkConfiguration,
  parts({ cpus, devices }) {
    const key = `${cpus},${devices}`;
    let shape = shapes.get(key);
    if (!shape) {
      const has = (name: string) => devices.split(',').includes(name);
      shape = Machine.create({
        cpus,
        memory: 1,
        console: has('console'),
        entropy: has('entropy'),
        ...(has('disk') ? { disk: NO_DISK } : {}),
        ...(has('share') ? { share: NO_FILES } : {}),
      }).snapshot().parts;
      shapes.set(key, shape);
    }
    return shape;
  },
};
