/**
 * I/O APIC: 24 interrupt inputs, each with an entry that says where and how to send it. Intel 82093AA data sheet
 * (order number 290566), with the EOI register of version 20H (ICH8 data sheet 13.5.5).
 *
 * The polarity bit is kept but has no effect: an input is told whether it is asserted, not its voltage.
 */
import { type ApicMessage, EXTINT, FIXED, LOWEST_PRIORITY } from './apic-message.ts';
import type { MmioDevice, Saved } from './device.ts';

export const IO_APIC_BASE = 0xfec0_0000;
export const IO_APIC_PINS = 24;

const VERSION = 0x20;
const REMOTE_IRR = 1 << 14;
const LEVEL = 1 << 15;
const MASKED = 1 << 16;
/** Writable bits of an entry's low dword: all but delivery status (12) and remote IRR. */
const WRITABLE = 0x0001_afff;

interface IoApicState {
  readonly [name: string]: number | Uint32Array;
  id: number;
  select: number;
  /** Levels of the inputs, one bit each. */
  lines: number;
  /** Low and high dword of each entry. */
  entries: Uint32Array;
}

export class IoApic implements MmioDevice, Saved<IoApicState> {
  readonly base = IO_APIC_BASE;
  readonly size = 0x1000;
  readonly #entries = new Uint32Array(IO_APIC_PINS * 2);
  #id = 0;
  #select = 0;
  #lines = 0;
  readonly #send: (message: ApicMessage) => void;

  /** @param send puts a message on the bus of the local APICs. */
  constructor(send: (message: ApicMessage) => void) {
    this.#send = send;
    this.reset();
  }

  reset(): void {
    this.#id = 0;
    this.#select = 0;
    for (let pin = 0; pin < IO_APIC_PINS; pin++) {
      this.#entries[pin * 2] = MASKED;
      this.#entries[pin * 2 + 1] = 0;
    }
  }

  /** As PC firmware leaves it: with the identifier that its tables give, of which the register holds four bits. */
  initialiseAsFirmware(id: number): void {
    this.#id = id & 15;
  }

  /** Asserts or deasserts an input, 0..23. */
  setPin(pin: number, asserted: boolean): void {
    const bit = 1 << pin;
    const was = (this.#lines & bit) !== 0;
    if (asserted === was) return;
    this.#lines = asserted ? this.#lines | bit : this.#lines & ~bit;
    // An edge at a masked input is not held pending (data sheet 3.2.4, bit 16).
    if (asserted) this.#service(pin);
  }

  /** A local APIC has ended the level-triggered interrupt of `vector`. */
  endOfInterrupt(vector: number): void {
    for (let pin = 0; pin < IO_APIC_PINS; pin++) {
      const low = this.#entries[pin * 2];
      if ((low & REMOTE_IRR) === 0 || (low & 0xff) !== vector) continue;
      this.#entries[pin * 2] = low & ~REMOTE_IRR;
      if (this.#lines & (1 << pin)) this.#service(pin);
    }
  }

  /** Some unmasked input is sent as an NMI, INIT or the like, which wakes a processor whatever RFLAGS.IF. */
  get hasUnmaskable(): boolean {
    for (let pin = 0; pin < IO_APIC_PINS; pin++) {
      const low = this.#entries[pin * 2];
      const mode = (low >> 8) & 7;
      if ((low & MASKED) === 0 && mode > LOWEST_PRIORITY && mode !== EXTINT) return true;
    }
    return false;
  }

  read(offset: number, size: 1 | 2 | 4): number {
    const value = (offset & ~3) === 0x10 ? this.#readRegister() : (offset & ~3) === 0 ? this.#select : 0;
    const shifted = value >>> (8 * (offset & 3));
    return size === 4 ? shifted : size === 2 ? shifted & 0xffff : shifted & 0xff;
  }

  write(offset: number, _size: 1 | 2 | 4, value: number): void {
    if (offset === 0) this.#select = value & 0xff;
    else if (offset === 0x10) this.#writeRegister(value);
    else if (offset === 0x40) this.endOfInterrupt(value & 0xff);
  }

  save(): IoApicState {
    return { id: this.#id, select: this.#select, lines: this.#lines, entries: this.#entries.slice() };
  }

  restore(state: IoApicState): void {
    this.#id = state.id;
    this.#select = state.select;
    this.#lines = state.lines;
    this.#entries.set(state.entries);
  }

  #service(pin: number): void {
    const low = this.#entries[pin * 2];
    if (low & MASKED) return;
    const mode = (low >> 8) & 7;
    const level = (low & LEVEL) !== 0 && (mode === FIXED || mode === LOWEST_PRIORITY);
    if (level) {
      if (low & REMOTE_IRR) return;
      this.#entries[pin * 2] = low | REMOTE_IRR;
    }
    this.#send({
      mode,
      vector: low & 0xff,
      level,
      logical: (low & 0x800) !== 0,
      destination: this.#entries[pin * 2 + 1] >>> 24,
      wide: false,
    });
  }

  #readRegister(): number {
    const select = this.#select;
    if (select === 0 || select === 2) return this.#id << 24;
    if (select === 1) return ((IO_APIC_PINS - 1) << 16) | VERSION;
    const at = select - 0x10;
    return at >= 0 && at < this.#entries.length ? this.#entries[at] : 0xffff_ffff;
  }

  #writeRegister(value: number): void {
    const select = this.#select;
    if (select === 0) this.#id = (value >>> 24) & 15;
    const at = select - 0x10;
    if (at < 0 || at >= this.#entries.length) return;
    if (at & 1) {
      this.#entries[at] = value & 0xff00_0000;
      return;
    }
    const kept = this.#entries[at] & REMOTE_IRR;
    // An edge-triggered entry has no remote IRR: rewriting it so clears a stuck one.
    this.#entries[at] = (value & WRITABLE) | (value & LEVEL ? kept : 0);
    const level = (value & LEVEL) !== 0;
    if (level && this.#lines & (1 << (at >> 1))) this.#service(at >> 1);
  }
}
