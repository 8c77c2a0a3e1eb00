/**
 * Legacy prefixes, REX, and the sizes that follow from them. SDM vol. 2A 2.1.1 (legacy prefixes), 2.2.1 (REX),
 * vol. 1 3.6 and table 3-4 (operand and address size).
 */
import { CS, DS, ES, FS, GS, type SegmentNumber, SS } from '../state.ts';
import type { Cursor } from './cursor.ts';

/** What a byte is as a prefix. */
const NONE = 0;
const SEGMENT = 1;
const OPERAND_SIZE = 2;
const ADDRESS_SIZE = 3;
const LOCK = 4;
const REPEAT = 5;
const REX = 6;

const kinds = new Uint8Array(256);
for (const byte of [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]) kinds[byte] = SEGMENT;
kinds[0x66] = OPERAND_SIZE;
kinds[0x67] = ADDRESS_SIZE;
kinds[0xf0] = LOCK;
kinds[0xf2] = REPEAT;
kinds[0xf3] = REPEAT;
for (let byte = 0x40; byte < 0x50; byte++) kinds[byte] = REX;

const segments: Readonly<Record<number, SegmentNumber>> = {
  38: ES,
  46: CS,
  54: SS,
  62: DS,
  100: FS,
  101: GS,
};

/**
 * Reads the prefixes into `c` and returns the byte after them, the first of the opcode.
 *
 * Of several prefixes of a group the last counts. In 64-bit mode CS, DS, ES and SS overrides are null prefixes
 * and so do not replace an FS or GS override before them (SDM vol. 1 3.3.7.1); and a REX prefix counts only if it
 * stands right before the opcode (vol. 2A 2.2.1).
 */
export function readPrefixes(c: Cursor): number {
  for (;;) {
    const byte = c.byte();
    switch (kinds[byte]) {
      case SEGMENT: {
        const segment = segments[byte];
        if (!c.mode64 || segment >= FS) c.segmentOverride = segment;
        break;
      }
      case OPERAND_SIZE:
        c.operandPrefix = true;
        break;
      case ADDRESS_SIZE:
        c.addressPrefix = true;
        break;
      case LOCK:
        c.lock = true;
        break;
      case REPEAT:
        c.repeatPrefix = byte;
        break;
      case REX:
        if (c.mode64) {
          c.rex = byte;
          continue;
        }
        setSizes(c);
        return byte;
      case NONE:
        if (c.rex !== 0) {
          c.wide = (c.rex & 8) !== 0;
          c.extendReg = (c.rex & 4) << 1;
          c.extendIndex = (c.rex & 2) << 2;
          c.extendBase = (c.rex & 1) << 3;
        }
        setSizes(c);
        return byte;
    }
    c.rex = 0;
  }
}

/** Effective operand size before what an opcode defaults to or forces, and effective address size. */
export function setSizes(c: Cursor): void {
  if (c.mode64) {
    c.operandSize = c.wide ? 64 : c.operandPrefix ? 16 : 32;
    c.addressSize = c.addressPrefix ? 32 : 64;
  } else {
    c.operandSize = (c.codeSize === 32) !== c.operandPrefix ? 32 : 16;
    c.addressSize = (c.codeSize === 32) !== c.addressPrefix ? 32 : 16;
  }
}
