/**
 * Executable files in ELF, 32 and 64 bits, for the x86. System V ABI (gABI) chapters 4 "Object Files" and 5 "Program
 * Loading"; Intel386 and AMD64 supplements.
 *
 * Nothing in a file is trusted: every offset and size is checked before it is used.
 */
import { hex, ImageError } from './image-error.ts';

const ET_EXEC = 2;
const EM_386 = 3;
const EM_X86_64 = 62;
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

/** The file begins with the ELF magic. */
export function isElf(image: Uint8Array): boolean {
  return (
    image.length >= 4 && image[0] === 0x7f && image[1] === 0x45 && image[2] === 0x4c && image[3] === 0x46
  );
}

/** Reads an ELF executable. Throws ImageError. */
export function parseElf(image: Uint8Array): Elf {
  if (!isElf(image)) throw new ImageError('ELF magic: expected 7f 45 4c 46');
  if (image.length < 16) throw new ImageError(`ELF header: ${image.length} bytes, expected at least 52`);
  const elfClass = image[4];
  if (elfClass !== 1 && elfClass !== 2)
    throw new ImageError(`ELF class: ${elfClass}, expected 1 (32 bits) or 2 (64 bits)`);
  const bits = elfClass === 1 ? 32 : 64;
  const headerSize = bits === 32 ? 52 : 64;
  if (image.length < headerSize)
    throw new ImageError(`ELF header: ${image.length} bytes, expected at least ${headerSize}`);
  expectField('ELF data encoding', image[5], 1, 'little-endian');
  expectField('ELF identification version', image[6], 1, 'current');
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const word = (at: number): bigint =>
    bits === 32 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
  expectField('ELF type', view.getUint16(16, true), ET_EXEC, 'executable');
  expectField(
    'ELF machine',
    view.getUint16(18, true),
    bits === 32 ? EM_386 : EM_X86_64,
    bits === 32 ? '386' : 'x86-64',
  );
  expectField('ELF version', view.getUint32(20, true), 1, 'current');
  const entry = word(24);
  const table = word(bits === 32 ? 28 : 32);
  const entrySize = view.getUint16(bits === 32 ? 42 : 54, true);
  const count = view.getUint16(bits === 32 ? 44 : 56, true);
  const expectedSize = bits === 32 ? 32 : 56;
  if (count === 0) throw new ImageError('ELF program header count: 0, expected at least 1');
  if (count === PN_XNUM)
    throw new ImageError(`ELF program header count: ${count}, expected below ${PN_XNUM}`);
  expectField('ELF program header size', entrySize, expectedSize, `that of ${bits} bits`);
  if (table < BigInt(headerSize) || table + BigInt(count * expectedSize) > BigInt(image.length))
    throw new ImageError(
      `ELF program headers: at ${hex(table)}, expected ${count * expectedSize} bytes within the file of ${hex(image.length)}`,
    );

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

function expectField(field: string, value: number, expected: number, meaning: string): void {
  if (value !== expected) throw new ImageError(`${field}: ${value}, expected ${expected} (${meaning})`);
}
