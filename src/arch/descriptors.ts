/**
 * Segment, system-segment and gate descriptors in the GDT and LDT.
 *
 * SDM vol. 3A 3.4.5 (segment descriptors), 3.5 (system descriptors, table 3-2), 5.8.3 (call gates), 6.11 and 6.14
 * (IDT gates), 7.2.2 and 7.2.3 (TSS descriptors).
 */
import { LDTR } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { Fault, GP } from './fault.ts';
import { readLinear, SYSTEM, writeLinear } from './linear.ts';

/** System descriptor types, S = 0 (SDM vol. 3A table 3-2). */
export const TSS16_AVAILABLE = 0x1;
export const LDT = 0x2;
export const TSS16_BUSY = 0x3;
export const CALL_GATE16 = 0x4;
export const TASK_GATE = 0x5;
export const INTERRUPT_GATE16 = 0x6;
export const TRAP_GATE16 = 0x7;
export const TSS_AVAILABLE = 0x9;
export const TSS_BUSY = 0xb;
export const CALL_GATE = 0xc;
export const INTERRUPT_GATE = 0xe;
export const TRAP_GATE = 0xf;

/** Bits of a code or data segment's type, S = 1 (SDM vol. 3A table 3-1). */
export const TYPE_ACCESSED = 0x1;
/** Data: writable. Code: readable. */
export const TYPE_WRITABLE = 0x2;
export const TYPE_READABLE = 0x2;
/** Data: expand-down. Code: conforming. */
export const TYPE_EXPAND_DOWN = 0x4;
export const TYPE_CONFORMING = 0x4;
export const TYPE_CODE = 0x8;

/** Bits of `attributes` (descriptor bits 55:40), as `segAttributes` of the state holds them. */
export const ATTRIBUTE_S = 0x10;
export const ATTRIBUTE_L = 0x2000;
export const ATTRIBUTE_DB = 0x4000;

export interface Descriptor {
  /** The selector it was read by, RPL included. */
  selector: number;
  /** Its linear address, -1n if it stands in no table. */
  address: bigint;
  /** The descriptor's dwords as read; `upper` is bits 95:64 of a 16-byte descriptor, else 0. */
  low: number;
  high: number;
  upper: number;
  /** Bits 43:40. */
  type: number;
  /** S = 0: a system segment or a gate. */
  system: boolean;
  dpl: number;
  present: boolean;
  base: bigint;
  /** In bytes, granularity applied. */
  limit: number;
  /** Bits 55:40 with bits 51:48 (the limit) cleared, as `segAttributes` of the state. */
  attributes: number;
}

/** A call, interrupt, trap or task gate. */
export interface Gate {
  selector: number;
  offset: bigint;
  type: number;
  dpl: number;
  present: boolean;
  /** Interrupt-stack-table index of a 64-bit interrupt or trap gate. */
  ist: number;
  /** Parameter count of a 16- or 32-bit call gate. */
  parameters: number;
}

/** The fields of a descriptor from its dwords. */
export function parseDescriptor(
  selector: number,
  address: bigint,
  low: number,
  high: number,
  upper = 0,
): Descriptor {
  const base = ((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000)) >>> 0;
  const limit = (low & 0xffff) | (high & 0xf_0000);
  return {
    selector,
    address,
    low: low >>> 0,
    high: high >>> 0,
    upper: upper >>> 0,
    type: (high >>> 8) & 0xf,
    system: (high & 0x1000) === 0,
    dpl: (high >>> 13) & 3,
    present: (high & 0x8000) !== 0,
    base: BigInt(base) | (BigInt(upper >>> 0) << 32n),
    limit: high & 0x80_0000 ? ((limit << 12) | 0xfff) >>> 0 : limit,
    attributes: (high >>> 8) & 0xf0ff,
  };
}

/** A system descriptor that takes 16 bytes in IA-32e mode (SDM vol. 3A table 3-2, 3.5.2). */
function isWide(type: number): boolean {
  return type === LDT || type === TSS_AVAILABLE || type === TSS_BUSY || type === CALL_GATE;
}

