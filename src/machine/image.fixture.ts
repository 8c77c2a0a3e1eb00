/** Small bootable images for tests: machine code by bytes and labels, in a Multiboot ELF32. */

/** Where images of this fixture are loaded. */
export const LOAD_ADDRESS = 0x10_0000;

/** Machine code with labels; addresses count from `origin`. */
export class Code {
  readonly origin: number;
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixes: { at: number; label: string; size: 1 | 2 | 4; relative: boolean; from: number }[] = [];

  constructor(origin = LOAD_ADDRESS) {
    this.origin = origin;
  }

  get here(): number {
    return this.origin + this.#bytes.length;
  }

  bytes(...bytes: number[]): this {
    this.#bytes.push(...bytes);
    return this;
  }

  u16(value: number): this {
    return this.bytes(value & 0xff, (value >> 8) & 0xff);
  }

  u32(value: number): this {
    return this.u16(value & 0xffff).u16(value >>> 16);
  }

  text(text: string): this {
    return this.bytes(...new TextEncoder().encode(text));
  }

  label(name: string): this {
    this.#labels.set(name, this.here);
    return this;
  }

  align(to: number): this {
    while (this.here % to !== 0) this.bytes(0);
    return this;
  }

  /** A 32-bit address of a label. */
  address(label: string, size: 2 | 4 = 4): this {
    return this.#fix(label, size, false);
  }

  /** A displacement to a label from the end of the field. */
  relative(label: string, size: 1 | 4 = 1): this {
    return this.#fix(label, size, true);
  }

  labelAddress(label: string): number {
    const address = this.#labels.get(label);
    if (address === undefined) throw new Error(`no label ${label}`);
    return address;
  }

  finish(): Uint8Array {
    const bytes = Uint8Array.from(this.#bytes);
    for (const { at, label, size, relative, from } of this.#fixes) {
      const value = this.labelAddress(label) - (relative ? from : 0);
      for (let i = 0; i < size; i++) bytes[at + i] = (value >> (8 * i)) & 0xff;
    }
    return bytes;
  }

  // Instructions that these tests use much; 32-bit code.

  /** MOV r32, imm32. */
  mov(register: number, value: number): this {
    return this.bytes(0xb8 + register).u32(value);
  }

  /** MOV dword [address], imm32. */
  store(address: number, value: number): this {
    return this.bytes(0xc7, 0x05).u32(address).u32(value);
  }

  /** MOV EAX, [address]. */
  load(address: number): this {
    return this.bytes(0xa1).u32(address);
  }

  /** OUT port, value (8 bits), through DX and AL. */
  out(port: number, value: number): this {
    return this.bytes(0x66, 0xba).u16(port).bytes(0xb0, value, 0xee);
  }

  /** Sends a character to COM1. */
  put(character: string): this {
    return this.out(0x3f8, character.charCodeAt(0));
  }

  /** Ends the run with a value. */
  exit(value: number): this {
    return this.bytes(0x66, 0xba).u16(0xf4).mov(0, value).bytes(0xef);
  }

  /** JMP to itself. */
  spin(): this {
    return this.bytes(0xeb, 0xfe);
  }

  #fix(label: string, size: 1 | 2 | 4, relative: boolean): this {
    this.#fixes.push({ at: this.#bytes.length, label, size, relative, from: this.here + size });
    for (let i = 0; i < size; i++) this.bytes(0);
    return this;
  }
}

/** The twelve bytes of a Multiboot header, without address fields unless given. */
export function multibootHeader(flags: number, fields: readonly number[] = []): Uint8Array {
  const words = [0x1bad_b002, flags, -(0x1bad_b002 + flags) >>> 0, ...fields];
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => {
    view.setUint32(i * 4, word, true);
  });
  return bytes;
}

export interface ElfSegmentFields {
  readonly physical: number;
  readonly virtual?: bigint;
  readonly bytes: Uint8Array;
  readonly memorySize?: number;
  readonly type?: number;
}

/** An ELF executable of 32 or 64 bits; `prefix` comes right after the program headers. */
export function elf(
  bits: 32 | 64,
  entry: bigint,
  segments: readonly ElfSegmentFields[],
  prefix: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const headerSize = bits === 32 ? 52 : 64;
  const entrySize = bits === 32 ? 32 : 56;
  let at = headerSize + segments.length * entrySize + prefix.length;
  const image = new Uint8Array(at + segments.reduce((sum, segment) => sum + segment.bytes.length, 0));
  const view = new DataView(image.buffer);
  const word = (offset: number, value: bigint) =>
    bits === 32
      ? view.setUint32(offset, Number(value), true)
      : view.setBigUint64(offset, BigInt.asUintN(64, value), true);
  image.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, bits === 32 ? 3 : 62, true);
  view.setUint32(20, 1, true);
  word(24, entry);
  word(bits === 32 ? 28 : 32, BigInt(headerSize));
  const rest = bits === 32 ? 40 : 52;
  view.setUint16(rest, headerSize, true);
  view.setUint16(rest + 2, entrySize, true);
  view.setUint16(rest + 4, segments.length, true);
  image.set(prefix, headerSize + segments.length * entrySize);
  segments.forEach((segment, i) => {
    const header = headerSize + i * entrySize;
    view.setUint32(header, segment.type ?? 1, true);
    const fields = [
      BigInt(at),
      segment.virtual ?? BigInt(segment.physical),
      BigInt(segment.physical),
      BigInt(segment.bytes.length),
      BigInt(segment.memorySize ?? segment.bytes.length),
    ];
    fields.forEach((value, n) => {
      word(header + (bits === 32 ? 4 + n * 4 : 8 + n * 8), value);
    });
    image.set(segment.bytes, at);
    at += segment.bytes.length;
  });
  return image;
}

/** A Multiboot ELF32 that runs `code` from its origin. */
export function multibootImage(code: Code): Uint8Array {
  const bytes = code.finish();
  return elf(32, BigInt(code.origin), [{ physical: code.origin, bytes }], multibootHeader(3));
}
