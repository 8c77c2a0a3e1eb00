/**
 * What is left of a PC's board: the POST port (80H) and system control port A (92H). IBM PS/2 Hardware Interface
 * Technical Reference.
 *
 * The A20 line is always enabled, as on processors without the A20M# pin.
 */
import type { PortDevice, Saved } from './device.ts';

type SystemControlState = { readonly post: number; readonly portA: number };

export class SystemControl implements Saved<SystemControlState> {
  readonly ports: readonly PortDevice[];
  #state: SystemControlState = { post: 0, portA: 2 };

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
