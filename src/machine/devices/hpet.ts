/**
 * The high precision event timer: a counter of 64 bits at 100 MHz and three comparators. IA-PC HPET Specification 1.0a,
 * section 2.3 "Register Model".
 *
 * Nothing is counted: the counter is a function of guest time, and each comparator knows when it next matches. Timers
 * do not send their interrupts as messages (FSB).
 */
import { type Clock, type MmioDevice, NEVER, type Saved, type TimedDevice } from './device.ts';

export const HPET_BASE = 0xfed0_0000;
export const HPET_SIZE = 0x400;
const TIMERS = 3;

/** Ticks of guest time in a clock, and the clock's period in femtoseconds. */
const TICKS = 10;
const PERIOD = 10_000_000;
/** Vendor 8086H, legacy replacement routing, a counter of 64 bits, three timers, revision 1. */
export const HPET_IDENTITY = 0x8086_0000 | (1 << 15) | (1 << 13) | ((TIMERS - 1) << 8) | 1;

const ENABLE = 1;
const LEGACY = 2;

const LEVEL = 1 << 1;
const INTERRUPT = 1 << 2;
const PERIODIC = 1 << 3;
const SET_VALUE = 1 << 6;
const MODE_32 = 1 << 8;
const ROUTE_SHIFT = 9;
const ROUTE_MASK = 31;
const WRITABLE = LEVEL | INTERRUPT | PERIODIC | SET_VALUE | MODE_32 | (ROUTE_MASK << ROUTE_SHIFT);
/** Every timer can be periodic and has 64 bits. */
const CAPABLE = (1 << 4) | (1 << 5);
/** Interrupt lines 20 to 23 can be chosen. */
const ROUTES = 0x00f0_0000;

const MASK_32 = 0xffff_ffffn;
const NONE = -1;
/** Times beyond this are as good as never. */
const LATEST = 2 ** 49;

interface TimerState {
  readonly [name: string]: number | bigint | boolean;
  /** Writable bits of the low dword of the configuration register. */
  readonly configuration: number;
  readonly comparator: bigint;
  readonly period: bigint;
  /** Guest time of the next match; -1 for none. */
  readonly next: number;
  /** The line, where it is level-triggered. */
  readonly asserted: boolean;
}

interface HpetState {
  readonly [name: string]: number | bigint | { readonly [name: string]: TimerState };
  readonly configuration: number;
  readonly status: number;
  /** What the counter stood at when it was last set or started, and when that was. */
  readonly counter: bigint;
  readonly since: number;
  readonly timers: { readonly [index: string]: TimerState };
}

const TIMER_RESET: TimerState = {
  configuration: 0,
  comparator: 0xffff_ffff_ffff_ffffn,
  period: 0n,
  next: NONE,
  asserted: false,
};

const RESET: HpetState = {
  configuration: 0,
  status: 0,
  counter: 0n,
  since: 0,
  timers: { 0: TIMER_RESET, 1: TIMER_RESET, 2: TIMER_RESET },
};

/** What the timers are wired to. */
export interface HpetWires {
  now: Clock;
  /** Interrupt line `irq`, 0 to 23. */
  line(irq: number, asserted: boolean): void;
  /** `replacesLegacy` has changed. */
  legacy(): void;
  /** Deadlines have changed. */
  rescheduled(): void;
}

export class Hpet implements MmioDevice, TimedDevice, Saved<HpetState> {
  readonly base = HPET_BASE;
  readonly size = HPET_SIZE;
  readonly #wires: HpetWires;
  /** Replaced, never changed: saving and restoring cost nothing. */
  #state = RESET;

  constructor(wires: HpetWires) {
    this.#wires = wires;
  }

