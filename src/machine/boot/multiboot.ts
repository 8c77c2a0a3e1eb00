/**
 * Multiboot, version 1: the header in an image, and the state and information that a loader hands over. Multiboot
 * Specification 0.6.96, sections 3.1 (header), 3.2 (machine state), 3.3 (information).
 *
 * ELF64 images are loaded by their program headers, as GRUB does. A requested video mode is ignored.
 */
import { RAX, RBX } from '../../isa/state.ts';
import { checkInside, parseElf, physicalEntry } from './elf.ts';
import { isElf } from './elf-header.ts';
import { hex, ImageError } from './image-error.ts';
import {
  type BootOptions,
  enterFlat,
  HIGH_MEMORY,
  LOW_MEMORY_END,
  type Load,
  memoryMap,
  Plan,
  zeroTerminated,
} from './plan.ts';

const HEADER_MAGIC = 0x1bad_b002;
const LOADER_MAGIC = 0x2bad_b002n;
/** The header lies wholly within so many bytes (3.1). */
const SEARCH = 8192;

/** Header flags: 0 page-aligned modules, 1 memory information, 2 video mode, 16 address fields. */
const ADDRESS_FIELDS = 1 << 16;
/** Bits 15:0 must be understood or the image refused. */
const UNDERSTOOD = 0x7;

/** Information flags (3.3). */
const INFO_MEMORY = 1 << 0;
const INFO_COMMAND_LINE = 1 << 2;
const INFO_MODULES = 1 << 3;
const INFO_MEMORY_MAP = 1 << 6;
const INFO_LOADER_NAME = 1 << 9;

export const LOADER_NAME = 'espfix';

export interface MultibootHeader {
  /** Offset in the file. */
  readonly offset: number;
  readonly flags: number;
}

/**
 * Finds the header: in the first 8 KiB, 4-byte aligned, its first three fields summing to 0. Undefined where the magic
 * does not occur; throws ImageError where it occurs with bad checksums only.
 */
export function findMultibootHeader(image: Uint8Array): MultibootHeader | undefined {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const end = Math.min(image.length, SEARCH) - 12;
  let bad: number | undefined;
  for (let offset = 0; offset <= end; offset += 4) {
    if (view.getUint32(offset, true) !== HEADER_MAGIC) continue;
    const flags = view.getUint32(offset + 4, true);
    const checksum = view.getUint32(offset + 8, true);
    if ((HEADER_MAGIC + flags + checksum) >>> 0 === 0) return { offset, flags };
    bad ??= offset;
  }
  if (bad !== undefined)
    throw new ImageError(
      `Multiboot header at ${hex(bad)}: checksum ${hex(view.getUint32(bad + 8, true))}, expected ${hex(-(HEADER_MAGIC + view.getUint32(bad + 4, true)) >>> 0)}`,
    );
  return undefined;
}

/** Loads an image whose header was found. Throws ImageError. */
export function loadMultiboot(
  image: Uint8Array,
  header: MultibootHeader,
  ramBytes: number,
  options: BootOptions,
): Load {
  const unknown = header.flags & 0xffff & ~UNDERSTOOD;
  if (unknown)
    throw new ImageError(
      `Multiboot flags: ${hex(header.flags)} require ${hex(unknown)}, expected none beyond ${hex(UNDERSTOOD)}`,
    );
  const plan = new Plan(ramBytes);
  const entry =
    header.flags & ADDRESS_FIELDS ? placeByAddressFields(image, header, plan) : placeElf(image, plan);
  return handOver(plan, entry, LOADER_MAGIC, placeInformation(plan, ramBytes, options));
}

/** What the image finds at its `entry`: the loader's magic in EAX and the address of the information in EBX. */
export function handOver(plan: Plan, entry: number, magic: bigint, information: number): Load {
  return {
    pieces: plan.pieces,
    enter(cpu) {
      enterFlat(cpu, entry);
      cpu.gpr[RAX] = magic;
      cpu.gpr[RBX] = BigInt(information);
    },
  };
}

function placeElf(image: Uint8Array, plan: Plan): number {
  if (!isElf(image))
    throw new ImageError(
      'Multiboot flags: bit 16 (address fields) is clear, expected set for an image that is not ELF',
    );
  return placeElfSegments(image, plan);
}

/** Places an ELF file's segments; returns its entry. Throws ImageError. */
export function placeElfSegments(image: Uint8Array, plan: Plan): number {
  const elf = parseElf(image);
  const entry = physicalEntry(elf);
  if (entry > 0xffff_ffff) throw new ImageError(`ELF entry: physical ${hex(entry)}, expected below 4 GiB`);
  checkInside(elf, entry, 'ELF entry');
  for (const { index, physical, memorySize, offset, fileSize } of elf.segments)
    plan.place(`ELF segment ${index}`, physical, memorySize, image.subarray(offset, offset + fileSize));
  return entry;
}

