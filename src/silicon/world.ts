/**
 * A processor of ours set up as Linux on x86-64 sets one up for a process: long mode, Linux's GDT, an LDT, an
 * IDT that user code may reach where Linux's may be, and page tables. There is no kernel behind it: whoever
 * owns the world stops the run when an event is about to be delivered and plays the kernel's part.
 *
 * SDM vol. 3A 2.2 (modes), 3.5 (descriptor tables), 4.5 (4-level paging), 6.14 (64-bit IDT), 7.7 (64-bit TSS).
 */
import type { Bus, CodeWatcher, InterruptController } from '../arch/bus.ts';
import { Cpu } from '../arch/cpu.ts';
import { Execution } from '../arch/cycle.ts';
import { gp } from '../arch/fault.ts';
import { type SegmentValue, setSegmentRaw } from '../arch/segmentation.ts';
import { layOut } from '../engine/layout.ts';
import { LDTR, RUNNING, SHADOW_NONE, TR } from '../isa/state.ts';
import { segmentDescriptor, type UserDescriptor } from './linux-abi.ts';

const PAGE = 0x1000;
const GDT = 0x1000;
const IDT = 0x2000;
const TSS = 0x3000;
const LDT = 0x4000;
const PML4 = 0x8000;
const FIRST_FREE = 0x9000;
const RAM_BYTES = 4 << 20;

/** Where the tables stand in the kernel's half of the address space. */
const KERNEL = 0xffff_8000_0000_0000n;

/** Linux's GDT (arch/x86/include/asm/segment.h): flat kernel and user segments, TSS, LDT. */
const GDT_ENTRIES: readonly (readonly [selector: number, descriptor: bigint])[] = [
  [0x08, 0x00cf_9b00_0000_ffffn], // kernel code, 32-bit
  [0x10, 0x00af_9b00_0000_ffffn], // kernel code, 64-bit
  [0x18, 0x00cf_9300_0000_ffffn], // kernel data
  [0x20, 0x00cf_fb00_0000_ffffn], // user code, 32-bit
  [0x28, 0x00cf_f300_0000_ffffn], // user data
  [0x30, 0x00af_fb00_0000_ffffn], // user code, 64-bit
];
const TSS_SELECTOR = 0x40;
const LDT_SELECTOR = 0x50;
/** A segment whose limit tells the CPU number. */
const PER_CPU_SELECTOR = 0x78;
const GDT_LIMIT = 0x7f;

const CR0 = 0x8005_0033n; // PG AM WP NE ET MP PE
/** DE PAE MCE PGE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE SMEP SMAP. */
const CR4 = 0x0035_06e8n;
const EFER = 0xd01n; // NXE LMA LME SCE

/** A page-table entry's bits: P, U/S, A, D. */
const USER_PAGE = 0x65n;
const SUPERVISOR_PAGE = 0x63n | (1n << 63n);
const NO_EXECUTE = 1n << 63n;

class WorldBus implements Bus {
  readonly #view: DataView;
  readonly #ram: number;
  code: CodeWatcher = { hasCode: () => false, written() {} };
  #time = 0;

