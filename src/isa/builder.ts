/**
 * The language in which instructions' meanings are written.
 *
 * A semantic is a function over a {@link Builder}; what a {@link Value} is depends on the builder: an
 * expression in a WebAssembly handler, a JIT local, a value with its taint. Nothing here executes.
 *
 * Rules for semantics:
 * - Every access that may fault comes before the first change of architectural state, so that a fault finds
 *   the state of the instruction's start. A read-modify-write uses {@link Builder.readForWrite}; several stores are
 *   preceded by {@link Builder.probeWrite}. `setRip` comes last. Only where the processor itself leaves partial results
 *   do semantics: CALL, ENTER, PUSHA (memory), POPA (registers), stores from MM registers (x87 TOP).
 * - Static facts ({@link Form}) may steer which operations are emitted (TypeScript `if`); run-time values may not
 *   (use `when`, `select`, `loop`).
 * - Operations work modulo 2^width on operands of equal width. Booleans are of width 1.
 */
import type { AccessWidth, CodeSize, OperandWidth } from './instruction.ts';
import type { LaneOperation, LaneShift, LaneWidth } from './lanes.ts';
import type { Mnemonic } from './mnemonics.ts';

/** 128 is for vectors: logic, `select`, `zeroExtend` to and `truncate` from, and the operations on lanes take them. */
export type Width = 1 | 8 | 16 | 32 | 64 | 128;

/** A value of known width at run time. Opaque: only the builder that made it looks inside. */
export interface Value {
  readonly width: Width;
}

/** A value that may be assigned again, for `when` and `loop`. Reads are by use. */
export interface Variable extends Value {
  readonly assignable: true;
}

/** How an operand is reached; its registers, displacement and immediate are run-time data of the decoded instruction. */
export interface OperandForm {
  readonly kind: 'register' | 'memory' | 'immediate' | 'relative' | 'mm' | 'xmm' | 'ymm';
  /** 0 for memory of no one size and for relative targets. */
  readonly width: AccessWidth | 0;
}

/** What is fixed when a handler is made. One handler serves every instruction of the same form. */
export interface Form {
  readonly mnemonic: Mnemonic;
  readonly operandSize: OperandWidth;
  readonly addressSize: CodeSize;
  readonly codeSize: CodeSize;
  /** Width of the stack pointer: 64 in 64-bit mode, else by SS.B. */
  readonly stackSize: CodeSize;
  readonly operands: readonly OperandForm[];
  readonly condition: number;
  readonly repeat: '' | 'rep' | 'repne';
  /** The effective segment's base must be added and its limits checked: all of legacy mode; FS/GS in 64-bit mode. */
  readonly segmented: boolean;
  /** It is VEX-encoded: what it writes of a vector register it writes whole, with zeros above. */
  readonly vex: boolean;
  /** The immediate byte of an instruction on vectors, or the scale of a gather's indices; -1 where there is none. */
  readonly immediate: number;
}

/** A segment to access memory through: that of the memory operand (or string source), or a fixed one. */
export type SegmentReference = 'operand' | 'es' | 'ss' | 'ds';

export type StatusFlag = 'cf' | 'pf' | 'af' | 'zf' | 'sf' | 'of';

/**
 * New values of status flags; what is absent keeps its value. `result` gives SF, ZF, PF. `carries` is the
 * vector of the carries (or borrows) out of each bit: its top bit is CF, top two bits XORed OF, bit 3 AF.
 * Single flags override these.
 */
export interface FlagEffect {
  readonly result?: Value;
  readonly carries?: Value;
  readonly cf?: Value;
  readonly pf?: Value;
  readonly af?: Value;
  readonly zf?: Value;
  readonly sf?: Value;
  readonly of?: Value;
}

/** Arithmetic of floating-point numbers as the host has it: rounded to nearest, telling nothing of exceptions. */
export interface FloatOperations {
  /** MXCSR, width 32. */
  mxcsr(): Value;
  /** `operation` on each pair of lanes of two vectors; `sqrt` is of y. A result that is no number is any NaN. */
  arithmetic(operation: 'add' | 'sub' | 'mul' | 'div' | 'sqrt', lane: 32 | 64, x: Value, y: Value): Value;
  /** A signed integer of width 32 or 64 as a number, in an encoding of width `lane`. */
  fromInteger(lane: 32 | 64, x: Value): Value;
  /** A number, in an encoding of width 32 or 64, cut to a signed integer of `width`, in which it must fit. */
  toInteger(width: 32 | 64, x: Value): Value;
  /** A number in the other format: of width 32 in 64, of 64 in 32. */
  convert(x: Value): Value;
}

