/**
 * A builder that executes an instruction's meaning at once on known values, with a shadow beside each.
 *
 * It changes nothing: what it reads comes from a {@link TaintGuest}, what the instruction would do is in the
 * {@link Evaluation}. Where a condition is tainted, both ways are worked out and what they leave in registers, flags and
 * variables is chosen between; what cannot be chosen between (a jump, a fault, a store, a further iteration) is control
 * flow that depends on a secret, which is noted and not followed.
 */
import type {
  Builder,
  FlagEffect,
  Form,
  OperandForm,
  SegmentReference,
  StatusFlag,
  Value,
  Variable,
  Width,
} from '../../isa/builder.ts';
import * as flagBits from '../../isa/flags.ts';
import {
  type CodeSize,
  type Instruction,
  isVex,
  type MemoryOperand,
  type OperandWidth,
  vectorImmediate,
} from '../../isa/instruction.ts';
import {
  countOnes,
  divide,
  leadingZeros,
  multiplyHighSigned,
  ones,
  rotateLeft,
  rotateRight,
  shiftLeft,
  shiftRight,
  shiftRightArithmetic,
  signed,
  trailingZeros,
} from '../../isa/integers.ts';
import {
  fromLanes,
  type LaneOperation,
  type LaneShift,
  type LaneWidth,
  laneOf,
  laneOperation,
  laneShift,
  lanesOf,
  multiplyLanes,
  narrowLanes,
  shuffleBytes,
  swizzleBytes,
  topBits,
} from '../../isa/lanes.ts';
import type { BuilderMnemonic } from '../../isa/mnemonics.ts';
import { meanings } from '../../isa/semantics/index.ts';
import { DS, ES, FS, RAX, RSP, type SegmentNumber, SS } from '../../isa/state.ts';
import * as taint from './propagate.ts';
import { anyOf, extract, insert, type Label, make, type Shadow, uniform, union } from './shadow.ts';

/** A value and which of its bits are tainted. */
export interface TaintedBits {
  readonly bits: bigint;
  readonly shadow: Shadow | null;
}

/** What an instruction finds. Nothing that it is asked may have a side effect. */
export interface TaintGuest {
  /** Linear or, outside 64-bit mode, CS-relative address of the instruction. */
  readonly rip: bigint;
  /** RFLAGS; its status flags and DF are used. */
  readonly flags: number;
  readonly flagsShadow: Shadow | null;
  /** Last offset of CS outside 64-bit mode. */
  readonly codeLimit: bigint;
  register(index: number): TaintedBits;
  /** Of the vector registers in parts of 128 bits ({@link vectorPart}); of an MM register, 64 bits. */
  vector(part: number): TaintedBits;
  /** An unmasked x87 exception is pending. */
  readonly x87Pending: boolean;
  segmentBase(segment: SegmentNumber): TaintedBits;
  /** `bytes` (1 to 8) at `linear`; null where that would fault. */
  load(linear: bigint, bytes: number): TaintedBits | null;
  /** Whether a store there would find its pages. */
  canStore(linear: bigint, bytes: number): boolean;
  /** The shadow of the address of the next instruction where a value is made of it. */
  codeAddress(rip: bigint): Shadow | null;
}

export type Outcome =
  | { readonly kind: 'next' | 'again' }
  | { readonly kind: 'jump'; readonly target: TaintedBits }
  | { readonly kind: 'fault'; readonly vector: number };

/** A place that an instruction reads. */
export type Source =
  | { readonly kind: 'register'; readonly index: number; readonly shadow: Shadow }
  | { readonly kind: 'vector'; readonly part: number; readonly shadow: Shadow }
  | { readonly kind: 'flags'; readonly shadow: Shadow }
  | { readonly kind: 'base'; readonly segment: SegmentNumber; readonly shadow: Shadow }
  | { readonly kind: 'memory'; readonly linear: bigint; readonly bytes: number; readonly shadow: Shadow };

export interface Store extends TaintedBits {
  readonly linear: bigint;
  readonly bytes: number;
}

/** An access that was tried, and the shadow of its address. */
export interface Access {
  readonly linear: bigint;
  readonly bytes: number;
  readonly address: () => Shadow | null;
}

/** Why more was called tainted than need be. */
export type Approximation =
  | 'product'
  | 'high half of a product'
  | 'division'
  | 'shift by a tainted count'
  | 'count of tainted bits'
  | 'saturation'
  | 'tainted choice of bytes'
  | 'loop with a tainted end';

/** What depends on a secret in a way that shadows do not follow. */
export interface ImplicitFlow {
  /** Whether something happens; where control goes; which memory is read or written. */
  readonly kind: 'branch' | 'target' | 'load' | 'store';
  readonly label: Label;
  /** Where a load or store was. Those at rSP are left out: where a stack is, is a secret of every kernel's. */
  readonly linear?: bigint;
}

class Tainted implements Value, Variable, TaintedBits {
  readonly assignable = true;
  readonly width: Width;
  bits: bigint;
  shadow: Shadow | null;
  constructor(width: Width, bits: bigint, shadow: Shadow | null) {
    this.width = width;
    this.bits = bits;
    this.shadow = shadow;
  }
}

/** Thrown to end the instruction. */
class Ended {
  readonly outcome: Outcome;
  constructor(outcome: Outcome) {
    this.outcome = outcome;
  }
}

/** Number of a part of a vector register: those of YMM0 first (low, high), YMM1..YMM15, then MM0..MM7. */
export function vectorPart(kind: 'mm' | 'xmm' | 'ymm', index: number, part = 0): number {
  return kind === 'mm' ? 32 + index : 2 * index + part;
}
/** How many there are. */
export const VECTOR_PARTS = 40;

const NO_REGISTERS: readonly undefined[] = new Array(16).fill(undefined);

