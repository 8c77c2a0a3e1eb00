/** A decoded instruction: what the decoder makes of bytes, before any engine sees it. SDM vol. 2A chapter 2. */
import { avxMnemonics, gatherMnemonics, type Mnemonic, vexFloatMnemonics } from './mnemonics.ts';
import type { SegmentNumber } from './state.ts';

/** Operand and address sizes in bits. */
export type OperandWidth = 8 | 16 | 32 | 64;
export type CodeSize = 16 | 32 | 64;
/** Widths of accesses to memory. */
export type AccessWidth = OperandWidth | 128 | 256;

/** A general-purpose register; `high` is AH, CH, DH or BH (index 0..3, bits 15:8). */
export interface RegisterOperand {
  readonly kind: 'register';
  readonly width: OperandWidth;
  readonly index: number;
  readonly high: boolean;
}

/** An MMX, XMM or YMM register. */
export interface VectorOperand {
  readonly kind: 'mm' | 'xmm' | 'ymm';
  readonly width: 64 | 128 | 256;
  readonly index: number;
}

/**
 * A memory operand. `width` is the bits the instruction accesses (0 where it has no one size: LEA, LGDT,
 * INVLPG, far pointers, CMPXCHG16B, BOUND...). `base` and `index` are GPR numbers or -1. RIP-relative
 * addresses have `ripRelative` and no base; `displacement` is sign-extended to 64 bits and is relative to the next
 * instruction there. `scale` is the shift, 0..3.
 */
export interface MemoryOperand {
  readonly kind: 'memory';
  readonly width: AccessWidth | 0;
  readonly segment: SegmentNumber;
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly displacement: bigint;
  readonly ripRelative: boolean;
}

/** An immediate, already extended to `width` as the instruction wants it; `value` is unsigned in `width` bits. */
export interface ImmediateOperand {
  readonly kind: 'immediate';
  readonly width: OperandWidth;
  readonly value: bigint;
}

/** A relative branch target: signed displacement from the next instruction. */
export interface RelativeOperand {
  readonly kind: 'relative';
  readonly displacement: bigint;
}

/** A far pointer immediate (ptr16:16, ptr16:32). */
export interface FarOperand {
  readonly kind: 'far';
  readonly selector: number;
  readonly offset: number;
}

/** A segment register of MOV/PUSH/POP Sreg, a control or a debug register, or a tile of AMX. */
export interface SpecialOperand {
  readonly kind: 'segment' | 'control' | 'debug' | 'tile';
  readonly index: number;
}

export type Operand =
  | RegisterOperand
  | VectorOperand
  | MemoryOperand
  | ImmediateOperand
  | RelativeOperand
  | FarOperand
  | SpecialOperand;

export interface Instruction {
  readonly mnemonic: Mnemonic;
  /** Bytes, 1..15. */
  readonly length: number;
  /** The code segment's size that it was decoded for. */
  readonly codeSize: CodeSize;
  /**
   * Width of the operation: 8 for byte forms, else the effective operand size, with the 64-bit defaults
   * (PUSH, near branches...) and forced sizes (MOV CR) applied.
   */
  readonly operandSize: OperandWidth;
  /** Effective address size. */
  readonly addressSize: CodeSize;
  /** Explicit operands in Intel order, destination first. */
  readonly operands: readonly Operand[];
  /** Condition 0..15 of jcc, setcc, cmovcc (SDM vol. 2 appendix B.1.4.7); else 0. */
  readonly condition: number;
  /** REP/REPE (F3) or REPNE (F2) where the instruction is a string instruction; else none. */
  readonly repeat: '' | 'rep' | 'repne';
  readonly lock: boolean;
  /** Of an x87 instruction the low three bits of its opcode and the ModR/M byte, as FOP holds them (SDM vol. 1 8.1.9). */
  readonly fop?: number;
  /** Effective segment of the memory operand, or of the source of a string instruction (DS unless overridden). */
  readonly segment: SegmentNumber;
}

const gathers: ReadonlySet<string> = new Set(gatherMnemonics);

/** The immediate byte of an instruction on vectors, whose meaning depends on it, or the scale of a gather's indices; else -1. */
export function vectorImmediate({ mnemonic, operands }: Pick<Instruction, 'mnemonic' | 'operands'>): number {
  const [, address] = operands;
  if (address?.kind === 'memory' && gathers.has(mnemonic)) return address.scale;
  let vectors = false;
  let immediate = -1;
  for (const operand of operands) {
    if (operand.kind === 'mm' || operand.kind === 'xmm' || operand.kind === 'ymm') vectors = true;
    else if (operand.kind === 'immediate') immediate = Number(operand.value & 0xffn);
  }
  return vectors ? immediate : -1;
}

const vex: ReadonlySet<string> = new Set<string>([
  ...avxMnemonics,
  ...vexFloatMnemonics,
  'vldmxcsr',
  'vstmxcsr',
]);

/** An instruction on vectors that is VEX-encoded. */
export function isVex({ mnemonic }: Pick<Instruction, 'mnemonic'>): boolean {
  return vex.has(mnemonic);
}
