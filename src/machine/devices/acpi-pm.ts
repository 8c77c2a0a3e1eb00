/**
 * ACPI power management: event and control registers, and a timer of 3.579545 MHz. ACPI specification 6.4, sections
 * 4.8.3 "PM1 Event Registers", "PM1 Control Registers", "Power Management Timer" and 4.8.2 (sleeping).
 *
 * The only event is the timer's, whose top bit has changed; there are no buttons. The only sleep is soft-off.
 */
import { PM_PORT, PM_PORTS, SLEEP_TYPE_S5 } from '../boot/acpi/layout.ts';
import { type Clock, type Line, NEVER, type PortDevice, type Saved, type TimedDevice } from './device.ts';

const HZ = 3_579_545;
const SECOND = 1_000_000_000;
/** Clocks between two changes of bit 31. */
const HALF = 2 ** 31;

const TIMER_EVENT = 1;
/** Writable bits of PM1_EN: timer, global, buttons, RTC. */
const ENABLES = 0x0721;
const SCI_ENABLED = 1;
const SLEEP_ENABLE = 1 << 13;
const SLEEP_TYPE_SHIFT = 10;
/** PM1_CNT keeps bus-master reload and the sleep type. */
const CONTROL_KEPT = 0x1c02;

/** Clocks of the timer in `ticks` of guest time. */
function clocksIn(ticks: number): number {
  const seconds = Math.floor(ticks / SECOND);
  return seconds * HZ + Math.floor(((ticks % SECOND) * HZ) / SECOND);
}

/** The least guest time in which `clocks` clocks pass. */
function ticksFor(clocks: number): number {
  const seconds = Math.floor(clocks / HZ);
  return seconds * SECOND + Math.ceil(((clocks % HZ) * SECOND) / HZ);
}

type AcpiPmState = {
  readonly status: number;
  readonly enabled: number;
  readonly control: number;
  /** Clocks up to which changes of the timer's top bit are noted. */
  readonly settled: number;
};

export class AcpiPm implements PortDevice, TimedDevice, Saved<AcpiPmState> {
  readonly port = PM_PORT;
  readonly count = PM_PORTS;
  readonly width = 4;
  readonly #now: Clock;
  readonly #irq: Line;
  readonly #powerOff: () => void;
  readonly #rescheduled: () => void;
  #state: AcpiPmState = { status: 0, enabled: 0, control: 0, settled: 0 };

  /** @param irq ACPI's interrupt; @param powerOff the guest turns the machine off. */
  constructor(now: Clock, irq: Line, powerOff: () => void, rescheduled: () => void) {
    this.#now = now;
    this.#irq = irq;
    this.#powerOff = powerOff;
    this.#rescheduled = rescheduled;
  }

  portRead(port: number, size: 1 | 2 | 4): number {
    const offset = port - this.port;
    this.#settle(this.#now());
    const { status, enabled, control } = this.#state;
    const words = [status, enabled, control | SCI_ENABLED, 0];
    const dword =
      offset >= 8
        ? clocksIn(this.#now()) % 2 ** 32
        : words[(offset >> 1) & ~1] | (words[(offset >> 1) | 1] << 16);
    const value = dword >>> (8 * (offset & 3));
    return size === 4 ? value >>> 0 : value & (size === 2 ? 0xffff : 0xff);
  }

  portWrite(port: number, size: 1 | 2 | 4, value: number): void {
    const offset = port - this.port;
    this.#settle(this.#now());
    for (let i = 0; i < size; i++) this.#writeByte(offset + i, (value >>> (8 * i)) & 0xff);
    this.#update();
    this.#rescheduled();
    // What sends to sleep is all in the control register's second byte.
    const at = 5 - offset;
    if (at >= 0 && at < size) this.#sleep(((value >>> (8 * at)) & 0xff) << 8);
  }

  deadline(): number {
    const { enabled, status, settled } = this.#state;
    if ((enabled & ~status & TIMER_EVENT) === 0) return NEVER;
    return ticksFor((Math.floor(settled / HALF) + 1) * HALF);
  }

  advance(now: number): void {
    this.#settle(now);
    this.#update();
  }

  save(): AcpiPmState {
    return this.#state;
  }

  restore(state: AcpiPmState): void {
    this.#state = state;
  }

  #writeByte(offset: number, byte: number): void {
    const s = this.#state;
    const shift = 8 * (offset & 1);
    const replaced = (word: number, mask: number) => ((word & ~(0xff << shift)) | (byte << shift)) & mask;
    switch (offset >> 1) {
      // Status bits are cleared by writing ones.
      case 0:
        this.#state = { ...s, status: s.status & ~(byte << shift) };
        break;
      case 1:
        this.#state = { ...s, enabled: replaced(s.enabled, ENABLES) };
        break;
      case 2:
        this.#state = { ...s, control: replaced(s.control, CONTROL_KEPT) };
        break;
    }
  }

  #sleep(control: number): void {
    if ((control & SLEEP_ENABLE) !== 0 && ((control >> SLEEP_TYPE_SHIFT) & 7) === SLEEP_TYPE_S5)
      this.#powerOff();
  }

  #settle(now: number): void {
    const s = this.#state;
    const clocks = clocksIn(now);
    if (Math.floor(clocks / HALF) <= Math.floor(s.settled / HALF)) return;
    this.#state = { ...s, settled: clocks, status: s.status | TIMER_EVENT };
  }

  #update(): void {
    const { status, enabled } = this.#state;
    this.#irq((status & enabled) !== 0);
  }
}
