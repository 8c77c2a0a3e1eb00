/**
 * The ModR/M and SIB bytes and the displacement. SDM vol. 2A 2.1.3, 2.1.5 (tables 2-1, 2-2, 2-3), 2.2.1.6
 * (RIP-relative addressing).
 */
import { RBP, RBX, RDI, RSI, RSP } from '../state.ts';
import type { Cursor } from './cursor.ts';

/** Base and index of the 16-bit forms by rm (table 2-1). */
const base16 = [RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX];
const index16 = [RSI, RDI, RSI, RDI, -1, -1, -1, -1];

/** Reads the ModR/M byte and splits it. */
export function readModrm(c: Cursor): void {
  const modrm = c.byte();
  c.modrm = modrm;
  c.mod = modrm >> 6;
  c.reg = (modrm >> 3) & 7;
  c.rm = modrm & 7;
}

/** Reads what follows the ModR/M byte of a memory operand: SIB and displacement. */
export function readAddress(c: Cursor): void {
  c.base = -1;
  c.index = -1;
  c.scale = 0;
  c.displacement = 0;
  c.ripRelative = false;

  if (c.addressSize === 16) {
    if (c.mod === 0 && c.rm === 6) {
      c.displacement = (c.word() << 16) >> 16;
      return;
    }
    c.base = base16[c.rm];
    c.index = index16[c.rm];
    if (c.mod === 1) c.displacement = (c.byte() << 24) >> 24;
    else if (c.mod === 2) c.displacement = (c.word() << 16) >> 16;
    return;
  }

  let base = c.rm;
  // The extensions play no part in the escapes: R12 as base needs a SIB too, R13 a displacement.
  if (base === RSP) {
    const sib = c.byte();
    const index = ((sib >> 3) & 7) | c.extendIndex;
    c.vectorIndex = index;
    c.sibScale = sib >> 6;
    if (index !== RSP) {
      c.index = index;
      c.scale = sib >> 6;
    }
    base = sib & 7;
    if (base === RBP && c.mod === 0) {
      c.displacement = c.doubleword();
      return;
    }
  } else if (base === RBP && c.mod === 0) {
    c.ripRelative = c.mode64;
    c.displacement = c.doubleword();
    return;
  }
  c.base = base | c.extendBase;
  if (c.mod === 1) c.displacement = (c.byte() << 24) >> 24;
  else if (c.mod === 2) c.displacement = c.doubleword();
}
