/** What a loader makes of an image: bytes to be put into RAM, and how to set the processor going. */
import type { Cpu } from '../../arch/cpu.ts';
import { setSegmentRaw } from '../../arch/segmentation.ts';
import { writeFlags } from '../../isa/flags.ts';
import { CS, DS, ES, FS, GS, SS, TR } from '../../isa/state.ts';
import { hex, ImageError } from './image-error.ts';

/** Bytes for RAM. */
export interface Piece {
  readonly address: number;
  readonly bytes: Uint8Array;
}

export interface Load {
  readonly pieces: readonly Piece[];
  /** Puts the processor at the image's entry, in the state that the boot protocol promises. */
  enter(cpu: Cpu): void;
}

export interface BootOptions {
  readonly commandLine?: string;
  /** The initial RAM disk, or the only module. */
  readonly initrd?: Uint8Array;
}

export interface MemoryRange {
  readonly address: number;
  readonly size: number;
  /** 1 for RAM, 2 for what is reserved: as in ACPI's address map and the boot protocols. */
  readonly type: 1 | 2;
}

/** Top of conventional memory, below what firmware keeps for itself. */
export const LOW_MEMORY_END = 0x9_fc00;
export const HIGH_MEMORY = 0x10_0000;
const PAGE = 0x1000;
/** First address tried for what the loader leaves for the kernel. */
const LOW_START = 0x9000;

/** The address map as firmware reports it (ACPI specification, "System Address Map Interfaces"). */
export function memoryMap(ramBytes: number): MemoryRange[] {
  return [
    { address: 0, size: LOW_MEMORY_END, type: 1 },
    { address: LOW_MEMORY_END, size: 0xa_0000 - LOW_MEMORY_END, type: 2 },
    { address: 0xf_0000, size: 0x1_0000, type: 2 },
    { address: HIGH_MEMORY, size: ramBytes - HIGH_MEMORY, type: 1 },
    { address: 0xfec0_0000, size: 0x1000, type: 2 },
    { address: 0xfee0_0000, size: 0x1000, type: 2 },
  ];
}

/** Gathers pieces and finds room for more where the image leaves it. */
export class Plan {
  readonly pieces: Piece[] = [];
  readonly #ramBytes: number;
  readonly #used: { from: number; to: number }[] = [];

  constructor(ramBytes: number) {
    this.#ramBytes = ramBytes;
  }

  /** Reserves memory that the image asks for and puts bytes at its start. Throws ImageError outside RAM. */
  place(what: string, address: number, size: number, bytes: Uint8Array): void {
    if (address + size > this.#ramBytes)
      throw new ImageError(
        `${what}: ${hex(address)} to ${hex(address + size)}, expected within RAM of ${hex(this.#ramBytes)} (${this.#ramBytes / 2 ** 20} MiB)`,
      );
    this.#used.push({ from: address, to: address + size });
    if (bytes.length > 0) this.pieces.push({ address, bytes });
  }

  /** Whether an address has been placed or reserved. */
  holds(address: number): boolean {
    return this.#used.some(({ from, to }) => address >= from && address < to);
  }

  /**
   * Puts bytes into low memory where there is room, at a multiple of `align` (a power of two up to a page), else above
   * the image. Returns their address.
   */
  putLow(what: string, bytes: Uint8Array, align = 16): number {
    const address = this.#find(bytes.length, align, LOW_START, LOW_MEMORY_END);
    if (address < 0) return this.putHigh(what, bytes);
    this.place(what, address, bytes.length, bytes);
    return address;
  }

  /** Puts bytes at a page boundary above 1 MiB and above all of the image. Returns their address. */
  putHigh(what: string, bytes: Uint8Array): number {
    const top = this.#used.reduce((end, range) => Math.max(end, range.to), HIGH_MEMORY);
    const address = Math.ceil(top / PAGE) * PAGE;
    this.place(what, address, bytes.length, bytes);
    return address;
  }

  /**
   * Puts bytes at a page boundary above 1 MiB, as high as they go below `limit` and the end of RAM. Returns their
   * address. Throws ImageError where there is no room.
   */
  putTop(what: string, bytes: Uint8Array, limit: number): number {
    const end = Math.min(limit, this.#ramBytes);
    let address = Math.floor((end - bytes.length) / PAGE) * PAGE;
    for (;;) {
      const hit = this.#used.find((range) => range.from < address + bytes.length && range.to > address);
      if (!hit) break;
      address = Math.floor((hit.from - bytes.length) / PAGE) * PAGE;
    }
    if (address < HIGH_MEMORY)
      throw new ImageError(
        `${what}: ${hex(bytes.length)} bytes, expected room for them from 1 MiB to ${hex(end)} beside the kernel`,
      );
    this.place(what, address, bytes.length, bytes);
    return address;
  }

  #find(size: number, align: number, from: number, to: number): number {
    let address = from;
    for (;;) {
      if (address + size > to) return -1;
      const hit = this.#used.find((range) => range.from < address + size && range.to > address);
      if (!hit) return address;
      address = Math.ceil(hit.to / align) * align;
    }
  }
}

/** A string as boot protocols hand it over: UTF-8 and a zero byte. Throws ImageError for one with a zero in it. */
export function zeroTerminated(field: string, text: string): Uint8Array {
  if (text.includes('\0')) throw new ImageError(`${field}: contains a NUL character`);
  return new TextEncoder().encode(`${text}\0`);
}

/** Attributes of flat segments, as in `segAttributes`: 4 GiB, 32 bits, accessed. */
const CODE = 0xc09b;
const DATA = 0xc093;
const BUSY_TSS = 0x008b;

/**
 * Protected mode without paging, flat segments, interrupts off: what Multiboot 1, 2 and PVH promise. Selectors and
 * descriptor tables are not to be relied on, and the GDTR is empty to show it.
 */
export function enterFlat(cpu: Cpu, entry: number): void {
  cpu.cr0 = 0x11n;
  cpu.cr4 = 0n;
  cpu.cpl = 0;
  writeFlags(cpu, 2n);
  const flat = { base: 0n, limit: 0xffff_ffff, usable: true } as const;
  setSegmentRaw(cpu, CS, { ...flat, selector: 0x8, attributes: CODE });
  for (const segment of [ES, SS, DS, FS, GS] as const)
    setSegmentRaw(cpu, segment, { ...flat, selector: 0x10, attributes: DATA });
  setSegmentRaw(cpu, TR, { selector: 0, base: 0n, limit: 0x67, attributes: BUSY_TSS, usable: true });
  cpu.gdtrBase = 0n;
  cpu.gdtrLimit = 0;
  cpu.idtrBase = 0n;
  cpu.idtrLimit = 0;
  cpu.rip = BigInt(entry);
}
