/**
 * The Linux/x86 boot protocol: a bzImage's setup header, the parameters that a loader hands over, and the entry of 64
 * or 32 bits. Linux Documentation/x86/boot.rst (protocol 2.15), zero-page.rst, and the ACPI RSDP of protocol 2.14.
 *
 * The real-mode part of the image is not run: what it would ask firmware for is put into the parameters.
 */
import { CR0_ET, CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME } from '../../arch/control-registers.ts';
import type { Cpu } from '../../arch/cpu.ts';
import { setSegmentRaw } from '../../arch/segmentation.ts';
import { CS, DS, ES, FS, GS, RSI, SS } from '../../isa/state.ts';
import { RSDP_ADDRESS } from './acpi/layout.ts';
import { hex, ImageError } from './image-error.ts';
import { type BootOptions, enterFlat, type Load, memoryMap, Plan, zeroTerminated } from './plan.ts';

/** "HdrS". */
const HEADER_MAGIC = 0x5372_6448;
const BOOT_FLAG = 0xaa55;
/** The first protocol with `pref_address` and `init_size` (Linux 2.6.31). */
const OLDEST = 0x020a;
/** The first with `xloadflags`. */
const WITH_XLOADFLAGS = 0x020c;
const SECTOR = 512;
const PARAGRAPH = 16;
const MIB = 1 << 20;

const LOADED_HIGH = 1;
/** The header fields up to `init_size` end here. */
const HEADER_END = 0x264;
const XLF_KERNEL_64 = 1;
/** "Undefined loader": no number is assigned to this one. */
const LOADER_TYPE = 0xff;

/** Offsets in the setup header, in the file and in the parameters alike. */
const SETUP = 0x1f1;
const AT = {
  setupSectors: 0x1f1,
  systemSize: 0x1f4,
  bootFlag: 0x1fe,
  jump: 0x200,
  magic: 0x202,
  version: 0x206,
  loaderType: 0x210,
  loadFlags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  commandLine: 0x228,
  initrdMaximum: 0x22c,
  alignment: 0x230,
  relocatable: 0x234,
  extendedLoadFlags: 0x236,
  commandLineSize: 0x238,
  preferredAddress: 0x258,
  initSize: 0x260,
} as const;

/** Offsets in the parameters ("zero page"), and its size. */
const PARAMETERS = { acpiRsdp: 0x70, e820Entries: 0x1e8, e820Table: 0x2d0, size: 0x1000 } as const;
const E820_ENTRY = 20;

/** Selectors that the entries promise (__BOOT_CS, __BOOT_DS). */
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;
const CODE_64 = 0xa09b;
const CODE_32 = 0xc09b;
const DATA = 0xc093;
/** Where the 64-bit entry is in the loaded kernel. */
const ENTRY_64 = 0x200;

const PAGE = 0x1000;
/** Page-table entries: present and writable; a 2-MiB page. */
const TABLE = 0x3n;
const LARGE_PAGE = 0x83n;
const MAPPED_GIB = 4;

/** Whether the file is meant as a Linux kernel: it has the boot sector's signature and the setup header's. */
export function isLinux(image: Uint8Array): boolean {
  if (image.length < AT.version) return false;
  const view = viewOf(image);
  return view.getUint16(AT.bootFlag, true) === BOOT_FLAG && view.getUint32(AT.magic, true) === HEADER_MAGIC;
}

interface SetupHeader {
  /** Its bytes, from 1F1H on. */
  readonly bytes: Uint8Array;
  /** The protected-mode kernel. */
  readonly kernel: Uint8Array;
  readonly address: number;
  readonly initSize: number;
  readonly initrdMaximum: number;
  readonly commandLineSize: number;
  readonly entry64: boolean;
}

/** Loads a file that `isLinux`. Throws ImageError. */
export function loadLinux(image: Uint8Array, ramBytes: number, options: BootOptions): Load {
  const header = parseSetup(image);
  const plan = new Plan(ramBytes);
  plan.place('Linux kernel', header.address, header.initSize, header.kernel);

  const parameters = new Uint8Array(PARAMETERS.size);
  parameters.set(header.bytes, SETUP);
  const view = viewOf(parameters);
  view.setUint8(AT.loaderType, LOADER_TYPE);
  const text = zeroTerminated('command line', options.commandLine ?? '');
  if (text.length - 1 > header.commandLineSize)
    throw new ImageError(
      `command line: ${text.length - 1} bytes, expected at most the kernel's ${header.commandLineSize}`,
    );
  view.setUint32(AT.commandLine, plan.putLow('command line', text), true);
  if (options.initrd && options.initrd.length > 0) {
    const { initrd } = options;
    view.setUint32(AT.ramdiskImage, plan.putTop('initrd', initrd, header.initrdMaximum + 1), true);
    view.setUint32(AT.ramdiskSize, initrd.length, true);
  }
  const map = memoryMap(ramBytes);
  view.setUint8(PARAMETERS.e820Entries, map.length);
  map.forEach(({ address, size, type }, i) => {
    const at = PARAMETERS.e820Table + i * E820_ENTRY;
    view.setBigUint64(at, BigInt(address), true);
    view.setBigUint64(at + 8, BigInt(size), true);
    view.setUint32(at + 16, type, true);
  });
  view.setBigUint64(PARAMETERS.acpiRsdp, BigInt(RSDP_ADDRESS), true);

  const zeroPage = plan.putLow('Linux boot parameters', parameters);
  const gdt = plan.putLow('Linux GDT', descriptorTable(header.entry64));
  const tables = header.entry64 ? putPageTables(plan) : 0;
  return {
    pieces: plan.pieces,
    enter(cpu) {
      enterFlat(cpu, header.entry64 ? header.address + ENTRY_64 : header.address);
      cpu.gdtrBase = BigInt(gdt);
      cpu.gdtrLimit = 4 * 8 - 1;
      const flat = { base: 0n, limit: 0xffff_ffff, usable: true } as const;
      const code = header.entry64 ? CODE_64 : CODE_32;
      setSegmentRaw(cpu, CS, { ...flat, selector: BOOT_CS, attributes: code });
      for (const segment of [ES, SS, DS, FS, GS] as const)
        setSegmentRaw(cpu, segment, { ...flat, selector: BOOT_DS, attributes: DATA });
      if (header.entry64) enableLongMode(cpu, tables);
      cpu.gpr[RSI] = BigInt(zeroPage);
    },
  };
}

