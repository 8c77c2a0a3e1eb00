/**
 * The programmable interval timer and system control port B. Intel 82C54 data sheet (order number 231244); port 61H
 * as in the 82371SB data sheet.
 *
 * Nothing is counted clock by clock: a channel's count and output are functions of the time since its count was
 * loaded. The clock is 1,193,182 Hz.
 */
import { type Clock, type Line, NEVER, type PortDevice, type Saved, type TimedDevice } from './device.ts';

const HZ = 1_193_182;
const SECOND = 1_000_000_000;

/** Whole clocks of the timer in `ticks` of guest time. */
export function clocksIn(ticks: number): number {
  if (ticks <= 0) return 0;
  const seconds = Math.floor(ticks / SECOND);
  return seconds * HZ + Math.floor(((ticks % SECOND) * HZ) / SECOND);
}

/** The least guest time in which `clocks` clocks pass. */
export function ticksFor(clocks: number): number {
  const seconds = Math.floor(clocks / HZ);
  return seconds * SECOND + Math.ceil(((clocks % HZ) * SECOND) / HZ);
}

interface ChannelState {
  readonly [name: string]: number | boolean;
  /** 0..5. */
  mode: number;
  bcd: boolean;
  /** Read/write access: 1 low byte, 2 high byte, 3 low then high. */
  access: number;
  /** Count register as written, 1..65536 (10000 in BCD); 0 until a count is loaded. */
  count: number;
  /** Count to be taken up when the current period ends (modes 2 and 3); 0 for none. */
  next: number;
  /** Time at which counting began, or the present period in modes 2 and 3. */
  since: number;
  /** Counting has begun (modes 1 and 5 wait for the gate's edge). */
  running: boolean;
  gate: boolean;
  /** Clocks that had passed when the gate stopped counting (modes 0 and 4). */
  held: number;
  /** Low byte written, high byte to come; and the low byte. */
  writeHigh: boolean;
  low: number;
  /** The next read gives the high byte. */
  readHigh: boolean;
  /** Latched count, -1 for none; latched status, -1 for none. */
  latched: number;
  latchedStatus: number;
}

const POWER_UP: Readonly<ChannelState> = {
  mode: 0,
  bcd: false,
  access: 3,
  count: 0,
  next: 0,
  since: 0,
  running: false,
  gate: true,
  held: 0,
  writeHigh: false,
  low: 0,
  readHigh: false,
  latched: -1,
  latchedStatus: -1,
};

class Channel implements Saved<ChannelState> {
  state: ChannelState = { ...POWER_UP };

  /** The control word's access, mode and BCD bits. */
  control(value: number): void {
    const s = this.state;
    const mode = (value >> 1) & 7;
    s.mode = mode > 5 ? mode - 4 : mode;
    s.bcd = (value & 1) !== 0;
    s.access = (value >> 4) & 3;
    s.count = 0;
    s.next = 0;
    s.running = false;
    s.held = 0;
    s.writeHigh = false;
    s.readHigh = false;
    s.latched = -1;
    s.latchedStatus = -1;
  }

  /** A byte to the count register. */
  write(value: number, now: number): void {
    const s = this.state;
    if (s.access === 1) this.#load(value, now);
    else if (s.access === 2) this.#load(value << 8, now);
    else if (s.writeHigh) {
      s.writeHigh = false;
      this.#load(s.low | (value << 8), now);
    } else {
      s.low = value;
      s.writeHigh = true;
      if (s.mode === 0) s.running = false;
    }
  }

  read(now: number): number {
    const s = this.state;
    if (s.latchedStatus >= 0) {
      const status = s.latchedStatus;
      s.latchedStatus = -1;
      return status;
    }
    const count = s.latched >= 0 ? s.latched : this.#countingElement(now);
    const high = s.access === 2 || (s.access === 3 && s.readHigh);
    if (s.access === 3) s.readHigh = !s.readHigh;
    if (s.access !== 3 || high) s.latched = -1;
    return high ? count >> 8 : count & 0xff;
  }

  latchCount(now: number): void {
    if (this.state.latched < 0) this.state.latched = this.#countingElement(now);
  }

