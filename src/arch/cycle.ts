/**
 * The instruction cycle: events at instruction boundaries, then instructions, then faults.
 *
 * SDM vol. 3A 6.9 (priority among simultaneous exceptions and interrupts), 6.5 (faults, traps, aborts).
 */
import { Interpreter } from '../engine/interpreter/interpreter.ts';
import { EXIT, FAULT, JUMP, STOP, UNIMPLEMENTED } from '../engine/interpreter/op.ts';
import { FAST_READ, FAST_WRITE, fastTlbOffset, type Layout } from '../engine/layout.ts';
import { TF } from '../isa/flags.ts';
import type { Instruction } from '../isa/instruction.ts';
import type { SystemMnemonic } from '../isa/mnemonics.ts';
import { CS, HALTED, offsetOf, RUNNING, SHADOW_MOV_SS, SHADOW_NONE } from '../isa/state.ts';
import { slowLoad, slowProbe, slowStore, slowStoreVector } from './access.ts';
import { serviceBoundary } from './boundary.ts';
import type { Bus } from './bus.ts';
import type { Cpu } from './cpu.ts';
import { afterInstruction, instructionBreakpoint, singleStepNeeded, traced } from './debug.ts';
import { DB, Fault, GP, gp, UnimplementedInstruction } from './fault.ts';
import { instructions } from './instructions.ts';
import { deliverFault } from './interrupts.ts';
import { isCanonical } from './linear.ts';
import { updateContext } from './mode.ts';
import { currentPcid, isGlobal, pageAccess, translate } from './paging.ts';
import { lesserProcessor } from './required-features.ts';
import { reportError } from './x87.ts';

/** Low dwords of fields of the state, and flags there. */
const INSTRUCTIONS = offsetOf('instructions') / 4;
const FLAGS = offsetOf('flagsRest') / 4;
const IF = 0x200;
const RF = 0x1_0000;

/** Frequent system instructions that change nothing of what {@link updateContext} looks at. */
const keepContext: ReadonlySet<SystemMnemonic> = new Set([
  'pause',
  'rdtsc',
  'rdtscp',
  'cli',
  'sti',
  'pushf',
  'in',
  'rdmsr',
  'cpuid',
]);

/** Why a run ended. */
export type RunEnd =
  /** The budget is used up, or a device asked for attention. */
  | 'budget'
  /** The processor halted, or waits for a start-up IPI, or is shut down: no instruction can run. */
  | 'halted'
  | 'waiting'
  /** A `deliver` hook asked to stop. */
  | 'hook';

/** The processors of one machine, with the interpreter that runs them. */
export class Execution {
  readonly interpreter: Interpreter;
  /** The processor that is running, or undefined. */
  private current: Cpu | undefined;
  /** Instructions granted to the interpreter since `instructions` was last brought up to date. */
  private granted = 0;
  /** What `instructions` will be when the budget of the run is used up. */
  private end = 0n;
  /** Instructions that follow the one in progress in the run of decoded ones that the interpreter is in. */
  private after = 0;
  private yielded = false;
  /** Limit and base of CS for which each processor's cached code is valid, where the segment has a limit. */
  private readonly codeLimits: { base: bigint; limit: number }[];

  /** Attaches to the processors and to `bus`. */
  constructor(memory: WebAssembly.Memory, layout: Layout, cpus: readonly Cpu[], bus: Bus) {
    this.codeLimits = cpus.map(() => ({ base: -1n, limit: -1 }));
    // Processors of one machine are alike.
    const lesser = lesserProcessor(cpus[0].processor.features);
    this.interpreter = new Interpreter(memory, layout, {
      load: (cpu, linear, access) =>
        this.access(cpus[cpu], () => slowLoad(cpus[cpu], this.interpreter, linear, access)),
      store: (cpu, linear, access, value) =>
        this.access(cpus[cpu], () => {
          slowStore(cpus[cpu], this.interpreter, linear, access, value);
          return 1;
        }),
      storeVector: (cpu, linear, access) =>
        this.access(cpus[cpu], () => {
          slowStoreVector(cpus[cpu], this.interpreter, linear, access);
          return 1;
        }),
      probe: (cpu, linear, access) =>
        this.access(cpus[cpu], () => {
          slowProbe(cpus[cpu], linear, access);
          return 1;
        }),
      system: (cpu, instruction, after) => this.system(cpus[cpu], instruction, after),
      fetch: (cpu, linear) => this.fetch(cpus[cpu], linear),
      codeAddress: (cpu) => codeAddress(cpus[cpu]),
      codeLimit: (cpu) => BigInt(codeLimit(cpus[cpu])),
      limitFault: () => gp(0),
      ramOffset: (physical) => bus.ramOffset(physical),
      readByte: (physical) => Number(bus.read(physical, 1)),
      isGlobal: (cpu, linear) => isGlobal(cpus[cpu], linear),
      ...(lesser ? { lesser } : {}),
    });
    bus.code = {
      hasCode: (physical) => this.interpreter.hasCode(physical),
      written: (physical, size) => {
        if (this.interpreter.written(physical, size)) this.endRun();
      },
    };
    for (const cpu of cpus) {
      const fastTlb = (context: number, write: boolean) =>
        this.interpreter.fastTlbs(cpu.index, currentPcid(cpu)) +
        fastTlbOffset(context, write ? FAST_WRITE : FAST_READ);
      cpu.engine = {
        flushTranslations: (pcid, globals) => this.interpreter.flushTranslations(cpu.index, pcid, globals),
        flushPage: (linear, code) => this.interpreter.flushPage(cpu.index, linear, code),
        flushLargePage: (linear, bytes, code) =>
          this.interpreter.flushLargePage(cpu.index, linear, bytes, code),
        fastAddress: (linear, size, context, write) =>
          this.interpreter.fastAddress(fastTlb(context, write), linear, size),
        fillFast: (linear, host, context, write) =>
          this.interpreter.fillTranslation(cpu.index, fastTlb(context, write), linear, host - (host & 0xfff)),
        endRun: () => {
          this.yielded = true;
          this.endRun();
        },
        spend: (ticks) => {
          bus.spend(cpu.index, ticks);
          if (cpu !== this.current) return;
          cpu.remaining -= ticks;
          this.granted -= ticks;
          this.end -= BigInt(ticks);
        },
      };
    }
  }

