/**
 * A 16550A serial port. National Semiconductor PC16550D data sheet (TL/C/8652).
 *
 * A byte leaves at the moment it is written, so the transmitter is always empty. What arrives waits on the wire until
 * the guest reads it, as with a sender that minds flow control: there is no overrun but in loop mode.
 */
import type { Line, PortDevice, Saved } from './device.ts';

const IER_RECEIVED = 1;
const IER_TRANSMITTER_EMPTY = 2;
const IER_LINE_STATUS = 4;
const IER_MODEM_STATUS = 8;

const LSR_DATA_READY = 1;
const LSR_OVERRUN = 2;
const LSR_BREAK = 0x10;
const LSR_TRANSMITTER_EMPTY = 0x60;

const MCR_OUT2 = 8;
const MCR_LOOP = 0x10;
const LCR_BREAK = 0x40;
const LCR_DLAB = 0x80;

const FIFO_BYTES = 16;
const TRIGGERS = [1, 4, 8, 14] as const;

/** CTS, DSR and DCD asserted: a modem is there. */
const MODEM_LINES = 0xb0;

interface UartState {
  readonly [name: string]: number | boolean | readonly number[] | Uint8Array;
  ier: number;
  lcr: number;
  mcr: number;
  scratch: number;
  divisor: number;
  fifo: boolean;
  /** Receive trigger level in bytes. */
  trigger: number;
  /** Overrun and break, until LSR is read. */
  errors: number;
  /** MSR as it stood when last read, for the delta bits. */
  modemSeen: number;
  /** The transmitter-empty interrupt awaits acknowledgement. */
  emptied: boolean;
  line: boolean;
  /** The receiver's characters that came from its own transmitter, in loop mode. */
  looped: readonly number[];
  /** What has arrived on the wire; bytes before `taken` have been read. Never changed in place. */
  wire: Uint8Array;
  taken: number;
}

const RESET: Readonly<UartState> = {
  ier: 0,
  lcr: 0,
  mcr: 0,
  scratch: 0,
  divisor: 1,
  fifo: false,
  trigger: 1,
  errors: 0,
  modemSeen: MODEM_LINES,
  emptied: false,
  line: false,
  looped: [],
  wire: new Uint8Array(0),
  taken: 0,
};

export class Uart16550 implements PortDevice, Saved<UartState> {
  readonly port: number;
  readonly count = 8;
  readonly width = 1;
  /** Called with each byte sent. */
  onOutput: (byte: number) => void = () => {};
  #state: UartState = { ...RESET };
  readonly #irq: Line;

  constructor(port: number, irq: Line) {
    this.port = port;
    this.#irq = irq;
  }

  /** Bytes arrive on the wire. In loop mode the wire is disconnected, and they wait. */
  receive(bytes: Uint8Array): void {
    const s = this.#state;
    const wire = new Uint8Array(this.waiting + bytes.length);
    wire.set(s.wire.subarray(s.taken));
    wire.set(bytes, this.waiting);
    s.wire = wire;
    s.taken = 0;
    this.#update();
  }

  /** Bytes that have arrived on the wire and are not yet read by the guest. */
  get waiting(): number {
    return this.#state.wire.length - this.#state.taken;
  }

  portRead(port: number): number {
    const s = this.#state;
    const dlab = (s.lcr & LCR_DLAB) !== 0;
    switch (port - this.port) {
      case 0:
        return dlab ? s.divisor & 0xff : this.#readData();
      case 1:
        return dlab ? s.divisor >> 8 : s.ier;
      case 2:
        return this.#readInterruptId();
      case 3:
        return s.lcr;
      case 4:
        return s.mcr;
      case 5: {
        const status = this.#lineStatus();
        s.errors = 0;
        this.#update();
        return status;
      }
      case 6: {
        const status = this.#modemStatus();
        s.modemSeen = status & 0xf0;
        this.#update();
        return status;
      }
      default:
        return s.scratch;
    }
  }