  /** Timers 0 and 1 have the lines of the 8254 and of the real-time clock (2.3.5). */
  get replacesLegacy(): boolean {
    return (this.#state.configuration & LEGACY) !== 0;
  }

  read(offset: number, size: 1 | 2 | 4): number {
    const value = this.#readDword(offset & ~3) >>> (8 * (offset & 3));
    return size === 4 ? value >>> 0 : value & (size === 2 ? 0xffff : 0xff);
  }

  /** Registers are written by dwords and quadwords; parts of a dword leave the rest as it is. */
  write(offset: number, size: 1 | 2 | 4, value: number): void {
    const at = offset & ~3;
    const shift = 8 * (offset & 3);
    const mask = size === 4 ? 0xffff_ffff : ((size === 2 ? 0xffff : 0xff) << shift) >>> 0;
    const rest = size === 4 ? 0 : this.#readDword(at) & ~mask;
    this.#writeDword(at, (rest | ((value << shift) & mask)) >>> 0);
    this.#wires.rescheduled();
  }

  deadline(): number {
    const { timers } = this.#state;
    let next = NEVER;
    for (let i = 0; i < TIMERS; i++) if (timers[i].next >= 0 && timers[i].next < next) next = timers[i].next;
    return next;
  }

  advance(now: number): void {
    for (let i = 0; i < TIMERS; i++) {
      const timer = this.#state.timers[i];
      if (timer.next >= 0 && timer.next <= now) this.#match(i, now);
    }
  }

  save(): HpetState {
    return this.#state;
  }

  restore(state: HpetState): void {
    this.#state = state;
  }

  #counter(): bigint {
    const { configuration, counter, since } = this.#state;
    if ((configuration & ENABLE) === 0) return counter;
    const clocks = Math.max(0, Math.floor((this.#wires.now() - since) / TICKS));
    return BigInt.asUintN(64, counter + BigInt(clocks));
  }

  #readDword(offset: number): number {
    const s = this.#state;
    const half = (value: bigint) => Number(offset & 4 ? value >> 32n : value & MASK_32);
    switch (offset) {
      case 0x000:
        return HPET_IDENTITY;
      case 0x004:
        return PERIOD;
      case 0x010:
        return s.configuration;
      case 0x020:
        return s.status;
      case 0x0f0:
      case 0x0f4:
        return half(this.#counter());
    }
    const timer = timerAt(s, offset);
    if (!timer) return 0;
    switch (offset & 0x1f) {
      case 0x00:
        return timer.configuration | CAPABLE;
      case 0x04:
        return ROUTES;
      case 0x08:
      case 0x0c:
        return half(timer.comparator);
      default:
        return 0;
    }
  }

  #writeDword(offset: number, value: number): void {
    const s = this.#state;
    switch (offset) {
      case 0x010:
        this.#configure(value & (ENABLE | LEGACY));
        return;
      case 0x020:
        this.#acknowledge(value);
        return;
      case 0x0f0:
      case 0x0f4: {
        const counter = withHalf(this.#counter(), offset, value);
        this.#state = { ...s, counter, since: this.#wires.now() };
        for (let i = 0; i < TIMERS; i++) this.#plan(i);
        return;
      }
    }
    const timer = timerAt(s, offset);
    if (!timer) return;
    const index = (offset - 0x100) >> 5;
    switch (offset & 0x1f) {
      case 0x00: {
        this.#lower(index);
        const asked = (value >> ROUTE_SHIFT) & ROUTE_MASK;
        const route =
          (ROUTES >>> asked) & 1 ? asked << ROUTE_SHIFT : timer.configuration & (ROUTE_MASK << ROUTE_SHIFT);
        const configuration = (value & WRITABLE & ~(ROUTE_MASK << ROUTE_SHIFT)) | route;
        this.#change(index, { configuration });
        break;
      }
      case 0x08:
      case 0x0c:
        this.#writeComparator(index, offset, value);
        break;
      default:
        return;
    }
    this.#plan(index);
  }

  /**
   * A periodic timer takes what is written as its period, and as its comparator where Tn_VAL_SET_CNF says so, which
   * goes out when all of the comparator has been written (2.3.8, "Timer n configuration", bit 6).
   */
  #writeComparator(index: number, offset: number, value: number): void {
    const { configuration, comparator, period } = this.#state.timers[index];
    if ((configuration & PERIODIC) === 0) {
      this.#change(index, { comparator: withHalf(comparator, offset, value) });
      return;
    }
    const sets = (configuration & SET_VALUE) !== 0;
    const last = offset & 4 || configuration & MODE_32;
    this.#change(index, {
      configuration: last ? configuration & ~SET_VALUE : configuration,
      comparator: sets ? withHalf(comparator, offset, value) : comparator,
      period: withHalf(period, offset, value),
    });
  }

