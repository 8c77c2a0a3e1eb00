/** The debug-exit port, as QEMU's isa-debug-exit: a write of V ends the run with status (V << 1) | 1. */
import type { PortDevice } from './device.ts';

export class DebugExit implements PortDevice {
  readonly port = 0xf4;
  readonly count = 4;
  readonly width = 4;
  readonly #exit: (value: number) => void;

  /** @param exit called with the value written, unsigned. */
  constructor(exit: (value: number) => void) {
    this.#exit = exit;
  }

  portRead(_port: number, size: 1 | 2 | 4): number {
    return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
  }

  portWrite(_port: number, _size: 1 | 2 | 4, value: number): void {
    this.#exit(value >>> 0);
  }
}