  portWrite(port: number, _size: number, value: number): void {
    const s = this.#state;
    const dlab = (s.lcr & LCR_DLAB) !== 0;
    switch (port - this.port) {
      case 0:
        if (dlab) s.divisor = (s.divisor & 0xff00) | value;
        else this.#transmit(value);
        break;
      case 1:
        if (dlab) s.divisor = (s.divisor & 0xff) | (value << 8);
        else {
          // Enabling the interrupt while the transmitter is empty raises it.
          if (value & ~s.ier & IER_TRANSMITTER_EMPTY) s.emptied = true;
          s.ier = value & 0xf;
        }
        break;
      case 2:
        this.#fifoControl(value);
        break;
      case 3:
        // A break sent in loop mode comes back as one received.
        if (value & ~s.lcr & LCR_BREAK && s.mcr & MCR_LOOP) s.errors |= LSR_BREAK;
        s.lcr = value;
        break;
      case 4:
        s.mcr = value & 0x1f;
        break;
      case 7:
        s.scratch = value;
        break;
    }
    this.#update();
  }

  save(): UartState {
    return { ...this.#state };
  }

  restore(state: UartState): void {
    this.#state = { ...state };
  }

  #readData(): number {
    const s = this.#state;
    let byte = 0;
    if (s.looped.length > 0) {
      byte = s.looped[0];
      s.looped = s.looped.slice(1);
    } else if (this.#available() > 0) byte = s.wire[s.taken++];
    this.#update();
    return byte;
  }

  #transmit(value: number): void {
    const s = this.#state;
    s.emptied = true;
    if ((s.mcr & MCR_LOOP) === 0) {
      this.onOutput(value);
      return;
    }
    if (s.looped.length < (s.fifo ? FIFO_BYTES : 1)) {
      s.looped = [...s.looped, value];
      return;
    }
    s.errors |= LSR_OVERRUN;
    // Without FIFOs the new character replaces the old; with them it is lost.
    if (!s.fifo) s.looped = [value];
  }

  #fifoControl(value: number): void {
    const s = this.#state;
    const enable = (value & 1) !== 0;
    if (enable !== s.fifo || value & 2) s.looped = [];
    s.fifo = enable;
    if (enable) s.trigger = TRIGGERS[value >> 6];
    else s.trigger = 1;
  }

  /** Characters that the guest may read. */
  #available(): number {
    const s = this.#state;
    return s.looped.length + (s.mcr & MCR_LOOP ? 0 : this.waiting);
  }

  #lineStatus(): number {
    return LSR_TRANSMITTER_EMPTY | this.#state.errors | (this.#available() > 0 ? LSR_DATA_READY : 0);
  }

  /** In loop mode DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD. */
  #modemLines(): number {
    const s = this.#state;
    if ((s.mcr & MCR_LOOP) === 0) return MODEM_LINES;
    return ((s.mcr & 1) << 5) | ((s.mcr & 2) << 3) | ((s.mcr & 4) << 4) | ((s.mcr & 8) << 4);
  }

  /** RI's delta bit tells of its trailing edge only. */
  #modemStatus(): number {
    const lines = this.#modemLines();
    const changed = (lines ^ this.#state.modemSeen) >> 4;
    const ringEnded = (changed & ~(lines >> 4) & 4) !== 0;
    return lines | (changed & 0b1011) | (ringEnded ? 4 : 0);
  }

  /** Interrupt identification, by priority; bit 0 set where none is pending. */
  #interruptId(): number {
    const s = this.#state;
    if (s.ier & IER_LINE_STATUS && s.errors) return 6;
    const available = this.#available();
    // Fewer than the trigger level: the time-out interrupt, the sender having paused.
    if (s.ier & IER_RECEIVED && available > 0) return available >= s.trigger ? 4 : 12;
    if (s.ier & IER_TRANSMITTER_EMPTY && s.emptied) return 2;
    if (s.ier & IER_MODEM_STATUS && this.#modemStatus() & 0xf) return 0;
    return 1;
  }

  #readInterruptId(): number {
    const id = this.#interruptId();
    if (id === 2) {
      this.#state.emptied = false;
      this.#update();
    }
    return id | (this.#state.fifo ? 0xc0 : 0);
  }

  /** On a PC OUT2 gates the interrupt; in loop mode the pin is inactive. */
  #update(): void {
    const s = this.#state;
    const gated = (s.mcr & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
    const line = gated && this.#interruptId() !== 1;
    if (line === s.line) return;
    s.line = line;
    this.#irq(line);
  }
}
