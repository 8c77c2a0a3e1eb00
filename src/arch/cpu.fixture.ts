/**
 * A processor with RAM and nothing else, for tests of arch: descriptor tables, page tables and modes at a call.
 *
 * Physical memory: GDT at 0x1000, IDT at 0x2000, TSS at 0x3000, LDT at 0x4000, free from 0x8000, page tables
 * from 0x100000.
 */
import { ARCH_BYTES } from '../engine/layout.ts';
import { CS, DS, ES, FS, GS, LDTR, type SegmentNumber, SS, STATE_SIZE, TR } from '../isa/state.ts';
import type { Bus, CodeWatcher, InterruptController } from './bus.ts';
import { Cpu } from './cpu.ts';
import { type Descriptor, parseDescriptor } from './descriptors.ts';
import { Fault, gp } from './fault.ts';
import { setSegment, setSegmentRaw, updateAllRanges } from './segmentation.ts';

/** In WebAssembly memory: the state at 0, the arch area, RAM. */
const ARCH = (STATE_SIZE + 0xfff) & ~0xfff;
const RAM = (ARCH + ARCH_BYTES + 0xffff) & ~0xffff;
export const RAM_BYTES = 4 << 20;
export const GDT = 0x1000;
export const IDT = 0x2000;
export const TSS = 0x3000;
const LDT_BASE = 0x4000;
export const FREE = 0x8000;
export const PAGE_TABLES = 0x10_0000;

/** Bits of a paging-structure entry. */
export const P = 1n;
export const RW = 2n;
export const US = 4n;
export const A = 0x20n;
export const D = 0x40n;
export const PS = 0x80n;
export const G = 0x100n;
export const XD = 1n << 63n;

/** RAM on a bus, ports that are recorded, and a clock that stands where it is put. */
class RamBus implements Bus {
  readonly view: DataView;
  code: CodeWatcher = { hasCode: () => false, written() {} };
  time = 0;
  /** Values that coming port reads give; 0 when it runs out. */
  readonly portInput: number[] = [];
  readonly portLog: { port: number; size: number; value: number; write: boolean }[] = [];
  /** Every physical write, where a test sets it. */
  log: { address: number; size: number; value: bigint }[] | null = null;
  #random = 0x1234_5678_9abc_def0n;

  constructor(memory: WebAssembly.Memory) {
    this.view = new DataView(memory.buffer, RAM, RAM_BYTES);
  }

  ramOffset(address: number): number {
    return address < RAM_BYTES ? RAM + address : -1;
  }
  read(address: number, size: 1 | 2 | 4 | 8): bigint {
    if (address + size > RAM_BYTES) return (1n << BigInt(size * 8)) - 1n;
    switch (size) {
      case 1:
        return BigInt(this.view.getUint8(address));
      case 2:
        return BigInt(this.view.getUint16(address, true));
      case 4:
        return BigInt(this.view.getUint32(address, true));
      case 8:
        return this.view.getBigUint64(address, true);
    }
  }
  write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void {
    this.log?.push({ address, size, value });
    if (address + size > RAM_BYTES) return;
    if (size === 8) this.view.setBigUint64(address, value, true);
    else if (size === 4) this.view.setUint32(address, Number(value), true);
    else if (size === 2) this.view.setUint16(address, Number(value), true);
    else this.view.setUint8(address, Number(value));
  }
  willWrite(): void {}
  portRead(port: number, size: 1 | 2 | 4): number {
    const value = this.portInput.shift() ?? 0;
    this.portLog.push({ port, size, value, write: false });
    return value;
  }
  portWrite(port: number, size: 1 | 2 | 4, value: number): void {
    this.portLog.push({ port, size, value, write: true });
  }
  now(): number {
    return this.time;
  }
  spend(_cpu: number, ticks: number): void {
    this.time += ticks;
  }
  random(): bigint {
    this.#random = BigInt.asUintN(64, this.#random * 0x5851_f42d_4c95_7f2dn + 0x1405_7b7e_f767_814fn);
    return this.#random;
  }
}

/** A local APIC that holds one vector at most and remembers MSR writes. */
class FakeInterrupts implements InterruptController {
  vector = -1;
  taskPriority = 0;
  readonly msrs = new Map<number, bigint>();