/** Reads and checks the header (boot.rst, "The Real-Mode Kernel Header"). Throws ImageError. */
function parseSetup(image: Uint8Array): SetupHeader {
  if (image.length < HEADER_END)
    throw new ImageError(
      `Linux setup header: a file of ${image.length} bytes, expected at least ${HEADER_END}`,
    );
  const view = viewOf(image);
  const version = view.getUint16(AT.version, true);
  if (version < OLDEST)
    throw new ImageError(
      `Linux boot protocol: ${protocol(version)}, expected at least ${protocol(OLDEST)} (Linux 2.6.31)`,
    );
  if ((view.getUint8(AT.loadFlags) & LOADED_HIGH) === 0)
    throw new ImageError('Linux loadflags: bit 0 is clear, expected set (a bzImage, loaded at 1 MiB)');

  // 0 stands for 4, as before there was the field.
  const sectors = view.getUint8(AT.setupSectors) || 4;
  const start = (sectors + 1) * SECTOR;
  const size = view.getUint32(AT.systemSize, true) * PARAGRAPH;
  // The size is in paragraphs; the file may end within the last.
  if (size === 0 || start + size - image.length >= PARAGRAPH)
    throw new ImageError(
      `Linux syssize: kernel at ${hex(start)} to ${hex(start + size)}, expected within the file of ${hex(image.length)}`,
    );
  const kernel = image.subarray(start, Math.min(image.length, start + size));

  const alignment = view.getUint32(AT.alignment, true);
  if (alignment === 0 || (alignment & (alignment - 1)) !== 0)
    throw new ImageError(`Linux kernel_alignment: ${hex(alignment)}, expected a power of two`);
  const preferred = view.getBigUint64(AT.preferredAddress, true);
  if (preferred < BigInt(MIB) || preferred >= 1n << 32n || preferred % BigInt(alignment) !== 0n)
    throw new ImageError(
      `Linux pref_address: ${hex(preferred)}, expected from 0x100000 below 4 GiB, a multiple of ${hex(alignment)}`,
    );
  const initSize = view.getUint32(AT.initSize, true);
  if (initSize < kernel.length)
    throw new ImageError(
      `Linux init_size: ${hex(initSize)}, expected at least the kernel's ${hex(kernel.length)}`,
    );
  const entry64 =
    version >= WITH_XLOADFLAGS && (view.getUint16(AT.extendedLoadFlags, true) & XLF_KERNEL_64) !== 0;
  if (entry64 && kernel.length <= ENTRY_64)
    throw new ImageError(
      `Linux kernel: ${hex(kernel.length)} bytes, expected more than ${hex(ENTRY_64)} (its 64-bit entry)`,
    );
  // The jump over the header says where it ends.
  const end = Math.min(AT.magic + view.getUint8(AT.jump + 1), start, PARAMETERS.e820Table);
  if (end < HEADER_END)
    throw new ImageError(
      `Linux setup header: ends at ${hex(end)}, expected at ${hex(HEADER_END)} or later for protocol ${protocol(version)}`,
    );
  return {
    bytes: image.subarray(SETUP, end),
    kernel,
    address: Number(preferred),
    initSize,
    initrdMaximum: view.getUint32(AT.initrdMaximum, true),
    commandLineSize: view.getUint32(AT.commandLineSize, true),
    entry64,
  };
}

/** Flat segments at __BOOT_CS and __BOOT_DS. */
function descriptorTable(bits64: boolean): Uint8Array {
  const bytes = new Uint8Array(4 * 8);
  const view = viewOf(bytes);
  view.setBigUint64(BOOT_CS, bits64 ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn, true);
  view.setBigUint64(BOOT_DS, 0x00cf_9300_0000_ffffn, true);
  return bytes;
}

/** Page tables that map the first 4 GiB to themselves by pages of 2 MiB. Returns the address of the PML4. */
function putPageTables(plan: Plan): number {
  const bytes = new Uint8Array((2 + MAPPED_GIB) * PAGE);
  const base = plan.putLow('Linux page tables', bytes, PAGE);
  const view = viewOf(bytes);
  view.setBigUint64(0, BigInt(base + PAGE) | TABLE, true);
  for (let gib = 0; gib < MAPPED_GIB; gib++)
    view.setBigUint64(PAGE + gib * 8, BigInt(base + (2 + gib) * PAGE) | TABLE, true);
  for (let i = 0; i < MAPPED_GIB * 512; i++)
    view.setBigUint64(2 * PAGE + i * 8, (BigInt(i) << 21n) | LARGE_PAGE, true);
  return base;
}

/** 64-bit mode with paging on. */
function enableLongMode(cpu: Cpu, pml4: number): void {
  cpu.cr3 = BigInt(pml4);
  cpu.cr4 = CR4_PAE;
  cpu.efer = EFER_LME | EFER_LMA;
  cpu.cr0 = CR0_PE | CR0_ET | CR0_PG;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function protocol(version: number): string {
  return `${version >> 8}.${String(version & 0xff).padStart(2, '0')}`;
}
