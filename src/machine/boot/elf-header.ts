/**
 * The header of ELF files of 32 and 64 bits for the x86, and where it says that the other headers are. System V ABI
 * (gABI) chapter 4 "Object Files", "ELF Header"; Intel386 and AMD64 supplements.
 */
import { hex, ImageError } from './image-error.ts';

const EM_386 = 3;
const EM_X86_64 = 62;

export interface ElfHeader {
  readonly bits: 32 | 64;
  /** ET_EXEC is 2. */
  readonly type: number;
  /** EM_386 is 3, EM_X86_64 62; others are refused. */
  readonly machine: number;
  readonly entry: bigint;
  /** e_phoff, e_phentsize, e_phnum. */
  readonly programHeaders: HeaderTable;
  /** e_shoff, e_shentsize, e_shnum. */
  readonly sectionHeaders: HeaderTable;
  /** e_shstrndx. */
  readonly sectionNames: number;
  /** The whole file. */
  readonly view: DataView;
  /** The address or offset at a place of the file, of the file's own width. Throws RangeError beyond the file. */
  readonly word: (at: number) => bigint;
}

export interface HeaderTable {
  readonly offset: bigint;
  /** Bytes of an entry, as the file says. */
  readonly entrySize: number;
  readonly count: number;
}

/** The file begins with the ELF magic. */
export function isElf(image: Uint8Array): boolean {
  return (
    image.length >= 4 && image[0] === 0x7f && image[1] === 0x45 && image[2] === 0x4c && image[3] === 0x46
  );
}

/** Reads the header; the tables that it names are not looked at. Throws ImageError. */
export function parseElfHeader(image: Uint8Array): ElfHeader {
  if (!isElf(image)) throw new ImageError('ELF magic: expected 7f 45 4c 46');
  if (image.length < 16) throw new ImageError(`ELF header: ${image.length} bytes, expected at least 52`);
  const elfClass = image[4];
  if (elfClass !== 1 && elfClass !== 2)
    throw new ImageError(`ELF class: ${elfClass}, expected 1 (32 bits) or 2 (64 bits)`);
  const bits = elfClass === 1 ? 32 : 64;
  const size = elfHeaderSize(bits);
  if (image.length < size)
    throw new ImageError(`ELF header: ${image.length} bytes, expected at least ${size}`);
  expectField('ELF data encoding', image[5], 1, 'little-endian');
  expectField('ELF identification version', image[6], 1, 'current');
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const word = (at: number): bigint =>
    bits === 32 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
  const machine = view.getUint16(18, true);
  // ELF32 for x86-64 is what the x32 ABI and some boot loaders' tools write.
  if (machine !== EM_X86_64 && (machine !== EM_386 || bits === 64))
    expectField('ELF machine', machine, bits === 32 ? EM_386 : EM_X86_64, bits === 32 ? '386' : 'x86-64');
  expectField('ELF version', view.getUint32(20, true), 1, 'current');
  const half = (at32: number) => view.getUint16(bits === 32 ? at32 : at32 + 12, true);
  return {
    bits,
    type: view.getUint16(16, true),
    machine,
    entry: word(24),
    programHeaders: { offset: word(bits === 32 ? 28 : 32), entrySize: half(42), count: half(44) },
    sectionHeaders: { offset: word(bits === 32 ? 32 : 40), entrySize: half(46), count: half(48) },
    sectionNames: half(50),
    view,
    word,
  };
}

/** Bytes of the ELF header. */
function elfHeaderSize(bits: 32 | 64): number {
  return bits === 32 ? 52 : 64;
}

/** Throws ImageError unless a field has the one value that it may have. */
export function expectField(field: string, value: number, expected: number, meaning: string): void {
  if (value !== expected) throw new ImageError(`${field}: ${value}, expected ${expected} (${meaning})`);
}

/** Throws ImageError unless `count` entries of a table of headers lie within the file, behind the ELF header. */
export function checkTable(what: string, header: ElfHeader, offset: bigint, size: number): void {
  const { bits, view } = header;
  if (offset < BigInt(elfHeaderSize(bits)) || offset + BigInt(size) > BigInt(view.byteLength))
    throw new ImageError(
      `${what}: at ${hex(offset)}, expected ${size} bytes within the file of ${hex(view.byteLength)}`,
    );
}
