/**
 * Where the decoder stands in the bytes of one instruction, and what the prefixes have said so far.
 * SDM vol. 2A 2.1 (instruction format).
 */
import type { CodeSize } from '../instruction.ts';
import type { SegmentNumber } from '../state.ts';

/** The longest instruction in bytes; a longer one is #GP(0) (SDM vol. 2A 2.3.11). */
export const MAXIMUM_LENGTH = 15;

/** Position of a mandatory prefix in the columns of an opcode: none, 66, F3, F2; the order of VEX.pp. */
export type PrefixColumn = 0 | 1 | 2 | 3;

/**
 * One is reused for all instructions. Reads past the last byte yield 0 and leave `position` beyond `limit`, so that
 * the decoder needs to look only once, at the end, whether there were enough bytes.
 */
export class Cursor {
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  position = 0;
  /** First position that may not be read: the end of the bytes, or of the longest instruction. */
  limit = 0;

  codeSize: CodeSize = 64;
  mode64 = true;

  /** 66. */
  operandPrefix = false;
  /** 67. */
  addressPrefix = false;
  /** The last of F2 and F3, or 0. */
  repeatPrefix = 0;
  /** F0. */
  lock = false;
  /** Segment of the override prefix in force, or -1. */
  segmentOverride: SegmentNumber | -1 = -1;
  /** A REX prefix that stands right before the opcode (its value 40..4F), or 0. */
  rex = 0;
  /** REX.W or VEX.W, and the register extensions of REX or VEX as 0 or 8. */
  wide = false;
  extendReg = 0;
  extendIndex = 0;
  extendBase = 0;
  /** VEX.vvvv as a register number (0 for 1111b); 0 without VEX. */
  vvvv = 0;
  /** VEX.vvvv is 1111b, as it must be where no operand is in it. */
  vvvvUnused = true;
  /** VEX.pp as a column, and VEX.L. */
  simdPrefix = 0;
  vectorLength = 0;
  /** VEX.W, in any mode. */
  vexW = 0;
  /** A bit of EVEX that is 1 in what the manual describes is 0. */
  evexReserved = false;

  operandSize: 16 | 32 | 64 = 32;
  addressSize: CodeSize = 64;

  /** The ModR/M byte and its fields, unextended. */
  modrm = 0;
  mod = 0;
  reg = 0;
  rm = 0;
  /** The address of a memory operand (mod other than 3): see MemoryOperand. */
  base = -1;
  index = -1;
  /** The index of a SIB byte where it names a vector register. */
  vectorIndex = 0;
  sibScale = 0;
  scale = 0;
  displacement = 0;
  ripRelative = false;

  begin(bytes: Uint8Array, start: number, end: number, codeSize: CodeSize): void {
    this.bytes = bytes;
    this.start = start;
    this.position = start;
    this.limit = end - start > MAXIMUM_LENGTH ? start + MAXIMUM_LENGTH : end;
    this.codeSize = codeSize;
    this.mode64 = codeSize === 64;
    this.operandPrefix = false;
    this.addressPrefix = false;
    this.repeatPrefix = 0;
    this.lock = false;
    this.segmentOverride = -1;
    this.rex = 0;
    this.wide = false;
    this.extendReg = 0;
    this.extendIndex = 0;
    this.extendBase = 0;
    this.vvvv = 0;
    this.vvvvUnused = true;
    this.vectorLength = 0;
    this.vexW = 0;
    this.mod = 0;
  }

  /** The next byte, unsigned. */
  byte(): number {
    const at = this.position++;
    return at < this.limit ? this.bytes[at] : 0;
  }

  /** The next byte without moving on; 0 past the last. */
  peek(): number {
    return this.position < this.limit ? this.bytes[this.position] : 0;
  }

  /** The next 16 bits, unsigned. */
  word(): number {
    return this.byte() | (this.byte() << 8);
  }

  /** The next 32 bits, signed. */
  doubleword(): number {
    return this.byte() | (this.byte() << 8) | (this.byte() << 16) | (this.byte() << 24);
  }

  /** The next 64 bits, unsigned. */
  quadword(): bigint {
    const low = BigInt(this.doubleword() >>> 0);
    return (BigInt(this.doubleword() >>> 0) << 32n) | low;
  }

  /** Column of the prefix in force as a mandatory one: F2 and F3 go before 66 (SDM vol. 2A 2.1.2, A.2.4.2). */
  column(): PrefixColumn {
    if (this.repeatPrefix !== 0) return this.repeatPrefix === 0xf3 ? 2 : 3;
    return this.operandPrefix ? 1 : 0;
  }
}