const FLAG_POSITIONS: Record<StatusFlag | 'df', number> = {
  cf: 0,
  pf: 2,
  af: 4,
  zf: 6,
  sf: 7,
  df: 10,
  of: 11,
};

/** RFLAGS bits that integer instructions change. */
export const INTEGER_FLAGS = Number(flagBits.STATUS_FLAGS | flagBits.DF);

function of(x: Value): Tainted {
  return x as Tainted;
}

/** What a builder's value holds, if it is one of an {@link Evaluation}'s. */
export function taintedBits(x: Value): TaintedBits {
  return x as Value & TaintedBits;
}

/** What an address depends on; of the stack that is not asked. */
function labelsOf(segment: SegmentReference, address: Shadow | null): readonly Label[] {
  return address === null || segment === 'ss' ? [] : [address.any];
}

function truth(condition: boolean, shadow: Shadow | null): Tainted {
  return new Tainted(1, condition ? 1n : 0n, shadow);
}

interface Captured {
  readonly registers: readonly (TaintedBits | undefined)[];
  readonly flags: number;
  readonly flagsShadow: Shadow | null;
  readonly stores: number;
  readonly variables: readonly Tainted[];
  readonly values: readonly TaintedBits[];
  readonly vectors: ReadonlyMap<number, TaintedBits>;
}

const forms = new WeakMap<Instruction, Form[]>();

/** The form of an instruction; of one object it is made once for each width of the stack pointer. */
function formOf(instruction: Instruction, stackSize: CodeSize): Form {
  let known = forms.get(instruction);
  if (known === undefined) {
    known = [];
    forms.set(instruction, known);
  }
  let form = known.find((each) => each.stackSize === stackSize);
  if (form === undefined) {
    form = {
      mnemonic: instruction.mnemonic,
      operandSize: instruction.operandSize,
      addressSize: instruction.addressSize,
      codeSize: instruction.codeSize,
      stackSize,
      operands: instruction.operands.map(
        (operand): OperandForm =>
          'width' in operand ? { kind: operand.kind, width: operand.width } : { kind: 'relative', width: 0 },
      ),
      condition: instruction.condition,
      repeat: instruction.repeat,
      segmented: instruction.codeSize !== 64 || instruction.segment >= FS,
      vex: isVex(instruction),
      immediate: vectorImmediate(instruction),
    };
    known.push(form);
  }
  return form;
}

/** The meaning of one instruction on one state. */
export class Evaluation implements Builder {
  readonly instruction: Instruction;
  readonly guest: TaintGuest;
  readonly stackSize: CodeSize;
  /** General-purpose registers that the instruction writes, whole. */
  readonly registers: (TaintedBits | undefined)[] = NO_REGISTERS.slice();
  /** Parts of vector registers that it writes. */
  readonly vectors = new Map<number, TaintedBits>();
  /** What the x87 tags become, with TOP 0. */
  x87: 'valid' | 'empty' | 'kept' | undefined;
  flags: number;
  flagsShadow: Shadow | null;
  /** In the order in which they are made. */
  readonly stores: Store[] = [];
  readonly accesses: Access[] = [];
  /** Tainted places that were read. */
  readonly sources: Source[] = [];
  readonly approximations = new Map<Approximation, Label>();
  readonly implicit: ImplicitFlow[] = [];
  #form: Form | undefined;
  #variables: Tainted[] = [];
  #assigned: Set<Tainted> | undefined;

  constructor(instruction: Instruction, guest: TaintGuest, stackSize: CodeSize) {
    this.instruction = instruction;
    this.guest = guest;
    this.flags = guest.flags;
    this.flagsShadow = guest.flagsShadow;
    this.stackSize = stackSize;
  }

  get form(): Form {
    this.#form ??= formOf(this.instruction, this.stackSize);
    return this.#form;
  }

  /** Works out the instruction, whose meaning must be in isa. */
  run(): Outcome {
    return this.attempt(() => meanings[this.instruction.mnemonic as BuilderMnemonic](this));
  }

  /** Works out `meaning`, written against this builder. */
  attempt(meaning: () => void): Outcome {
    try {
      meaning();
    } catch (ended) {
      if (!(ended instanceof Ended)) throw ended;
      return ended.outcome;
    }
    return { kind: 'next' };
  }

  /** A value of given shadow. */
  value(width: Width, bits: bigint, shadow: Shadow | null): Value {
    return new Tainted(width, bits, shadow);
  }

  private approximate(why: Approximation, shadow: Shadow | null): Shadow | null {
    if (shadow !== null && !this.approximations.has(why)) this.approximations.set(why, shadow.any);
    return shadow;
  }

  constant(width: Width, value: bigint | number): Value {
    return new Tainted(width, BigInt.asUintN(width, BigInt(value)), null);
  }

