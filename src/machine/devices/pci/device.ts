/**
 * A device in a slot: a function with one range of memory for its registers, interrupts as messages (MSI-X) or on its
 * pin, and what a driver sets of it. PCI Local Bus Specification 3.0, sections 6.2 (configuration space), 6.2.5 (base
 * addresses), 6.8.2 (MSI-X).
 *
 * Base address 0 is as firmware leaves it: assigned, decoding off.
 */
import type { MmioDevice, Saved } from '../device.ts';
import {
  BAR_0,
  CAPABILITIES,
  CLASS_REVISION,
  COMMAND,
  COMMAND_MASTER,
  COMMAND_MEMORY,
  COMMAND_NO_INTX,
  CONFIGURATION_SIZE,
  ConfigurationSpace,
  INTERRUPT_LINE,
  INTERRUPT_PIN,
  type PciFunction,
  readRegister,
  STATUS,
  SUBSYSTEM,
  VENDOR_ID,
} from './function.ts';

/** What a device is. */
export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  readonly revision: number;
  /** Class, subclass and programming interface, 24 bits. */
  readonly classCode: number;
}

/** A capability behind its identifier and link: the bytes, and which bits of them can be written. */
export interface Capability {
  readonly id: number;
  readonly bytes: readonly number[];
  readonly writable?: readonly number[];
}

/** How a device reaches the rest of the board. */
export interface PciWires {
  /** First address of the memory that firmware assigns to it. */
  readonly address: number;
  /** The input of the I/O APIC that firmware notes for its pin. */
  readonly interruptLine: number;
  /** A message-signalled interrupt. */
  message(address: number, data: number): void;
  /** Its pin (INTA#). */
  pin(asserted: boolean): void;
}

/** Where registers are in the device's memory: its own from 0, then MSI-X's. */
const MSIX_TABLE = 0x4000;
const PENDING_BITS = 0x5000;
const MEMORY_SIZE = 0x8000;

const MSIX = 0x11;
const MSIX_ENABLE = 1 << 15;
const MSIX_MASK_ALL = 1 << 14;
/** Dwords of a table entry: address, upper address, data, control. */
const ENTRY = 4;
const MASKED = 1;

const STATUS_CAPABILITIES = 1 << 4;
const STATUS_INTERRUPT = 1 << 3;
const FIRST_CAPABILITY = 0x40;

export interface PciDeviceState {
  readonly [name: string]: Uint8Array | Uint32Array | boolean;
  /** Configuration space. Never changed in place. */
  readonly configuration: Uint8Array;
  /** MSI-X table, and the pending bits of its entries. Never changed in place. */
  readonly table: Uint32Array;
  readonly pending: Uint32Array;
  /** The device asks for an interrupt by its pin. */
  readonly asserted: boolean;
}

/** The device's own registers, below 4000H. */
export interface Registers {
  read(offset: number, size: 1 | 2 | 4): number;
  write(offset: number, size: 1 | 2 | 4, value: number): void;
  /** A capability's bytes have been read or are written: `true` if the device answers for them. */
  readCapability?(offset: number, size: 1 | 2 | 4): number | undefined;
  writeCapability?(offset: number, size: 1 | 2 | 4, value: number): void;
}

export class PciDevice implements PciFunction, Saved<PciDeviceState> {
  /** The device's memory, while it decodes it. */
  readonly memory: MmioDevice;
  /** Where each capability is in configuration space. */
  readonly capabilities: readonly number[];
  readonly #space = new ConfigurationSpace();
  readonly #registers: Registers;
  readonly #wires: PciWires;
  readonly #vectors: number;
  readonly #msix: number;
  #state: PciDeviceState;