export interface Builder {
  readonly form: Form;
  /** Absent from builders that leave floating-point numbers to arch. */
  readonly floats?: FloatOperations;

  constant(width: Width, value: bigint | number): Value;

  add(x: Value, y: Value): Value;
  sub(x: Value, y: Value): Value;
  /** Low half of the product. */
  mul(x: Value, y: Value): Value;
  /** High half of the unsigned or signed product; widths 8..64. */
  mulHighUnsigned(x: Value, y: Value): Value;
  mulHighSigned(x: Value, y: Value): Value;
  /**
   * (high:low) / divisor, unsigned, widths 8..64. `fits` (width 1) is 0 when the divisor is zero or the quotient
   * exceeds the width; the other two are then meaningless.
   */
  divideUnsigned(high: Value, low: Value, divisor: Value): { quotient: Value; remainder: Value; fits: Value };
  and(x: Value, y: Value): Value;
  or(x: Value, y: Value): Value;
  xor(x: Value, y: Value): Value;
  not(x: Value): Value;
  neg(x: Value): Value;
  /**
   * Shifts by `count` (any width), which must be below 32 for widths up to 32 and below 64 for width 64. Bits
   * moved past the width vanish; `sar` fills with the sign.
   */
  shl(x: Value, count: Value): Value;
  shr(x: Value, count: Value): Value;
  sar(x: Value, count: Value): Value;
  /** Rotates; `count` must be below the width. */
  rotl(x: Value, count: Value): Value;
  rotr(x: Value, count: Value): Value;
  /** Count of leading or trailing zeros (the width for zero) and of ones, at the value's width. */
  countLeadingZeros(x: Value): Value;
  countTrailingZeros(x: Value): Value;
  countOnes(x: Value): Value;

  eq(x: Value, y: Value): Value;
  ne(x: Value, y: Value): Value;
  ltUnsigned(x: Value, y: Value): Value;
  leUnsigned(x: Value, y: Value): Value;
  ltSigned(x: Value, y: Value): Value;
  leSigned(x: Value, y: Value): Value;
  select(condition: Value, whenTrue: Value, whenFalse: Value): Value;

  zeroExtend(x: Value, width: Width): Value;
  signExtend(x: Value, width: Width): Value;
  /** Low `width` bits. */
  truncate(x: Value, width: Width): Value;

  /** A general-purpose register's low `width` bits (by number; 8 means bits 7:0). */
  getRegister(index: number, width: OperandWidth): Value;
  /** Writes it: 32 bits clear bits 63:32, 8 and 16 keep the rest. */
  setRegister(index: number, value: Value): void;
  /** AH (RAX bits 15:8). */
  getAh(): Value;
  setAh(value: Value): void;

  /** Operand `n` at its own width (immediates as extended by the decoder). Memory is read, and may fault. */
  read(n: number): Value;
  /** As `read`, but memory is checked for writing first; must be followed by `write(n)` on every path that completes. */
  readForWrite(n: number): Value;
  /** Writes operand `n` (register, or memory, which may fault unless `readForWrite(n)` went before). */
  write(n: number, value: Value): void;
  /** The offset of memory operand `n` in its segment, at the address size. */
  effectiveAddress(n: number): Value;
  /** The linear address of memory operand `n`: its offset plus the segment's base; width 64. No checks. */
  linear(n: number): Value;
  /** Displacement of relative operand `n`, sign-extended, width 64. */
  relative(n: number): Value;

  /** Memory at `offset` (any width, zero-extended) in a segment; may fault (#GP, #SS, #PF, #AC). */
  load(segment: SegmentReference, offset: Value, width: OperandWidth): Value;
  store(segment: SegmentReference, offset: Value, value: Value): void;
  /** Reads for writing; finish with `commit`. */
  loadForWrite(
    segment: SegmentReference,
    offset: Value,
    width: OperandWidth,
  ): { readonly value: Value; commit(value: Value): void };
  /** Faults as a store of `width` bits there would. */
  probeWrite(segment: SegmentReference, offset: Value, width: OperandWidth): void;

  /** Faults as an access to the byte at `offset` would before paging: by the segment, or an address that is not canonical. */
  checkSegment(segment: SegmentReference, offset: Value, write: boolean): void;

