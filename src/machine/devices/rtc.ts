/**
 * Real-time clock and CMOS memory. Motorola MC146818A data sheet; memory sizes where PC firmware keeps them.
 *
 * The clock shows an epoch that is part of the configuration, plus guest time: nothing depends on the host's.
 */
import { type Clock, type Line, NEVER, type PortDevice, type Saved, type TimedDevice } from './device.ts';

const SECOND = 1_000_000_000;
/** Register A's update-in-progress bit rises this long before an update (data sheet, "Update cycle": 244 us). */
const UPDATE_WARNING = 244_000;

const A = 0x0a;
const B = 0x0b;
const C = 0x0c;
const D = 0x0d;

const B_24_HOURS = 2;
const B_BINARY = 4;
const B_UPDATE_ENDED = 0x10;
const B_ALARM = 0x20;
const B_PERIODIC = 0x40;
const B_SET = 0x80;

/** 2000-01-01 00:00:00 UTC in seconds since 1970. */
export const DEFAULT_EPOCH = 946_684_800;

interface RtcState {
  readonly [name: string]: number | boolean | Uint8Array;
  cmos: Uint8Array;
  index: number;
  /** Bit 7 of port 70H: external NMIs are masked. */
  nmiDisabled: boolean;
  /** Seconds to be added to guest time; written by setting the clock. */
  epoch: number;
  /** Time up to which register C's flags are raised. */
  settledAt: number;
  line: boolean;
}

export class Rtc implements PortDevice, TimedDevice, Saved<RtcState> {
  readonly port = 0x70;
  readonly count = 2;
  readonly width = 1;
  #state: RtcState;
  readonly #now: Clock;
  readonly #irq: Line;
  readonly #rescheduled: () => void;

  /**
   * @param ramBytes what the memory-size registers tell; @param cpus likewise (5FH: processors but one).
   * @param epoch seconds since 1970 at guest time 0. @param irq IRQ 8.
   */
  constructor(ramBytes: number, cpus: number, epoch: number, now: Clock, irq: Line, rescheduled: () => void) {
    this.#now = now;
    this.#irq = irq;
    this.#rescheduled = rescheduled;
    const cmos = new Uint8Array(128);
    cmos[A] = 0x26;
    cmos[B] = B_24_HOURS;
    cmos[D] = 0x80;
    const put16 = (at: number, value: number) => {
      cmos[at] = value & 0xff;
      cmos[at + 1] = value >> 8;
    };
    const kib = ramBytes / 1024;
    put16(0x15, 640);
    const extended = Math.max(0, Math.min(0xffff, kib - 1024));
    put16(0x17, extended);
    put16(0x30, extended);
    put16(0x34, Math.max(0, Math.min(0xffff, (kib - 16 * 1024) / 64)));
    cmos[0x5f] = cpus - 1;
    this.#state = { cmos, index: 0, nmiDisabled: false, epoch, settledAt: 0, line: false };
  }

  get nmiDisabled(): boolean {
    return this.#state.nmiDisabled;
  }