  /** @param vectors entries of the MSI-X table, 1 to 32. */
  constructor(
    identity: PciIdentity,
    capabilities: readonly Capability[],
    vectors: number,
    registers: Registers,
    wires: PciWires,
  ) {
    this.#registers = registers;
    this.#wires = wires;
    this.#vectors = vectors;
    const space = this.#space;
    space
      .define(VENDOR_ID, 4, identity.vendor | (identity.device << 16))
      .define(COMMAND, 2, 0, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX)
      .define(STATUS, 2, STATUS_CAPABILITIES)
      .define(CLASS_REVISION, 4, (identity.classCode << 8) | identity.revision)
      .define(SUBSYSTEM, 4, identity.subsystemVendor | (identity.subsystem << 16))
      .define(BAR_0, 4, wires.address, ~(MEMORY_SIZE - 1))
      .define(INTERRUPT_LINE, 1, wires.interruptLine, 0xff)
      .define(INTERRUPT_PIN, 1, 1)
      .define(CAPABILITIES, 1, FIRST_CAPABILITY);
    const places: number[] = [];
    let at = FIRST_CAPABILITY;
    const msix: Capability = {
      id: MSIX,
      bytes: [...dword(vectors - 1).slice(0, 2), ...dword(MSIX_TABLE), ...dword(PENDING_BITS)],
      writable: [0, (MSIX_ENABLE | MSIX_MASK_ALL) >> 8],
    };
    const all = [...capabilities, msix];
    all.forEach(({ id, bytes, writable = [] }, i) => {
      const next = (at + 2 + bytes.length + 3) & ~3;
      space.define(at, 1, id).define(at + 1, 1, i === all.length - 1 ? 0 : next);
      bytes.forEach((byte, n) => {
        space.define(at + 2 + n, 1, byte, writable[n] ?? 0);
      });
      places.push(at);
      at = next;
    });
    if (at > CONFIGURATION_SIZE) throw new RangeError('capabilities do not fit');
    this.#msix = places.pop() ?? 0;
    this.capabilities = places;
    this.#state = {
      configuration: space.initial.slice(),
      table: Uint32Array.from({ length: vectors * ENTRY }, (_, i) => (i % ENTRY === 3 ? MASKED : 0)),
      pending: new Uint32Array(1),
      asserted: false,
    };
    this.memory = this.#memory();
  }

  /** The device's pin is low: it asks for an interrupt, and the driver wants it so. */
  get pin(): boolean {
    return this.#state.asserted && (this.#command & COMMAND_NO_INTX) === 0 && !this.messages;
  }

  /** Interrupts are sent as messages. */
  get messages(): boolean {
    return (readRegister(this.#state.configuration, this.#msix + 2, 2) & MSIX_ENABLE) !== 0;
  }

  /** The device may read and write memory. */
  get master(): boolean {
    return (this.#command & COMMAND_MASTER) !== 0;
  }

  /** The device asks for an interrupt by its pin, or does so no more. */
  assertPin(asserted: boolean): void {
    if (asserted === this.#state.asserted) return;
    this.#state = { ...this.#state, asserted };
    this.#wires.pin(this.pin);
  }

  /** Sends the message of an entry of the MSI-X table, or keeps it pending while that is masked. */
  send(vector: number): void {
    if (!this.messages || vector >= this.#vectors) return;
    if (this.#masked(vector)) {
      this.#setPending(vector, true);
      return;
    }
    const { table } = this.#state;
    if (this.master) this.#wires.message(table[vector * ENTRY], table[vector * ENTRY + 2]);
  }

  readConfiguration(offset: number, size: 1 | 2 | 4): number {
    const own = this.#registers.readCapability?.(offset, size);
    if (own !== undefined) return own;
    const value = readRegister(this.#state.configuration, offset, size);
    const interrupting = this.#state.asserted ? STATUS_INTERRUPT : 0;
    if (offset <= STATUS && offset + size > STATUS)
      return (value | (interrupting << (8 * (STATUS - offset)))) >>> 0;
    return value;
  }

  writeConfiguration(offset: number, size: 1 | 2 | 4, value: number): void {
    const before = this.pin;
    const configuration = this.#space.written(this.#state.configuration, offset, size, value);
    this.#state = { ...this.#state, configuration };
    if (this.pin !== before) this.#wires.pin(this.pin);
    this.#sendPending();
    this.#registers.writeCapability?.(offset, size, value);
  }

  save(): PciDeviceState {
    return this.#state;
  }

  restore(state: PciDeviceState): void {
    this.#state = state;
  }

  get #command(): number {
    return readRegister(this.#state.configuration, COMMAND, 2);
  }

  #memory(): MmioDevice {
    const state = () => this.#state;
    const decodes = () => (this.#command & COMMAND_MEMORY) !== 0;
    return {
      get base() {
        return (readRegister(state().configuration, BAR_0, 4) & -16) >>> 0;
      },
      get size() {
        return decodes() ? MEMORY_SIZE : 0;
      },
      read: (offset, size) => {
        if (offset < MSIX_TABLE) return this.#registers.read(offset, size);
        const words = offset < PENDING_BITS ? this.#state.table : this.#state.pending;
        const at = offset - (offset < PENDING_BITS ? MSIX_TABLE : PENDING_BITS);
        const value = (words[at >>> 2] ?? 0) >>> (8 * (at & 3));
        return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
      },
      write: (offset, size, value) => {
        if (offset < MSIX_TABLE) this.#registers.write(offset, size, value);
        else if (size === 4) this.#writeTable((offset - MSIX_TABLE) >>> 2, value);
      },
    };
  }

  #writeTable(index: number, value: number): void {
    if (index >= this.#state.table.length) return;
    const table = this.#state.table.slice();
    table[index] = index % ENTRY === 3 ? value & MASKED : value;
    this.#state = { ...this.#state, table };
    this.#sendPending();
  }

  #masked(vector: number): boolean {
    const control = readRegister(this.#state.configuration, this.#msix + 2, 2);
    return (control & MSIX_MASK_ALL) !== 0 || (this.#state.table[vector * ENTRY + 3] & MASKED) !== 0;
  }

  #setPending(vector: number, pending: boolean): void {
    const word = this.#state.pending[0];
    const changed = pending ? word | (1 << vector) : word & ~(1 << vector);
    this.#state = { ...this.#state, pending: Uint32Array.of(changed) };
  }

  #sendPending(): void {
    if (this.#state.pending[0] === 0 || !this.messages) return;
    for (let vector = 0; vector < this.#vectors; vector++) {
      if ((this.#state.pending[0] & (1 << vector)) === 0 || this.#masked(vector)) continue;
      this.#setPending(vector, false);
      this.send(vector);
    }
  }
}

/** Little-endian. */
export function dword(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