  #configure(configuration: number): void {
    const s = this.#state;
    const counter = this.#counter();
    this.#state = { ...s, configuration, counter, since: this.#wires.now() };
    if ((configuration ^ s.configuration) & LEGACY) {
      for (let i = 0; i < TIMERS; i++) this.#lower(i);
      this.#wires.legacy();
    }
    for (let i = 0; i < TIMERS; i++) this.#plan(i);
  }

  #acknowledge(bits: number): void {
    this.#state = { ...this.#state, status: this.#state.status & ~bits };
    for (let i = 0; i < TIMERS; i++) if (bits & (1 << i)) this.#lower(i);
  }

  /** Works out when timer `index` next matches. */
  #plan(index: number): void {
    const { configuration, timers } = this.#state;
    const timer = timers[index];
    let next = NONE;
    if (configuration & ENABLE && timer.configuration & INTERRUPT) {
      const width = timer.configuration & MODE_32 ? 32 : 64;
      // A match that is now has been.
      const ahead = BigInt.asUintN(width, timer.comparator - this.#counter() - 1n) + 1n;
      const at = this.#edgeTime() + Number(ahead) * TICKS;
      if (at <= LATEST) next = at;
    }
    if (next !== timer.next) this.#change(index, { next });
  }

  /** When the counter took its present value. */
  #edgeTime(): number {
    const { since } = this.#state;
    return since + Math.max(0, Math.floor((this.#wires.now() - since) / TICKS)) * TICKS;
  }

  #match(index: number, now: number): void {
    const timer = this.#state.timers[index];
    if (timer.configuration & PERIODIC && timer.period > 0n) {
      // Matches that nobody could have seen apart are one.
      const period = Number(timer.period) * TICKS;
      const passed = Math.floor((now - timer.next) / period) + 1;
      const comparator = BigInt.asUintN(
        timer.configuration & MODE_32 ? 32 : 64,
        timer.comparator + timer.period * BigInt(passed),
      );
      const next = timer.next + passed * period;
      this.#change(index, { comparator, next: next <= LATEST ? next : NONE });
    } else {
      const next = timer.configuration & MODE_32 ? timer.next + 2 ** 32 * TICKS : NONE;
      this.#change(index, { next });
    }
    const line = this.#line(index);
    if (timer.configuration & LEVEL) {
      this.#state = { ...this.#state, status: this.#state.status | (1 << index) };
      this.#change(index, { asserted: true });
      this.#wires.line(line, true);
      return;
    }
    this.#wires.line(line, true);
    this.#wires.line(line, false);
  }

  #lower(index: number): void {
    if (!this.#state.timers[index].asserted) return;
    this.#change(index, { asserted: false });
    this.#wires.line(this.#line(index), false);
  }

  /** Legacy replacement gives timer 0 the 8254's line and timer 1 the real-time clock's (2.3.5). */
  #line(index: number): number {
    const { configuration, timers } = this.#state;
    if (configuration & LEGACY && index < 2) return index === 0 ? 0 : 8;
    return (timers[index].configuration >> ROUTE_SHIFT) & ROUTE_MASK;
  }

  #change(index: number, change: Partial<TimerState>): void {
    const s = this.#state;
    const { timers } = s;
    const changed = { ...timers[index], ...change } as TimerState;
    // Spread, these would be slow: kernels write comparators in tight loops.
    this.#state = {
      ...s,
      timers: {
        0: index === 0 ? changed : timers[0],
        1: index === 1 ? changed : timers[1],
        2: index === 2 ? changed : timers[2],
      },
    };
  }
}

function timerAt(state: HpetState, offset: number): TimerState | undefined {
  return offset >= 0x100 && offset < 0x100 + TIMERS * 0x20 ? state.timers[(offset - 0x100) >> 5] : undefined;
}

/** A quadword with the half that `offset` names replaced. */
function withHalf(value: bigint, offset: number, half: number): bigint {
  return offset & 4 ? (value & MASK_32) | (BigInt(half) << 32n) : (value & ~MASK_32) | BigInt(half);
}
