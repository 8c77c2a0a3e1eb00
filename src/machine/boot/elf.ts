/**
 * Executable files in ELF, 32 and 64 bits, for the x86. System V ABI (gABI) chapters 4 "Object Files" and 5 "Program
 * Loading"; Intel386 and AMD64 supplements.
 *
 * Nothing in a file is trusted: every offset and size is checked before it is used.
 */
import { checkTable, expectField, parseElfHeader } from './elf-header.ts';
import { hex, ImageError } from './image-error.ts';

const ET_EXEC = 2;
const EM_386 = 3;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** e_phnum of a file with more program headers than fit there. */
const PN_XNUM = 0xffff;

/** A part of the file that is loaded: `fileSize` bytes, then zeros up to `memorySize`. */
export interface Segment {
  /** Number of its program header, for messages. */
  readonly index: number;
  readonly physical: number;
  readonly virtual: bigint;
  readonly offset: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

export interface Note {
  readonly name: string;
  readonly type: number;
  readonly descriptor: Uint8Array;
}

export interface Elf {
  readonly bits: 32 | 64;
  readonly entry: bigint;
  /** Segments with memory, in ascending order of physical address; they do not overlap. */
  readonly segments: readonly Segment[];
  readonly notes: readonly Note[];
}

/** Reads an ELF executable. Throws ImageError. */
export function parseElf(image: Uint8Array): Elf {
  const header = parseElfHeader(image);
  const { bits, entry, view, word } = header;
  expectField('ELF type', header.type, ET_EXEC, 'executable');
  if (bits === 32) expectField('ELF machine', header.machine, EM_386, '386');
  const { offset: table, entrySize, count } = header.programHeaders;
  const expectedSize = bits === 32 ? 32 : 56;
  if (count === 0) throw new ImageError('ELF program header count: 0, expected at least 1');
  if (count === PN_XNUM)
    throw new ImageError(`ELF program header count: ${count}, expected below ${PN_XNUM}`);
  expectField('ELF program header size', entrySize, expectedSize, `that of ${bits} bits`);
  checkTable('ELF program headers', header, table, count * expectedSize);

  const segments: Segment[] = [];
  const notes: Note[] = [];
  for (let index = 0; index < count; index++) {
    const at = Number(table) + index * expectedSize;
    const type = view.getUint32(at, true);
    if (type !== PT_LOAD && type !== PT_NOTE) continue;
    const [offset, virtual, physical, fileSize, memorySize] =
      bits === 32
        ? ([4, 8, 12, 16, 20].map((field) => word(at + field)) as bigint[])
        : ([8, 16, 24, 32, 40].map((field) => word(at + field)) as bigint[]);
    if (offset + fileSize > BigInt(image.length))
      throw new ImageError(
        `ELF segment ${index}: file bytes ${hex(offset)} to ${hex(offset + fileSize)}, expected within the file of ${hex(image.length)}`,
      );
    if (type === PT_NOTE) {
      notes.push(...parseNotes(image.subarray(Number(offset), Number(offset + fileSize))));
      continue;
    }
    if (memorySize < fileSize)
      throw new ImageError(
        `ELF segment ${index}: memory size ${hex(memorySize)}, expected at least its file size ${hex(fileSize)}`,
      );
    if (memorySize === 0n) continue;
    if (physical + memorySize > 1n << 52n)
      throw new ImageError(
        `ELF segment ${index}: physical address ${hex(physical)} and size ${hex(memorySize)}, expected within 52 bits`,
      );
    segments.push({
      index,
      physical: Number(physical),
      virtual,
      offset: Number(offset),
      fileSize: Number(fileSize),
      memorySize: Number(memorySize),
    });
  }
  if (segments.length === 0)
    throw new ImageError('ELF segments: none to load, expected at least one PT_LOAD with memory');
  segments.sort((a, b) => a.physical - b.physical);
  for (let i = 1; i < segments.length; i++) {
    const [a, b] = [segments[i - 1], segments[i]];
    if (a.physical + a.memorySize > b.physical)
      throw new ImageError(
        `ELF segments ${a.index} and ${b.index}: overlap at ${hex(b.physical)}, expected disjoint physical addresses`,
      );
  }
  return { bits, entry, segments, notes };
}

/**
 * The physical address of the entry point: within a segment by virtual address, it is translated as the segment is;
 * else it must lie within a segment by physical address. Throws ImageError.
 */
export function physicalEntry(elf: Elf): number {
  for (const { virtual, physical, memorySize } of elf.segments) {
    const into = elf.entry - virtual;
    if (into >= 0n && into < BigInt(memorySize)) return physical + Number(into);
  }
  checkInside(elf, elf.entry, 'ELF entry');
  return Number(elf.entry);
}

/** Throws ImageError unless a physical address lies within a segment. */
export function checkInside(elf: Elf, address: number | bigint, field: string): void {
  const at = BigInt(address);
  const inside = elf.segments.some(
    ({ physical, memorySize }) => at >= BigInt(physical) && at < BigInt(physical + memorySize),
  );
  if (!inside) throw new ImageError(`${field}: ${hex(at)}, expected within a loaded segment`);
}

/** A note segment's notes (gABI "Note Section"); a damaged rest is left out. */
function parseNotes(bytes: Uint8Array): Note[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const notes: Note[] = [];
  let at = 0;
  while (at + 12 <= bytes.length) {
    const nameSize = view.getUint32(at, true);
    const descriptorSize = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const name = at + 12;
    const descriptor = name + alignUp(nameSize, 4);
    const end = descriptor + descriptorSize;
    if (end > bytes.length) break;
    const text = String.fromCharCode(...bytes.subarray(name, name + Math.min(nameSize, 64)));
    notes.push({ name: text.replace(/\0.*$/s, ''), type, descriptor: bytes.slice(descriptor, end) });
    at = alignUp(end, 4);
  }
  return notes;
}

function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
