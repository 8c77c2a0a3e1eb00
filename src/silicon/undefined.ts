/**
 * Which status flags are undefined at the end of a case, and whether an undefined one was used on the way.
 */
import type { Disassembled } from './disassembly.ts';

/** iced's RflagsBits to RFLAGS bits: OF SF ZF AF CF PF. */
const BITS: readonly (readonly [iced: number, rflags: number])[] = [
  [0x01, 0x800],
  [0x02, 0x80],
  [0x04, 0x40],
  [0x08, 0x10],
  [0x10, 0x01],
  [0x20, 0x04],
];
const STATUS = 0x3f;
const OF = 0x01;

function toRflags(flags: number): number {
  let bits = 0;
  for (const [iced, rflags] of BITS) if (flags & iced) bits |= rflags;
  return bits;
}

/** An instruction that was executed, with CL as it was then. */
export interface Executed extends Disassembled {
  readonly cl: number;
  /** Operand size in bits, for counts. */
  readonly completed: boolean;
}

/** @returns RFLAGS bits that are undefined after these, and whether one of them decided anything. */
export function undefinedAfter(executed: readonly Executed[]): { flags: number; used: boolean } {
  let undefinedFlags = 0;
  let used = false;
  for (const instruction of executed) {
    if (instruction.flagsRead & undefinedFlags & STATUS) used = true;
    if (!instruction.completed) break;
    const counted = /^(Rol|Ror|Rcl|Rcr|Shl|Shr|Sal|Sar|Shld|Shrd)$/.test(instruction.mnemonic);
    if (counted && / ?,cl$/.test(instruction.text)) {
      // A count of zero leaves all flags alone; only a count of one defines OF.
      const wide = /\b(r[a-z0-9]+|qword)\b/.test(instruction.text) ? 63 : 31;
      const count = instruction.cl & wide;
      if (count === 0) continue;
      let now = instruction.flagsUndefined;
      if (count === 1) now &= ~OF;
      const modified = instruction.flagsModified;
      undefinedFlags = (undefinedFlags & ~modified) | now;
      continue;
    }
    undefinedFlags = (undefinedFlags & ~instruction.flagsModified) | instruction.flagsUndefined;
  }
  return { flags: toRflags(undefinedFlags), used };
}
