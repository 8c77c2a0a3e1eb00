/**
 * The sections of an ELF file, by which linkers and debuggers see it. System V ABI (gABI) chapter 4 "Object Files",
 * "Sections". Nothing in a file is trusted.
 */
import { checkTable, expectField, parseElfHeader } from './elf-header.ts';
import { hex, ImageError } from './image-error.ts';

export const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
export const SHF_ALLOC = 2n;
export const SHF_COMPRESSED = 0x800n;
/** e_shstrndx of a file whose number of names does not fit there: it is in section 0's sh_link. */
const SHN_XINDEX = 0xffff;

/** One section. Its bytes are the file's own: empty where it has none (`.bss`). */
export interface Section {
  readonly name: string;
  readonly type: number;
  /** SHF_ bits. */
  readonly flags: bigint;
  /** Linear address where it is linked, 0 where it is not loaded. */
  readonly address: bigint;
  /** Bytes in memory. */
  readonly size: bigint;
  /** Another section's number; of a symbol table, its strings'. */
  readonly link: number;
  /** Bytes of one entry, in a section of entries. */
  readonly entrySize: bigint;
  readonly bytes: Uint8Array;
}

export interface ElfSections {
  readonly bits: 32 | 64;
  /** By number; empty where the file has no section headers. */
  readonly sections: readonly Section[];
}

/** Reads the sections of any ELF file for the x86: executable, shared or relocatable. Throws ImageError. */
export function parseSections(image: Uint8Array): ElfSections {
  const header = parseElfHeader(image);
  const { bits, view, word } = header;
  const { offset, entrySize } = header.sectionHeaders;
  if (offset === 0n) return { bits, sections: [] };
  const expectedSize = bits === 32 ? 40 : 64;
  expectField('ELF section header size', entrySize, expectedSize, `that of ${bits} bits`);
  checkTable('ELF section headers', header, offset, expectedSize);
  const table = Number(offset);
  const wordSize = bits / 8;
  const field = (index: number, n: number) => {
    // sh_name and sh_type, then four fields of the file's width, then two of 32 bits, then two of the width.
    const at = table + index * expectedSize;
    if (n < 2) return BigInt(view.getUint32(at + 4 * n, true));
    if (n < 6) return word(at + 8 + (n - 2) * wordSize);
    if (n < 8) return BigInt(view.getUint32(at + 8 + 4 * wordSize + (n - 6) * 4, true));
    return word(at + 16 + (n - 4) * wordSize);
  };
  // A count that does not fit into the header is section 0's sh_size.
  const count = header.sectionHeaders.count === 0 ? field(0, 5) : BigInt(header.sectionHeaders.count);
  if (count * BigInt(expectedSize) > BigInt(image.length))
    throw new ImageError(
      `ELF section header count: ${count}, expected no more than fit into the file of ${hex(image.length)}`,
    );
  checkTable('ELF section headers', header, offset, Number(count) * expectedSize);

  const raw = Array.from({ length: Number(count) }, (_, index) => {
    const type = Number(field(index, 1));
    const [at, size] = [field(index, 4), field(index, 5)];
    const inFile = type === SHT_NOBITS || type === 0 ? 0n : size;
    if (inFile > 0n && at + inFile > BigInt(image.length))
      throw new ImageError(
        `ELF section ${index}: file bytes ${hex(at)} to ${hex(at + inFile)}, expected within the file of ${hex(image.length)}`,
      );
    return {
      nameAt: Number(field(index, 0)),
      type,
      flags: field(index, 2),
      address: field(index, 3),
      size,
      link: Number(field(index, 6)),
      entrySize: field(index, 9),
      bytes: inFile > 0n ? image.subarray(Number(at), Number(at + inFile)) : new Uint8Array(0),
    };
  });
  const namesIndex = header.sectionNames === SHN_XINDEX && raw.length > 0 ? raw[0].link : header.sectionNames;
  if (namesIndex !== 0 && namesIndex >= raw.length)
    throw new ImageError(`ELF section names: in section ${namesIndex}, expected below ${raw.length}`);
  const names = namesIndex === 0 ? new Uint8Array(0) : raw[namesIndex].bytes;
  return {
    bits,
    sections: raw.map(({ nameAt, ...section }) => ({ name: stringAt(names, nameAt), ...section })),
  };
}

/** Longest name that is read; what is beyond is cut off. */
const MAX_STRING = 4096;

/** The zero-terminated string at an offset of a string table; empty beyond its end. */
export function stringAt(table: Uint8Array, offset: number): string {
  if (offset >= table.length) return '';
  const limit = Math.min(table.length, offset + MAX_STRING);
  let end = offset;
  while (end < limit && table[end] !== 0) end++;
  return printable(table.subarray(offset, end));
}

/** UTF-8 as text for people: a control character of an odd file is shown as a question mark. */
export function printable(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(/\p{Cc}/gu, '?');
}
