/**
 * Line number programs, which say from which source line each instruction comes: DWARF version 5, section 6.2; versions 2
 * to 4 differ in the header (DWARF 4, 6.2.4).
 */
import { stringAt } from '../../machine/boot/elf-sections.ts';
import type { ByteReader } from './byte-reader.ts';

/**
 * Contiguous code. From `start` + `offsets[n]` on, up to the next offset or `end`, instructions come from line `lines[n]`
 * (0: of no line) of file `files[n]` of `names`. Arrays, for a kernel has millions of them.
 */
export interface LineSequence {
  readonly start: bigint;
  readonly end: bigint;
  /** Ascending from 0. */
  readonly offsets: Float64Array;
  readonly files: Uint32Array;
  readonly lines: Uint32Array;
  readonly names: readonly string[];
}

/** String sections that version 5 refers to. */
export interface LineStrings {
  readonly lineStrings: Uint8Array;
  readonly strings: Uint8Array;
}

/** Table 7.25. */
const LNS = {
  copy: 1,
  advancePc: 2,
  advanceLine: 3,
  setFile: 4,
  constAddPc: 8,
  fixedAdvancePc: 9,
} as const;

/** Table 7.26. */
const LNE = { endSequence: 1, setAddress: 2, defineFile: 3 } as const;

/** Table 7.27. */
const LNCT = { path: 1, directoryIndex: 2 } as const;

/** Forms that an entry of a version 5 header may have (table 7.5 and 6.2.4.1). */
const FORM = {
  block2: 0x03,
  block4: 0x04,
  data2: 0x05,
  data4: 0x06,
  data8: 0x07,
  string: 0x08,
  block: 0x09,
  block1: 0x0a,
  data1: 0x0b,
  strp: 0x0e,
  udata: 0x0f,
  data16: 0x1e,
  lineStrp: 0x1f,
} as const;

interface Header {
  readonly version: number;
  readonly minimumLength: number;
  readonly lineBase: number;
  readonly lineRange: number;
  readonly opcodeBase: number;
  /** Operands of standard opcode n, at n - 1. */
  readonly operands: readonly number[];
  /** Paths by number; version 5 counts from 0, others from 1. */
  readonly files: string[];
  readonly directories: readonly string[];
}

/** One unit of `.debug_line`. */
export interface LineUnit {
  readonly reader: ByteReader;
  /** Bytes of an offset in the unit: 8 in 64-bit DWARF (7.4). */
  readonly offsetSize: 4 | 8;
}

/** The unit that `reader` stands at, which is passed over. Throws SymbolError. */
export function nextUnit(reader: ByteReader): LineUnit {
  const length = BigInt(reader.u32('unit length'));
  if (length === 0xffff_ffffn)
    return { offsetSize: 8, reader: reader.part('line program', reader.unsigned('unit length', 8)) };
  if (length >= 0xffff_fff0n) throw reader.error(`unit length 0x${length.toString(16)} is reserved`);
  return { offsetSize: 4, reader: reader.part('line program', length) };
}

/** Reads the program of one unit. Throws SymbolError. */
export function readLineProgram({ reader, offsetSize }: LineUnit, strings: LineStrings): LineSequence[] {
  return run(reader, readHeader(reader, offsetSize, strings));
}

function readHeader(unit: ByteReader, offsetSize: 4 | 8, strings: LineStrings): Header {
  const version = unit.u16('version');
  if (version < 2 || version > 5) throw unit.error(`DWARF version ${version}, expected 2 to 5`);
  if (version >= 5) {
    unit.u8('address size');
    unit.u8('segment selector size');
  }
  const headerLength = unit.unsigned('header length', offsetSize);
  const header = unit.part('header', headerLength);
  const minimumLength = header.u8('minimum instruction length');
  if (version >= 4) {
    const operations = header.u8('maximum operations per instruction');
    if (operations > 1) throw header.error(`${operations} operations per instruction, expected 1 on the x86`);
  }
  header.u8('default is_stmt');
  const lineBase = header.i8('line base');
  const lineRange = header.u8('line range');
  const opcodeBase = header.u8('opcode base');
  if (lineRange === 0) throw header.error('line range 0, expected at least 1');
  if (opcodeBase === 0) throw header.error('opcode base 0, expected at least 1');
  const operands = Array.from({ length: opcodeBase - 1 }, () => header.u8('standard opcode length'));
  const directories: string[] = [];
  const files: string[] = [];
  if (version >= 5) {
    for (const { path } of entries(header, 'directory', offsetSize, strings)) directories.push(path);
    for (const { path, directory } of entries(header, 'file', offsetSize, strings))
      files.push(join(directories[directory], path));
  } else {
    // Directory 0 is where the compiler ran, of which only .debug_info knows.
    directories.push('');
    for (let path = header.string('directory'); path !== ''; path = header.string('directory'))
      directories.push(path);
    files.push('');
    for (let path = header.string('file'); path !== ''; path = header.string('file'))
      files.push(join(directories[skipFile(header)], path));
  }
  return { version, minimumLength, lineBase, lineRange, opcodeBase, operands, files, directories };
}