/** The address fields (3.1.3): where the file's text and data go, which end where, and the entry. */
function placeByAddressFields(image: Uint8Array, header: MultibootHeader, plan: Plan): number {
  if (header.offset + 32 > Math.min(image.length, SEARCH))
    throw new ImageError(
      `Multiboot address fields: at ${hex(header.offset + 12)}, expected 20 bytes within the first ${SEARCH}`,
    );
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const [headerAddress, load, loadEnd, bssEnd, entry] = [12, 16, 20, 24, 28].map((field) =>
    view.getUint32(header.offset + field, true),
  );
  const place = { headerAddress, load, loadEnd, bssEnd };
  const top = placeByAddresses(image, header.offset, place, plan);
  if (entry < load || entry >= top)
    throw new ImageError(`Multiboot entry_addr: ${hex(entry)}, expected from ${hex(load)} below ${hex(top)}`);
  return entry;
}

/** Where a header says that it and the file's other parts go. */
export interface LoadAddresses {
  readonly headerAddress: number;
  readonly load: number;
  /** 0 for the file's end. */
  readonly loadEnd: number;
  /** 0 for none. */
  readonly bssEnd: number;
}

/** Places the file's text and data by the addresses of a header at `offset`; returns where they end. */
export function placeByAddresses(
  image: Uint8Array,
  offset: number,
  { headerAddress, load, loadEnd, bssEnd }: LoadAddresses,
  plan: Plan,
): number {
  if (load > headerAddress)
    throw new ImageError(
      `Multiboot load_addr: ${hex(load)}, expected at most header_addr ${hex(headerAddress)}`,
    );
  const start = offset - (headerAddress - load);
  if (start < 0)
    throw new ImageError(
      `Multiboot load_addr: ${hex(load)}, expected at least ${hex(headerAddress - offset)} (the file's start)`,
    );
  const size = loadEnd === 0 ? image.length - start : loadEnd - load;
  if (size <= 0 || start + size > image.length)
    throw new ImageError(
      `Multiboot load_end_addr: ${hex(loadEnd)}, expected above load_addr ${hex(load)} and at most ${hex(load + image.length - start)} (the file's end)`,
    );
  const end = load + size;
  if (bssEnd !== 0 && bssEnd < end)
    throw new ImageError(`Multiboot bss_end_addr: ${hex(bssEnd)}, expected 0 or at least ${hex(end)}`);
  const top = bssEnd === 0 ? end : bssEnd;
  plan.place('Multiboot load_addr to bss_end_addr', load, top - load, image.subarray(start, start + size));
  return top;
}

/** RAM from 0 and from 1 MiB on, in KiB. */
export function memoryKibibytes(ramBytes: number): readonly [lower: number, upper: number] {
  return [LOW_MEMORY_END / 1024, Math.max(0, ramBytes - HIGH_MEMORY) / 1024];
}

/** The information structure and what it points to (3.3). Returns its address. */
function placeInformation(plan: Plan, ramBytes: number, options: BootOptions): number {
  const info = new DataView(new ArrayBuffer(116));
  let flags = INFO_MEMORY | INFO_MEMORY_MAP | INFO_LOADER_NAME;
  const [lower, upper] = memoryKibibytes(ramBytes);
  info.setUint32(4, lower, true);
  info.setUint32(8, upper, true);
  if (options.initrd) {
    flags |= INFO_MODULES;
    const start = plan.putHigh('initrd', options.initrd);
    const modules = new DataView(new ArrayBuffer(16));
    modules.setUint32(0, start, true);
    modules.setUint32(4, start + options.initrd.length, true);
    modules.setUint32(8, plan.putLow('module string', zeroTerminated('module string', 'initrd')), true);
    info.setUint32(20, 1, true);
    info.setUint32(24, plan.putLow('module list', new Uint8Array(modules.buffer)), true);
  }
  if (options.commandLine !== undefined) {
    flags |= INFO_COMMAND_LINE;
    info.setUint32(
      16,
      plan.putLow('command line', zeroTerminated('command line', options.commandLine)),
      true,
    );
  }
  const map = memoryMap(ramBytes);
  const entries = new DataView(new ArrayBuffer(24 * map.length));
  map.forEach((range, i) => {
    entries.setUint32(i * 24, 20, true);
    entries.setBigUint64(i * 24 + 4, BigInt(range.address), true);
    entries.setBigUint64(i * 24 + 12, BigInt(range.size), true);
    entries.setUint32(i * 24 + 20, range.type, true);
  });
  info.setUint32(44, entries.byteLength, true);
  info.setUint32(48, plan.putLow('memory map', new Uint8Array(entries.buffer)), true);
  info.setUint32(64, plan.putLow('loader name', zeroTerminated('loader name', LOADER_NAME)), true);
  info.setUint32(0, flags, true);
  return plan.putLow('Multiboot information', new Uint8Array(info.buffer));
}
