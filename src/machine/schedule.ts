/**
 * Whose turn it is: a deterministic interleaving of the processors, and guest time.
 *
 * Each processor has a clock: the instructions it has executed and the ticks it has idled, or that one took
 * beyond its own. Processors run one after
 * another, each up to the end of the same slice of time, so that in guest time they run side by side. Slices are of
 * `quantum` ticks; a seed other than 0 varies their lengths (from half to one and a half quantum) and who goes first.
 *
 * A local APIC's timer fires at its own processor's time; the other devices keep processor 0's. A processor that
 * cannot run idles to its next deadline; when none can, all go to the earliest.
 */
import type { Cpu } from '../arch/cpu.ts';
import type { RunEnd } from '../arch/cycle.ts';
import { IF } from '../isa/flags.ts';
import { HALTED, offsetOf, RUNNING, SHUTDOWN, WAIT_FOR_SIPI } from '../isa/state.ts';
import { NEVER, type Saved, type TimedDevice } from './devices/device.ts';
import { Random } from './random.ts';

const INSTRUCTIONS = offsetOf('instructions') / 4;

/** Slice of a machine with one processor, where slices decide nothing. */
const LONE_SLICE = 1 << 20;

/** So many waits in a row after which nobody woke mean that nobody will. */
const FRUITLESS_WAITS = 1_000_000;

/** Times of the processors. */
type Ticks = readonly number[];

export interface ScheduleState {
  readonly [name: string]: number | Ticks | Uint32Array;
  /** Ticks of each processor in which it executed nothing. */
  readonly idle: Ticks;
  readonly sliceEnd: number;
  /** The processor that goes first in this slice, and how many have finished it. */
  readonly first: number;
  readonly finished: number;
  readonly random: Uint32Array;
}
/** Why `Schedule.run` came back. */
export type ScheduleEnd =
  /** The instructions granted are used up. */
  | 'limit'
  /** No processor can run, and no device will wake one. */
  | 'deadlock'
  /** `interrupted` said so. */
  | 'interrupted'
  /** A hook stopped a processor. */
  | 'hook';

/** What the schedule needs of the machine. */
export interface ScheduledMachine {
  readonly cpus: readonly Cpu[];
  /** Each processor's local APIC timer. */
  readonly timers: readonly TimedDevice[];
  /** Devices on processor 0's time. */
  readonly devices: readonly TimedDevice[];
  /** Runs a processor for up to `budget` ticks: as many instructions at the most. */
  execute(cpu: Cpu, budget: number): RunEnd;
  /** Whether the run is to end now. */
  interrupted(): boolean;
  /** Some device may send what RFLAGS.IF does not hold off. */
  unmaskable(): boolean;
}

export class Schedule implements Saved<ScheduleState> {
  readonly quantum: number;
  readonly seed: number;
  /** The processor that runs, or ran last. */
  current = 0;
  readonly #machine: ScheduledMachine;
  readonly #idle: number[];
  readonly #random: Random;
  #sliceEnd = 0;
  #first = 0;
  #finished = 0;

  constructor(machine: ScheduledMachine, quantum: number, seed: number) {
    this.#machine = machine;
    this.quantum = quantum;
    this.seed = seed;
    this.#idle = machine.cpus.map(() => 0);
    this.#random = new Random(seed, 0);
    this.#sliceEnd = this.#sliceLength();
  }

  /** The time of processor `index` in ticks. */
  time(index: number): number {
    const { u32 } = this.#machine.cpus[index];
    return u32[INSTRUCTIONS] + u32[INSTRUCTIONS + 1] * 0x1_0000_0000 + this.#idle[index];
  }

  /** Takes the time of processor `index` on by `ticks`: it runs, but executes nothing in them. */
  spend(index: number, ticks: number): void {
    this.#idle[index] += ticks;
  }

  /** Whether a processor can execute or take an event now. */
  runnable(cpu: Cpu): boolean {
    switch (cpu.activity) {
      case RUNNING:
        return true;
      case HALTED:
        return (
          cpu.initPending !== 0 ||
          cpu.machineCheckPending !== 0 ||
          (cpu.nmiPending !== 0 && cpu.nmiBlocked === 0) ||
          ((cpu.flagsRest & IF) !== 0n && (cpu.acknowledged !== 0 || cpu.interrupts.pending()))
        );
      case WAIT_FOR_SIPI:
        return cpu.sipiPending !== 0;
      default:
        return cpu.initPending !== 0;
    }
  }

