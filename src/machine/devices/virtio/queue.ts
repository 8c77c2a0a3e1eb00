/**
 * Split virtqueues, as a device sees them. Virtual I/O Device (VIRTIO) Version 1.1, section 2.6.
 *
 * Nothing in a queue is trusted: what does not add up is a QueueError, upon which the device asks to be reset (2.1.2).
 */
import type { Plain } from '../device.ts';

/** Guest memory, as a device reaches it. Both throw RangeError beyond RAM. */
export interface GuestMemory {
  /** All of RAM, to be read. */
  readonly bytes: Uint8Array;
  copyIn(address: number, bytes: Uint8Array): void;
}

/** A queue that makes no sense. */
export class QueueError extends Error {}

/** A range of guest memory; it lies in RAM. */
export interface Range {
  readonly address: number;
  readonly length: number;
}

/** Buffers that the driver has made available together. */
export interface Chain {
  readonly head: number;
  /** For the device to read, and behind them to write. */
  readonly readable: readonly Range[];
  readonly writable: readonly Range[];
}

export interface QueueState {
  readonly [name: string]: Plain;
  /** Entries, a power of two. */
  readonly size: number;
  readonly enabled: boolean;
  /** MSI-X vector, FFFFH for none. */
  readonly vector: number;
  /** Addresses of descriptor table, available ring and used ring. */
  readonly descriptors: bigint;
  readonly driver: bigint;
  readonly device: bigint;
  /** Chains taken and returned, modulo 2^16. */
  readonly taken: number;
  readonly returned: number;
}

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const DESCRIPTOR = 16;
const NO_INTERRUPT = 1;

export class Virtqueue {
  readonly #memory: GuestMemory;
  readonly #view: DataView;
  /** Replaced, never changed. */
  state: QueueState;

  constructor(memory: GuestMemory, state: QueueState) {
    this.#memory = memory;
    this.#view = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, memory.bytes.byteLength);
    this.state = state;
  }

  /** The driver does not ask to be left alone. */
  get wantsInterrupt(): boolean {
    return (this.#view.getUint16(this.#at(this.state.driver, 4), true) & NO_INTERRUPT) === 0;
  }

  /** Takes the next chain; undefined where there is none. Throws QueueError. */
  take(): Chain | undefined {
    const { size, enabled, taken, driver } = this.state;
    if (!enabled) return undefined;
    const ring = this.#at(driver, 4 + size * 2);
    const available = this.#view.getUint16(ring + 2, true);
    const waiting = (available - taken) & 0xffff;
    if (waiting === 0) return undefined;
    if (waiting > size) throw new QueueError(`${waiting} chains in a queue of ${size}`);
    const head = this.#view.getUint16(ring + 4 + (taken % size) * 2, true);
    const chain = this.#chain(head);
    this.state = { ...this.state, taken: (taken + 1) & 0xffff };
    return chain;
  }

  /** Returns a chain to the driver, with so many bytes written. Throws QueueError. */
  give(chain: Chain, written: number): void {
    const { size, device, returned } = this.state;
    const ring = this.#at(device, 4 + size * 8);
    const element = new Uint8Array(8);
    const view = new DataView(element.buffer);
    view.setUint32(0, chain.head, true);
    view.setUint32(4, written, true);
    this.#memory.copyIn(ring + 4 + (returned % size) * 8, element);
    const next = (returned + 1) & 0xffff;
    this.#memory.copyIn(ring + 2, Uint8Array.of(next & 0xff, next >> 8));
    this.state = { ...this.state, returned: next };
  }

  #chain(head: number): Chain {
    const { size, descriptors } = this.state;
    const readable: Range[] = [];
    const writable: Range[] = [];
    let table = this.#at(descriptors, size * DESCRIPTOR);
    let entries = size;
    let indirect = false;
    let index = head;
    let steps = 0;
    for (;;) {
      if (index >= entries) throw new QueueError(`descriptor ${index} of ${entries}`);
      if (++steps > entries) throw new QueueError('descriptors in a circle');
      const at = table + index * DESCRIPTOR;
      const address = this.#view.getBigUint64(at, true);
      const length = this.#view.getUint32(at + 8, true);
      const flags = this.#view.getUint16(at + 12, true);
      if (flags & INDIRECT) {
        if (indirect || flags & NEXT || length === 0 || length % DESCRIPTOR !== 0)
          throw new QueueError('indirect descriptors in a wrong place, or of a wrong size');
        table = this.#at(address, length);
        entries = length / DESCRIPTOR;
        indirect = true;
        index = 0;
        steps = 0;
        continue;
      }
      if (length > 0) {
        if ((flags & WRITE) === 0 && writable.length > 0)
          throw new QueueError('a buffer to read behind one to write');
        (flags & WRITE ? writable : readable).push({ address: this.#at(address, length), length });
      }
      if ((flags & NEXT) === 0) return { head, readable, writable };
      index = this.#view.getUint16(at + 14, true);
    }
  }

  /** A guest address, all of whose `length` bytes are in RAM. */
  #at(address: bigint, length: number): number {
    if (address + BigInt(length) > BigInt(this.#memory.bytes.length))
      throw new QueueError(`0x${address.toString(16)} and ${length} bytes are not in RAM`);
    return Number(address);
  }
}

/** Bytes of all ranges. */
export function lengthOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, { length }) => sum + length, 0);
}

/** The first bytes of ranges, up to `most` of them. */
export function gather(memory: GuestMemory, ranges: readonly Range[], most: number): Uint8Array {
  const bytes = new Uint8Array(Math.min(most, lengthOf(ranges)));
  let at = 0;
  for (const { address, length } of ranges) {
    const count = Math.min(length, bytes.length - at);
    bytes.set(memory.bytes.subarray(address, address + count), at);
    at += count;
  }
  return bytes;
}

/** Writes bytes into ranges, as far as they go; returns how many were written. */
export function scatter(memory: GuestMemory, ranges: readonly Range[], bytes: Uint8Array): number {
  let at = 0;
  for (const { address, length } of ranges) {
    if (at === bytes.length) break;
    const count = Math.min(length, bytes.length - at);
    memory.copyIn(address, bytes.subarray(at, at + count));
    at += count;
  }
  return at;
}