  /** Brings the running processor's `instructions` up to date: the one in progress is counted. */
  private count(cpu: Cpu): void {
    const open = cpu.remaining + this.after;
    const low = cpu.u32[INSTRUCTIONS] + this.granted - open;
    // Too frequent for a BigInt where there is no carry.
    if (low >= 0 && low < 0x1_0000_0000) cpu.u32[INSTRUCTIONS] = low;
    else cpu.instructions += BigInt(this.granted - open);
    this.granted = open;
  }

  /** The interpreter returns after the instruction in progress. */
  private endRun(): void {
    const cpu = this.current;
    if (!cpu) return;
    this.count(cpu);
    // The dispatch loop will give back the instructions after this one.
    cpu.remaining = -this.after;
    this.granted = 0;
    cpu.stop = STOP;
  }

  /**
   * Runs `action` on behalf of generated code; a Fault that it throws is left in the state, and the result is then 0.
   * @param after instructions that follow in the run that the interpreter is in
   */
  private guarded(cpu: Cpu, after: number, action: () => number): number {
    this.after = after;
    this.count(cpu);
    try {
      return action();
    } catch (fault) {
      leaveFault(cpu, fault);
      return 0;
    } finally {
      this.after = 0;
    }
  }

  /** The physical address of code. Who observes accesses finds the instruction counted for which it is fetched. */
  private fetch(cpu: Cpu, linear: bigint): number {
    const access = pageAccess(cpu.cpl === 3, false, false, true);
    if (!cpu.hooks.access) return translate(cpu, linear, access);
    this.count(cpu);
    cpu.instructions++;
    try {
      return translate(cpu, linear, access);
    } finally {
      cpu.instructions--;
    }
  }

  /** As {@link guarded}, for the slow path of an access. */
  private access(cpu: Cpu, action: () => number): number {
    return this.guarded(cpu, this.interpreter.afterSlowOp(cpu.index), action);
  }

  private system(cpu: Cpu, instruction: Instruction, after: number): number {
    const mnemonic = instruction.mnemonic as SystemMnemonic;
    this.after = after;
    this.count(cpu);
    try {
      instructions[mnemonic](cpu, instruction);
    } catch (fault) {
      leaveFault(cpu, fault);
      this.updateContext(cpu);
      return FAULT;
    } finally {
      this.after = 0;
    }
    if (!keepContext.has(mnemonic)) this.updateContext(cpu);
    return this.quiet(cpu, cpu.remaining + after > 0) ? JUMP : EXIT;
  }

  /**
   * Nothing can happen at the coming boundary: the interpreter may go on by itself. What would make it run the next instruction
   * alone, only to end with that, ends here: the shadow of STI where no interrupt waits, RF without instruction breakpoints.
   * @param more the budget covers the next instruction, so nobody looks in between
   */
  private quiet(cpu: Cpu, more: boolean): boolean {
    if (
      cpu.activity !== RUNNING ||
      cpu.pendingDebug !== 0 ||
      cpu.nmiPending ||
      cpu.machineCheckPending ||
      cpu.initPending ||
      ((cpu.u32[FLAGS] & IF) !== 0 && cpu.interrupts.pending())
    )
      return false;
    if (!singleStepNeeded(cpu)) return true;
    // A hook may leave a fault of the next instruction undelivered, and would see the difference.
    if (!more || cpu.hooks.deliver || cpu.shadow === SHADOW_MOV_SS || traced(cpu)) return false;
    cpu.shadow = SHADOW_NONE;
    cpu.u32[FLAGS] &= ~RF;
    return true;
  }

  /** To be called whenever something outside this class has changed the processor's mode, segments or flags. */
  updateContext(cpu: Cpu): void {
    const known = this.codeLimits[cpu.index];
    if (!cpu.mode64) {
      const limit = codeLimit(cpu);
      const base = cpu.segBase[CS];
      if (limit !== known.limit || base !== known.base) {
        // Cached code was checked against another limit.
        if (limit !== 0xffff_ffff || known.limit !== 0xffff_ffff) this.interpreter.newGeneration();
        known.limit = limit;
        known.base = base;
      }
    }
    updateContext(cpu, this.interpreter);
  }

