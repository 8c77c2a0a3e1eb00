/**
 * Names of places in a kernel: from the symbol table and the line programs of its ELF file, or from a `System.map`.
 *
 * Nothing in a file is trusted. A file without names is none the worse for it: its places are shown by their addresses.
 */
import { isElf } from '../../machine/boot/elf-header.ts';
import {
  type ElfSections,
  parseSections,
  type Section,
  SHF_ALLOC,
  SHF_COMPRESSED,
} from '../../machine/boot/elf-sections.ts';
import { ImageError } from '../../machine/boot/image-error.ts';
import { ByteReader } from './byte-reader.ts';
import { readElfNames } from './elf-symbols.ts';
import { type LineSequence, nextUnit, readLineProgram } from './line-program.ts';
import { LineTable, type SourceLine } from './line-table.ts';
import { type Name, NameTable, type Place } from './name-table.ts';
import { SymbolError } from './symbol-error.ts';
import { isSystemMap, readSystemMap } from './system-map.ts';

export type { SourceLine } from './line-table.ts';
export type { Place } from './name-table.ts';
export { SymbolError } from './symbol-error.ts';

export interface Contents {
  /** Width of addresses in the symbol table. */
  readonly bits: 32 | 64;
  readonly names: readonly Name[];
  readonly constants: readonly Name[];
  readonly sequences: readonly LineSequence[];
  readonly problems: readonly SymbolError[];
}

export class Symbols {
  /** Names of places that the file has; 0 where it is stripped. */
  readonly count: number;
  /** Why source lines are not known of some or all of the code, where the file has damaged or unreadable ones. */
  readonly problems: readonly SymbolError[];
  readonly #bits: 32 | 64;
  readonly #names: NameTable;
  readonly #lines: LineTable;
  readonly #addresses = new Map<string, Name>();

  constructor({ bits, names, constants, sequences, problems }: Contents) {
    this.count = names.length;
    this.problems = problems;
    this.#bits = bits;
    this.#names = new NameTable(names);
    this.#lines = new LineTable(sequences);
    for (const name of [...constants, ...names]) {
      const other = this.#addresses.get(name.name);
      if (!other || other.rank < name.rank) this.#addresses.set(name.name, name);
    }
  }

  /** The name that covers a linear address, sized ones before labels, and the bytes from there; undefined without. */
  at(address: bigint): Place | undefined {
    return this.#names.at(address) ?? this.#narrow(address, (narrow) => this.#names.at(narrow));
  }

  /** The address of a name, a global one before a local one; undefined where there is none of that name. */
  address(name: string): bigint | undefined {
    return this.#addresses.get(name)?.address;
  }

  /** The source line of the instruction at a linear address, where the file tells. */
  line(address: bigint): SourceLine | undefined {
    return this.#lines.at(address) ?? this.#narrow(address, (narrow) => this.#lines.at(narrow));
  }

  /** A place for people: `entry_SYSCALL+0x12 (entry.S:34)`, less what is not known, and at least the address. */
  describe(address: bigint): string {
    const place = this.at(address);
    const line = this.line(address);
    const shown =
      place === undefined
        ? `0x${address.toString(16)}`
        : `${place.name}${place.offset === 0n ? '' : `+0x${place.offset.toString(16)}`}`;
    return line === undefined ? shown : `${shown} (${line.file.replace(/^.*\//s, '')}:${line.line})`;
  }

  /** What a file of 32-bit addresses says of one in the upper 2 GiB, of which it holds the lower half. */
  #narrow<T>(address: bigint, look: (address: bigint) => T | undefined): T | undefined {
    if (this.#bits === 64 || address >> 31n !== 0x1_ffff_ffffn) return undefined;
    return look(address & 0xffff_ffffn);
  }
}

/**
 * Reads the symbols of an ELF file (32 or 64 bits, x86) or of a `System.map` (kallsyms, nm). Throws SymbolError where
 * they are damaged; what is wrong with source lines alone is in `problems`.
 */
export function readSymbols(bytes: Uint8Array): Symbols {
  if (isElf(bytes)) return readElf(bytes);
  const text = new TextDecoder().decode(bytes);
  if (!isSystemMap(text))
    throw new SymbolError('symbols', 'expected an ELF file, or a System.map with lines as nm prints them');
  return new Symbols({ bits: 64, ...readSystemMap(text), sequences: [], problems: [] });
}

function readElf(bytes: Uint8Array): Symbols {
  let file: ElfSections;
  try {
    file = parseSections(bytes);
  } catch (error) {
    if (error instanceof ImageError) throw new SymbolError('symbols', error.message);
    throw error;
  }
  const problems: SymbolError[] = [];
  const sequences = readLines(file, problems);
  return new Symbols({ bits: file.bits, ...readElfNames(file), sequences, problems });
}

/** All line programs that can be read; each of the others leaves a problem. */
function readLines(file: ElfSections, problems: SymbolError[]): LineSequence[] {
  const { sections } = file;
  const note = (error: unknown) => {
    if (!(error instanceof SymbolError)) throw error;
    problems.push(error);
  };
  const found = (name: string): Section | undefined => {
    const section = sections.find((s) => s.name === name);
    if (section && (section.flags & SHF_COMPRESSED) !== 0n)
      throw new SymbolError(
        name,
        'compressed, expected plain (objcopy --decompress-debug-sections writes it so)',
      );
    return section;
  };
  const sequences: LineSequence[] = [];
  try {
    if (sections.some(({ name }) => name === '.zdebug_line'))
      throw new SymbolError(
        '.zdebug_line',
        'compressed, expected .debug_line (objcopy --decompress-debug-sections writes it)',
      );
    const lines = found('.debug_line');
    if (!lines) return [];
    const none = new Uint8Array(0);
    const strings = {
      lineStrings: found('.debug_line_str')?.bytes ?? none,
      strings: found('.debug_str')?.bytes ?? none,
    };
    const reader = new ByteReader('.debug_line', lines.bytes);
    while (!reader.atEnd) {
      const unit = nextUnit(reader);
      try {
        for (const sequence of readLineProgram(unit, strings)) {
          // Linkers leave the lines of what they dropped behind, at addresses where nothing is loaded.
          if (isLoaded(file, sequence.start)) sequences.push(sequence);
        }
      } catch (error) {
        note(error);
      }
    }
  } catch (error) {
    note(error);
  }
  return sequences;
}

/** Whether an address lies in a loaded section; of ELF32 sections its lower half must. */
function isLoaded({ bits, sections }: ElfSections, address: bigint): boolean {
  const at = BigInt.asUintN(bits, address);
  return sections.some(
    ({ flags, address: start, size }) => (flags & SHF_ALLOC) !== 0n && at >= start && at < start + size,
  );
}