  add(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return new Tainted(width, BigInt.asUintN(width, p + q), taint.add(width, p, ps, q, qs));
  }
  sub(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return new Tainted(width, BigInt.asUintN(width, p - q), taint.sub(width, p, ps, q, qs));
  }
  mul(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    const { shadow, exact } = taint.mul(width, p, ps, q, qs);
    if (!exact) this.approximate('product', shadow);
    return new Tainted(width, BigInt.asUintN(width, p * q), shadow);
  }
  mulHighUnsigned(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    const shadow = this.approximate('high half of a product', taint.mulHighUnsigned(width, p, ps, q, qs));
    return new Tainted(width, (p * q) >> BigInt(width), shadow);
  }
  mulHighSigned(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    const shadow = this.approximate('high half of a product', taint.mulHighSigned(width, p, ps, q, qs));
    return new Tainted(width, multiplyHighSigned(width, p, q), shadow);
  }
  divideUnsigned(
    high: Value,
    low: Value,
    divisor: Value,
  ): { quotient: Value; remainder: Value; fits: Value } {
    const { width, bits: h, shadow: hs } = of(high);
    const { bits: l, shadow: ls } = of(low);
    const { bits: d, shadow: ds } = of(divisor);
    const result = divide(width, h, l, d);
    const shadows = taint.divide(width, h, hs, l, ls, d, ds);
    if (!shadows.exact) {
      this.approximate('division', shadows.quotient);
      this.approximate('division', shadows.remainder);
    }
    return {
      quotient: new Tainted(width, result.quotient, shadows.quotient),
      remainder: new Tainted(width, result.remainder, shadows.remainder),
      fits: truth(result.fits, shadows.fits),
    };
  }
  and(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return new Tainted(width, p & q, taint.and(p, ps, q, qs));
  }
  or(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return new Tainted(width, p | q, taint.or(p, ps, q, qs));
  }
  xor(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return new Tainted(width, p ^ q, taint.xor(ps, qs));
  }
  not(x: Value): Value {
    const { width, bits, shadow } = of(x);
    return new Tainted(width, bits ^ ones(width), taint.not(shadow));
  }
  neg(x: Value): Value {
    const { width, bits, shadow } = of(x);
    return new Tainted(width, BigInt.asUintN(width, -bits), taint.sub(width, 0n, null, bits, shadow));
  }

  private shift(
    x: Value,
    count: Value,
    limit: number,
    concrete: (width: Width, x: bigint, count: bigint) => bigint,
    shadowed: (shadow: Shadow | null, count: number) => Shadow | null,
  ): Value {
    const { width, bits, shadow } = of(x);
    const counts = of(count).shadow;
    // A way not taken may have a count that only the condition of that way keeps in range.
    const by = of(count).bits & BigInt(limit - 1);
    const result = concrete(width, bits, by);
    if (counts === null) return new Tainted(width, result, shadowed(shadow, Number(by)));
    const tainted = taint.byTaintedCount(by, counts, limit, (n) => ({
      bits: concrete(width, bits, BigInt(n)),
      shadow: shadowed(shadow, n),
    }));
    return new Tainted(width, result, this.approximate('shift by a tainted count', tainted));
  }
  shl(x: Value, count: Value): Value {
    const { width } = x;
    return this.shift(x, count, Math.max(width, 32), shiftLeft, (s, n) => taint.shl(width, s, n));
  }
  shr(x: Value, count: Value): Value {
    return this.shift(x, count, Math.max(x.width, 32), shiftRight, taint.shr);
  }
  sar(x: Value, count: Value): Value {
    const { width } = x;
    return this.shift(x, count, Math.max(width, 32), shiftRightArithmetic, (s, n) => taint.sar(width, s, n));
  }
  rotl(x: Value, count: Value): Value {
    const { width } = x;
    return this.shift(x, count, width, rotateLeft, (s, n) => taint.rotl(width, s, n));
  }
  rotr(x: Value, count: Value): Value {
    const { width } = x;
    return this.shift(x, count, width, rotateRight, (s, n) => taint.rotr(width, s, n));
  }
  countLeadingZeros(x: Value): Value {
    const { width, bits, shadow } = of(x);
    const counted = this.approximate('count of tainted bits', taint.countLeadingZeros(width, bits, shadow));
    return new Tainted(width, BigInt(leadingZeros(width, bits)), counted);
  }
  countTrailingZeros(x: Value): Value {
    const { width, bits, shadow } = of(x);
    const counted = this.approximate('count of tainted bits', taint.countTrailingZeros(width, bits, shadow));
    return new Tainted(width, BigInt(trailingZeros(width, bits)), counted);
  }
  countOnes(x: Value): Value {
    const { width, bits, shadow } = of(x);
    const counted = this.approximate('count of tainted bits', taint.population(bits, shadow));
    return new Tainted(width, BigInt(countOnes(bits)), counted);
  }