  latchStatus(now: number): void {
    const s = this.state;
    if (s.latchedStatus >= 0) return;
    const noCount = s.count === 0 || s.next !== 0;
    s.latchedStatus =
      (this.output(now) ? 0x80 : 0) |
      (noCount ? 0x40 : 0) |
      (s.access << 4) |
      (s.mode << 1) |
      (s.bcd ? 1 : 0);
  }

  setGate(gate: boolean, now: number): void {
    const s = this.state;
    if (gate === s.gate) return;
    const passed = this.#clocks(now);
    s.gate = gate;
    if (!gate) {
      if (s.mode === 0 || s.mode === 4) s.held = passed;
      return;
    }
    if (s.mode === 0 || s.mode === 4) {
      s.since = now - ticksFor(s.held);
      return;
    }
    if (s.count === 0) return;
    s.since = now;
    s.running = true;
  }

  /** The OUT pin. */
  output(now: number): boolean {
    const s = this.state;
    if (!s.running || s.count === 0) return s.mode !== 0;
    const clocks = this.#clocks(now);
    switch (s.mode) {
      case 0:
      case 1:
        return clocks >= s.count;
      case 2:
        return !s.gate || clocks % s.count !== s.count - 1;
      case 3:
        return !s.gate || clocks % s.count < Math.ceil(s.count / 2);
      default:
        return clocks !== s.count;
    }
  }

  /** Time at which OUT changes next after `now`. */
  nextEdge(now: number): number {
    const s = this.state;
    if (!s.running || s.count === 0 || (!s.gate && s.mode !== 1 && s.mode !== 5)) return NEVER;
    const clocks = this.#clocks(now);
    switch (s.mode) {
      case 0:
      case 1:
        return clocks < s.count ? this.#timeOf(s.count) : NEVER;
      case 2:
      case 3: {
        const into = clocks % s.count;
        const low = s.mode === 2 ? s.count - 1 : Math.ceil(s.count / 2);
        return this.#timeOf(clocks - into + (into < low ? low : s.count));
      }
      default:
        if (clocks < s.count) return this.#timeOf(s.count);
        return clocks === s.count ? this.#timeOf(s.count + 1) : NEVER;
    }
  }

  /** Takes up a new count where a period has ended. */
  settle(now: number): void {
    const s = this.state;
    if (s.next === 0 || !s.running || !s.gate || (s.mode !== 2 && s.mode !== 3)) return;
    const periods = Math.floor(this.#clocks(now) / s.count);
    if (periods === 0) return;
    s.since = this.#timeOf(s.count);
    s.count = s.next;
    s.next = 0;
  }

  save(): ChannelState {
    return { ...this.state };
  }

  restore(state: ChannelState): void {
    this.state = { ...state };
  }

  #load(value: number, now: number): void {
    const s = this.state;
    let count = value;
    if (s.bcd)
      count = (value >> 12) * 1000 + ((value >> 8) & 15) * 100 + ((value >> 4) & 15) * 10 + (value & 15);
    if (count === 0) count = s.bcd ? 10_000 : 0x10000;
    if ((s.mode === 2 || s.mode === 3) && s.running) {
      this.settle(now);
      s.next = count;
      return;
    }
    s.count = count;
    s.held = 0;
    if (s.mode === 1 || s.mode === 5) return;
    s.since = now;
    s.running = true;
  }

  #clocks(now: number): number {
    const s = this.state;
    if (!s.gate && (s.mode === 0 || s.mode === 4)) return s.held;
    return clocksIn(now - s.since);
  }

  #timeOf(clocks: number): number {
    return this.state.since + ticksFor(clocks);
  }

  /** The counting element, as two bytes. */
  #countingElement(now: number): number {
    this.settle(now);
    const s = this.state;
    if (s.count === 0) return 0;
    const clocks = s.running ? this.#clocks(now) : 0;
    const modulus = s.bcd ? 10_000 : 0x10000;
    let count: number;
    if (s.mode === 2) count = s.gate ? s.count - (clocks % s.count) : s.count;
    else if (s.mode === 3) count = s.gate ? s.count - ((2 * clocks) % s.count) : s.count;
    else count = s.count - clocks;
    if (s.mode === 3) count &= ~1;
    count = ((count % modulus) + modulus) % modulus;
    if (!s.bcd) return count;
    return (
      (Math.floor(count / 1000) << 12) |
      ((Math.floor(count / 100) % 10) << 8) |
      ((Math.floor(count / 10) % 10) << 4) |
      (count % 10)
    );
  }
}

