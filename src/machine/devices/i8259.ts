/**
 * The two cascaded interrupt controllers of a PC. Intel 8259A data sheet (order number 231468); edge/level control
 * registers at 4D0H and 4D1H as in the 82371SB (PIIX3) data sheet.
 */
import type { Line, PortDevice, Saved } from './device.ts';

/** Input of the master to which the slave is wired. */
const CASCADE = 2;

interface ChipState {
  readonly [name: string]: number | boolean;
  /** Levels of the inputs, one bit each. */
  lines: number;
  /** Edge-triggered requests latched. */
  latched: number;
  isr: number;
  imr: number;
  /** Vector of input 0. */
  base: number;
  /** The input of lowest priority. */
  lowest: number;
  /** The ICW awaited next, 2 to 4; 0 when initialised. */
  awaited: number;
  single: boolean;
  icw4Needed: boolean;
  /** All inputs level-triggered (ICW1.LTIM). */
  levelMode: boolean;
  /** Inputs that are level-triggered by the edge/level control register. */
  elcr: number;
  autoEoi: boolean;
  rotateInAutoEoi: boolean;
  fullyNested: boolean;
  specialMask: boolean;
  /** Reads of the even port give ISR, not IRR. */
  readIsr: boolean;
  poll: boolean;
}

const POWER_UP: Readonly<ChipState> = {
  lines: 0,
  latched: 0,
  isr: 0,
  imr: 0xff,
  base: 0,
  lowest: 7,
  awaited: 0,
  single: false,
  icw4Needed: false,
  levelMode: false,
  elcr: 0,
  autoEoi: false,
  rotateInAutoEoi: false,
  fullyNested: false,
  specialMask: false,
  readIsr: false,
  poll: false,
};

/** One 8259A. `changed` is called whenever its INT output may have changed. */
class Chip implements Saved<ChipState> {
  state: ChipState = { ...POWER_UP };
  /** Which inputs may be made level-triggered (the timer, keyboard, cascade, RTC and FPU inputs may not). */
  readonly #elcrMask: number;
  readonly #master: boolean;
  readonly #changed: () => void;

  constructor(master: boolean, elcrMask: number, changed: () => void) {
    this.#master = master;
    this.#elcrMask = elcrMask;
    this.#changed = changed;
  }

  /** IRR: what requests service, masked or not. */
  get irr(): number {
    const s = this.state;
    const level = s.levelMode ? 0xff : s.elcr;
    return (s.latched & ~level) | (s.lines & level);
  }

  setLine(input: number, asserted: boolean): void {
    const s = this.state;
    const bit = 1 << input;
    if (asserted) {
      if ((s.lines & bit) === 0) s.latched |= bit;
      s.lines |= bit;
    } else {
      s.lines &= ~bit;
      s.latched &= ~bit;
    }
    this.#changed();
  }

  /** The input to be serviced now, or -1: the INT output. */
  request(): number {
    const s = this.state;
    const requests = this.irr & ~s.imr;
    if (requests === 0) return -1;
    const inService = s.specialMask ? s.isr & ~s.imr : s.isr;
    for (let i = 1; i <= 8; i++) {
      const input = (s.lowest + i) & 7;
      const bit = 1 << input;
      const nested = s.fullyNested && this.#master && input === CASCADE;
      if (inService & bit && !nested) return -1;
      if (requests & bit) return input;
    }
    return -1;
  }

  /** The acknowledge cycle: the input now in service, or -1 where the request has gone (a spurious interrupt). */
  acknowledge(): number {
    const input = this.request();
    if (input < 0) return -1;
    const s = this.state;
    s.latched &= ~(1 << input);
    if (!s.autoEoi) s.isr |= 1 << input;
    else if (s.rotateInAutoEoi) s.lowest = input;
    this.#changed();
    return input;
  }

  read(odd: boolean): number {
    const s = this.state;
    if (s.poll) {
      s.poll = false;
      const input = this.acknowledge();
      return input < 0 ? 7 : 0x80 | input;
    }
    if (odd) return s.imr;
    return s.readIsr ? s.isr : this.irr;
  }

  write(odd: boolean, value: number): void {
    if (odd) this.#writeOdd(value);
    else if (value & 0x10) this.#icw1(value);
    else if (value & 0x08) this.#ocw3(value);
    else this.#ocw2(value);
    this.#changed();
  }

  readElcr(): number {
    return this.state.elcr;
  }

  writeElcr(value: number): void {
    this.state.elcr = value & this.#elcrMask;
    this.#changed();
  }

  save(): ChipState {
    return { ...this.state };
  }

  restore(state: ChipState): void {
    this.state = { ...state };
  }