/** What follows a file's name in versions 2 to 4: its directory, time and length. Returns the directory. */
function skipFile(reader: ByteReader): number {
  const directory = reader.count('directory index');
  reader.uleb('file time');
  reader.uleb('file length');
  return directory;
}

interface Entry {
  path: string;
  directory: number;
}

/** The directories or files of a version 5 header: a format, then entries in it (6.2.4, items 13 to 20). */
function entries(reader: ByteReader, what: string, offsetSize: 4 | 8, strings: LineStrings): Entry[] {
  const format = Array.from({ length: reader.u8(`${what} format count`) }, () => ({
    content: reader.count(`${what} content type`),
    form: reader.count(`${what} form`),
  }));
  const count = reader.count(`${what} count`);
  if (format.length === 0 && count > 0)
    throw reader.error(`${count} entries of a ${what} table without format, expected none`);
  const list: Entry[] = [];
  for (let i = 0; i < count; i++) {
    const entry: Entry = { path: '?', directory: 0 };
    for (const { content, form } of format) {
      const value = readForm(reader, `${what} entry`, form, offsetSize, strings);
      if (content === LNCT.path && typeof value === 'string') entry.path = value;
      if (content === LNCT.directoryIndex && typeof value === 'bigint') entry.directory = Number(value);
    }
    list.push(entry);
  }
  return list;
}

/** A value of a form; undefined where it is neither number nor string. */
function readForm(
  reader: ByteReader,
  what: string,
  form: number,
  offsetSize: 4 | 8,
  { lineStrings, strings }: LineStrings,
): bigint | string | undefined {
  switch (form) {
    case FORM.string:
      return reader.string(what);
    case FORM.lineStrp:
      return referred(reader, '.debug_line_str', lineStrings, reader.unsigned(what, offsetSize));
    case FORM.strp:
      return referred(reader, '.debug_str', strings, reader.unsigned(what, offsetSize));
    case FORM.udata:
      return reader.uleb(what);
    case FORM.data1:
      return reader.unsigned(what, 1);
    case FORM.data2:
      return reader.unsigned(what, 2);
    case FORM.data4:
      return reader.unsigned(what, 4);
    case FORM.data8:
      return reader.unsigned(what, 8);
    case FORM.data16:
      reader.part(what, 16n);
      return undefined;
    case FORM.block:
      reader.part(what, reader.uleb(what));
      return undefined;
    case FORM.block1:
      reader.part(what, reader.unsigned(what, 1));
      return undefined;
    case FORM.block2:
      reader.part(what, reader.unsigned(what, 2));
      return undefined;
    case FORM.block4:
      reader.part(what, reader.unsigned(what, 4));
      return undefined;
    default:
      throw reader.error(`${what} of form 0x${form.toString(16)}, expected a string, number or block`);
  }
}

function referred(reader: ByteReader, section: string, bytes: Uint8Array, offset: bigint): string {
  if (offset >= BigInt(bytes.length))
    throw reader.error(`string at ${offset} of ${section}, expected below ${bytes.length}`);
  return stringAt(bytes, Number(offset));
}

function join(directory: string | undefined, path: string): string {
  return path.startsWith('/') || directory === undefined || directory === '' ? path : `${directory}/${path}`;
}

/** Code further from where its sequence begins is not believed. */
const MAX_REACH = 2 ** 48;

