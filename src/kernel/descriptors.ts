/** Segment descriptors, gates and the 64-bit TSS as bit patterns (SDM Vol. 3A, Sections 3.4.5, 6.14.1, 7.2.3, 7.7). */

import { tss } from './layout.ts';

export interface SegmentOptions {
  readonly base?: number;
  /** Limit in units of 1 byte or, with `pages`, of 4 KiB. */
  readonly limit: number;
  readonly pages?: boolean;
  readonly dpl: 0 | 3;
  readonly present?: boolean;
  /** Code: executable and readable; data: writable unless told. */
  readonly kind: 'code16' | 'code32' | 'code64' | 'data16' | 'data32' | 'read-only16';
}

/** An 8-byte code or data descriptor, accessed bit set (SDM Vol. 3A, Figure 3-8). */
export function segmentDescriptor(options: SegmentOptions): bigint {
  const { base = 0, limit, pages = false, dpl, present = true, kind } = options;
  const type = kind.startsWith('code') ? 0xb : kind.startsWith('read-only') ? 0x1 : 0x3;
  const big = kind === 'code32' || kind === 'data32';
  const access = type | 0x10 | (dpl << 5) | (present ? 0x80 : 0);
  const flags = (pages ? 8 : 0) | (big ? 4 : 0) | (kind === 'code64' ? 2 : 0);
  return (
    BigInt(limit & 0xffff) |
    (BigInt(base & 0xffffff) << 16n) |
    (BigInt(access) << 40n) |
    (BigInt((limit >>> 16) & 0xf) << 48n) |
    (BigInt(flags) << 52n) |
    (BigInt(base >>> 24) << 56n)
  );
}

/** A 16-byte TSS or LDT descriptor, low half first (SDM Vol. 3A, Figure 7-4). */
export function systemDescriptor(type: 'ldt' | 'tss', base: bigint, limit: number): [bigint, bigint] {
  const access = type === 'ldt' ? 0x82n : 0x89n;
  const low =
    BigInt(limit & 0xffff) | ((base & 0xffffffn) << 16n) | (access << 40n) | (((base >> 24n) & 0xffn) << 56n);
  return [low, (base >> 32n) & 0xffffffffn];
}

/** A 16-byte interrupt gate, low half first (SDM Vol. 3A, Figure 6-8). */
export function interruptGate(selector: number, offset: bigint, dpl: 0 | 3, ist: number): [bigint, bigint] {
  const low =
    (offset & 0xffffn) |
    (BigInt(selector) << 16n) |
    (BigInt(ist) << 32n) |
    (BigInt(0x8e | (dpl << 5)) << 40n) |
    (((offset >> 16n) & 0xffffn) << 48n);
  return [low, (offset >> 32n) & 0xffffffffn];
}

/** The 8-byte form outside IA-32e mode of a TSS or LDT descriptor (SDM Vol. 3A, Figure 7-3). */
export function systemDescriptor32(type: 'ldt' | 'tss', base: number, limit: number): bigint {
  return systemDescriptor(type, BigInt(base), limit)[0];
}

/** An 8-byte 32-bit interrupt gate (SDM Vol. 3A, Figure 6-2). */
export function interruptGate32(selector: number, offset: number, dpl: 0 | 3): bigint {
  return interruptGate(selector, BigInt(offset), dpl, 0)[0];
}

/** A task gate (SDM Vol. 3A, Figure 7-6). */
export function taskGate(selector: number, dpl: 0 | 3): bigint {
  return (BigInt(selector) << 16n) | (BigInt(0x85 | (dpl << 5)) << 40n);
}

/** A 64-bit TSS with RSP0 and interrupt stacks 1..7, and no I/O permission map (SDM Vol. 3A, Section 7.7). */
export function taskStateSegment(rsp0: bigint, interruptStacks: readonly bigint[]): Uint8Array {
  const bytes = new Uint8Array(tss.size);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(tss.rsp0, rsp0, true);
  for (const [i, stack] of interruptStacks.entries()) view.setBigUint64(tss.ist1 + 8 * i, stack, true);
  view.setUint16(tss.ioMapBase, tss.size, true);
  return bytes;
}
