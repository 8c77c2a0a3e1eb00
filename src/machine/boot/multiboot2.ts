/**
 * Multiboot, version 2: the header's tags in an image, and the state and information that a loader hands over. Multiboot2
 * Specification 2.0, sections 3.1 (header), 3.3 (i386 machine state), 3.6 (information).
 *
 * An image is loaded where its header or its ELF headers say, whether or not it could be elsewhere; a requested video mode
 * is ignored, and there is no EFI.
 */
import { rsdp } from './acpi/tables.ts';
import { isElf } from './elf-header.ts';
import { Fields } from './fields.ts';
import { hex, ImageError } from './image-error.ts';
import {
  handOver,
  LOADER_NAME,
  type LoadAddresses,
  memoryKibibytes,
  placeByAddresses,
  placeElfSegments,
} from './multiboot.ts';
import { type BootOptions, type Load, memoryMap, Plan, zeroTerminated } from './plan.ts';

const HEADER_MAGIC = 0xe852_50d6;
const LOADER_MAGIC = 0x36d7_6289n;
/** The header lies wholly within so many bytes, at a multiple of 8 (3.1). */
const SEARCH = 32_768;
const FIXED = 16;
const I386 = 0;

/** Header tags (3.1.4 to 3.1.13). */
const END = 0;
const INFORMATION_REQUEST = 1;
const ADDRESSES = 2;
const ENTRY = 3;
/** Console, framebuffer, module alignment, EFI boot services and entries, relocatable: they ask nothing that is not done. */
const HARMLESS: readonly number[] = [4, 5, 6, 7, 8, 9, 10];
const OPTIONAL = 1;

/** Information tags (3.6). */
const COMMAND_LINE = 1;
const LOADER = 2;
const MODULE = 3;
const BASIC_MEMORY = 4;
const MEMORY_MAP = 6;
const OLD_RSDP = 14;
const NEW_RSDP = 15;
const GIVEN: readonly number[] = [COMMAND_LINE, LOADER, MODULE, BASIC_MEMORY, MEMORY_MAP, OLD_RSDP, NEW_RSDP];

/** What a header asks for. */
export interface Multiboot2Header {
  /** Offset in the file. */
  readonly offset: number;
  readonly addresses?: LoadAddresses;
  readonly entry?: number;
}

/**
 * Finds the header: in the first 32 KiB, at a multiple of 8, its first four fields summing to 0. Undefined where the magic
 * does not occur; throws ImageError where it occurs with bad checksums only, or its tags cannot be met.
 */
export function findMultiboot2Header(image: Uint8Array): Multiboot2Header | undefined {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const end = Math.min(image.length, SEARCH) - FIXED;
  let bad: number | undefined;
  for (let offset = 0; offset <= end; offset += 8) {
    if (view.getUint32(offset, true) !== HEADER_MAGIC) continue;
    const sum = [0, 4, 8, 12].reduce((total, field) => total + view.getUint32(offset + field, true), 0);
    if (sum % 2 ** 32 === 0) return parseTags(image, view, offset);
    bad ??= offset;
  }
  if (bad !== undefined) throw new ImageError(`Multiboot 2 header at ${hex(bad)}: its checksum is wrong`);
  return undefined;
}