  constructor(memory: WebAssembly.Memory, ram: number) {
    this.#ram = ram;
    this.#view = new DataView(memory.buffer, ram, RAM_BYTES);
  }
  ramOffset(address: number): number {
    return address < RAM_BYTES ? this.#ram + address : -1;
  }
  read(address: number, size: 1 | 2 | 4 | 8): bigint {
    if (address + size > RAM_BYTES) return (1n << BigInt(size * 8)) - 1n;
    if (size === 8) return this.#view.getBigUint64(address, true);
    if (size === 4) return BigInt(this.#view.getUint32(address, true));
    if (size === 2) return BigInt(this.#view.getUint16(address, true));
    return BigInt(this.#view.getUint8(address));
  }
  write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void {
    if (address + size > RAM_BYTES) return;
    if (size === 8) this.#view.setBigUint64(address, value, true);
    else if (size === 4) this.#view.setUint32(address, Number(value), true);
    else if (size === 2) this.#view.setUint16(address, Number(value), true);
    else this.#view.setUint8(address, Number(value));
    this.code.written(address, size);
  }
  willWrite(): void {}
  portRead(): number {
    return 0;
  }
  portWrite(): void {}
  spend(): void {}
  now(): number {
    return this.#time++;
  }
  random(): bigint {
    return 0n;
  }
}

const NO_INTERRUPTS: InterruptController = {
  taskPriority: 0,
  pending: () => false,
  acknowledge: () => 0xff,
  readMsr: () => {
    throw gp();
  },
  writeMsr: () => {
    throw gp();
  },
};

/** Protection of mapped pages; all are readable and belong to user mode. */
export interface Protection {
  readonly write: boolean;
  readonly execute: boolean;
}

export class World {
  readonly cpu: Cpu;
  readonly execution: Execution;
  readonly #memory: WebAssembly.Memory;
  readonly #ram: number;
  readonly #bus: WorldBus;
  #free = FIRST_FREE;
  readonly #segments = new Map<number, SegmentValue>();

  /** @param perCpu access rights (as LAR) and limit of the per-CPU segment, where the host has one. */
  constructor(perCpu: { rights: number; limit: number } = { rights: 0, limit: 0 }) {
    const layout = layOut(1, RAM_BYTES);
    this.#memory = new WebAssembly.Memory({ initial: layout.pages, maximum: layout.pages });
    this.#ram = layout.ram;
    this.#bus = new WorldBus(this.#memory, layout.ram);
    this.cpu = new Cpu(this.#memory, layout.state(0), 0, this.#bus, NO_INTERRUPTS, layout.arch(0));
    this.execution = new Execution(this.#memory, layout, [this.cpu], this.#bus);

    for (const [selector, descriptor] of GDT_ENTRIES) this.#bus.write(GDT + selector, 8, descriptor);
    this.#systemDescriptor(TSS_SELECTOR, KERNEL + BigInt(TSS), 0x67, 0x8b);
    this.#systemDescriptor(LDT_SELECTOR, KERNEL + BigInt(LDT), 0, 0x82);
    if (perCpu.rights) {
      const rights = BigInt(perCpu.rights & 0xf0ff00) << 32n;
      const limit = BigInt(perCpu.limit & 0xffff) | (BigInt((perCpu.limit >>> 16) & 15) << 48n);
      this.#bus.write(GDT + PER_CPU_SELECTOR, 8, rights | limit);
    }
    // Interrupt gates to a kernel that is not there. INT3, INTO and INT 80h may be called from user mode.
    for (let vector = 0; vector < 256; vector++) {
      const dpl = vector === 3 || vector === 4 || vector === 0x80 ? 3n : 0n;
      this.#bus.write(IDT + vector * 16, 8, 0xffff_8e00_0010_0000n | (dpl << 45n));
      this.#bus.write(IDT + vector * 16 + 8, 8, 0xffff_ffffn);
    }
    // The I/O permission map lies beyond the TSS's limit: no port is permitted.
    this.#bus.write(TSS + 102, 2, 0x68n);
    for (const page of [GDT, IDT, TSS, LDT]) this.#mapPage(KERNEL + BigInt(page), page, SUPERVISOR_PAGE);

    const { cpu } = this;
    cpu.activity = RUNNING;
    cpu.shadow = SHADOW_NONE;
    cpu.flagsRest = 0x202n;
    cpu.flagsZero = 1n;
    cpu.cr0 = CR0;
    cpu.cr3 = BigInt(PML4);
    cpu.cr4 = CR4;
    cpu.efer = EFER;
    cpu.dr[6] = 0xffff_0ff0n;
    cpu.dr[7] = 0x400n;
    cpu.gdtrBase = KERNEL + BigInt(GDT);
    cpu.gdtrLimit = GDT_LIMIT;
    cpu.idtrBase = KERNEL + BigInt(IDT);
    cpu.idtrLimit = 0xfff;
    cpu.star = 0x0023_0010_0000_0000n;
    // A system call ends in a fetch from a page that is not there.
    cpu.lstar = KERNEL + 0xf0_0000n;
    cpu.cstar = cpu.lstar;
    cpu.sysenterCs = 0x10n;
    cpu.sysenterEip = cpu.lstar;
    cpu.fcw = 0x37f;
    cpu.mxcsr = 0x1f80;
    cpu.xcr0 = 7n;
    cpu.apicBase = 0xfee0_0900n;
    const system = { usable: true } as const;
    setSegmentRaw(cpu, TR, {
      ...system,
      selector: TSS_SELECTOR,
      base: KERNEL + BigInt(TSS),
      limit: 0x67,
      attributes: 0x8b,
    });
    this.#loadLdtr(0);
    cpu.cpl = 3;
  }

  #systemDescriptor(selector: number, base: bigint, limit: number, attributes: number): void {
    const low =
      BigInt(limit & 0xffff) |
      ((base & 0xff_ffffn) << 16n) |
      (BigInt(attributes) << 40n) |
      (((base >> 24n) & 0xffn) << 56n);
    this.#bus.write(GDT + selector, 8, low);
    this.#bus.write(GDT + selector + 8, 8, base >> 32n);
  }

  #loadLdtr(entries: number): void {
    const limit = entries * 8 - 1;
    setSegmentRaw(this.cpu, LDTR, {
      selector: entries ? LDT_SELECTOR : 0,
      base: KERNEL + BigInt(LDT),
      limit: Math.max(0, limit),
      attributes: 0x82,
      usable: entries > 0,
    });
    if (entries) this.#systemDescriptor(LDT_SELECTOR, KERNEL + BigInt(LDT), limit, 0x82);
  }

  /** Sets LDT entries from 0 on; Linux's LDT is as long as its highest entry asks. */
  setLdt(entries: readonly (UserDescriptor | undefined)[]): void {
    entries.forEach((descriptor, entry) => {
      this.#bus.write(LDT + entry * 8, 8, descriptor ? segmentDescriptor(descriptor) : 0n);
    });
    this.#segments.clear();
    this.#loadLdtr(entries.length);
  }

  /** Loads a code or data segment register with a selector known to be good, or null, without checks. */
  loadSegment(segment: 0 | 1 | 2 | 3 | 4 | 5, selector: number): void {
    setSegmentRaw(this.cpu, segment, this.#segment(selector));
  }

  #segment(selector: number): SegmentValue {
    let value = this.#segments.get(selector);
    if (!value) {
      const table = selector & 4 ? LDT : GDT;
      const bits = selector & 0xfffc ? this.#bus.read(table + (selector & 0xfff8), 8) : 0n;
      const attributes = Number((bits >> 40n) & 0xf0ffn);
      let limit = Number((bits & 0xffffn) | ((bits >> 32n) & 0xf0000n));
      if (attributes & 0x8000) limit = ((limit << 12) | 0xfff) >>> 0;
      value = {
        selector,
        base: ((bits >> 16n) & 0xff_ffffn) | ((bits >> 32n) & 0xff00_0000n),
        limit,
        attributes,
        usable: bits !== 0n,
      };
      this.#segments.set(selector, value);
    }
    return value;
  }

  /** RAM at a physical address, as a view. */
  ram(physical: number, bytes: number): Uint8Array {
    return new Uint8Array(this.#memory.buffer, this.#ram + physical, bytes);
  }

  /** The processor's memory, and where in it physical address 0 stands. */
  get memory(): { readonly memory: WebAssembly.Memory; readonly ram: number } {
    return { memory: this.#memory, ram: this.#ram };
  }

  /** Pages of RAM that the processor does not see, `bytes` together; their physical address. */
  reserve(bytes: number): number {
    const first = this.#free;
    for (let offset = 0; offset < bytes; offset += PAGE) this.#page();
    return first;
  }

  #page(): number {
    const page = this.#free;
    if (page + PAGE > RAM_BYTES) throw new RangeError("the world's memory is used up");
    this.#free += PAGE;
    return page;
  }

  /** The physical address of the page-table entry for `linear`, with the tables above it made as needed. */
  #entry(linear: bigint): number {
    let table = PML4;
    for (let level = 4; level > 1; level--) {
      const entry = table + Number((linear >> BigInt(12 + 9 * (level - 1))) & 0x1ffn) * 8;
      let bits = this.#bus.read(entry, 8);
      if (bits === 0n) {
        bits = BigInt(this.#page()) | 0x67n;
        this.#bus.write(entry, 8, bits);
      }
      table = Number(bits & 0xffff_f000n);
    }
    return table + Number((linear >> 12n) & 0x1ffn) * 8;
  }

  #mapPage(linear: bigint, physical: number, bits: bigint): void {
    this.#bus.write(this.#entry(linear), 8, BigInt(physical) | bits);
  }

  /**
   * Maps zeroed RAM at [linear, linear + bytes), both multiples of 4096.
   * @returns its physical address; the pages stand one after another
   */
  map(linear: bigint, bytes: number, protection: Protection): number {
    // Tables first, so that the data pages are contiguous.
    for (let offset = 0; offset < bytes; offset += PAGE) this.#entry(linear + BigInt(offset));
    const first = this.#free;
    for (let offset = 0; offset < bytes; offset += PAGE)
      this.#mapPage(linear + BigInt(offset), this.#page(), pageBits(protection));
    return first;
  }

  /** The physical address behind a mapped linear address, or -1. */
  physical(linear: bigint): number {
    const bits = this.#bus.read(this.#entry(BigInt.asUintN(48, linear)), 8);
    return bits & 1n ? Number(bits & 0xffff_f000n) + Number(linear & 0xfffn) : -1;
  }

  /** Whether user code may write at a linear address. */
  mayWrite(linear: bigint): boolean {
    const bits = this.#bus.read(this.#entry(BigInt.asUintN(48, linear)), 8);
    return (bits & 7n) === 7n;
  }

  /** Changes the protection of mapped pages. */
  protect(linear: bigint, bytes: number, protection: Protection): void {
    for (let offset = 0; offset < bytes; offset += PAGE) {
      const address = linear + BigInt(offset);
      const physical = this.physical(address);
      if (physical >= 0) this.#mapPage(address, physical & ~0xfff, pageBits(protection));
    }
    this.cpu.engine.flushTranslations();
  }
}

function pageBits(protection: Protection): bigint {
  return USER_PAGE | (protection.write ? 2n : 0n) | (protection.execute ? 0n : NO_EXECUTE);
}
