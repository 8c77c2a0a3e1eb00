/** One virtual processor: its architectural state and what it is wired to. Arch functions take it first. */
import type { CodeSize, Instruction } from '../isa/instruction.ts';
import { CS, offsetOf, SS, State } from '../isa/state.ts';
import type { Bus, InterruptController } from './bus.ts';
import type { Feature } from './features.ts';
import { defaultProcessor, type Processor } from './processor.ts';
import { INITIAL_TILES, type TileState } from './tile-state.ts';
import { Tlb } from './tlb.ts';

/** What arch needs of the engine that runs the processor's code. */
export interface EngineControl {
  /**
   * Forgets the fast translations of this processor (the architectural TLB is arch's own: tlb.ts), or those that were
   * made under one PCID. @param globals those of global pages, too; by default they go
   */
  flushTranslations(pcid?: number, globals?: boolean): void;
  /** Forgets the fast translations of the 4-KiB page at `linear`. @param code it may have been fetched from */
  flushPage(linear: bigint, code: boolean): void;
  /** The same for a page of `bytes`, 2 MiB or more, at `linear`. */
  flushLargePage(linear: bigint, bytes: number, code: boolean): void;
  /**
   * The WebAssembly address of `size` bytes of RAM at `linear` by the fast TLB of `context` (mode.ts) under the current PCID; -1 when it does
   * not have them, which says nothing of the architecture.
   */
  fastAddress(linear: bigint, size: number, context: number, write: boolean): number;
  /** Enters the page of `linear` there: RAM at `host`, the WebAssembly address of `linear` itself. */
  fillFast(linear: bigint, host: number, context: number, write: boolean): void;
  /** Ends the current run after the instruction in progress, so that the machine looks at devices and events again. */
  endRun(): void;
  /** The instruction in progress takes `ticks` of the processor's time more than the one that each does. */
  spend(ticks: number): void;
}

/** Observers of what a processor does; the checker, traces and tests attach here. Absent hooks cost nothing. */
export interface CpuHooks {
  /**
   * An exception or interrupt is about to be delivered. `source` tells how it arose. Returning true stops the run
   * with the event undelivered.
   */
  deliver?(cpu: Cpu, vector: number, errorCode: number | undefined, source: EventSource): boolean;
  /** An interrupt or exception has been delivered; RSP and CS:RIP are the handler's. */
  delivered?(cpu: Cpu, vector: number): void;
  /** SYSCALL, SYSENTER, SYSRET, SYSEXIT, IRET to CPL 3, and deliveries, after CPL changed. */
  privilegeChange?(cpu: Cpu, from: number, to: number): void;
  /** IRET has completed; `pointer` is the linear address that it took its frame from. */
  interruptReturn?(cpu: Cpu, pointer: bigint): void;
  /**
   * Bytes at a physical address are read or written: by an instruction, a delivery, or a walk of the paging structures
   * with its accessed and dirty flags; fetches of code are not told. While there is such a hook no translation is entered
   * in a fast TLB; who attaches it empties them.
   */
  access?(cpu: Cpu, physical: number, size: number, write: boolean): void;
}

/** How an interrupt or exception arises (SDM vol. 3A 6.3, 6.4). */
export type EventSource = 'external' | 'nmi' | 'exception' | 'software' | 'int1' | 'int3' | 'into';

/** The pins by which the machine is told of x87 errors while CR0.NE is clear, and tells to ignore them (SDM vol. 1 8.7.2). */
export interface NumericErrorPins {
  /** FERR# is asserted. */
  readonly reported: boolean;
  /** IGNNE# is asserted. */
  readonly ignored: boolean;
  /** Asserts or deasserts FERR#. */
  report(asserted: boolean): void;
}

/** Pins that lead nowhere. */
const NO_PINS: NumericErrorPins = { reported: false, ignored: false, report() {} };

/** Low dwords of fields in the state as an array of dwords: modes are asked for too often to make BigInts of them. */
const EFER = offsetOf('efer') / 4;
const CR0 = offsetOf('cr0') / 4;
const FLAGS = offsetOf('flagsRest') / 4;

export class Cpu extends State {
  readonly index: number;
  readonly bus: Bus;
  readonly interrupts: InterruptController;
  /** Set by the engine when it is attached. */
  engine: EngineControl = {
    flushTranslations() {},
    flushPage() {},
    flushLargePage() {},
    fastAddress: () => -1,
    fillFast() {},
    endRun() {},
    spend() {},
  };
  /** The machine's whole memory. */
  readonly view: DataView;
  hooks: CpuHooks = {};
  /** A hook asked to stop the run, with its event undelivered; the instruction cycle clears this. */
  stopRequested = false;
  readonly tlb: Tlb;
  /** Set by the machine. */
  numericError: NumericErrorPins = NO_PINS;
  /** What it is. Set by the machine. */
  processor: Processor = defaultProcessor;
  /** AMX state and XFD, which stand apart from the other fields. Replaced, never changed. */
  tiles: TileState = INITIAL_TILES;
  /** Logical processors in the machine, as CPUID reports them. Set by the machine. */
  cpuCount = 1;

  /**
   * @param address of the processor's state, `layout.state(index)`.
   * @param archAddress of arch's own tables, `layout.arch(index)`: `ARCH_BYTES` zero bytes.
   */
  constructor(
    memory: WebAssembly.Memory,
    address: number,
    index: number,
    bus: Bus,
    interrupts: InterruptController,
    archAddress: number,
  ) {
    super(memory, address);
    this.view = new DataView(memory.buffer);
    this.index = index;
    this.bus = bus;
    this.interrupts = interrupts;
    this.tlb = new Tlb(memory, archAddress, () => this.engine);
  }

  /** Whether it has the feature, as CPUID reports it. */
  has(feature: Feature): boolean {
    return this.processor.features.has(feature);
  }
  /** IA32_EFER.LMA: long mode is active. */
  get longMode(): boolean {
    return (this.u32[EFER] & 0x400) !== 0;
  }
  /** CR0.PE. */
  get protectedMode(): boolean {
    return (this.u32[CR0] & 1) !== 0;
  }
  /** RFLAGS.VM with CR0.PE. */
  get virtual8086(): boolean {
    return (this.u32[FLAGS] & 0x2_0000) !== 0;
  }
  /** Real-address or virtual-8086 mode: selectors are paragraphs. */
  get realAddressing(): boolean {
    return !this.protectedMode || this.virtual8086;
  }
  /** 64-bit mode: long mode with CS.L. */
  get mode64(): boolean {
    return this.longMode && (this.segAttributes[CS] & 0x2000) !== 0;
  }
  /** Default operand and address size of the code segment. */
  get codeSize(): CodeSize {
    if (this.mode64) return 64;
    return this.segAttributes[CS] & 0x4000 ? 32 : 16;
  }
  /** Width of the stack pointer that pushes use. */
  get stackSize(): CodeSize {
    if (this.mode64) return 64;
    return this.segAttributes[SS] & 0x4000 ? 32 : 16;
  }
}

/** A system instruction's meaning. RIP already points past the instruction; a Fault puts it back. */
export type SystemInstruction = (cpu: Cpu, instruction: Instruction) => void;