  pending(): boolean {
    return this.vector >= 0 && this.vector >> 4 > this.taskPriority;
  }
  acknowledge(): number {
    const vector = this.vector;
    this.vector = -1;
    return vector;
  }
  readMsr(index: number): bigint {
    const value = this.msrs.get(index);
    if (value === undefined) throw gp();
    return value;
  }
  writeMsr(index: number, value: bigint): void {
    this.msrs.set(index, value);
  }
}

/** What a test says of a segment or gate descriptor; absent fields are 0, but P is 1. */
export interface DescriptorFields {
  readonly base?: bigint;
  /** The 20-bit field, before granularity. */
  readonly limit?: number;
  readonly type: number;
  /** A code or data segment (S = 1). */
  readonly s?: boolean;
  readonly dpl?: number;
  readonly p?: boolean;
  readonly l?: boolean;
  readonly db?: boolean;
  readonly g?: boolean;
}

/** The low eight bytes of a segment or system-segment descriptor (SDM vol. 3A figure 3-8). */
export function encodeDescriptor(fields: DescriptorFields): bigint {
  const base = fields.base ?? 0n;
  const limit = BigInt(fields.limit ?? 0);
  const high =
    ((base >> 16n) & 0xffn) |
    (BigInt(fields.type) << 8n) |
    (fields.s ? 1n << 12n : 0n) |
    (BigInt(fields.dpl ?? 0) << 13n) |
    ((fields.p ?? true) ? 1n << 15n : 0n) |
    (limit & 0xf_0000n) |
    (fields.l ? 1n << 21n : 0n) |
    (fields.db ? 1n << 22n : 0n) |
    (fields.g ? 1n << 23n : 0n) |
    (base & 0xff00_0000n);
  return (high << 32n) | ((base & 0xffffn) << 16n) | (limit & 0xffffn);
}

/** What a test says of a gate; P is 1 unless `p` is false. */
export interface GateFields {
  readonly selector: number;
  readonly offset: bigint;
  readonly type: number;
  readonly dpl?: number;
  readonly p?: boolean;
  /** Parameter count, or IST index. */
  readonly count?: number;
}

/** The low eight bytes of a gate (SDM vol. 3A figures 5-8, 6-2); bits 63:32 of the offset follow in a 64-bit one. */
export function encodeGate(fields: GateFields): bigint {
  const high =
    BigInt(fields.count ?? 0) |
    (BigInt(fields.type) << 8n) |
    (BigInt(fields.dpl ?? 0) << 13n) |
    ((fields.p ?? true) ? 1n << 15n : 0n) |
    (fields.offset & 0xffff_0000n);
  return (high << 32n) | (BigInt(fields.selector) << 16n) | (fields.offset & 0xffffn);
}

/** A flat segment's descriptor: base 0, limit 4 GiB. */
export const flat = (
  type: number,
  dpl: number,
  size: 16 | 32 | 64,
  more: Partial<DescriptorFields> = {},
): bigint =>
  encodeDescriptor({
    type,
    dpl,
    s: true,
    limit: 0xf_ffff,
    g: true,
    db: size === 32,
    l: size === 64,
    ...more,
  });

/** Selectors of the fixture's GDT. */
export const KERNEL_CODE64 = 0x08;
export const KERNEL_DATA = 0x10;
export const KERNEL_CODE32 = 0x18;
export const USER_CODE32 = 0x23;
export const USER_DATA = 0x2b;
export const USER_CODE64 = 0x33;
/** Takes two slots in IA-32e mode. */
export const TSS_SELECTOR = 0x40;
export const LDT_SELECTOR = 0x50;
/** The first slot that is free for a test; the GDT holds 64. */
export const FREE_SLOT = 0x60;

export type Mode = 'real' | 'protected16' | 'protected32' | 'virtual8086' | 'compatibility' | '64-bit';

export class Fixture {
  readonly cpu: Cpu;
  readonly bus: RamBus;
  readonly interrupts = new FakeInterrupts();
  /** Pages whose fast translations the engine was told to forget, of any size; `all` for every one. */
  readonly flushes: (bigint | 'all')[] = [];
  #nextTable = PAGE_TABLES;