export type I8254State = {
  readonly channels: { readonly [n: string]: ChannelState };
  readonly portB: number;
  readonly line: boolean;
  readonly settledAt: number;
};

/** Channel 0 drives IRQ 0, channel 1 nothing (refresh), channel 2 is gated and read through port 61H. */
export class I8254 implements TimedDevice, Saved<I8254State> {
  readonly ports: readonly PortDevice[];
  readonly #channels = [new Channel(), new Channel(), new Channel()] as const;
  readonly #irq: Line;
  readonly #now: Clock;
  readonly #rescheduled: () => void;
  /** Bits 1:0 of port 61H: speaker data enable, channel 2's gate. */
  #portB = 0;
  /** Level of IRQ 0. */
  #line = false;
  /** Time up to which the edges of channel 0 have been driven. */
  #settledAt = 0;

  /** @param irq IRQ 0. @param rescheduled called when the deadline may have come nearer. */
  constructor(now: Clock, irq: Line, rescheduled: () => void) {
    this.#now = now;
    this.#irq = irq;
    this.#rescheduled = rescheduled;
    this.#channels[2].state.gate = false;
    this.ports = [
      {
        port: 0x40,
        count: 4,
        width: 1,
        portRead: (port) => (port === 0x43 ? 0xff : this.#channels[port - 0x40].read(this.#now())),
        portWrite: (port, _size, value) => this.#write(port - 0x40, value),
      },
      {
        port: 0x61,
        count: 1,
        width: 1,
        portRead: () => this.#readPortB(),
        portWrite: (_port, _size, value) => this.#writePortB(value),
      },
    ];
  }

  deadline(): number {
    const channel = this.#channels[0];
    return channel.nextEdge(this.#settledAt);
  }

  advance(now: number): void {
    const channel = this.#channels[0];
    // Each edge is taken in turn: a rising edge that falls again before `now` still latches a request.
    for (let edge = channel.nextEdge(this.#settledAt); edge <= now; edge = channel.nextEdge(edge)) {
      channel.settle(edge);
      this.#settledAt = edge;
      this.#drive(channel.output(edge));
    }
    if (now > this.#settledAt) this.#settledAt = now;
  }

  /** As PC firmware leaves channel 0, but stopped: in mode 2, with its output high. */
  initialiseAsFirmware(): void {
    this.#write(3, 0x34);
  }

  save(): I8254State {
    const [a, b, c] = this.#channels;
    return {
      channels: { 0: a.save(), 1: b.save(), 2: c.save() },
      portB: this.#portB,
      line: this.#line,
      settledAt: this.#settledAt,
    };
  }

  restore(state: I8254State): void {
    for (const n of [0, 1, 2] as const) this.#channels[n].restore(state.channels[n]);
    this.#portB = state.portB;
    this.#line = state.line;
    this.#settledAt = state.settledAt;
  }

  #drive(level: boolean): void {
    if (level === this.#line) return;
    this.#line = level;
    this.#irq(level);
  }

  #write(register: number, value: number): void {
    const now = this.#now();
    this.advance(now);
    if (register === 3) this.#control(value, now);
    else this.#channels[register].write(value, now);
    this.#drive(this.#channels[0].output(now));
    this.#rescheduled();
  }

  #control(value: number, now: number): void {
    const select = value >> 6;
    if (select === 3) {
      for (const n of [0, 1, 2]) {
        if ((value & (2 << n)) === 0) continue;
        if ((value & 0x20) === 0) this.#channels[n].latchCount(now);
        if ((value & 0x10) === 0) this.#channels[n].latchStatus(now);
      }
    } else if (((value >> 4) & 3) === 0) this.#channels[select].latchCount(now);
    else this.#channels[select].control(value);
  }

  /** Bit 5: channel 2's OUT; bit 4: toggles with each refresh request, every 15.085 us. */
  #readPortB(): number {
    const now = this.#now();
    const refresh = Math.floor(clocksIn(now) / 18) & 1;
    return this.#portB | (refresh << 4) | (this.#channels[2].output(now) ? 0x20 : 0);
  }

  #writePortB(value: number): void {
    this.#portB = value & 3;
    this.#channels[2].setGate((value & 1) !== 0, this.#now());
  }
}
