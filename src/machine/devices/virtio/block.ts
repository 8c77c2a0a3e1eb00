/**
 * A block device. Virtual I/O Device (VIRTIO) Version 1.1, section 5.2.
 *
 * What the guest writes stays in memory, as part of the device's state, unless the disk takes it.
 */
import { gather, lengthOf, type Range, scatter } from './queue.ts';
import type { VirtioModel, VirtioPort } from './transport.ts';

/** What stands behind a block device. */
export interface Disk {
  /** Bytes, a multiple of 512. */
  readonly size: number;
  /** Writes go to the disk itself. */
  readonly writable: boolean;
  /** Reads all of `bytes`; false where it cannot. */
  read(offset: number, bytes: Uint8Array): boolean;
  /** Writes; false where it cannot. */
  write(offset: number, bytes: Uint8Array): boolean;
  /** All that was written is safe; false where it is not. */
  flush(): boolean;
}

const SECTOR = 512;
const MOST_SEGMENTS = 126;
const QUEUE_SIZE = 128;

const F_SEG_MAX = 1 << 2;
const F_BLK_SIZE = 1 << 6;
const F_FLUSH = 1 << 9;

/** Request types. */
const IN = 0;
const OUT = 1;
const FLUSH = 4;
const GET_ID = 8;
const HEADER = 16;
const ID_LENGTH = 20;

const OK = 0;
const IO_ERROR = 1;
const UNSUPPORTED = 2;

/** Bytes of the pieces in which written data is kept. */
const PIECE = 4096;

type BlockState = {
  /** Numbers of the pieces that have been written, ascending, and their bytes. */
  readonly written: readonly number[];
  readonly data: Uint8Array;
};

export class VirtioBlock implements VirtioModel<BlockState> {
  readonly type = 2;
  readonly classCode = 0x01_0000;
  readonly features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH;
  readonly queues = [QUEUE_SIZE];
  readonly #port: VirtioPort;
  readonly #disk: Disk;
  /** What has been written, by piece. */
  #written = new Map<number, Uint8Array>();
  /** The state that says the same, once somebody has asked for it. */
  #saved: BlockState | undefined;

  constructor(port: VirtioPort, disk: Disk) {
    this.#port = port;
    this.#disk = disk;
  }

  configuration(): Uint8Array {
    const view = new DataView(new ArrayBuffer(60));
    view.setBigUint64(0, BigInt(this.#disk.size / SECTOR), true);
    view.setUint32(12, MOST_SEGMENTS, true);
    view.setUint32(20, SECTOR, true);
    return new Uint8Array(view.buffer);
  }

  notified(index: number): void {
    const queue = this.#port.queue(index);
    for (let chain = queue?.take(); queue && chain; chain = queue.take()) {
      const { readable, writable } = chain;
      const room = lengthOf(writable);
      // Without room for the status nothing can be answered.
      if (room === 0) {
        queue.give(chain, 0);
        continue;
      }
      const data = slice(writable, 0, room - 1);
      const header = gather(this.#port.memory, readable, HEADER);
      const status =
        header.length < HEADER
          ? UNSUPPORTED
          : this.#request(new DataView(header.buffer), slice(readable, HEADER, lengthOf(readable)), data);
      scatter(this.#port.memory, slice(writable, room - 1, room), Uint8Array.of(status));
      queue.give(chain, room);
      this.#port.used(index);
    }
  }

  reset(): void {}

  save(): BlockState {
    if (this.#saved) return this.#saved;
    const written = [...this.#written.keys()].sort((a, b) => a - b);
    const data = new Uint8Array(written.length * PIECE);
    written.forEach((piece, i) => {
      const bytes = this.#written.get(piece);
      if (bytes) data.set(bytes, i * PIECE);
    });
    this.#saved = { written, data };
    return this.#saved;
  }

  restore(state: BlockState): void {
    if (state === this.#saved) return;
    this.#written = new Map(
      state.written.map((piece, i) => [piece, state.data.slice(i * PIECE, (i + 1) * PIECE)]),
    );
    this.#saved = state;
  }

  #request(header: DataView, from: readonly Range[], to: readonly Range[]): number {
    const sector = header.getBigUint64(8, true);
    switch (header.getUint32(0, true)) {
      case IN:
        return this.#each(sector, to, (offset, range) => {
          const bytes = new Uint8Array(range.length);
          if (!this.#read(offset, bytes)) return false;
          this.#port.memory.copyIn(range.address, bytes);
          return true;
        });
      case OUT:
        return this.#each(sector, from, (offset, { address, length }) =>
          this.#write(offset, this.#port.memory.bytes.slice(address, address + length)),
        );
      case FLUSH:
        return this.#disk.flush() ? OK : IO_ERROR;
      case GET_ID: {
        const id = new Uint8Array(ID_LENGTH);
        id.set(new TextEncoder().encode('espfix'));
        scatter(this.#port.memory, to, id);
        return OK;
      }
      default:
        return UNSUPPORTED;
    }
  }

  /** Works through the ranges of a request in pieces of bounded size. */
  #each(sector: bigint, ranges: readonly Range[], work: (offset: number, range: Range) => boolean): number {
    const length = lengthOf(ranges);
    if (length % SECTOR !== 0 || sector * BigInt(SECTOR) + BigInt(length) > BigInt(this.#disk.size))
      return IO_ERROR;
    let offset = Number(sector) * SECTOR;
    for (const range of ranges) {
      for (let at = 0; at < range.length; ) {
        const count = Math.min(1 << 20, range.length - at);
        if (!work(offset, { address: range.address + at, length: count })) return IO_ERROR;
        at += count;
        offset += count;
      }
    }
    return OK;
  }

  #read(offset: number, bytes: Uint8Array): boolean {
    if (!this.#disk.read(offset, bytes)) return false;
    if (this.#written.size === 0) return true;
    for (const { piece, at, from, count } of pieces(offset, bytes.length)) {
      const written = this.#written.get(piece);
      if (written) bytes.set(written.subarray(from, from + count), at);
    }
    return true;
  }

  #write(offset: number, bytes: Uint8Array): boolean {
    if (this.#disk.writable) return this.#disk.write(offset, bytes);
    this.#saved = undefined;
    for (const { piece, at, from, count } of pieces(offset, bytes.length)) {
      let written = this.#written.get(piece);
      if (!written) {
        written = new Uint8Array(PIECE);
        const size = Math.min(PIECE, this.#disk.size - piece * PIECE);
        if (count < size && !this.#disk.read(piece * PIECE, written.subarray(0, size))) return false;
        this.#written.set(piece, written);
      }
      written.set(bytes.subarray(at, at + count), from);
    }
    return true;
  }
}

/** The pieces that a range of the disk touches: where in each, and where in the range. */
function* pieces(offset: number, length: number) {
  for (let at = 0; at < length; ) {
    const piece = Math.floor((offset + at) / PIECE);
    const from = (offset + at) % PIECE;
    const count = Math.min(PIECE - from, length - at);
    yield { piece, at, from, count };
    at += count;
  }
}

/** The bytes from `from` to `to` of ranges one after another. */
function slice(ranges: readonly Range[], from: number, to: number): Range[] {
  const result: Range[] = [];
  let at = 0;
  for (const { address, length } of ranges) {
    const start = Math.max(from - at, 0);
    const end = Math.min(to - at, length);
    if (start < end) result.push({ address: address + start, length: end - start });
    at += length;
  }
  return result;
}
