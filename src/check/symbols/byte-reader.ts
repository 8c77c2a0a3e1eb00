/**
 * Reads a section of a file from front to back. Every read is checked: one beyond the end throws a SymbolError that names
 * the section, the place and what was to be read.
 */
import { printable } from '../../machine/boot/elf-sections.ts';
import { SymbolError } from './symbol-error.ts';

export class ByteReader {
  readonly section: string;
  /** Offset in the section of the next byte. */
  at: number;
  readonly #end: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** @param end offset in the section behind the last byte that may be read; it must lie within `bytes` */
  constructor(section: string, bytes: Uint8Array, at = 0, end = bytes.length) {
    this.section = section;
    this.at = at;
    this.#end = end;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.at >= this.#end;
  }

  /** A reader of the next `size` bytes, which are passed over. */
  part(what: string, size: bigint): ByteReader {
    if (BigInt(this.at) + size > BigInt(this.#end))
      throw this.error(`${what} of ${size} bytes, expected no more than the ${this.#end - this.at} left`);
    const start = this.at;
    this.at += Number(size);
    return new ByteReader(this.section, this.#bytes, start, this.at);
  }

  /** An unsigned number of 1, 2, 4 or 8 bytes. */
  unsigned(what: string, size: number): bigint {
    const at = this.#take(what, size);
    switch (size) {
      case 1:
        return BigInt(this.#view.getUint8(at));
      case 2:
        return BigInt(this.#view.getUint16(at, true));
      case 4:
        return BigInt(this.#view.getUint32(at, true));
      case 8:
        return this.#view.getBigUint64(at, true);
      default:
        throw this.error(`${what} of ${size} bytes, expected 1, 2, 4 or 8`);
    }
  }

  u8(what: string): number {
    return this.#view.getUint8(this.#take(what, 1));
  }

  i8(what: string): number {
    return this.#view.getInt8(this.#take(what, 1));
  }

  u16(what: string): number {
    return this.#view.getUint16(this.#take(what, 2), true);
  }

  u32(what: string): number {
    return this.#view.getUint32(this.#take(what, 4), true);
  }

  /** An unsigned LEB128 number (DWARF 5, 7.6), cut to 64 bits. */
  uleb(what: string): bigint {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.u8(what);
      if (shift < 64n) value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
  }

  /** An unsigned LEB128 number that must be small enough to count or to index. */
  count(what: string): number {
    const value = this.uleb(what);
    if (value > 0xffff_ffffn) throw this.error(`${what}: ${value}, expected at most 32 bits`);
    return Number(value);
  }

  /** A signed LEB128 number (DWARF 5, 7.6), cut to 64 bits. */
  sleb(what: string): bigint {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.u8(what);
      if (shift < 64n) value |= BigInt(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      const width = Number(shift < 57n ? shift + 7n : 64n);
      return BigInt.asIntN(width, value);
    }
  }

  /** A zero-terminated string in UTF-8. */
  string(what: string): string {
    const end = this.#bytes.subarray(0, this.#end).indexOf(0, this.at);
    if (end < 0) throw this.error(`${what} without an end, expected a zero byte`);
    const text = printable(this.#bytes.subarray(this.at, end));
    this.at = end + 1;
    return text;
  }

  error(problem: string): SymbolError {
    return new SymbolError(this.section, `at 0x${this.at.toString(16)}: ${problem}`);
  }

  #take(what: string, size: number): number {
    const { at } = this;
    if (at + size > this.#end) throw this.error(`${what}: ${this.#end - at} bytes left, expected ${size}`);
    this.at += size;
    return at;
  }
}
