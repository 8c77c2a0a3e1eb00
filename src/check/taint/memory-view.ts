/**
 * Memory as an access of a processor would find it, without the access: no TLB entry is made, no flag set, no device read.
 * What stands in the TLB goes before the paging structures, as it does for the processor.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { isCanonical } from '../../arch/linear.ts';
import { currentPcid, inspectPage, linearNumber } from '../../arch/paging.ts';
import { TLB_USER } from '../../arch/tlb.ts';

const PAGE = 4096;

/** Part of an access that lies in one page. */
export interface Piece {
  readonly linear: bigint;
  readonly bytes: number;
  /** Bytes of the access before it. */
  readonly offset: number;
  readonly physical: number;
  /** User mode may read the page. */
  readonly user: boolean;
}

/** Where `bytes` (1 to 16) at `linear` stand; null if a part of them is nowhere. */
export function locate(cpu: Cpu, linear: bigint, bytes: number): Piece[] | null {
  const pieces: Piece[] = [];
  for (let offset = 0; offset < bytes; ) {
    const at = BigInt.asUintN(cpu.longMode ? 64 : 32, linear + BigInt(offset));
    if (cpu.longMode && !isCanonical(at)) return null;
    const inPage = Math.min(bytes - offset, PAGE - Number(at & 0xfffn));
    const found = page(cpu, at);
    if (found === null) return null;
    pieces.push({ linear: at, bytes: inPage, offset, ...found });
    offset += inPage;
  }
  return pieces;
}

function page(cpu: Cpu, linear: bigint): { physical: number; user: boolean } | null {
  if ((cpu.cr0 & 0x8000_0000n) !== 0n) {
    const at = linearNumber(linear);
    const entry = cpu.tlb.find(at, currentPcid(cpu));
    if (entry >= 0)
      return { physical: cpu.tlb.physical(entry, at), user: (cpu.tlb.flags(entry) & TLB_USER) !== 0 };
  }
  return inspectPage(cpu, linear);
}

/** The piece's bytes as a number; undefined where it is not RAM. */
export function peek(cpu: Cpu, { physical, bytes }: Piece): bigint | undefined {
  const at = cpu.bus.ramOffset(physical);
  if (at < 0) return undefined;
  if (bytes === 8) return cpu.view.getBigUint64(at, true);
  if (bytes === 4) return BigInt(cpu.view.getUint32(at, true));
  let value = 0;
  if (bytes < 4) {
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8) | cpu.view.getUint8(at + i);
    return BigInt(value);
  }
  let long = 0n;
  for (let i = bytes - 1; i >= 0; i--) long = (long << 8n) | BigInt(cpu.view.getUint8(at + i));
  return long;
}

/** `bytes` (1 to 8) at `linear` as a number; undefined where they are not all RAM. */
export function peekLinear(cpu: Cpu, linear: bigint, bytes: number): bigint | undefined {
  const pieces = locate(cpu, linear, bytes);
  if (pieces === null) return undefined;
  let value = 0n;
  for (const piece of pieces) {
    const part = peek(cpu, piece);
    if (part === undefined) return undefined;
    value |= part << BigInt(8 * piece.offset);
  }
  return value;
}

/** Up to 15 bytes of code at `linear`, as far as they are in RAM. */
export function peekCode(cpu: Cpu, linear: bigint, into: Uint8Array): number {
  let length = 0;
  while (length < 15) {
    const [piece] = locate(cpu, BigInt.asUintN(cpu.longMode ? 64 : 32, linear + BigInt(length)), 1) ?? [];
    if (piece === undefined) break;
    const count = Math.min(15 - length, PAGE - (piece.physical % PAGE));
    const at = cpu.bus.ramOffset(piece.physical);
    if (at < 0) break;
    for (let i = 0; i < count; i++) into[length + i] = cpu.view.getUint8(at + i);
    length += count;
  }
  return length;
}