  /** One flag, width 1. */
  getFlag(flag: StatusFlag | 'df'): Value;
  setFlags(effect: FlagEffect): void;
  setDirectionFlag(value: Value): void;
  /** Condition 0..15 (SDM vol. 2 B.1.4.7), width 1. */
  condition(code: number): Value;

  /** Address of the next instruction, width 64. */
  nextRip(): Value;
  /** #GP(0) if `target` (width 64) lies beyond CS.limit or, in 64-bit mode, is not canonical. */
  checkTarget(target: Value): void;
  /** Continues at `target` (width 64, already truncated to the operand size and checked). Ends the instruction. */
  setRip(target: Value): void;
  /** Runs this same instruction again (a further iteration of a repeated string instruction). Ends the instruction. */
  again(): void;
  /**
   * In an iteration of REP MOVS or REP STOS with rCX not 0, before it: a builder may take further iterations in one, as long
   * as nobody can tell. The last is left.
   */
  hasten?(string: 'movs' | 'stos'): void;
  /** Raises exception `vector`, a fault, and ends the instruction. */
  fault(vector: number, errorCode?: number): void;

  variable(initial: Value): Variable;
  assign(variable: Variable, value: Value): void;
  /** Run-time choice; the branches may assign variables, change state, fault or end the instruction. */
  when(condition: Value, then: () => void, otherwise?: () => void): void;
  /** Repeats `body` while `condition()` holds; evaluated before each turn. */
  loop(condition: () => Value, body: () => void): void;

  /** `operation` on each pair of lanes of two vectors. Bytes have no `mul`; only they and words saturate and have an average. */
  lanes(operation: LaneOperation, lane: LaneWidth, x: Value, y: Value): Value;
  /** Shifts each lane by the same `count` (any width), which must be below the lane's width. */
  shiftLanes(operation: LaneShift, lane: LaneWidth, x: Value, count: Value): Value;
  /** Lane `index`, a value of its width. */
  extractLane(lane: LaneWidth, x: Value, index: number): Value;
  insertLane(lane: LaneWidth, x: Value, index: number, value: Value): Value;
  /** `value`, of a lane's width, in every lane. */
  splat(value: Value): Value;
  /** Byte `i` of the result is byte `bytes[i]` of x (0 to 15) or of y (16 to 31). */
  shuffle(x: Value, y: Value, bytes: readonly number[]): Value;
  /** Byte `i` of the result is that byte of x which byte `i` of `indices` names, 0 beyond 15. */
  swizzle(x: Value, indices: Value): Value;
  /** Lanes of half the width, saturated: of x below, of y above. `lane` (16 or 32) is that of the operands, which are signed. */
  narrow(lane: LaneWidth, signed: boolean, x: Value, y: Value): Value;
  /** Products, of twice the width, of the lanes (8 to 32 bits) in the low or high halves. */
  multiplyExtended(lane: LaneWidth, signed: boolean, high: boolean, x: Value, y: Value): Value;
  /** The top bits of the lanes, lane 0's lowest; width 32. */
  signMask(lane: LaneWidth, x: Value): Value;

  /**
   * Vector operand `n` in parts of 128 bits, lowest first: one of an XMM register, one of an MM register or of memory of up to 128
   * bits (with zeros above), two of a YMM register or 256 bits. `aligned`: #GP(0) for memory that does not lie at a multiple of
   * its size.
   */
  readVector(n: number, aligned?: boolean): readonly Value[];
  /** Writes as much of `parts` as the operand is wide; with VEX, zeros in the rest of a YMM register. */
  writeVector(n: number, parts: readonly Value[], aligned?: boolean): void;
  /** XMM register `index`, written as by {@link writeVector}. */
  getXmm(index: number): Value;
  setXmm(index: number, value: Value): void;
  /** Clears bits 255:128 of a YMM register. */
  clearUpper(index: number): void;
  /** #MF if an unmasked x87 exception is pending: before all else in instructions that use MM registers. */
  checkX87(): void;
  /** The x87 state of an instruction on MM registers: TOP is 0, and the registers are all valid, all empty, or as they were. */
  setX87(tags: 'valid' | 'empty' | 'kept'): void;

  /** The instruction's meaning is in arch: calls it by mnemonic with the decoded instruction. Ends the instruction. */
  system(): void;
}

/** The meaning of one mnemonic. */
export type Semantic = (b: Builder) => void;
