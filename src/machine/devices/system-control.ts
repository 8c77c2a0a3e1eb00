/**
 * What is left of a PC's board: the POST port (80H), system control port A (92H), the keyboard controller's reset
 * line (60H, 64H), and the PCI configuration ports with the reset control register (CF9H), no PCI device being there.
 * 82371SB (PIIX3) data sheet; IBM PS/2 Hardware Interface Technical Reference.
 *
 * The A20 line is always enabled, as on processors without the A20M# pin.
 */
import type { PortDevice, Saved } from './device.ts';

type SystemControlState = {
  readonly post: number;
  readonly portA: number;
  readonly configAddress: number;
  readonly resetControl: number;
  readonly keyboardCommand: number;
};

export class SystemControl implements Saved<SystemControlState> {
  readonly ports: readonly PortDevice[];
  #state: SystemControlState = { post: 0, portA: 2, configAddress: 0, resetControl: 0, keyboardCommand: 0 };

  /** @param reset the guest asks for a reset of the machine. */
  constructor(reset: () => void) {
    const set = (change: Partial<SystemControlState>) => {
      this.#state = { ...this.#state, ...change };
    };
    this.ports = [
      {
        port: 0x80,
        count: 1,
        width: 1,
        portRead: () => this.#state.post,
        portWrite: (_port, _size, value) => set({ post: value }),
      },
      {
        port: 0x92,
        count: 1,
        width: 1,
        portRead: () => this.#state.portA,
        portWrite: (_port, _size, value) => {
          set({ portA: value | 2 });
          if (value & 1) reset();
        },
      },
      {
        port: 0x60,
        count: 1,
        width: 1,
        portRead: () => 0,
        // After command D1H the byte is the output port, whose bit 0 is the reset line, active low.
        portWrite: (_port, _size, value) => {
          if (this.#state.keyboardCommand === 0xd1 && (value & 1) === 0) reset();
          set({ keyboardCommand: 0 });
        },
      },
      {
        port: 0x64,
        count: 1,
        width: 1,
        portRead: () => 0,
        // Commands F0H-FFH pulse output port lines low; bit 0 low is reset.
        portWrite: (_port, _size, value) => {
          set({ keyboardCommand: value });
          if (value >= 0xf0 && (value & 1) === 0) reset();
        },
      },
      {
        port: 0xcf8,
        count: 8,
        width: 4,
        portRead: (port, size) => {
          if (port === 0xcf8 && size === 4) return this.#state.configAddress;
          if (port === 0xcf9 && size === 1) return this.#state.resetControl;
          return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
        },
        portWrite: (port, size, value) => {
          if (port === 0xcf8 && size === 4) set({ configAddress: value });
          if (port !== 0xcf9 || size !== 1) return;
          const rises = (value & ~this.#state.resetControl & 4) !== 0;
          set({ resetControl: value & 6 });
          if (rises) reset();
        },
      },
    ];
  }

  /** The last byte written to port 80H. */
  get post(): number {
    return this.#state.post;
  }

  save(): SystemControlState {
    return this.#state;
  }

  restore(state: SystemControlState): void {
    this.#state = state;
  }
}