function parseTags(image: Uint8Array, view: DataView, offset: number): Multiboot2Header {
  const architecture = view.getUint32(offset + 4, true);
  const length = view.getUint32(offset + 8, true);
  if (architecture !== I386)
    throw new ImageError(`Multiboot 2 architecture: ${architecture}, expected ${I386} (i386)`);
  if (length < FIXED + 8 || offset + length > Math.min(image.length, SEARCH))
    throw new ImageError(
      `Multiboot 2 header_length: ${length}, expected ${FIXED + 8} or more within the first ${SEARCH} bytes`,
    );
  let addresses: LoadAddresses | undefined;
  let entry: number | undefined;
  for (let at = offset + FIXED; ; ) {
    const room = offset + length - at;
    const type = room >= 8 ? view.getUint16(at, true) : END;
    const size = room >= 8 ? view.getUint32(at + 4, true) : 0;
    if (size < 8 || size > room)
      throw new ImageError(
        `Multiboot 2 tag at ${hex(at)}: ${size} bytes, expected 8 or more within the header`,
      );
    const words = Array.from({ length: (size - 8) >> 2 }, (_, i) => view.getUint32(at + 8 + i * 4, true));
    const optional = (view.getUint16(at + 2, true) & OPTIONAL) !== 0;
    switch (type) {
      case END:
        return {
          offset,
          ...(addresses ? { addresses } : {}),
          ...(entry === undefined ? {} : { entry }),
        };
      case INFORMATION_REQUEST: {
        const missing = words.find((one) => !GIVEN.includes(one));
        if (missing !== undefined && !optional)
          throw new ImageError(`Multiboot 2 information request: type ${missing}, which is not given`);
        break;
      }
      case ADDRESSES: {
        const [headerAddress, load, loadEnd, bssEnd] = need(words, 4, 'address');
        // All ones: from the file's start on.
        const from = load === 0xffff_ffff ? headerAddress - offset : load;
        addresses = { headerAddress, load: from, loadEnd, bssEnd };
        break;
      }
      case ENTRY:
        [entry] = need(words, 1, 'entry');
        break;
      default:
        if (!HARMLESS.includes(type) && !optional)
          throw new ImageError(`Multiboot 2 tag: type ${type} is required, expected one that is known`);
    }
    at += (size + 7) & ~7;
  }
}

function need(words: readonly number[], count: number, tag: string): readonly number[] {
  if (words.length < count)
    throw new ImageError(`Multiboot 2 ${tag} tag: ${words.length} words, expected ${count}`);
  return words;
}

/** Loads an image whose header was found. Throws ImageError. */
export function loadMultiboot2(
  image: Uint8Array,
  header: Multiboot2Header,
  ramBytes: number,
  options: BootOptions,
): Load {
  const plan = new Plan(ramBytes);
  const entry = place(image, header, plan);
  return handOver(plan, entry, LOADER_MAGIC, placeInformation(plan, ramBytes, options));
}

/** Places the image; returns its entry. */
function place(image: Uint8Array, { offset, addresses, entry }: Multiboot2Header, plan: Plan): number {
  let start = entry;
  if (addresses) {
    placeByAddresses(image, offset, addresses, plan);
    if (start === undefined)
      throw new ImageError('Multiboot 2 entry tag: none, expected one beside the address tag');
  } else {
    if (!isElf(image))
      throw new ImageError('Multiboot 2 address tag: none, expected one in an image that is not ELF');
    const elfEntry = placeElfSegments(image, plan);
    start ??= elfEntry;
  }
  if (!plan.holds(start)) throw new ImageError(`Multiboot 2 entry: ${hex(start)}, expected within the image`);
  return start;
}

/** The information structure (3.6). Returns its address. */
function placeInformation(plan: Plan, ramBytes: number, options: BootOptions): number {
  const tags = new Fields();
  const tag = (type: number, body: readonly number[]) => {
    tags.u32(type, 8 + body.length).u8(...body);
    while (tags.bytes.length % 8 !== 0) tags.u8(0);
  };
  tag(COMMAND_LINE, [...zeroTerminated('command line', options.commandLine ?? '')]);
  tag(LOADER, [...zeroTerminated('loader name', LOADER_NAME)]);
  if (options.initrd) {
    const start = plan.putHigh('initrd', options.initrd);
    const name = zeroTerminated('module string', 'initrd');
    tag(MODULE, new Fields().u32(start, start + options.initrd.length).u8(...name).bytes);
  }
  tag(BASIC_MEMORY, new Fields().u32(...memoryKibibytes(ramBytes)).bytes);
  const map = new Fields().u32(24, 0);
  for (const { address, size, type } of memoryMap(ramBytes)) map.u64(address, size).u32(type, 0);
  tag(MEMORY_MAP, map.bytes);
  const pointer = [...rsdp()];
  const FIRST_PART = 20;
  tag(OLD_RSDP, pointer.slice(0, FIRST_PART));
  tag(NEW_RSDP, pointer);
  tag(END, []);
  const bytes = new Fields()
    .u32(8 + tags.bytes.length, 0)
    .u8(...tags.bytes)
    .finish();
  return plan.putLow('Multiboot 2 information', bytes);
}