  /**
   * Runs `cpu` for up to `budget` instructions, fewer if some take longer than a tick; an event that is delivered counts
   * as one, so that a processor that faults without end still uses up its time. Throws TripleFault and
   * UnimplementedInstruction.
   */
  run(cpu: Cpu, budget: number): RunEnd {
    this.current = cpu;
    this.yielded = false;
    this.end = cpu.instructions + BigInt(budget);
    this.updateContext(cpu);
    try {
      for (;;) {
        if (cpu.instructions >= this.end || this.yielded) return 'budget';
        if (serviceBoundary(cpu)) {
          cpu.instructions++;
          this.updateContext(cpu);
          if (cpu.stopRequested) return stopped(cpu);
          continue;
        }
        if (cpu.stopRequested) return stopped(cpu);
        if (cpu.activity !== RUNNING) return cpu.activity === HALTED ? 'halted' : 'waiting';
        const left = Number(this.end - cpu.instructions);
        if (singleStepNeeded(cpu)) this.step(cpu);
        else this.execute(cpu, Math.min(left, 0x7fff_ffff));
        if (cpu.stopRequested) return stopped(cpu);
      }
    } finally {
      this.current = undefined;
    }
  }

  /** One instruction, with what debugging and interrupt shadows ask for around it. */
  private step(cpu: Cpu): void {
    if (instructionBreakpoint(cpu)) {
      this.deliver(cpu, new Fault(DB));
      return;
    }
    const traps = (cpu.flagsRest & TF) !== 0n;
    const shadow = cpu.shadow;
    cpu.shadow = SHADOW_NONE;
    if (this.execute(cpu, 1, shadow)) {
      afterInstruction(cpu, traps, shadow);
      this.updateContext(cpu);
    }
  }

  /**
   * Runs up to `budget` instructions and delivers the fault that may end them.
   * @param shadow what `shadow` was before, for a fault to restore
   * @returns whether the last instruction completed
   */
  private execute(cpu: Cpu, budget: number, shadow: number = SHADOW_NONE): boolean {
    cpu.remaining = budget;
    cpu.stop = 0;
    cpu.repeating = 0;
    this.granted = budget;
    let status: number;
    try {
      status = this.interpreter.run(cpu.index);
    } catch (fault) {
      this.count(cpu);
      if (!(fault instanceof Fault)) throw fault;
      cpu.shadow = shadow;
      this.deliver(cpu, fault);
      return false;
    }
    this.count(cpu);
    if (status === FAULT) {
      this.deliver(cpu, new Fault(cpu.faultVector, cpu.faultHasError ? cpu.faultError : undefined));
      return false;
    }
    if (status === UNIMPLEMENTED) throw new UnimplementedInstruction(cpu.rip, this.codeBytes(cpu));
    return true;
  }

  private deliver(cpu: Cpu, fault: Fault): void {
    if (!reportError(cpu, fault)) deliverFault(cpu, fault);
    if (!cpu.stopRequested) cpu.instructions++;
    this.updateContext(cpu);
  }

  /** The bytes at RIP, as far as they can be read. */
  private codeBytes(cpu: Cpu): Uint8Array {
    const length = this.interpreter.stoppedBy?.length ?? 1;
    const bytes: number[] = [];
    for (let i = 0; i < length; i++) {
      const physical = translate(
        cpu,
        codeAddress(cpu) + BigInt(i),
        pageAccess(cpu.cpl === 3, false, false, true),
      );
      bytes.push(Number(cpu.bus.read(physical, 1)));
    }
    return new Uint8Array(bytes);
  }
}

/** Leaves a fault in the state, for the interpreter's end. Throws what else was thrown. */
function leaveFault(cpu: Cpu, fault: unknown): void {
  if (!(fault instanceof Fault)) throw fault;
  cpu.faultVector = fault.vector;
  cpu.faultHasError = fault.errorCode === undefined ? 0 : 1;
  cpu.faultError = fault.errorCode ?? 0;
}

function stopped(cpu: Cpu): RunEnd {
  cpu.stopRequested = false;
  return 'hook';
}

/** Highest offset that may be fetched through CS. */
function codeLimit(cpu: Cpu): number {
  return cpu.segLimit[CS];
}

/** The linear address of RIP; #GP(0) when it lies beyond CS.limit or is not canonical. */
function codeAddress(cpu: Cpu): bigint {
  if (cpu.mode64) {
    if (!isCanonical(cpu.rip)) throw new Fault(GP, 0);
    return cpu.rip;
  }
  // EIP wraps from the end of a 4-GiB segment to its start.
  if (cpu.segLimit[CS] === 0xffff_ffff) cpu.rip &= 0xffff_ffffn;
  if (cpu.rip > BigInt(codeLimit(cpu))) throw new Fault(GP, 0);
  return (cpu.codeBase + cpu.rip) & 0xffff_ffffn;
}