/**
 * Reads the descriptor that `selector` names, or gives null where there is none: a null selector, one beyond its
 * table's limit or in an LDT that is not there, or a 16-byte descriptor whose upper type field (bits 108:104) is
 * not 0. Raises #PF.
 */
export function tryReadDescriptor(cpu: Cpu, selector: number): Descriptor | null {
  if ((selector & 0xfffc) === 0) return null;
  const offset = selector & 0xfff8;
  let table: bigint;
  let limit: number;
  if (selector & 4) {
    if (cpu.segUsable[LDTR] === 0) return null;
    table = cpu.segBase[LDTR];
    limit = cpu.segLimit[LDTR];
  } else {
    table = cpu.gdtrBase;
    limit = cpu.gdtrLimit;
  }
  if (offset + 7 > limit) return null;
  const address = (table + BigInt(offset)) & (cpu.longMode ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn);
  const bits = readLinear(cpu, address, 8, SYSTEM);
  const low = Number(bits & 0xffff_ffffn);
  const high = Number(bits >> 32n);
  if (cpu.longMode && (high & 0x1000) === 0 && isWide((high >>> 8) & 0xf)) {
    if (offset + 15 > limit) return null;
    const rest = readLinear(cpu, address + 8n, 8, SYSTEM);
    if ((rest >> 40n) & 0x1fn) return null;
    return parseDescriptor(selector, address, low, high, Number(rest & 0xffff_ffffn));
  }
  return parseDescriptor(selector, address, low, high);
}

/**
 * Reads the descriptor that `selector` names. Where {@link tryReadDescriptor} finds none, raises `vector` with the
 * selector (RPL cleared) as error code, which is 0 for a null selector.
 */
export function readDescriptor(cpu: Cpu, selector: number, vector: number = GP): Descriptor {
  const descriptor = tryReadDescriptor(cpu, selector);
  if (!descriptor) throw new Fault(vector, selector & 0xfffc);
  return descriptor;
}

/** The fields of a gate from its dwords; 64-bit gates (`upper`, IST) in IA-32e mode. */
export function gateOf(
  cpu: Cpu,
  descriptor: { readonly low: number; readonly high: number; readonly upper?: number },
): Gate {
  const { low, high } = descriptor;
  const type = (high >>> 8) & 0xf;
  const narrow = !cpu.longMode && (type & 8) === 0;
  let offset = BigInt(low & 0xffff);
  if (!narrow) offset |= BigInt(high >>> 16) << 16n;
  if (cpu.longMode) offset |= BigInt((descriptor.upper ?? 0) >>> 0) << 32n;
  return {
    selector: low >>> 16,
    offset,
    type,
    dpl: (high >>> 13) & 3,
    present: (high & 0x8000) !== 0,
    ist: cpu.longMode ? high & 7 : 0,
    parameters: cpu.longMode ? 0 : high & 0x1f,
  };
}

function setType(cpu: Cpu, d: Descriptor, type: number): void {
  if (d.address >= 0n) {
    const byte = ((d.high >>> 8) & 0xf0) | type;
    writeLinear(cpu, d.address + 5n, 1, BigInt(byte), SYSTEM);
  }
  d.type = type;
  d.high = ((d.high & ~0xf00) | (type << 8)) >>> 0;
  d.attributes = (d.attributes & ~0xf) | type;
}

/** Sets the accessed bit of a code or data segment, in its table where it is clear there. Raises #PF. */
export function setAccessed(cpu: Cpu, d: Descriptor): void {
  if ((d.type & TYPE_ACCESSED) === 0) setType(cpu, d, d.type | TYPE_ACCESSED);
}

/** Sets or clears the busy bit of a TSS descriptor (type bit 1), in its table too. Raises #PF. */
export function setBusy(cpu: Cpu, d: Descriptor, busy: boolean): void {
  setType(cpu, d, busy ? d.type | 2 : d.type & ~2);
}