  eq(x: Value, y: Value): Value {
    const { bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return truth(p === q, taint.equal(p, ps, q, qs));
  }
  ne(x: Value, y: Value): Value {
    const { bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return truth(p !== q, taint.equal(p, ps, q, qs));
  }
  ltUnsigned(x: Value, y: Value): Value {
    const { bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return truth(p < q, taint.lessThan(p, ps, q, qs));
  }
  leUnsigned(x: Value, y: Value): Value {
    const { bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    return truth(p <= q, taint.atMost(p, ps, q, qs));
  }
  /** Signed order is unsigned order with the sign bits the other way round. */
  ltSigned(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    const sign = 1n << BigInt(width - 1);
    return truth((p ^ sign) < (q ^ sign), taint.lessThan(p ^ sign, ps, q ^ sign, qs));
  }
  leSigned(x: Value, y: Value): Value {
    const { width, bits: p, shadow: ps } = of(x);
    const { bits: q, shadow: qs } = of(y);
    const sign = 1n << BigInt(width - 1);
    return truth((p ^ sign) <= (q ^ sign), taint.atMost(p ^ sign, ps, q ^ sign, qs));
  }
  select(condition: Value, whenTrue: Value, whenFalse: Value): Value {
    const { bits, shadow } = of(condition);
    const [x, y] = bits === 1n ? [of(whenTrue), of(whenFalse)] : [of(whenFalse), of(whenTrue)];
    if (shadow === null) return x;
    return new Tainted(x.width, x.bits, taint.choice(shadow, x.bits, x.shadow, y.bits, y.shadow));
  }

  zeroExtend(x: Value, width: Width): Value {
    return new Tainted(width, of(x).bits, of(x).shadow);
  }
  signExtend(x: Value, width: Width): Value {
    const bits = BigInt.asUintN(width, signed(x.width, of(x).bits));
    return new Tainted(width, bits, taint.signExtend(x.width, width, of(x).shadow));
  }
  truncate(x: Value, width: Width): Value {
    return new Tainted(width, BigInt.asUintN(width, of(x).bits), extract(of(x).shadow, 0, width));
  }

  private whole(index: number): TaintedBits {
    const written = this.registers[index];
    if (written !== undefined) return written;
    const found = this.guest.register(index);
    if (found.shadow !== null && !this.sources.some((s) => s.kind === 'register' && s.index === index))
      this.sources.push({ kind: 'register', index, shadow: found.shadow });
    return found;
  }
  private getBits(index: number, position: number, width: Width): Value {
    const { bits, shadow } = this.whole(index);
    return new Tainted(
      width,
      BigInt.asUintN(width, bits >> BigInt(position)),
      extract(shadow, position, width),
    );
  }
  private setBits(index: number, position: number, value: Value): void {
    const { width, bits, shadow } = of(value);
    const old = this.whole(index);
    const at = BigInt(position);
    this.registers[index] = {
      bits: (old.bits & ~(ones(width) << at)) | (bits << at),
      shadow: insert(old.shadow, shadow, position, width),
    };
  }
  getRegister(index: number, width: OperandWidth): Value {
    return this.getBits(index, 0, width);
  }
  setRegister(index: number, value: Value): void {
    if (value.width >= 32) this.registers[index] = { bits: of(value).bits, shadow: of(value).shadow };
    else this.setBits(index, 0, value);
  }
  getAh(): Value {
    return this.getBits(RAX, 8, 8);
  }
  setAh(value: Value): void {
    this.setBits(RAX, 8, value);
  }

  private memoryOperand(n: number): MemoryOperand {
    const operand = this.instruction.operands[n];
    if (operand?.kind !== 'memory') throw new Error(`operand ${n} is not memory`);
    return operand;
  }
  read(n: number): Value {
    const operand = this.instruction.operands[n];
    switch (operand?.kind) {
      case 'register':
        return this.getBits(operand.index, operand.high ? 8 : 0, operand.width);
      case 'immediate':
        return new Tainted(operand.width, operand.value, null);
      case 'memory':
        return this.readMemoryOperand(n, operand.width as OperandWidth);
      default:
        throw new Error(`operand ${n} is not to be read`);
    }
  }
  /** Memory operand `n` at a width that the instruction does not tell. */
  readMemoryOperand(n: number, width: OperandWidth): Value {
    return this.loadAt('operand', this.offset(n), width, () => this.offsetShadow(n), this.addressLabels(n));
  }
  readForWrite(n: number): Value {
    return this.read(n);
  }
  write(n: number, value: Value): void {
    const operand = this.instruction.operands[n];
    if (operand?.kind === 'memory') {
      const labels = this.addressLabels(n);
      this.storeAt('operand', this.offset(n), value, () => this.offsetShadow(n), labels);
    } else if (operand?.kind === 'register') {
      if (operand.high) this.setBits(operand.index, 8, value);
      else this.setRegister(operand.index, value);
    } else throw new Error(`operand ${n} is not to be written`);
  }

  /** The effective address of operand `n`, without its shadow: most accesses have no use for that. */
  private offset(n: number): bigint {
    const { base, index, scale, displacement, ripRelative } = this.memoryOperand(n);
    let offset = displacement;
    if (ripRelative) offset += this.nextAddress();
    if (base >= 0) offset += (this.registers[base] ?? this.guest.register(base)).bits;
    if (index >= 0) offset += (this.registers[index] ?? this.guest.register(index)).bits << BigInt(scale);
    return BigInt.asUintN(this.instruction.addressSize, offset);
  }
  private offsetShadow(n: number): Shadow | null {
    return of(this.effectiveAddress(n)).shadow;
  }
  /** What the address of operand `n` depends on. */
  private addressLabels(n: number): Label[] {
    const { base, index } = this.memoryOperand(n);
    const labels: Label[] = [];
    for (const register of [base, index]) {
      if (register < 0 || register === RSP) continue;
      const { shadow } = this.registers[register] ?? this.guest.register(register);
      if (shadow !== null) labels.push(shadow.any);
    }
    return labels;
  }
  effectiveAddress(n: number): Value {
    const { base, index, scale, displacement, ripRelative } = this.memoryOperand(n);
    const width = this.instruction.addressSize;
    let offset = this.constant(width, displacement);
    if (ripRelative) offset = this.add(offset, this.truncate(this.nextRip(), width));
    if (base >= 0) offset = this.add(offset, this.getRegister(base, width));
    if (index >= 0) {
      const scaled = this.shl(this.getRegister(index, width), this.constant(8, scale));
      offset = this.add(offset, scaled);
    }
    return offset;
  }
  private segmentNumber(segment: SegmentReference): SegmentNumber {
    return segment === 'operand'
      ? this.instruction.segment
      : segment === 'es'
        ? ES
        : segment === 'ss'
          ? SS
          : DS;
  }
  private linearOf(segment: SegmentReference, offset: bigint): bigint {
    const number = this.segmentNumber(segment);
    const wide = this.instruction.codeSize === 64;
    if (wide && number < FS) return offset;
    return BigInt.asUintN(wide ? 64 : 32, offset + this.guest.segmentBase(number).bits);
  }
  linear(n: number): Value {
    const offset = this.zeroExtend(this.effectiveAddress(n), 64);
    const number = this.instruction.segment;
    if (this.instruction.codeSize === 64 && number < FS) return offset;
    const base = this.guest.segmentBase(number);
    const sum = this.add(offset, new Tainted(64, base.bits, base.shadow));
    return this.instruction.codeSize === 64 ? sum : this.zeroExtend(this.truncate(sum, 32), 64);
  }
  relative(n: number): Value {
    const operand = this.instruction.operands[n];
    if (operand?.kind !== 'relative') throw new Error(`operand ${n} is not relative`);
    return this.constant(64, operand.displacement);
  }

  /** The access of `bytes` at `linear`, as far as it depends on more than where it is. */
  private access(linear: bigint, bytes: number, address: () => Shadow | null): void {
    this.accesses.push({ linear, bytes, address });
  }
  private loadAt(
    segment: SegmentReference,
    offset: bigint,
    width: OperandWidth,
    address: () => Shadow | null,
    labels: readonly Label[],
  ): Value {
    const bytes = width / 8;
    const linear = this.linearOf(segment, offset);
    this.access(linear, bytes, address);
    const found = this.guest.load(linear, bytes);
    if (found === null) throw new Ended({ kind: 'fault', vector: 14 });
    const { bits, shadow } = this.stores.length === 0 ? found : this.overStores(linear, bytes, found);
    if (shadow !== null) this.sources.push({ kind: 'memory', linear, bytes, shadow });
    if (labels.length > 0 && (shadow === null || shadow.mask !== ones(width)))
      for (const label of labels) this.implicit.push({ kind: 'load', label, linear });
    return new Tainted(width, bits, shadow);
  }
  /** What was found in memory, with what the instruction itself has stored there. */
  private overStores(linear: bigint, bytes: number, found: TaintedBits): TaintedBits {
    let { bits, shadow } = found;
    for (const store of this.stores) {
      for (let i = 0; i < bytes; i++) {
        const from = Number(BigInt.asIntN(64, linear + BigInt(i) - store.linear));
        if (from < 0 || from >= store.bytes) continue;
        const at = BigInt(8 * i);
        bits = (bits & ~(0xffn << at)) | (((store.bits >> BigInt(8 * from)) & 0xffn) << at);
        shadow = insert(shadow, extract(store.shadow, 8 * from, 8), 8 * i, 8);
      }
    }
    return { bits, shadow };
  }
  private storeAt(
    segment: SegmentReference,
    offset: bigint,
    value: Value,
    address: () => Shadow | null,
    labels: readonly Label[],
  ): void {
    const bytes = value.width / 8;
    const linear = this.linearOf(segment, offset);
    this.probe(linear, bytes, address);
    for (const label of labels) this.implicit.push({ kind: 'store', label, linear });
    this.stores.push({ linear, bytes, bits: of(value).bits, shadow: of(value).shadow });
  }
  private probe(linear: bigint, bytes: number, address: () => Shadow | null): void {
    this.access(linear, bytes, address);
    if (!this.guest.canStore(linear, bytes)) throw new Ended({ kind: 'fault', vector: 14 });
  }

  load(segment: SegmentReference, offset: Value, width: OperandWidth): Value {
    const { bits, shadow } = of(offset);
    return this.loadAt(segment, bits, width, () => shadow, labelsOf(segment, shadow));
  }
  store(segment: SegmentReference, offset: Value, value: Value): void {
    const { bits, shadow } = of(offset);
    this.storeAt(segment, bits, value, () => shadow, labelsOf(segment, shadow));
  }
  loadForWrite(
    segment: SegmentReference,
    offset: Value,
    width: OperandWidth,
  ): { readonly value: Value; commit(value: Value): void } {
    return {
      value: this.load(segment, offset, width),
      commit: (value) => this.store(segment, offset, value),
    };
  }
  probeWrite(segment: SegmentReference, offset: Value, width: OperandWidth): void {
    this.probe(this.linearOf(segment, of(offset).bits), width / 8, () => of(offset).shadow);
  }

  /** Segments' limits are the machine's to check. */
  checkSegment(): void {}

  getFlag(flag: StatusFlag | 'df'): Value {
    const position = FLAG_POSITIONS[flag];
    if (this.flagsShadow !== null && !this.sources.some((s) => s.kind === 'flags'))
      this.sources.push({ kind: 'flags', shadow: this.flagsShadow });
    return truth(((this.flags >>> position) & 1) === 1, extract(this.flagsShadow, position, 1));
  }
  private putFlag(flag: StatusFlag | 'df', value: Value): void {
    const position = FLAG_POSITIONS[flag];
    const { bits, shadow } = of(value);
    if (bits === 1n) this.flags |= 1 << position;
    else this.flags &= ~(1 << position);
    if (shadow !== null || this.flagsShadow !== null)
      this.flagsShadow = insert(this.flagsShadow, shadow, position, 1);
  }
  setFlags({ result, carries, ...single }: FlagEffect): void {
    const effect: Partial<Record<StatusFlag, Value>> = {};
    if (result) {
      const { width, bits, shadow } = of(result);
      const low = extract(shadow, 0, 8);
      effect.zf = truth(bits === 0n, taint.equal(bits, shadow, 0n, null));
      effect.sf = truth(bits >> BigInt(width - 1) === 1n, extract(shadow, width - 1, 1));
      effect.pf = truth(countOnes(bits & 0xffn) % 2 === 0, low && uniform(1n, low.any));
    }
    if (carries) {
      const { width, bits, shadow } = of(carries);
      const top = bits >> BigInt(width - 2);
      const [last, before] = [extract(shadow, width - 1, 1), extract(shadow, width - 2, 1)];
      effect.cf = truth(top >= 2n, last);
      effect.of = truth(top === 1n || top === 2n, taint.xor(last, before));
      effect.af = truth((bits & 8n) !== 0n, extract(shadow, 3, 1));
    }
    Object.assign(effect, single);
    for (const flag in effect) this.putFlag(flag as StatusFlag, effect[flag as StatusFlag] as Value);
  }
  setDirectionFlag(value: Value): void {
    this.putFlag('df', value);
  }
  condition(code: number): Value {
    const flag = (name: StatusFlag) => this.getFlag(name);
    const less = () => this.xor(flag('sf'), flag('of'));
    const conditions = [
      () => flag('of'),
      () => flag('cf'),
      () => flag('zf'),
      () => this.or(flag('cf'), flag('zf')),
      () => flag('sf'),
      () => flag('pf'),
      less,
      () => this.or(less(), flag('zf')),
    ];
    const holds = conditions[code >> 1]();
    return code & 1 ? this.not(holds) : holds;
  }

  private nextAddress(): bigint {
    const next = this.guest.rip + BigInt(this.instruction.length);
    return BigInt.asUintN(this.instruction.codeSize === 64 ? 64 : 32, next);
  }
  nextRip(): Value {
    const next = this.nextAddress();
    return new Tainted(64, next, this.guest.codeAddress(next));
  }
  checkTarget(target: Value): void {
    const { bits, shadow } = of(target);
    if (shadow !== null) this.implicit.push({ kind: 'target', label: shadow.any });
    const beyond =
      this.instruction.codeSize === 64
        ? BigInt.asUintN(64, BigInt.asIntN(48, bits)) !== bits
        : bits > this.guest.codeLimit;
    if (beyond) this.fault(13);
  }
  setRip(target: Value): void {
    const { bits, shadow } = of(target);
    throw new Ended({ kind: 'jump', target: { bits, shadow } });
  }
  again(): void {
    throw new Ended({ kind: 'again' });
  }
  fault(vector: number): void {
    throw new Ended({ kind: 'fault', vector });
  }

  variable(initial: Value): Variable {
    const variable = new Tainted(initial.width, of(initial).bits, of(initial).shadow);
    this.#variables.push(variable);
    return variable;
  }
  assign(variable: Variable, value: Value): void {
    const to = variable as unknown as Tainted;
    to.bits = of(value).bits;
    to.shadow = of(value).shadow;
    this.#assigned?.add(to);
  }

  private capture(): Captured {
    return {
      registers: this.registers.slice(),
      flags: this.flags,
      flagsShadow: this.flagsShadow,
      stores: this.stores.length,
      vectors: new Map(this.vectors),
      variables: this.#variables.slice(),
      values: this.#variables.map(({ bits, shadow }) => ({ bits, shadow })),
    };
  }
  private restore(to: Captured): void {
    for (const [i, register] of to.registers.entries()) this.registers[i] = register;
    this.flags = to.flags;
    this.flagsShadow = to.flagsShadow;
    this.stores.length = to.stores;
    this.vectors.clear();
    for (const [part, value] of to.vectors) this.vectors.set(part, value);
    this.#variables = to.variables.slice();
    for (const [i, { bits, shadow }] of to.values.entries()) {
      this.#variables[i].bits = bits;
      this.#variables[i].shadow = shadow;
    }
  }
  /** Chooses between the state as it is and `other`, by a tainted condition. */
  private merge(condition: Shadow, other: Captured): void {
    const chosen = (x: TaintedBits, y: TaintedBits): TaintedBits => ({
      bits: x.bits,
      shadow: taint.choice(condition, x.bits, x.shadow, y.bits, y.shadow),
    });
    for (let i = 0; i < 16; i++) {
      if (this.registers[i] === other.registers[i]) continue;
      this.registers[i] = chosen(this.whole(i), other.registers[i] ?? this.guest.register(i));
    }
    for (const part of new Set([...this.vectors.keys(), ...other.vectors.keys()]))
      this.vectors.set(part, chosen(this.vector(part), other.vectors.get(part) ?? this.guest.vector(part)));
    this.flagsShadow = taint.choice(
      condition,
      BigInt(this.flags),
      this.flagsShadow,
      BigInt(other.flags),
      other.flagsShadow,
    );
    for (const [i, variable] of other.variables.entries())
      variable.shadow = chosen(variable, other.values[i]).shadow;
  }

  when(condition: Value, then: () => void, otherwise?: () => void): void {
    const { bits, shadow } = of(condition);
    const [taken, passed] = bits === 1n ? [then, otherwise] : [otherwise, then];
    if (shadow === null) {
      taken?.();
      return;
    }
    const before = this.capture();
    let other: Captured | undefined = before;
    if (passed && this.attempt(passed).kind === 'next' && this.stores.length === before.stores)
      other = this.capture();
    else if (passed) other = undefined;
    this.restore(before);
    let contained = false;
    try {
      taken?.();
      contained = other !== undefined && this.stores.length === before.stores;
    } finally {
      if (!contained) this.implicit.push({ kind: 'branch', label: shadow.any });
    }
    if (other) this.merge(shadow, other);
  }

  loop(condition: () => Value, body: () => void): void {
    let end: Shadow | undefined;
    const outer = this.#assigned;
    const assigned = new Set<Tainted>();
    this.#assigned = assigned;
    for (;;) {
      const { bits, shadow } = of(condition());
      if (shadow !== null && end === undefined) {
        end = shadow;
        // A turn that is not made here may be made with another secret.
        const before = this.capture();
        const { kind } = this.attempt(body);
        const changed =
          before.vectors.size !== this.vectors.size ||
          before.registers.some((register, i) => register !== this.registers[i]);
        if (kind !== 'next' || changed || this.stores.length !== before.stores)
          throw new Error(`${this.form.mnemonic}: a loop with a tainted end does more than assign variables`);
        this.restore(before);
      }
      if (bits === 0n) break;
      body();
    }
    this.#assigned = outer;
    for (const variable of assigned) outer?.add(variable);
    if (end === undefined) return;
    for (const variable of assigned) {
      const label = anyOf(end, variable.shadow);
      variable.shadow = this.approximate('loop with a tainted end', uniform(ones(variable.width), label));
    }
  }

  /** Lanes made from pairs of lanes. */
  private eachLane(
    lane: LaneWidth,
    x: Value,
    y: Value,
    bits: (x: bigint, y: bigint) => bigint,
    shadow: (x: bigint, xs: Shadow | null, y: bigint, ys: Shadow | null) => Shadow | null,
  ): Value {
    const [p, q] = [lanesOf(of(x).bits, lane), lanesOf(of(y).bits, lane)];
    const [ps, qs] = [of(x).shadow, of(y).shadow];
    let taken: Shadow | null = null;
    if (ps !== null || qs !== null)
      for (let i = 0; i < p.length; i++) {
        const [xs, ys] = [extract(ps, i * lane, lane), extract(qs, i * lane, lane)];
        if (xs !== null || ys !== null) taken = insert(taken, shadow(p[i], xs, q[i], ys), i * lane, lane);
      }
    return new Tainted(
      128,
      fromLanes(
        lane,
        p.map((value, i) => bits(value, q[i])),
      ),
      taken,
    );
  }
  lanes(operation: LaneOperation, lane: LaneWidth, x: Value, y: Value): Value {
    const sign = 1n << BigInt(lane - 1);
    const all = (shadow: Shadow | null) => shadow && uniform(ones(lane), shadow.any);
    const shadow = (p: bigint, ps: Shadow | null, q: bigint, qs: Shadow | null): Shadow | null => {
      switch (operation) {
        case 'add':
          return taint.add(lane, p, ps, q, qs);
        case 'sub':
          return taint.sub(lane, p, ps, q, qs);
        case 'mul': {
          const product = taint.mul(lane, p, ps, q, qs);
          return product.exact ? product.shadow : this.approximate('product', product.shadow);
        }
        case 'eq':
          return all(taint.equal(p, ps, q, qs));
        case 'gtSigned':
          return all(taint.lessThan(q ^ sign, qs, p ^ sign, ps));
        case 'minUnsigned':
        case 'maxUnsigned':
        case 'minSigned':
        case 'maxSigned': {
          const flip = operation.endsWith('Signed') ? sign : 0n;
          const order = taint.lessThan(p ^ flip, ps, q ^ flip, qs);
          if (order !== null) return taint.choice(order, p, ps, q, qs);
          // Which of equal lanes it is, the order tells, which is the same for any secret.
          return (p ^ flip) < (q ^ flip) === operation.startsWith('min') ? ps : qs;
        }
        default:
          return this.approximate('saturation', uniform(ones(lane), anyOf(ps, qs)));
      }
    };
    return this.eachLane(lane, x, y, (p, q) => laneOperation(operation, lane, p, q), shadow);
  }
  shiftLanes(operation: LaneShift, lane: LaneWidth, x: Value, count: Value): Value {
    const { bits: by, shadow: counts } = of(count);
    const n = Number(by & BigInt(lane - 1));
    const bits = (value: bigint) => laneShift(operation, lane, value, BigInt(n));
    return this.eachLane(
      lane,
      x,
      counts === null ? this.constant(128, 0) : this.value(128, 0n, uniform(ones(128), counts.any)),
      bits,
      (_, xs, _y, tainted) => {
        if (tainted !== null)
          return this.approximate('shift by a tainted count', uniform(ones(lane), anyOf(xs, tainted)));
        if (operation === 'shl') return taint.shl(lane, xs, n);
        return operation === 'shr' ? taint.shr(xs, n) : taint.sar(lane, xs, n);
      },
    );
  }
  extractLane(lane: LaneWidth, x: Value, index: number): Value {
    return new Tainted(lane, laneOf(of(x).bits, lane, index), extract(of(x).shadow, index * lane, lane));
  }
  insertLane(lane: LaneWidth, x: Value, index: number, value: Value): Value {
    const lanes = lanesOf(of(x).bits, lane);
    lanes[index] = of(value).bits;
    const shadow = insert(of(x).shadow, of(value).shadow, index * lane, lane);
    return new Tainted(128, fromLanes(lane, lanes), shadow);
  }
  splat(value: Value): Value {
    const { width, bits, shadow } = of(value);
    let mask = 0n;
    if (shadow !== null) for (let at = 0; at < 128; at += width) mask |= shadow.mask << BigInt(at);
    const every = make(mask, (bit) => shadow?.at(bit % width) ?? 0);
    return new Tainted(128, fromLanes(width, new Array(128 / width).fill(bits)), every);
  }
  /** The shadow of bytes chosen from a vector, or from one above another. */
  private bytesOf(shadow: Shadow | null, bytes: readonly number[]): Shadow | null {
    if (shadow === null) return null;
    let mask = 0n;
    bytes.forEach((byte, i) => {
      mask |= ((shadow.mask >> BigInt(8 * byte)) & 0xffn) << BigInt(8 * i);
    });
    return make(mask, (bit) => shadow.at(8 * bytes[bit >> 3] + (bit & 7)));
  }
  shuffle(x: Value, y: Value, bytes: readonly number[]): Value {
    const low = bytes.map((byte) => Math.min(byte, 16));
    const high = bytes.map((byte) => (byte < 16 ? 16 : byte - 16));
    const shadow = union(this.bytesOf(of(x).shadow, low), this.bytesOf(of(y).shadow, high));
    return new Tainted(128, shuffleBytes(of(x).bits, of(y).bits, bytes), shadow);
  }
  swizzle(x: Value, indices: Value): Value {
    const bits = swizzleBytes(of(x).bits, of(indices).bits);
    const bytes = lanesOf(of(indices).bits, 8).map((byte) => Math.min(Number(byte), 16));
    let shadow = this.bytesOf(of(x).shadow, bytes);
    const chosen = of(indices).shadow;
    if (chosen !== null)
      for (let at = 0; at < 128; at += 8) {
        const by = extract(chosen, at, 8);
        if (by === null) continue;
        const every = uniform(ones(8), anyOf(by, of(x).shadow));
        shadow = insert(shadow, this.approximate('tainted choice of bytes', every), at, 8);
      }
    return new Tainted(128, bits, shadow);
  }
  /** Every lane of `lane` bits wholly tainted that has a tainted operand; `shadows` by lane. */
  private wholeLanes(lane: number, why: Approximation, shadows: readonly (Shadow | null)[]): Shadow | null {
    let shadow: Shadow | null = null;
    shadows.forEach((part, i) => {
      if (part !== null)
        shadow = insert(shadow, this.approximate(why, uniform(ones(lane), part.any)), i * lane, lane);
    });
    return shadow;
  }
  narrow(lane: LaneWidth, isSigned: boolean, x: Value, y: Value): Value {
    const parts = [x, y].flatMap((value) =>
      lanesOf(0n, lane).map((_, i) => extract(of(value).shadow, i * lane, lane)),
    );
    const shadow = this.wholeLanes(lane / 2, 'saturation', parts);
    return new Tainted(128, narrowLanes(lane, isSigned, of(x).bits, of(y).bits), shadow);
  }
  multiplyExtended(lane: LaneWidth, isSigned: boolean, high: boolean, x: Value, y: Value): Value {
    const first = high ? 64 : 0;
    const parts = Array.from({ length: 64 / lane }, (_, i) => {
      const at = first + i * lane;
      return union(extract(of(x).shadow, at, lane), extract(of(y).shadow, at, lane));
    });
    const shadow = this.wholeLanes(2 * lane, 'product', parts);
    return new Tainted(128, multiplyLanes(lane, isSigned, high, of(x).bits, of(y).bits), shadow);
  }
  signMask(lane: LaneWidth, x: Value): Value {
    const { bits, shadow } = of(x);
    const position = (bit: number) => bit * lane + lane - 1;
    let mask = 0n;
    if (shadow !== null) mask = topBits(lane, shadow.mask);
    return new Tainted(
      32,
      topBits(lane, bits),
      make(mask, (bit) => shadow?.at(position(bit)) ?? 0),
    );
  }

  /** A part of a vector register. */
  private vector(part: number): TaintedBits {
    const written = this.vectors.get(part);
    if (written !== undefined) return written;
    const found = this.guest.vector(part);
    if (found.shadow !== null && !this.sources.some((s) => s.kind === 'vector' && s.part === part))
      this.sources.push({ kind: 'vector', part, shadow: found.shadow });
    return found;
  }
  /** Raises #GP(0) for memory operand `n` that is not aligned to its size. */
  private align(n: number, width: number): void {
    const linear = this.linearOf('operand', this.offset(n));
    if (linear % BigInt(width / 8) !== 0n) this.fault(13);
  }
  readVector(n: number, aligned = false): readonly Value[] {
    const operand = this.instruction.operands[n];
    const parts: Value[] = [];
    switch (operand?.kind) {
      case 'mm':
      case 'xmm':
      case 'ymm':
        for (let part = 0; part < operand.width; part += 128) {
          const { bits, shadow } = this.vector(vectorPart(operand.kind, operand.index, part / 128));
          parts.push(new Tainted(128, bits, shadow));
        }
        return parts;
      case 'memory': {
        const { width } = operand;
        if (width <= 64) return [this.zeroExtend(this.read(n), 128)];
        if (aligned) this.align(n, width);
        const offset = this.offset(n);
        const address = () => this.offsetShadow(n);
        const labels = this.addressLabels(n);
        for (let part = 0; part < width; part += 128) {
          const [low, high] = [0, 8].map((half) => {
            const at = BigInt.asUintN(this.instruction.addressSize, offset + BigInt(part / 8 + half));
            return of(this.loadAt('operand', at, 64, address, labels));
          });
          const shadow = insert(low.shadow, high.shadow, 64, 64);
          parts.push(new Tainted(128, (high.bits << 64n) | low.bits, shadow));
        }
        return parts;
      }
      default:
        throw new Error(`operand ${n} is no vector`);
    }
  }
  writeVector(n: number, parts: readonly Value[], aligned = false): void {
    const operand = this.instruction.operands[n];
    switch (operand?.kind) {
      case 'mm':
        this.vectors.set(vectorPart('mm', operand.index), of(this.truncate(parts[0], 64)));
        return;
      case 'xmm':
      case 'ymm':
        for (const [part, value] of parts.entries())
          this.vectors.set(vectorPart(operand.kind, operand.index, part), of(value));
        if (this.form.vex && parts.length === 1) this.clearUpper(operand.index);
        return;
      case 'memory': {
        const { width } = operand;
        if (width <= 64) {
          this.write(n, this.truncate(parts[0], width as OperandWidth));
          return;
        }
        if (aligned) this.align(n, width);
        const offset = this.offset(n);
        const labels = this.addressLabels(n);
        for (let at = 0; at < width; at += 64) {
          const value = this.extractLane(64, parts[at >> 7], (at >> 6) & 1);
          const to = BigInt.asUintN(this.instruction.addressSize, offset + BigInt(at / 8));
          this.storeAt('operand', to, value, () => this.offsetShadow(n), labels);
        }
        return;
      }
      default:
        throw new Error(`operand ${n} is no vector`);
    }
  }
  getXmm(index: number): Value {
    const { bits, shadow } = this.vector(vectorPart('xmm', index));
    return new Tainted(128, bits, shadow);
  }
  setXmm(index: number, value: Value): void {
    this.vectors.set(vectorPart('xmm', index), of(value));
    if (this.form.vex) this.clearUpper(index);
  }
  clearUpper(index: number): void {
    this.vectors.set(vectorPart('ymm', index, 1), of(this.constant(128, 0)));
  }
  checkX87(): void {
    if (this.guest.x87Pending) this.fault(16);
  }
  setX87(tags: 'valid' | 'empty' | 'kept'): void {
    this.x87 = tags;
  }

  system(): void {
    throw new Error('no meaning in isa');
  }
}
