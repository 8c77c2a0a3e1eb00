/** A driver for virtio devices over PCI, for tests: memory of its own, one buffer chain at a time. */
import { type VirtioModel, VirtioPci, type VirtioPort } from './transport.ts';

export const MEMORY = 1 << 20;
const NEXT = 1;
const WRITE = 2;
const QUEUE_SIZE = 8;
/** Rings of each queue, and then buffers. */
const QUEUE_BYTES = 0x1000;
const BUFFERS = 0x1_0000;

export class Driver {
  readonly memory = {
    bytes: new Uint8Array(MEMORY),
    copyIn(address: number, bytes: Uint8Array) {
      this.bytes.set(bytes, address);
    },
  };
  readonly view = new DataView(this.memory.bytes.buffer);
  readonly device: VirtioPci;
  /** Data of the message-signalled interrupts that have come, and the level of the pin. */
  readonly messages: number[] = [];
  pin = false;
  readonly #available: number[] = [];
  #buffer = BUFFERS;

  constructor(make: (port: VirtioPort) => VirtioModel) {
    this.device = new VirtioPci(
      this.memory,
      {
        address: 0xe001_0000,
        interruptLine: 17,
        message: (_address, data) => this.messages.push(data),
        pin: (asserted) => {
          this.pin = asserted;
        },
      },
      make,
    );
  }

  read(offset: number, size: 1 | 2 | 4): number {
    return this.device.pci.memory.read(offset, size);
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    this.device.pci.memory.write(offset, size, value);
  }

  get status(): number {
    return this.read(0x14, 1);
  }

  /** Initialises the device (3.1.1), with MSI-X vector n + 1 for queue n if `messages`. */
  start(messages = true, features = 0): void {
    this.device.pci.writeConfiguration(0x04, 2, 6);
    if (messages) {
      const msix = this.capability(0x11);
      this.device.pci.writeConfiguration(msix + 2, 2, 0x8000);
      for (let entry = 0; entry < 4; entry++) {
        this.write(0x4000 + entry * 16, 4, 0xfee0_0000);
        this.write(0x4008 + entry * 16, 4, 0x40 + entry);
        this.write(0x400c + entry * 16, 4, 0);
      }
    }
    this.write(0x14, 1, 0);
    this.write(0x14, 1, 3);
    this.write(0x08, 4, 0);
    this.write(0x0c, 4, features);
    this.write(0x08, 4, 1);
    this.write(0x0c, 4, 1);
    this.write(0x14, 1, 11);
    const queues = this.read(0x12, 2);
    for (let queue = 0; queue < queues; queue++) {
      const base = QUEUE_BYTES * (queue + 1);
      this.#available[queue] = 0;
      this.memory.bytes.fill(0, base, base + QUEUE_BYTES);
      this.write(0x16, 2, queue);
      this.write(0x18, 2, QUEUE_SIZE);
      if (messages) this.write(0x1a, 2, queue + 1);
      for (const [field, offset] of [
        [0x20, 0],
        [0x28, 0x400],
        [0x30, 0x800],
      ]) {
        this.write(field, 4, base + offset);
        this.write(field + 4, 4, 0);
      }
      this.write(0x1c, 2, 1);
    }
    this.write(0x14, 1, 15);
  }

  /** Where a capability is in configuration space. */
  capability(id: number): number {
    const read = (offset: number) => this.device.pci.readConfiguration(offset, 1);
    for (let at = read(0x34); at !== 0; at = read(at + 1)) if (read(at) === id) return at;
    throw new Error(`no capability ${id}`);
  }

  /** Writes a descriptor. */
  descriptor(queue: number, index: number, address: number, length: number, flags: number, next = 0): void {
    const at = QUEUE_BYTES * (queue + 1) + index * 16;
    this.view.setBigUint64(at, BigInt(address), true);
    this.view.setUint32(at + 8, length, true);
    this.view.setUint16(at + 12, flags, true);
    this.view.setUint16(at + 14, next, true);
  }

  /** Makes the chain that begins with descriptor `head` available. */
  offer(queue: number, head: number, count = 1): void {
    const ring = QUEUE_BYTES * (queue + 1) + 0x400;
    this.view.setUint16(ring + 4 + (this.#available[queue] % QUEUE_SIZE) * 2, head, true);
    this.#available[queue] += count;
    this.view.setUint16(ring + 2, this.#available[queue], true);
  }

  notify(queue: number): void {
    this.write(0x3000 + queue * 4, 2, queue);
  }

  /** Chains that the device has returned. */
  returned(queue: number): number {
    return this.view.getUint16(QUEUE_BYTES * (queue + 1) + 0x802, true);
  }

  /** Bytes that it says it wrote into the latest. */
  written(queue: number): number {
    const ring = QUEUE_BYTES * (queue + 1) + 0x800;
    return this.view.getUint32(ring + 4 + ((this.returned(queue) - 1) % QUEUE_SIZE) * 8 + 4, true);
  }

  /** Sends buffers to read and to write, without notifying; returns what is written into the latter, to be looked at later. */
  put(queue: number, readable: readonly Uint8Array[], writable: readonly number[]): () => Uint8Array[] {
    const places: { address: number; length: number }[] = [];
    const total = readable.length + writable.length;
    let index = 0;
    const add = (length: number, flags: number) => {
      this.descriptor(queue, index, this.#buffer, length, flags | (index < total - 1 ? NEXT : 0), index + 1);
      const place = { address: this.#buffer, length };
      this.#buffer += length;
      index++;
      return place;
    };
    for (const bytes of readable) this.memory.copyIn(add(bytes.length, 0).address, bytes);
    for (const length of writable) places.push(add(length, WRITE));
    this.offer(queue, 0);
    return () => places.map(({ address, length }) => this.memory.bytes.slice(address, address + length));
  }

  /** Sends buffers and notifies. */
  send(queue: number, readable: readonly Uint8Array[], writable: readonly number[] = []): Uint8Array[] {
    const result = this.put(queue, readable, writable);
    this.notify(queue);
    return result();
  }
}
