/**
 * The keyboard controller and a keyboard whose keys nobody presses. Intel 8042 as in the IBM PS/2 Hardware Interface
 * Technical Reference, "Keyboard and Auxiliary Device Controller" and "Keyboards"; there is no auxiliary device.
 *
 * Answers stand in the output buffer at once; the next follows when one has been read.
 */
import type { Line, PortDevice, Saved } from './device.ts';

const DATA = 0x60;
const STATUS = 0x64;

const STATUS_OUTPUT_FULL = 1;
const STATUS_SYSTEM = 4;
const STATUS_COMMAND = 8;
const STATUS_UNLOCKED = 0x10;

/** Command byte: keyboard interrupt, system flag, interfaces disabled, translation. */
const KEYBOARD_INTERRUPT = 1;
const SYSTEM_FLAG = 4;
const KEYBOARD_DISABLED = 0x10;
const AUXILIARY_DISABLED = 0x20;
const TRANSLATE = 0x40;

/** Output port: reset line (low resets), A20, and the keyboard's output-buffer-full line. */
const OUTPUT_RESET = 1;
const OUTPUT_PORT_IDLE = 3;
const OUTPUT_KEYBOARD_FULL = 0x10;

/** The keyboard's answers. */
const ACKNOWLEDGE = 0xfa;
const RESEND = 0xfe;
const SELF_TEST_PASSED = 0xaa;
/** Answers that may wait: a guest that never reads gets no more. */
const QUEUE = 16;

type I8042State = {
  readonly commandByte: number;
  /** The controller's command whose parameter the next byte at 60H is; 0 for none. */
  readonly command: number;
  /** The same for the keyboard. */
  readonly keyboardCommand: number;
  /** The latest write was to 64H. */
  readonly commandLast: boolean;
  readonly queue: readonly number[];
  readonly last: number;
  readonly line: boolean;
};

const RESET: I8042State = {
  commandByte: KEYBOARD_INTERRUPT | SYSTEM_FLAG | AUXILIARY_DISABLED | TRANSLATE,
  command: 0,
  keyboardCommand: 0,
  commandLast: false,
  queue: [],
  last: 0,
  line: false,
};

export class I8042 implements Saved<I8042State> {
  readonly ports: readonly PortDevice[];
  readonly #irq: Line;
  readonly #reset: () => void;
  #state = RESET;

  /** @param irq IRQ 1. @param reset the reset line has been pulled. */
  constructor(irq: Line, reset: () => void) {
    this.#irq = irq;
    this.#reset = reset;
    this.ports = [
      {
        port: DATA,
        count: 1,
        width: 1,
        portRead: () => this.#readData(),
        portWrite: (_port, _size, value) => this.#writeData(value),
      },
      {
        port: STATUS,
        count: 1,
        width: 1,
        portRead: () => this.#status(),
        portWrite: (_port, _size, value) => this.#command(value),
      },
    ];
  }

  save(): I8042State {
    return this.#state;
  }

  restore(state: I8042State): void {
    this.#state = state;
  }

  #set(change: Partial<I8042State>): void {
    this.#state = { ...this.#state, ...change };
  }

  #status(): number {
    const { queue, commandByte, commandLast } = this.#state;
    return (
      STATUS_UNLOCKED |
      (commandLast ? STATUS_COMMAND : 0) |
      (commandByte & SYSTEM_FLAG ? STATUS_SYSTEM : 0) |
      (queue.length > 0 ? STATUS_OUTPUT_FULL : 0)
    );
  }

  #readData(): number {
    const { queue, last } = this.#state;
    if (queue.length === 0) return last;
    this.#set({ queue: queue.slice(1), last: queue[0] });
    // Each byte makes an edge of its own.
    this.#drive(false);
    this.#update();
    return queue[0];
  }

  #answer(...bytes: number[]): void {
    const { queue } = this.#state;
    if (queue.length + bytes.length <= QUEUE) this.#set({ queue: [...queue, ...bytes] });
    this.#update();
  }

  #update(): void {
    const { queue, commandByte } = this.#state;
    this.#drive(queue.length > 0 && (commandByte & KEYBOARD_INTERRUPT) !== 0);
  }

  #drive(line: boolean): void {
    if (line === this.#state.line) return;
    this.#set({ line });
    this.#irq(line);
  }

  #command(value: number): void {
    const { commandByte } = this.#state;
    this.#set({ command: 0, commandLast: true });
    switch (value) {
      case 0x20:
        this.#answer(commandByte);
        return;
      // Written by the byte that follows: command byte, output port, and what comes back as if a device had sent it.
      case 0x60:
      case 0xd1:
      case 0xd2:
      case 0xd3:
      case 0xd4:
        this.#set({ command: value });
        return;
      case 0xa7:
        this.#set({ commandByte: commandByte | AUXILIARY_DISABLED });
        return;
      case 0xa8:
        this.#set({ commandByte: commandByte & ~AUXILIARY_DISABLED });
        return;
      // Self-test, and the test of the keyboard's lines.
      case 0xaa:
        this.#answer(0x55);
        return;
      case 0xab:
        this.#answer(0);
        return;
      case 0xad:
        this.#set({ commandByte: commandByte | KEYBOARD_DISABLED });
        return;
      case 0xae:
        this.#set({ commandByte: commandByte & ~KEYBOARD_DISABLED });
        return;
      case 0xc0:
        this.#answer(0);
        return;
      case 0xd0:
        this.#answer(OUTPUT_PORT_IDLE | (this.#state.queue.length > 0 ? OUTPUT_KEYBOARD_FULL : 0));
        return;
    }
    // F0H-FFH pulse the output port's lines low whose bits are clear.
    if (value >= 0xf0 && (value & OUTPUT_RESET) === 0) this.#reset();
  }

  #writeData(value: number): void {
    const { command } = this.#state;
    this.#set({ command: 0, commandLast: false });
    switch (command) {
      case 0x60:
        this.#set({ commandByte: value });
        this.#update();
        return;
      case 0xd1:
        if ((value & OUTPUT_RESET) === 0) this.#reset();
        return;
      case 0xd2:
        this.#answer(value);
        return;
      // No auxiliary device answers.
      case 0xd3:
      case 0xd4:
        return;
    }
    this.#keyboard(value);
  }

  #keyboard(value: number): void {
    const { keyboardCommand } = this.#state;
    this.#set({ keyboardCommand: 0 });
    if (keyboardCommand !== 0) {
      // Scan code set 0 asks for the present one, which is 2.
      if (keyboardCommand === 0xf0 && value === 0) this.#answer(ACKNOWLEDGE, 2);
      else this.#answer(ACKNOWLEDGE);
      return;
    }
    switch (value) {
      // Indicators, scan code set, typematic rate: with a parameter.
      case 0xed:
      case 0xf0:
      case 0xf3:
        this.#set({ keyboardCommand: value });
        this.#answer(ACKNOWLEDGE);
        return;
      case 0xee:
        this.#answer(0xee);
        return;
      case 0xf2: {
        // With translation the identifier's second byte 83H is seen as 41H.
        const translated = (this.#state.commandByte & TRANSLATE) !== 0;
        this.#answer(ACKNOWLEDGE, 0xab, translated ? 0x41 : 0x83);
        return;
      }
      case 0xff:
        this.#set({ queue: [] });
        this.#answer(ACKNOWLEDGE, SELF_TEST_PASSED);
        return;
    }
    this.#answer(value >= 0xf4 && value <= 0xfd ? ACKNOWLEDGE : RESEND);
  }
}
