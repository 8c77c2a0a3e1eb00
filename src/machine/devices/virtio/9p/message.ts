/** Messages of 9P2000.L in bytes: little-endian numbers, strings of UTF-8 behind their length. intro(5) of Plan 9. */
import { FileError } from './file-tree.ts';

/** Reads a request. What goes beyond its end is EPROTO. */
export class RequestReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(): number {
    return this.#view.getUint8(this.#skip(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#skip(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#skip(8), true);
  }

  text(): string {
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(this.bytes(this.u16()));
    } catch (error) {
      // Names that are not UTF-8 are those of no file here.
      if (error instanceof TypeError) throw new FileError('EINVAL');
      throw error;
    }
  }

  bytes(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }

  #skip(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new FileError('EPROTO');
    this.#at += length;
    return at;
  }
}

/** Writes an answer. */
export class AnswerWriter {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    return this.bytes(Uint8Array.of(value));
  }

  u16(value: number): this {
    return this.bytes(Uint8Array.of(value & 0xff, value >>> 8));
  }

  u32(value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return this.bytes(bytes);
  }

  u64(value: bigint | number): this {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    return this.bytes(bytes);
  }

  text(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u16(bytes.length).bytes(bytes);
  }

  bytes(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    this.#length += bytes.length;
    return this;
  }

  /** The answer behind its size, type and tag. */
  finish(type: number, tag: number): Uint8Array {
    const HEADER = 7;
    const result = new Uint8Array(HEADER + this.#length);
    const view = new DataView(result.buffer);
    view.setUint32(0, result.length, true);
    view.setUint8(4, type);
    view.setUint16(5, tag, true);
    let at = HEADER;
    for (const part of this.#parts) {
      result.set(part, at);
      at += part.length;
    }
    return result;
  }
}