  /**
   * Runs the machine for up to `limit` instructions in all. Where a run is cut into several has no effect on what
   * happens.
   */
  run(limit: number): ScheduleEnd {
    const machine = this.#machine;
    let left = limit;
    let fruitless = 0;
    for (;;) {
      const index = (this.#first + this.#finished) % machine.cpus.length;
      const cpu = machine.cpus[index];
      this.current = index;
      let now = this.time(index);
      while (now < this.#sliceEnd) {
        if (machine.interrupted()) return 'interrupted';
        const deadline = this.#advance(index, now);
        const until = Math.min(this.#sliceEnd, deadline);
        if (!this.runnable(cpu)) {
          this.#idle[index] += until - now;
          now = until;
          fruitless++;
          continue;
        }
        if (left <= 0) return 'limit';
        const before = Number(cpu.instructions);
        const end = machine.execute(cpu, Math.min(until - now, left, 0x7fff_ffff));
        const done = Number(cpu.instructions) - before;
        left -= done;
        if (end === 'hook') return 'hook';
        if (done > 0) fruitless = 0;
        else if (end !== 'budget') this.#idle[index]++;
        now = this.time(index);
      }
      if (++this.#finished < machine.cpus.length) continue;
      this.#finished = 0;
      if (this.seed !== 0) this.#first = this.#random.below(machine.cpus.length);
      if (!machine.cpus.some((each) => this.runnable(each))) {
        if (machine.interrupted()) return 'interrupted';
        if (!this.#skip() || fruitless > FRUITLESS_WAITS) return 'deadlock';
      }
      this.#sliceEnd += this.#sliceLength();
    }
  }

  /** Runs one processor by `count` instructions out of turn. */
  step(cpu: Cpu, count: number): ScheduleEnd {
    const machine = this.#machine;
    const end = cpu.instructions + BigInt(count);
    this.current = cpu.index;
    while (cpu.instructions < end) {
      const now = this.time(cpu.index);
      const deadline = this.#advance(cpu.index, now);
      if (!this.runnable(cpu)) {
        if (deadline === NEVER || !this.#wakeable(cpu)) return 'deadlock';
        this.#idle[cpu.index] += deadline - now;
        continue;
      }
      const ended = machine.execute(cpu, Math.min(Number(end - cpu.instructions), deadline - now));
      if (ended === 'hook') return 'hook';
      if (machine.interrupted()) return 'interrupted';
      if (ended !== 'budget') return 'deadlock';
    }
    return 'limit';
  }

  /**
   * Runs one processor by itself for up to `count` instructions: no other runs, and nothing that is due on a clock
   * happens. `deadlock` where it cannot go on by itself.
   */
  alone(cpu: Cpu, count: number): ScheduleEnd {
    const machine = this.#machine;
    this.current = cpu.index;
    let left = count;
    while (left > 0) {
      if (!this.runnable(cpu)) return 'deadlock';
      const before = cpu.instructions;
      const ended = machine.execute(cpu, Math.min(left, 0x7fff_ffff));
      left -= Number(cpu.instructions - before);
      if (ended === 'hook') return 'hook';
      if (machine.interrupted()) return 'interrupted';
      if (ended !== 'budget') return 'deadlock';
    }
    return 'limit';
  }

  save(): ScheduleState {
    return {
      idle: this.#idle.slice(),
      sliceEnd: this.#sliceEnd,
      first: this.#first,
      finished: this.#finished,
      random: this.#random.save(),
    };
  }

  restore(state: ScheduleState): void {
    for (let i = 0; i < this.#idle.length; i++) this.#idle[i] = state.idle[i];
    this.#sliceEnd = state.sliceEnd;
    this.#first = state.first;
    this.#finished = state.finished;
    this.#random.restore(state.random);
  }

  /** Fires what is due at `now` on a processor's clock; returns its next deadline, later than `now`. */
  #advance(index: number, now: number): number {
    const { timers, devices } = this.#machine;
    let deadline = advance(timers[index], now);
    if (index === 0) for (const device of devices) deadline = Math.min(deadline, advance(device, now));
    return deadline;
  }

  /** Takes every clock to the earliest deadline that could wake somebody. Returns false where there is none. */
  #skip(): boolean {
    const { cpus, timers, devices } = this.#machine;
    if (!cpus.some((cpu) => this.#wakeable(cpu))) return false;
    let earliest = NEVER;
    for (const timer of timers) earliest = Math.min(earliest, timer.deadline());
    for (const device of devices) earliest = Math.min(earliest, device.deadline());
    if (earliest === NEVER) return false;
    if (earliest <= this.#sliceEnd) return true;
    for (let i = 0; i < cpus.length; i++) {
      const behind = earliest - this.time(i);
      if (behind > 0) this.#idle[i] += behind;
    }
    this.#sliceEnd = earliest;
    return true;
  }

  /** Whether a device could bring a processor that cannot run to run. */
  #wakeable(cpu: Cpu): boolean {
    if (cpu.activity === WAIT_FOR_SIPI || cpu.activity === SHUTDOWN) return false;
    return (cpu.flagsRest & IF) !== 0n || this.#machine.unmaskable();
  }

  #sliceLength(): number {
    if (this.#machine.cpus.length === 1) return LONE_SLICE;
    if (this.seed === 0) return this.quantum;
    return Math.max(1, Math.floor(this.quantum / 2) + this.#random.below(this.quantum + 1));
  }
}

/** Fires what is due; returns the device's next deadline. */
function advance(device: TimedDevice, now: number): number {
  let deadline = device.deadline();
  if (deadline > now) return deadline;
  device.advance(now);
  deadline = device.deadline();
  return deadline > now ? deadline : now + 1;
}

/** Why no processor can run, in words. */
export function describeDeadlock(cpus: readonly Cpu[]): string {
  return cpus
    .map((cpu) => {
      const name = `CPU ${cpu.index}`;
      if (cpu.activity === WAIT_FOR_SIPI) return `${name} waits for a start-up IPI`;
      if (cpu.activity === SHUTDOWN) return `${name} is shut down`;
      if ((cpu.flagsRest & IF) === 0n) return `${name} is halted with RFLAGS.IF = 0`;
      return `${name} is halted and no interrupt will come`;
    })
    .join('; ');
}
