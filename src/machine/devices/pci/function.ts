/**
 * What stands in a slot of the PCI bus: a function with its configuration space, base addresses and interrupts. PCI Local
 * Bus Specification 3.0, sections 6.1 to 6.8 (configuration space organization and functions, base addresses,
 * capabilities, MSI-X).
 */

/** A function as its bus sees it. */
export interface PciFunction {
  /** `size` bytes at `offset`, which is aligned to `size`, of its 4-KiB configuration space. */
  readConfiguration(offset: number, size: 1 | 2 | 4): number;
  writeConfiguration(offset: number, size: 1 | 2 | 4, value: number): void;
}

/** The header's registers (6.1). */
export const VENDOR_ID = 0x00;
export const COMMAND = 0x04;
export const STATUS = 0x06;
export const CLASS_REVISION = 0x08;
export const BAR_0 = 0x10;
export const SUBSYSTEM = 0x2c;
export const CAPABILITIES = 0x34;
export const INTERRUPT_LINE = 0x3c;
export const INTERRUPT_PIN = 0x3d;

export const COMMAND_MEMORY = 1 << 1;
export const COMMAND_MASTER = 1 << 2;
export const COMMAND_NO_INTX = 1 << 10;

/** The configuration space of conventional PCI; the rest of PCI Express's is empty. */
export const CONFIGURATION_SIZE = 256;

/** Bytes of a configuration space and which bits of them can be written. */
export class ConfigurationSpace {
  readonly initial = new Uint8Array(CONFIGURATION_SIZE);
  readonly #view = new DataView(this.initial.buffer);
  readonly #writable = new Uint8Array(CONFIGURATION_SIZE);
  readonly #writableView = new DataView(this.#writable.buffer);

  /** Sets a register's reset value, and the bits that can be written. */
  define(offset: number, size: 1 | 2 | 4, value: number, writable = 0): this {
    put(this.#view, offset, size, value);
    put(this.#writableView, offset, size, writable);
    return this;
  }

  /** `bytes` after a write. */
  written(bytes: Uint8Array, offset: number, size: 1 | 2 | 4, value: number): Uint8Array {
    const result = bytes.slice();
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      if (at >= CONFIGURATION_SIZE) break;
      const mask = this.#writable[at];
      result[at] = (bytes[at] & ~mask) | ((value >>> (8 * i)) & mask);
    }
    return result;
  }
}

function put(view: DataView, offset: number, size: 1 | 2 | 4, value: number): void {
  if (size === 1) view.setUint8(offset, value);
  else if (size === 2) view.setUint16(offset, value, true);
  else view.setUint32(offset, value, true);
}

/** A register of `bytes`; zero beyond them. */
export function readRegister(bytes: Uint8Array, offset: number, size: 1 | 2 | 4): number {
  let value = 0;
  for (let i = 0; i < size; i++) value |= (bytes[offset + i] ?? 0) << (8 * i);
  return value >>> 0;
}