  #icw1(value: number): void {
    const { lines, elcr } = this.state;
    this.state = {
      ...POWER_UP,
      imr: 0,
      lines,
      elcr,
      awaited: 2,
      icw4Needed: (value & 1) !== 0,
      single: (value & 2) !== 0,
      levelMode: (value & 8) !== 0,
    };
  }

  #writeOdd(value: number): void {
    const s = this.state;
    switch (s.awaited) {
      case 2:
        s.base = value & 0xf8;
        s.awaited = s.single ? (s.icw4Needed ? 4 : 0) : 3;
        break;
      case 3:
        s.awaited = s.icw4Needed ? 4 : 0;
        break;
      case 4:
        s.autoEoi = (value & 2) !== 0;
        s.fullyNested = (value & 0x10) !== 0;
        s.awaited = 0;
        break;
      default:
        s.imr = value;
    }
  }

  #ocw2(value: number): void {
    const s = this.state;
    const input = value & 7;
    switch (value >> 5) {
      case 0b000:
        s.rotateInAutoEoi = false;
        break;
      case 0b100:
        s.rotateInAutoEoi = true;
        break;
      case 0b001:
        this.#nonSpecificEoi(false);
        break;
      case 0b101:
        this.#nonSpecificEoi(true);
        break;
      case 0b011:
        s.isr &= ~(1 << input);
        break;
      case 0b111:
        s.isr &= ~(1 << input);
        s.lowest = input;
        break;
      case 0b110:
        s.lowest = input;
        break;
    }
  }

  /** Ends the in-service input of highest priority; in special mask mode masked ones are left. */
  #nonSpecificEoi(rotate: boolean): void {
    const s = this.state;
    const candidates = s.specialMask ? s.isr & ~s.imr : s.isr;
    for (let i = 1; i <= 8; i++) {
      const input = (s.lowest + i) & 7;
      if ((candidates & (1 << input)) === 0) continue;
      s.isr &= ~(1 << input);
      if (rotate) s.lowest = input;
      return;
    }
  }

  #ocw3(value: number): void {
    const s = this.state;
    if (value & 0x40) s.specialMask = (value & 0x20) !== 0;
    if (value & 4) s.poll = true;
    else if (value & 2) s.readIsr = (value & 1) !== 0;
  }
}

export type I8259State = { readonly master: ChipState; readonly slave: ChipState };

/** The pair: master at 20H with inputs 0..7, slave at A0H with inputs 8..15. */
export class I8259Pair implements Saved<I8259State> {
  readonly ports: readonly PortDevice[];
  readonly #master: Chip;
  readonly #slave: Chip;
  readonly #output: Line;
  #asserted = false;

  /** @param output the INTR wire, called when its level changes. */
  constructor(output: Line) {
    this.#output = output;
    this.#master = new Chip(true, 0xf8, () => this.#update());
    this.#slave = new Chip(false, 0xde, () => this.#cascade());
    this.ports = [
      chipPorts(0x20, this.#master),
      chipPorts(0xa0, this.#slave),
      elcrPort(0x4d0, this.#master),
      elcrPort(0x4d1, this.#slave),
    ];
  }

  /** The INTR output. */
  get asserted(): boolean {
    return this.#asserted;
  }

  /** An interrupt request input, 0..15; 2 is the cascade and has no wire of its own. */
  setIrq(irq: number, asserted: boolean): void {
    if (irq === CASCADE) return;
    if (irq < 8) this.#master.setLine(irq, asserted);
    else this.#slave.setLine(irq - 8, asserted);
  }

  /**
   * The INTA cycles: the vector of the request of highest priority, now in service. A request that has gone
   * yields input 7 of its chip, without being in service (a spurious interrupt).
   */
  acknowledge(): number {
    const input = this.#master.acknowledge();
    if (input !== CASCADE) return this.#master.state.base + (input < 0 ? 7 : input);
    const slaveInput = this.#slave.acknowledge();
    return this.#slave.state.base + (slaveInput < 0 ? 7 : slaveInput);
  }

  /** As PC firmware leaves them: vectors 08H and 70H, all but the cascade masked. */
  initialiseAsFirmware(): void {
    for (const [chip, base, icw3, mask] of [
      [this.#master, 0x08, 4, 0xfb],
      [this.#slave, 0x70, 2, 0xff],
    ] as const) {
      chip.write(false, 0x11);
      for (const value of [base, icw3, 1, mask]) chip.write(true, value);
    }
  }

  save(): I8259State {
    return { master: this.#master.save(), slave: this.#slave.save() };
  }

  restore(state: I8259State): void {
    this.#master.restore(state.master);
    this.#slave.restore(state.slave);
    this.#asserted = this.#master.request() >= 0;
  }

  /** The slave's INT is the master's input 2. It falls during each acknowledge, so a further request is a new edge. */
  #cascade(): void {
    this.#master.setLine(CASCADE, false);
    if (this.#slave.request() >= 0) this.#master.setLine(CASCADE, true);
  }

  #update(): void {
    const asserted = this.#master.request() >= 0;
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    this.#output(asserted);
  }
}

function chipPorts(port: number, chip: Chip): PortDevice {
  return {
    port,
    count: 2,
    width: 1,
    portRead: (at) => chip.read(at !== port),
    portWrite: (at, _size, value) => chip.write(at !== port, value),
  };
}

function elcrPort(port: number, chip: Chip): PortDevice {
  return {
    port,
    count: 1,
    width: 1,
    portRead: () => chip.readElcr(),
    portWrite: (_at, _size, value) => chip.writeElcr(value),
  };
}
