/** Tables for firmware and loaders to leave in memory: little-endian fields one after another. */
export class Fields {
  readonly bytes: number[] = [];

  u8(...values: number[]): this {
    for (const value of values) this.bytes.push(value & 0xff);
    return this;
  }

  u16(...values: number[]): this {
    for (const value of values) this.u8(value, value >>> 8);
    return this;
  }

  u32(...values: number[]): this {
    for (const value of values) this.u16(value & 0xffff, value >>> 16);
    return this;
  }

  /** Addresses and sizes, which are below 2^53. */
  u64(...values: number[]): this {
    for (const value of values) this.u32(value % 2 ** 32, Math.floor(value / 2 ** 32));
    return this;
  }

  /** ASCII, padded to `length` with `pad`. */
  text(text: string, length = text.length, pad = ' '): this {
    return this.u8(...new TextEncoder().encode(text.padEnd(length, pad)));
  }

  /** Makes the first `length` bytes, by default all, sum to 0 through the one at `at`. */
  sum(at: number, length = this.bytes.length): this {
    this.bytes[at] = 0;
    this.bytes[at] = -this.bytes.slice(0, length).reduce((sum, byte) => sum + byte, 0) & 0xff;
    return this;
  }

  finish(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }
}