  portRead(port: number): number {
    if (port === 0x70) return 0xff;
    const s = this.#state;
    const now = this.#now();
    if (s.index < A) return this.#clockRegister(s.index, now);
    if (s.index === 0x32) return this.#clockRegister(s.index, now);
    if (s.index === A) return s.cmos[A] | (this.#updating(now) ? 0x80 : 0);
    if (s.index === C) {
      this.advance(now);
      const flags = s.cmos[C];
      s.cmos[C] = 0;
      this.#update();
      return flags;
    }
    return s.cmos[s.index];
  }

  portWrite(port: number, _size: number, value: number): void {
    const s = this.#state;
    if (port === 0x70) {
      s.index = value & 0x7f;
      s.nmiDisabled = (value & 0x80) !== 0;
      return;
    }
    const now = this.#now();
    this.advance(now);
    if (s.index === 1 || s.index === 3 || s.index === 5) s.cmos[s.index] = value;
    else if (s.index < A || s.index === 0x32) this.#setClock(s.index, value, now);
    else if (s.index === A) s.cmos[A] = value & 0x7f;
    else if (s.index === B) {
      if (value & ~s.cmos[B] & B_SET) this.#freeze(now);
      else if (~value & s.cmos[B] & B_SET) this.#thaw(now);
      s.cmos[B] = value & (value & B_SET ? ~B_UPDATE_ENDED : 0xff);
      this.#update();
    } else if (s.index !== C && s.index !== D) s.cmos[s.index] = value;
    this.#rescheduled();
  }

  deadline(): number {
    const s = this.#state;
    const b = s.cmos[B];
    let next = NEVER;
    if (b & B_PERIODIC && this.#period() > 0) next = this.#nextPeriod(s.settledAt);
    if (b & (B_UPDATE_ENDED | B_ALARM) && (b & B_SET) === 0)
      next = Math.min(next, (Math.floor(s.settledAt / SECOND) + 1) * SECOND);
    return next;
  }

  advance(now: number): void {
    const s = this.#state;
    if (now <= s.settledAt) return;
    const b = s.cmos[B];
    let flags = 0;
    if (this.#period() > 0 && this.#nextPeriod(s.settledAt) <= now) flags |= B_PERIODIC;
    const second = Math.floor(now / SECOND);
    if ((b & B_SET) === 0 && second > Math.floor(s.settledAt / SECOND)) {
      flags |= B_UPDATE_ENDED;
      // Without the alarm interrupt nobody waits at each second; whether one of those passed matched is found here.
      const first = Math.max(Math.floor(s.settledAt / SECOND) + 1, second - 86_400);
      for (let t = first; t <= second && (flags & B_ALARM) === 0; t++)
        if (this.#alarmAt(t * SECOND)) flags |= B_ALARM;
    }
    s.settledAt = now;
    s.cmos[C] |= flags;
    this.#update();
  }

  save(): RtcState {
    return { ...this.#state, cmos: this.#state.cmos.slice() };
  }

  restore(state: RtcState): void {
    const { cmos } = this.#state;
    cmos.set(state.cmos);
    this.#state = { ...state, cmos };
  }

  #update(): void {
    const s = this.#state;
    const pending = s.cmos[C] & s.cmos[B] & (B_PERIODIC | B_ALARM | B_UPDATE_ENDED);
    s.cmos[C] = (s.cmos[C] & 0x7f) | (pending ? 0x80 : 0);
    const line = pending !== 0;
    if (line === s.line) return;
    s.line = line;
    this.#irq(line);
  }

  /** Time between periodic interrupts: 2^(RS-1) cycles of 32,768 Hz; RS 1 and 2 are as 8 and 9; 0 for none. */
  #period(): number {
    const rate = this.#state.cmos[A] & 15;
    if (rate === 0) return 0;
    return 2 ** ((rate < 3 ? rate + 7 : rate) - 1);
  }

  #nextPeriod(after: number): number {
    const cycles = this.#period();
    const tick = (n: number) => {
      const total = n * cycles;
      const seconds = Math.floor(total / 32_768);
      return seconds * SECOND + Math.ceil(((total % 32_768) * SECOND) / 32_768);
    };
    let n = Math.floor(after / ((cycles * SECOND) / 32_768));
    while (tick(n) <= after) n++;
    return tick(n);
  }

  #updating(now: number): boolean {
    return (this.#state.cmos[B] & B_SET) === 0 && now % SECOND >= SECOND - UPDATE_WARNING;
  }

  /** The date and time at `now`; frozen registers (B.SET) are read from CMOS instead. */
  #clockRegister(index: number, now: number): number {
    const s = this.#state;
    if (index === 1 || index === 3 || index === 5 || s.cmos[B] & B_SET) return s.cmos[index];
    return this.#encode(index, this.#fields(now));
  }

  #fields(now: number): Date {
    return new Date((this.#state.epoch + Math.floor(now / SECOND)) * 1000);
  }

  #encode(index: number, date: Date): number {
    switch (index) {
      case 0:
        return this.#number(date.getUTCSeconds());
      case 2:
        return this.#number(date.getUTCMinutes());
      case 4: {
        const hour = date.getUTCHours();
        if (this.#state.cmos[B] & B_24_HOURS) return this.#number(hour);
        return this.#number(hour % 12 === 0 ? 12 : hour % 12) | (hour >= 12 ? 0x80 : 0);
      }
      case 6:
        return this.#number(date.getUTCDay() + 1);
      case 7:
        return this.#number(date.getUTCDate());
      case 8:
        return this.#number(date.getUTCMonth() + 1);
      case 9:
        return this.#number(date.getUTCFullYear() % 100);
      default:
        return this.#number(Math.floor(date.getUTCFullYear() / 100));
    }
  }

  #number(value: number): number {
    return this.#state.cmos[B] & B_BINARY ? value : (Math.floor(value / 10) << 4) | (value % 10);
  }

  #value(register: number): number {
    return this.#state.cmos[B] & B_BINARY ? register : (register >> 4) * 10 + (register & 15);
  }

  /** An alarm register of 11xxxxxx matches any value. */
  #alarmAt(time: number): boolean {
    const date = this.#fields(time);
    const { cmos } = this.#state;
    return [0, 2, 4].every((i) => cmos[i + 1] >= 0xc0 || cmos[i + 1] === this.#encode(i, date));
  }

  #setClock(index: number, value: number, now: number): void {
    const s = this.#state;
    if (s.cmos[B] & B_SET) {
      s.cmos[index] = value;
      return;
    }
    this.#freeze(now);
    s.cmos[index] = value;
    this.#thaw(now);
  }

  #freeze(now: number): void {
    const date = this.#fields(now);
    for (const index of [0, 2, 4, 6, 7, 8, 9, 0x32]) this.#state.cmos[index] = this.#encode(index, date);
  }

  #thaw(now: number): void {
    const s = this.#state;
    const { cmos } = s;
    let hour = this.#value(cmos[4] & (s.cmos[B] & B_24_HOURS ? 0xff : 0x7f));
    if ((cmos[B] & B_24_HOURS) === 0) hour = (hour % 12) + (cmos[4] & 0x80 ? 12 : 0);
    const year = this.#value(cmos[0x32]) * 100 + this.#value(cmos[9]);
    const date = new Date(0);
    date.setUTCFullYear(year, this.#value(cmos[8]) - 1, this.#value(cmos[7]));
    date.setUTCHours(hour, this.#value(cmos[2]), this.#value(cmos[0]));
    s.epoch = Math.floor(date.getTime() / 1000) - Math.floor(now / SECOND);
  }
}
