/** Files for tests: ELF with sections and symbols, and line programs of every version. */

export interface SectionFields {
  readonly name: string;
  readonly type?: number;
  readonly flags?: number;
  readonly address?: bigint;
  readonly bytes?: Uint8Array;
  readonly size?: bigint;
  readonly link?: number;
  readonly entrySize?: number;
}

export interface SymbolFields {
  readonly name: string;
  readonly address: bigint;
  readonly size?: bigint;
  /** STT_: 0 label, 1 data, 2 function (default), 3 section, 4 file. */
  readonly type?: number;
  readonly global?: boolean;
  readonly section?: number;
}

const utf8 = (text: string) => new TextEncoder().encode(text);

/** Grows a string table and tells offsets in it. */
export class StringTable {
  #bytes: number[] = [0];
  add(text: string): number {
    const at = this.#bytes.length;
    this.#bytes.push(...utf8(text), 0);
    return at;
  }
  get bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** `.symtab` and `.strtab`; the second's number is `link`. */
export function symbolSections(
  bits: 32 | 64,
  symbols: readonly SymbolFields[],
  link: number,
): SectionFields[] {
  const strings = new StringTable();
  const entry = bits === 32 ? 16 : 24;
  const bytes = new Uint8Array(entry * (symbols.length + 1));
  const view = new DataView(bytes.buffer);
  symbols.forEach(({ name, address, size = 0n, type = 2, global = true, section = 1 }, i) => {
    const at = entry * (i + 1);
    view.setUint32(at, strings.add(name), true);
    const info = (global ? 0x10 : 0) | type;
    if (bits === 32) {
      view.setUint32(at + 4, Number(address & 0xffff_ffffn), true);
      view.setUint32(at + 8, Number(size), true);
      view.setUint8(at + 12, info);
      view.setUint16(at + 14, section, true);
    } else {
      view.setUint8(at + 4, info);
      view.setUint16(at + 6, section, true);
      view.setBigUint64(at + 8, address, true);
      view.setBigUint64(at + 16, size, true);
    }
  });
  return [
    { name: '.symtab', type: 2, bytes, link, entrySize: entry },
    { name: '.strtab', type: 3, bytes: strings.bytes },
  ];
}

/** An executable of sections only: 0 is the empty one, `.shstrtab` comes last. */
export function elfOfSections(bits: 32 | 64, sections: readonly SectionFields[]): Uint8Array {
  const strings = new StringTable();
  const all = [{ name: '', type: 0 }, ...sections, { name: '.shstrtab', type: 3 }].map(
    (section: SectionFields) => ({ ...section, nameAt: section.name === '' ? 0 : strings.add(section.name) }),
  );
  all[all.length - 1] = { ...all[all.length - 1], bytes: strings.bytes };
  const headerSize = bits === 32 ? 52 : 64;
  const entrySize = bits === 32 ? 40 : 64;
  const table = headerSize;
  let at = headerSize + entrySize * all.length;
  const file = new Uint8Array(at + all.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0));
  const view = new DataView(file.buffer);
  const word = (offset: number, value: bigint) =>
    bits === 32
      ? view.setUint32(offset, Number(value & 0xffff_ffffn), true)
      : view.setBigUint64(offset, value, true);
  file.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, bits === 32 ? 3 : 62, true);
  view.setUint32(20, 1, true);
  word(bits === 32 ? 32 : 40, BigInt(table));
  const counts = bits === 32 ? 46 : 58;
  view.setUint16(counts, entrySize, true);
  view.setUint16(counts + 2, all.length, true);
  view.setUint16(counts + 4, all.length - 1, true);
  const wide = bits / 8;
  all.forEach((section, i) => {
    const header = table + i * entrySize;
    const bytes = section.bytes ?? new Uint8Array(0);
    view.setUint32(header, section.nameAt, true);
    view.setUint32(header + 4, section.type ?? 1, true);
    word(header + 8, BigInt(section.flags ?? 0));
    word(header + 8 + wide, section.address ?? 0n);
    word(header + 8 + 2 * wide, BigInt(at));
    word(header + 8 + 3 * wide, section.size ?? BigInt(bytes.length));
    view.setUint32(header + 8 + 4 * wide, section.link ?? 0, true);
    word(header + 16 + 5 * wide, BigInt(section.entrySize ?? 0));
    file.set(bytes, at);
    at += bytes.length;
  });
  return file;
}

export function uleb(value: bigint): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; ) {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest === 0n ? low : low | 0x80);
    if (rest === 0n) return bytes;
  }
}

export function sleb(value: bigint): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; ) {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    const last = rest === (low & 0x40 ? -1n : 0n);
    bytes.push(last ? low : low | 0x80);
    if (last) return bytes;
  }
}

/** Little-endian. */
function le(value: bigint, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

const zeroTerminated = (text: string) => [...utf8(text), 0];

export interface LineProgramFields {
  readonly version: 2 | 3 | 4 | 5;
  readonly dwarf64?: boolean;
  readonly directories: readonly string[];
  /** Path and number of its directory: `directories[n]`, in versions 2 to 4 `n - 1` and 0 for none. */
  readonly files: readonly (readonly [string, number])[];
  readonly program: readonly number[];
  readonly lineBase?: number;
  readonly lineRange?: number;
  /** Where version 5 puts its strings: in place, or in `.debug_line_str` or `.debug_str`. */
  readonly strings?: { readonly form: 'line_strp' | 'strp'; readonly table: StringTable } | undefined;
}

/** A unit of `.debug_line`: opcode base 13, instructions of 1 byte. */
export function lineUnit(fields: LineProgramFields): number[] {
  const { version, dwarf64 = false, directories, files, program, lineBase = -5, lineRange = 14 } = fields;
  const offsetSize = dwarf64 ? 8 : 4;
  const header = [1, ...(version >= 4 ? [1] : []), 1, lineBase & 0xff, lineRange, 13];
  header.push(0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1);
  if (version === 5) {
    const form = fields.strings === undefined ? 0x08 : fields.strings.form === 'strp' ? 0x0e : 0x1f;
    const text = (value: string) =>
      fields.strings ? le(BigInt(fields.strings.table.add(value)), offsetSize) : zeroTerminated(value);
    header.push(1, 1, form, directories.length, ...directories.flatMap(text));
    // With an MD5 of each file, as some compilers give it.
    header.push(3, 1, form, 2, 0x0b, 5, 0x1e, files.length);
    for (const [path, directory] of files) header.push(...text(path), directory, ...Array(16).fill(7));
  } else {
    header.push(...directories.flatMap(zeroTerminated), 0);
    for (const [path, directory] of files) header.push(...zeroTerminated(path), directory, 0, 0);
    header.push(0);
  }
  const body = [
    ...le(BigInt(version), 2),
    ...(version === 5 ? [8, 0] : []),
    ...le(BigInt(header.length), offsetSize),
    ...header,
    ...program,
  ];
  return [...(dwarf64 ? [0xff, 0xff, 0xff, 0xff] : []), ...le(BigInt(body.length), offsetSize), ...body];
}

export const setAddress = (address: bigint, size = 8) => [0, size + 1, 2, ...le(address, size)];
export const endSequence = [0, 1, 1];