  constructor() {
    const memory = new WebAssembly.Memory({ initial: (RAM + RAM_BYTES) >> 16 });
    this.bus = new RamBus(memory);
    this.cpu = new Cpu(memory, 0, 0, this.bus, this.interrupts, ARCH);
    this.cpu.engine = {
      ...this.cpu.engine,
      flushTranslations: () => void this.flushes.push('all'),
      flushPage: (linear) => void this.flushes.push(linear),
      flushLargePage: (linear) => void this.flushes.push(linear),
    };
    this.#descriptorTables();
  }

  #descriptorTables(): void {
    this.gdt(KERNEL_CODE64, flat(0xb, 0, 64));
    this.gdt(KERNEL_DATA, flat(0x3, 0, 32));
    this.gdt(KERNEL_CODE32, flat(0xb, 0, 32));
    this.gdt(USER_CODE32, flat(0xb, 3, 32));
    this.gdt(USER_DATA, flat(0x3, 3, 32));
    this.gdt(USER_CODE64, flat(0xb, 3, 64));
    this.gdt(TSS_SELECTOR, encodeDescriptor({ base: BigInt(TSS), limit: 0xfff, type: 0xb }), 0n);
    this.gdt(LDT_SELECTOR, encodeDescriptor({ base: BigInt(LDT_BASE), limit: 0xfff, type: 2 }), 0n);
    this.cpu.gdtrBase = BigInt(GDT);
    this.cpu.gdtrLimit = 64 * 8 - 1;
    this.cpu.idtrBase = BigInt(IDT);
    this.cpu.idtrLimit = 0xfff;
  }

  /** Writes the GDT slot of `selector`, and the next one where `upper` is given. */
  gdt(selector: number, bits: bigint, upper?: bigint): void {
    this.bus.write(GDT + (selector & 0xfff8), 8, bits);
    if (upper !== undefined) this.bus.write(GDT + (selector & 0xfff8) + 8, 8, upper);
  }

  /** Writes the LDT slot of `selector`. */
  ldt(selector: number, bits: bigint, upper?: bigint): void {
    this.bus.write(LDT_BASE + (selector & 0xfff8), 8, bits);
    if (upper !== undefined) this.bus.write(LDT_BASE + (selector & 0xfff8) + 8, 8, upper);
  }

  /** The descriptor of a GDT selector as it stands in memory. */
  descriptor(selector: number): Descriptor {
    const address = GDT + (selector & 0xfff8);
    const bits = this.bus.read(address, 8);
    return parseDescriptor(selector, BigInt(address), Number(bits & 0xffff_ffffn), Number(bits >> 32n));
  }

  /** Puts the processor into a mode with fitting flat segments, an LDT, a TSS and no paging. */
  enter(mode: Mode, cpl = 0): this {
    const { cpu } = this;
    const long = mode === 'compatibility' || mode === '64-bit';
    cpu.flagsRest = mode === 'virtual8086' ? 0x20002n : 2n;
    cpu.cr0 = mode === 'real' ? 0x10n : 0x11n;
    cpu.cr4 = long ? 0x20n : 0n;
    cpu.efer = long ? 0x500n : 0n;
    cpu.cpl = mode === 'virtual8086' ? 3 : cpl;
    const tables = { limit: 0xfff, usable: true } as const;
    setSegmentRaw(cpu, LDTR, {
      ...tables,
      selector: LDT_SELECTOR,
      base: BigInt(LDT_BASE),
      attributes: 0x82,
    });
    setSegmentRaw(cpu, TR, { ...tables, selector: TSS_SELECTOR, base: BigInt(TSS), attributes: 0x8b });
    if (mode === 'real' || mode === 'virtual8086') {
      const attributes = mode === 'real' ? 0x93 : 0xf3;
      for (const segment of [ES, CS, SS, DS, FS, GS] as const)
        setSegmentRaw(cpu, segment, { selector: 0, base: 0n, limit: 0xffff, attributes, usable: true });
      return this;
    }
    const code = this.descriptor(
      cpl === 3
        ? mode === '64-bit'
          ? USER_CODE64
          : USER_CODE32
        : mode === '64-bit'
          ? KERNEL_CODE64
          : KERNEL_CODE32,
    );
    const data = this.descriptor(cpl === 3 ? USER_DATA : KERNEL_DATA);
    const sized = (d: Descriptor): Descriptor => {
      const attributes = mode === 'protected16' ? d.attributes & ~0x4000 : d.attributes;
      return { ...d, dpl: cpl, attributes: (attributes & ~0x60) | (cpl << 5) };
    };
    setSegment(cpu, CS, (code.selector & 0xfffc) | cpl, sized(code));
    for (const segment of [ES, SS, DS, FS, GS] as const)
      setSegment(cpu, segment, (data.selector & 0xfffc) | cpl, sized(data));
    updateAllRanges(cpu);
    return this;
  }

  /** A zeroed page for a paging structure. */
  table(): number {
    const address = this.#nextTable;
    this.#nextTable += 0x1000;
    return address;
  }

  /**
   * Turns paging on in the current mode: 4-level in IA-32e mode, else PAE where CR4.PAE, else 32-bit. Tables are
   * empty: {@link map} fills them.
   */
  enablePaging(): this {
    const { cpu } = this;
    cpu.cr3 = BigInt(this.table());
    if (!cpu.longMode && cpu.cr4 & 0x20n) for (let i = 0; i < 4; i++) cpu.pdpte[i] = 0n;
    cpu.cr0 |= 1n << 31n;
    return this;
  }

  /**
   * The physical address of the paging-structure entry for `linear` at `level` (1 = the page table), with the
   * structures above it made as needed with `above` flags (default P, R/W, U/S).
   */
  entry(linear: bigint, level: number, above: bigint = P | RW | US): number {
    const { cpu, bus } = this;
    const at = BigInt.asUintN(48, linear);
    if (!cpu.longMode && (cpu.cr4 & 0x20n) === 0n) {
      const pde = Number(cpu.cr3) + Number((at >> 22n) & 0x3ffn) * 4;
      if (level === 2) return pde;
      if ((bus.read(pde, 4) & P) === 0n) bus.write(pde, 4, BigInt(this.table()) | above);
      return Number(bus.read(pde, 4) & 0xffff_f000n) + Number((at >> 12n) & 0x3ffn) * 4;
    }
    let table = Number(cpu.cr3 & ~0xfffn);
    let top = 4;
    if (!cpu.longMode) {
      const i = Number((at >> 30n) & 3n);
      if ((cpu.pdpte[i] & P) === 0n) cpu.pdpte[i] = BigInt(this.table()) | P;
      table = Number(cpu.pdpte[i] & ~0xfffn);
      top = 2;
    }
    for (let l = top; ; l--) {
      const address = table + Number((at >> BigInt(12 + 9 * (l - 1))) & 0x1ffn) * 8;
      if (l === level) return address;
      if ((bus.read(address, 8) & P) === 0n) bus.write(address, 8, BigInt(this.table()) | above);
      table = Number(bus.read(address, 8) & 0xff_ffff_f000n);
    }
  }

  /** Maps the page of `linear` at `level` (1 = 4 KiB) to `physical` with `flags` (default P, R/W, U/S). */
  map(linear: bigint, physical: number, flags: bigint = P | RW | US, level = 1): this {
    const wide = this.cpu.longMode || (this.cpu.cr4 & 0x20n) !== 0n;
    const large = level > 1 ? PS : 0n;
    this.bus.write(this.entry(linear, level), wide ? 8 : 4, BigInt(physical) | flags | large);
    return this;
  }

  /** Maps all RAM to itself with `flags` (default P, R/W, U/S). */
  mapRam(flags: bigint = P | RW | US): this {
    for (let page = 0; page < RAM_BYTES; page += 0x1000) this.map(BigInt(page), page, flags);
    return this;
  }

  /** A segment register's visible and hidden parts, for comparison. */
  segment(segment: SegmentNumber): {
    selector: number;
    base: bigint;
    limit: number;
    attributes: number;
    usable: boolean;
  } {
    const { cpu } = this;
    return {
      selector: cpu.segSelector[segment],
      base: cpu.segBase[segment],
      limit: cpu.segLimit[segment],
      attributes: cpu.segAttributes[segment],
      usable: cpu.segUsable[segment] !== 0,
    };
  }
}

/** The fault that `action` raises as `{vector, errorCode}`, or null if it completes; other errors pass through. */
export function faultOf(action: () => unknown): { vector: number; errorCode: number | undefined } | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof Fault) return { vector: error.vector, errorCode: error.errorCode };
    throw error;
  }
}