/** The state machine (6.2.2), without what nobody asks for: column, statement, block, isa. */
function run(reader: ByteReader, header: Header): LineSequence[] {
  const { minimumLength, lineBase, lineRange, opcodeBase, operands, files: names, directories } = header;
  const sequences: LineSequence[] = [];
  const rows = new Rows(names);
  // The address register is the sum of both.
  let base = 0n;
  let offset = 0;
  let file = 1;
  let line = 1;
  const advance = (operation: number) => {
    offset += minimumLength * operation;
    if (offset > MAX_REACH) throw reader.error(`${offset} bytes of code, expected at most ${MAX_REACH}`);
  };
  const advanceLine = (by: number) => {
    // Wraps as the 32-bit register of other readers does.
    line = (line + by) >>> 0;
  };
  const specialAdvance = (opcode: number) => Math.floor((opcode - opcodeBase) / lineRange);
  while (!reader.atEnd) {
    const opcode = reader.u8('opcode');
    if (opcode >= opcodeBase) {
      advance(specialAdvance(opcode));
      advanceLine(lineBase + ((opcode - opcodeBase) % lineRange));
      rows.add(base, offset, file, line);
      continue;
    }
    switch (opcode) {
      case 0: {
        const size = reader.uleb('extended opcode length');
        const part = reader.part('extended opcode', size);
        if (size === 0n) break;
        const extended = part.u8('extended opcode');
        if (extended === LNE.endSequence) {
          const sequence = rows.finish(BigInt.asUintN(64, base + BigInt(offset)));
          if (sequence) sequences.push(sequence);
          [base, offset, file, line] = [0n, 0, 1, 1];
        } else if (extended === LNE.setAddress) {
          base = part.unsigned('address', Number(size) - 1);
          offset = 0;
        } else if (extended === LNE.defineFile) {
          const path = part.string('file');
          names.push(join(directories[skipFile(part)], path));
        }
        break;
      }
      case LNS.copy:
        rows.add(base, offset, file, line);
        break;
      case LNS.advancePc:
        advance(Number(reader.uleb('advance')));
        break;
      case LNS.advanceLine:
        advanceLine(Number(BigInt.asIntN(32, reader.sleb('line advance'))));
        break;
      case LNS.setFile:
        file = reader.count('file index');
        break;
      case LNS.constAddPc:
        advance(specialAdvance(255));
        break;
      case LNS.fixedAdvancePc:
        offset += reader.u16('advance');
        break;
      default:
        // The others change nothing that is kept; of unknown ones the header says how many operands they have.
        for (let i = 0; i < operands[opcode - 1]; i++) reader.uleb('operand');
    }
  }
  return sequences;
}

/** Gathers the rows of one sequence after another. */
class Rows {
  readonly #names: readonly string[];
  /** The address of the first row's base, from which offsets count. */
  #start = 0n;
  /** The base of the latest row, and its distance from the first's. */
  #base = 0n;
  #distance = 0;
  #offsets: number[] = [];
  #files: number[] = [];
  #lines: number[] = [];

  constructor(names: readonly string[]) {
    this.#names = names;
  }

  add(base: bigint, offset: number, file: number, line: number): void {
    const count = this.#offsets.length;
    if (count === 0) {
      [this.#start, this.#base, this.#distance] = [base, base, 0];
    } else if (base !== this.#base) {
      this.#base = base;
      this.#distance = Number(base - this.#start);
    }
    this.#offsets.push(this.#distance + offset);
    this.#files.push(file);
    this.#lines.push(line);
  }

  /** The sequence up to `end`, undefined where it has no rows. */
  finish(end: bigint): LineSequence | undefined {
    const [offsets, files, lines] = [this.#offsets, this.#files, this.#lines];
    if (offsets.length === 0) return undefined;
    [this.#offsets, this.#files, this.#lines] = [[], [], []];
    // Rows should come in ascending order; a compiler's slip must not break the search.
    const order = offsets.map((_, i) => i);
    if (offsets.some((offset, i) => i > 0 && offset < offsets[i - 1]))
      order.sort((a, b) => offsets[a] - offsets[b]);
    const first = offsets[order[0]];
    return {
      start: BigInt.asUintN(64, this.#start + BigInt(first)),
      end,
      offsets: Float64Array.from(order, (i) => offsets[i] - first),
      files: Uint32Array.from(order, (i) => files[i]),
      lines: Uint32Array.from(order, (i) => lines[i]),
      names: this.#names,
    };
  }
}
