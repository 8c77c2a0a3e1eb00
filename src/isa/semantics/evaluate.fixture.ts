/**
 * A builder that executes at once, for tests: values are BigInts, state is plain. It is a second, independent
 * reading of the builder's rules, and it enforces them: operands of equal width, shift counts in range, no state
 * changed before a fault, every `readForWrite` finished.
 */
import type {
  Builder,
  FlagEffect,
  Form,
  SegmentReference,
  StatusFlag,
  Value,
  Variable,
  Width,
} from '../builder.ts';
import * as flagBits from '../flags.ts';
import {
  type AccessWidth,
  type CodeSize,
  type Instruction,
  isVex,
  type MemoryOperand,
  type OperandWidth,
  vectorImmediate,
} from '../instruction.ts';
import {
  countOnes,
  divide,
  leadingZeros,
  multiplyHighSigned,
  rotateLeft,
  rotateRight,
  shiftLeft,
  shiftRight,
  shiftRightArithmetic,
  trailingZeros,
} from '../integers.ts';
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
} from '../lanes.ts';
import { type BuilderMnemonic, gatherMnemonics } from '../mnemonics.ts';
import { DS, ES, FS, RAX, RSP, SS } from '../state.ts';
import { meanings } from './index.ts';

/** Bytes by linear address; those absent are not mapped. */
export interface ByteMemory {
  get(address: bigint): number | undefined;
  set(address: bigint, byte: number): unknown;
}

/** What an instruction may read and change. */
export interface Guest {
  readonly registers: bigint[];
  /** RFLAGS. */
  flags: bigint;
  /** Address of the instruction. */
  rip: bigint;
  readonly memory: ByteMemory;
  /** Linear addresses, by page, that refuse writes. */
  readonly readOnlyPages?: ReadonlySet<bigint>;
  /** Bases of ES CS SS DS FS GS; zero where absent. */
  readonly segmentBases?: readonly bigint[];
  /** Last offset of CS outside 64-bit mode. */
  readonly codeLimit?: bigint;
  /** YMM registers, for instructions that use them or their low halves. */
  readonly ymm?: bigint[];
  /** MM registers, and what the x87 state has become for them. */
  readonly mm?: bigint[];
  x87?: 'pending exception' | 'valid' | 'empty';
}

export type Outcome =
  | { readonly kind: 'next' | 'again' | 'jump' }
  | {
      readonly kind: 'fault';
      readonly vector: number;
      readonly errorCode: number | undefined;
      /** Linear address of a page fault. */
      readonly address: bigint | undefined;
    };

class Known implements Value, Variable {
  readonly assignable = true;
  readonly width: Width;
  bits: bigint;
  constructor(width: Width, bits: bigint) {
    this.width = width;
    this.bits = BigInt.asUintN(width, bits);
  }
}

/** Thrown to end the instruction. */
class Ended {
  readonly outcome: Outcome;
  constructor(outcome: Outcome) {
    this.outcome = outcome;
  }
}

const FLAG_BITS: Record<StatusFlag | 'df', bigint> = {
  cf: flagBits.CF,
  pf: flagBits.PF,
  af: flagBits.AF,
  zf: flagBits.ZF,
  sf: flagBits.SF,
  of: flagBits.OF,
  df: flagBits.DF,
};

function bits(x: Value): bigint {
  return (x as Known).bits;
}

function signed(x: Value): bigint {
  return BigInt.asIntN(x.width, bits(x));
}

function widthsMatch(x: Value, y: Value): Width {
  if (x.width !== y.width) throw new Error(`operands of widths ${x.width} and ${y.width}`);
  return x.width;
}

function flag(condition: boolean): Known {
  return new Known(1, condition ? 1n : 0n);
}

class Evaluator implements Builder {
  readonly form: Form;
  private readonly instruction: Instruction;
  private readonly guest: Guest;
  private readonly unfinished = new Set<number>();
  /** Memory has been written. */
  stored = false;

  constructor(instruction: Instruction, guest: Guest, stackSize: CodeSize) {
    this.instruction = instruction;
    this.guest = guest;
    this.form = {
      mnemonic: instruction.mnemonic,
      operandSize: instruction.operandSize,
      addressSize: instruction.addressSize,
      codeSize: instruction.codeSize,
      stackSize,
      operands: instruction.operands.map(({ kind, ...rest }) => {
        if (
          kind === 'far' ||
          kind === 'segment' ||
          kind === 'control' ||
          kind === 'debug' ||
          kind === 'tile'
        ) {
          throw new Error(`no ${kind} operands here`);
        }
        return { kind, width: 'width' in rest ? rest.width : 0 };
      }),
      condition: instruction.condition,
      repeat: instruction.repeat,
      segmented: instruction.codeSize !== 64 || instruction.segment >= FS,
      vex: isVex(instruction),
      immediate: vectorImmediate(instruction),
    };
  }

  finish(): void {
    if (this.unfinished.size > 0) throw new Error('readForWrite without write');
  }

  constant(width: Width, value: bigint | number): Value {
    return new Known(width, BigInt(value));
  }

  private wrap(x: Value, y: Value, operation: (x: bigint, y: bigint) => bigint): Value {
    return new Known(widthsMatch(x, y), operation(bits(x), bits(y)));
  }
  add(x: Value, y: Value): Value {
    return this.wrap(x, y, (p, q) => p + q);
  }
  sub(x: Value, y: Value): Value {
    return this.wrap(x, y, (p, q) => p - q);
  }
  mul(x: Value, y: Value): Value {
    return this.wrap(x, y, (p, q) => p * q);
  }
  mulHighUnsigned(x: Value, y: Value): Value {
    return this.wrap(x, y, (p, q) => (p * q) >> BigInt(x.width));
  }
  mulHighSigned(x: Value, y: Value): Value {
    const width = widthsMatch(x, y);
    return new Known(width, multiplyHighSigned(width, bits(x), bits(y)));
  }
  divideUnsigned(
    high: Value,
    low: Value,
    divisor: Value,
  ): { quotient: Value; remainder: Value; fits: Value } {
    const width = widthsMatch(high, low);
    widthsMatch(low, divisor);
    const { quotient, remainder, fits } = divide(width, bits(high), bits(low), bits(divisor));
    return { quotient: new Known(width, quotient), remainder: new Known(width, remainder), fits: flag(fits) };
  }
  and(x: Value, y: Value): Value {
    return this.wrap(x, y, (p, q) => p & q);
  }
  or(x: Value, y: Value): Value {
    return this.wrap(x, y, (p, q) => p | q);
  }
  xor(x: Value, y: Value): Value {
    return this.wrap(x, y, (p, q) => p ^ q);
  }
  not(x: Value): Value {
    return new Known(x.width, ~bits(x));
  }
  neg(x: Value): Value {
    return new Known(x.width, -bits(x));
  }
  shl(x: Value, count: Value): Value {
    return new Known(x.width, shiftLeft(x.width, bits(x), bits(count)));
  }
  shr(x: Value, count: Value): Value {
    return new Known(x.width, shiftRight(x.width, bits(x), bits(count)));
  }
  sar(x: Value, count: Value): Value {
    return new Known(x.width, shiftRightArithmetic(x.width, bits(x), bits(count)));
  }
  rotl(x: Value, count: Value): Value {
    return new Known(x.width, rotateLeft(x.width, bits(x), bits(count)));
  }
  rotr(x: Value, count: Value): Value {
    return new Known(x.width, rotateRight(x.width, bits(x), bits(count)));
  }
  countLeadingZeros(x: Value): Value {
    return new Known(x.width, BigInt(leadingZeros(x.width, bits(x))));
  }
  countTrailingZeros(x: Value): Value {
    return new Known(x.width, BigInt(trailingZeros(x.width, bits(x))));
  }
  countOnes(x: Value): Value {
    return new Known(x.width, BigInt(countOnes(bits(x))));
  }

  eq(x: Value, y: Value): Value {
    widthsMatch(x, y);
    return flag(bits(x) === bits(y));
  }
  ne(x: Value, y: Value): Value {
    return this.not(this.eq(x, y));
  }
  ltUnsigned(x: Value, y: Value): Value {
    widthsMatch(x, y);
    return flag(bits(x) < bits(y));
  }
  leUnsigned(x: Value, y: Value): Value {
    widthsMatch(x, y);
    return flag(bits(x) <= bits(y));
  }
  ltSigned(x: Value, y: Value): Value {
    widthsMatch(x, y);
    return flag(signed(x) < signed(y));
  }
  leSigned(x: Value, y: Value): Value {
    widthsMatch(x, y);
    return flag(signed(x) <= signed(y));
  }
  select(condition: Value, whenTrue: Value, whenFalse: Value): Value {
    widthsMatch(whenTrue, whenFalse);
    return new Known(whenTrue.width, this.holds(condition) ? bits(whenTrue) : bits(whenFalse));
  }
  private holds(condition: Value): boolean {
    if (condition.width !== 1) throw new Error(`condition of width ${condition.width}`);
    return bits(condition) === 1n;
  }

  zeroExtend(x: Value, width: Width): Value {
    if (width < x.width) throw new Error(`extending width ${x.width} to ${width}`);
    return new Known(width, bits(x));
  }
  signExtend(x: Value, width: Width): Value {
    if (width < x.width) throw new Error(`extending width ${x.width} to ${width}`);
    return new Known(width, signed(x));
  }
  truncate(x: Value, width: Width): Value {
    if (width > x.width) throw new Error(`truncating width ${x.width} to ${width}`);
    return new Known(width, bits(x));
  }

  getRegister(index: number, width: OperandWidth): Value {
    return new Known(width, this.guest.registers[index]);
  }
  setRegister(index: number, value: Value): void {
    const old = this.guest.registers[index];
    const kept = value.width >= 32 ? 0n : (old >> BigInt(value.width)) << BigInt(value.width);
    this.guest.registers[index] = kept | bits(value);
  }
  getAh(): Value {
    return new Known(8, this.guest.registers[RAX] >> 8n);
  }
  setAh(value: Value): void {
    if (value.width !== 8) throw new Error(`AH given width ${value.width}`);
    this.guest.registers[RAX] = (this.guest.registers[RAX] & ~0xff00n) | (bits(value) << 8n);
  }

  private memoryOperand(n: number): MemoryOperand {
    const operand = this.instruction.operands[n];
    if (operand.kind !== 'memory') throw new Error(`operand ${n} is not memory`);
    return operand;
  }
  private memoryWidth(n: number): OperandWidth {
    const { width } = this.memoryOperand(n);
    if (width === 0 || width > 64) throw new Error(`operand ${n} has no width`);
    return width as OperandWidth;
  }
  read(n: number): Value {
    const operand = this.instruction.operands[n];
    switch (operand.kind) {
      case 'register':
        return new Known(operand.width, this.guest.registers[operand.index] >> (operand.high ? 8n : 0n));
      case 'immediate':
        return new Known(operand.width, operand.value);
      case 'memory':
        return this.load('operand', this.effectiveAddress(n), this.memoryWidth(n));
      default:
        throw new Error(`operand ${n} is not to be read`);
    }
  }
  readForWrite(n: number): Value {
    if (this.instruction.operands[n].kind !== 'memory') return this.read(n);
    this.unfinished.add(n);
    const width = this.memoryWidth(n);
    this.probeWrite('operand', this.effectiveAddress(n), width);
    return this.read(n);
  }
  write(n: number, value: Value): void {
    const operand = this.instruction.operands[n];
    this.unfinished.delete(n);
    if (operand.kind === 'memory') {
      if (operand.width !== value.width) throw new Error(`width ${value.width} written to ${operand.width}`);
      this.store('operand', this.effectiveAddress(n), value);
    } else if (operand.kind === 'register') {
      if (operand.width !== value.width) throw new Error(`width ${value.width} written to ${operand.width}`);
      if (operand.high) {
        const old = this.guest.registers[operand.index];
        this.guest.registers[operand.index] = (old & ~0xff00n) | (bits(value) << 8n);
      } else this.setRegister(operand.index, value);
    } else throw new Error(`operand ${n} is not to be written`);
  }
  effectiveAddress(n: number): Value {
    const { base, index, scale, displacement, ripRelative } = this.memoryOperand(n);
    let offset = displacement;
    if (ripRelative) offset += bits(this.nextRip());
    if (base >= 0) offset += this.guest.registers[base];
    if (index >= 0) offset += this.guest.registers[index] << BigInt(scale);
    return new Known(this.instruction.addressSize, offset);
  }
  private linearOf(segment: SegmentReference, offset: Value): bigint {
    const number = { operand: this.instruction.segment, es: ES, ss: SS, ds: DS }[segment];
    const base = this.form.codeSize === 64 && number < FS ? 0n : (this.guest.segmentBases?.[number] ?? 0n);
    return BigInt.asUintN(this.form.codeSize === 64 ? 64 : 32, bits(offset) + base);
  }
  linear(n: number): Value {
    return new Known(64, this.linearOf('operand', this.effectiveAddress(n)));
  }
  relative(n: number): Value {
    const operand = this.instruction.operands[n];
    if (operand.kind !== 'relative') throw new Error(`operand ${n} is not relative`);
    return new Known(64, operand.displacement);
  }

  load(segment: SegmentReference, offset: Value, width: OperandWidth): Value {
    return new Known(width, this.loadBits(this.linearOf(segment, offset), width));
  }
  private loadBits(linear: bigint, width: AccessWidth): bigint {
    let value = 0n;
    for (let i = 0n; i < width / 8; i++) {
      const byte = this.guest.memory.get(linear + i);
      if (byte === undefined) this.pageFault(linear + i, 4);
      else value |= BigInt(byte) << (8n * i);
    }
    return value;
  }
  store(segment: SegmentReference, offset: Value, value: Value): void {
    this.storeBits(this.linearOf(segment, offset), value.width as OperandWidth, bits(value));
  }
  private storeBits(linear: bigint, width: AccessWidth, value: bigint): void {
    this.probe(linear, width);
    this.stored = true;
    for (let i = 0n; i < width / 8; i++)
      this.guest.memory.set(linear + i, Number((value >> (8n * i)) & 0xffn));
  }
  loadForWrite(
    segment: SegmentReference,
    offset: Value,
    width: OperandWidth,
  ): { readonly value: Value; commit(value: Value): void } {
    this.probeWrite(segment, offset, width);
    this.unfinished.add(-1);
    return {
      value: this.load(segment, offset, width),
      commit: (value) => {
        this.unfinished.delete(-1);
        this.store(segment, offset, value);
      },
    };
  }
  probeWrite(segment: SegmentReference, offset: Value, width: OperandWidth): void {
    this.probe(this.linearOf(segment, offset), width);
  }
  private probe(linear: bigint, width: AccessWidth): void {
    for (let address = linear; address < linear + BigInt(width / 8); address++) {
      if (this.guest.memory.get(address) === undefined) this.pageFault(address, 6);
      if (this.guest.readOnlyPages?.has(address >> 12n)) this.pageFault(address, 7);
    }
  }

  /** Segments here have no limits. */
  checkSegment(): void {}

  getFlag(name: StatusFlag | 'df'): Value {
    return flag((this.guest.flags & FLAG_BITS[name]) !== 0n);
  }
  private putFlag(name: StatusFlag | 'df', value: Value): void {
    if (value.width !== 1) throw new Error(`${name} given width ${value.width}`);
    this.guest.flags = (this.guest.flags & ~FLAG_BITS[name]) | (bits(value) ? FLAG_BITS[name] : 0n);
  }
  setFlags({ result, carries, ...single }: FlagEffect): void {
    const effect: Partial<Record<StatusFlag, Value>> = {};
    if (result) {
      effect.zf = flag(bits(result) === 0n);
      effect.sf = flag(signed(result) < 0n);
      effect.pf = flag(countOnes(bits(result) & 0xffn) % 2 === 0);
    }
    if (carries) {
      const top = bits(carries) >> BigInt(carries.width - 2);
      effect.cf = flag(top >= 2n);
      effect.of = flag(top === 1n || top === 2n);
      effect.af = flag((bits(carries) & 8n) !== 0n);
    }
    Object.assign(effect, single);
    for (const [name, value] of Object.entries(effect) as [StatusFlag, Value][]) this.putFlag(name, value);
  }
  setDirectionFlag(value: Value): void {
    this.putFlag('df', value);
  }
  condition(code: number): Value {
    const is = (name: StatusFlag): boolean => bits(this.getFlag(name)) === 1n;
    const less = is('sf') !== is('of');
    const base = [
      is('of'),
      is('cf'),
      is('zf'),
      is('cf') || is('zf'),
      is('sf'),
      is('pf'),
      less,
      less || is('zf'),
    ];
    return flag(base[code >> 1] !== ((code & 1) === 1));
  }

  nextRip(): Value {
    const next = this.guest.rip + BigInt(this.instruction.length);
    return new Known(64, this.form.codeSize === 64 ? next : next & 0xffffffffn);
  }
  checkTarget(target: Value): void {
    const beyond =
      this.form.codeSize === 64
        ? BigInt.asIntN(48, bits(target)) !== signed(target)
        : bits(target) > (this.guest.codeLimit ?? 0xffffffffn);
    if (beyond) this.fault(13, 0);
  }
  setRip(target: Value): void {
    this.guest.rip = bits(target);
    throw new Ended({ kind: 'jump' });
  }
  again(): void {
    throw new Ended({ kind: 'again' });
  }
  fault(vector: number, errorCode?: number): void {
    throw new Ended({ kind: 'fault', vector, errorCode, address: undefined });
  }
  private pageFault(address: bigint, errorCode: number): void {
    throw new Ended({ kind: 'fault', vector: 14, errorCode, address });
  }

  variable(initial: Value): Variable {
    return new Known(initial.width, bits(initial));
  }
  assign(variable: Variable, value: Value): void {
    widthsMatch(variable, value);
    (variable as unknown as Known).bits = bits(value);
  }
  when(condition: Value, then: () => void, otherwise?: () => void): void {
    if (this.holds(condition)) then();
    else otherwise?.();
  }
  loop(condition: () => Value, body: () => void): void {
    while (this.holds(condition())) body();
  }
  lanes(operation: LaneOperation, lane: LaneWidth, x: Value, y: Value): Value {
    const others = lanesOf(bits(y), lane);
    const lanes = lanesOf(bits(x), lane).map((value, i) => laneOperation(operation, lane, value, others[i]));
    return new Known(widthsMatch(x, y), fromLanes(lane, lanes));
  }
  shiftLanes(operation: LaneShift, lane: LaneWidth, x: Value, count: Value): Value {
    const lanes = lanesOf(bits(x), lane).map((value) => laneShift(operation, lane, value, bits(count)));
    return new Known(128, fromLanes(lane, lanes));
  }
  extractLane(lane: LaneWidth, x: Value, index: number): Value {
    return new Known(lane, laneOf(bits(x), lane, index));
  }
  insertLane(lane: LaneWidth, x: Value, index: number, value: Value): Value {
    if (value.width !== lane) throw new Error(`width ${value.width} in a lane of ${lane}`);
    const lanes = lanesOf(bits(x), lane);
    lanes[index] = bits(value);
    return new Known(128, fromLanes(lane, lanes));
  }
  splat(value: Value): Value {
    return new Known(128, fromLanes(value.width, new Array(128 / value.width).fill(bits(value))));
  }
  shuffle(x: Value, y: Value, bytes: readonly number[]): Value {
    if (bytes.length !== 16) throw new Error(`shuffle of ${bytes.length} bytes`);
    return new Known(128, shuffleBytes(bits(x), bits(y), bytes));
  }
  swizzle(x: Value, indices: Value): Value {
    return new Known(128, swizzleBytes(bits(x), bits(indices)));
  }
  narrow(lane: LaneWidth, isSigned: boolean, x: Value, y: Value): Value {
    return new Known(128, narrowLanes(lane, isSigned, bits(x), bits(y)));
  }
  multiplyExtended(lane: LaneWidth, isSigned: boolean, high: boolean, x: Value, y: Value): Value {
    return new Known(128, multiplyLanes(lane, isSigned, high, bits(x), bits(y)));
  }
  signMask(lane: LaneWidth, x: Value): Value {
    return new Known(32, topBits(lane, bits(x)));
  }

  private vectorFile(kind: 'mm' | 'xmm' | 'ymm'): bigint[] {
    const file = kind === 'mm' ? this.guest.mm : this.guest.ymm;
    if (!file) throw new Error(`the guest has no ${kind} registers`);
    return file;
  }
  private vectorLinear(n: number, width: AccessWidth, aligned: boolean): bigint {
    const linear = this.linearOf('operand', this.effectiveAddress(n));
    if (aligned && width > 64 && linear % BigInt(width / 8) !== 0n) this.fault(13, 0);
    return linear;
  }
  readVector(n: number, aligned = false): readonly Value[] {
    const operand = this.instruction.operands[n];
    let value: bigint;
    if (operand.kind === 'memory' && operand.width !== 0)
      value = this.loadBits(this.vectorLinear(n, operand.width, aligned), operand.width);
    else if (operand.kind === 'mm' || operand.kind === 'xmm' || operand.kind === 'ymm')
      value = BigInt.asUintN(operand.width, this.vectorFile(operand.kind)[operand.index]);
    else throw new Error(`operand ${n} is no vector`);
    const parts = operand.width === 256 ? [value, value >> 128n] : [value];
    return parts.map((part) => new Known(128, part));
  }
  writeVector(n: number, parts: readonly Value[], aligned = false): void {
    const operand = this.instruction.operands[n];
    const value = BigInt.asUintN(
      'width' in operand ? operand.width : 0,
      fromLanes(
        128,
        parts.map((part) => bits(part)),
      ),
    );
    if (operand.kind === 'memory' && operand.width !== 0)
      this.storeBits(this.vectorLinear(n, operand.width, aligned), operand.width, value);
    else if (operand.kind === 'mm' || operand.kind === 'xmm' || operand.kind === 'ymm') {
      const file = this.vectorFile(operand.kind);
      const kept = this.form.vex
        ? 0n
        : (file[operand.index] >> BigInt(operand.width)) << BigInt(operand.width);
      file[operand.index] = kept | value;
    } else throw new Error(`operand ${n} is no vector`);
  }
  getXmm(index: number): Value {
    return new Known(128, this.vectorFile('xmm')[index]);
  }
  setXmm(index: number, value: Value): void {
    const file = this.vectorFile('xmm');
    file[index] = (this.form.vex ? 0n : (file[index] >> 128n) << 128n) | bits(value);
  }
  clearUpper(index: number): void {
    const file = this.vectorFile('ymm');
    file[index] = BigInt.asUintN(128, file[index]);
  }
  checkX87(): void {
    if (this.guest.x87 === 'pending exception') this.fault(16);
  }
  setX87(tags: 'valid' | 'empty' | 'kept'): void {
    if (tags !== 'kept') this.guest.x87 = tags;
  }

  system(): void {
    throw new Error('no system instructions here');
  }
}

/**
 * Executes `instruction` once on `guest` (one iteration of a repeated one). RIP moves on unless it faults or runs again.
 * @throws Error where a semantic breaks a rule of the builder
 */
export function evaluate(
  instruction: Instruction,
  guest: Guest,
  stackSize: CodeSize = instruction.codeSize,
): Outcome {
  const before = snapshot(guest);
  const evaluator = new Evaluator(instruction, guest, stackSize);
  try {
    meanings[instruction.mnemonic as BuilderMnemonic](evaluator);
  } catch (ended) {
    if (!(ended instanceof Ended)) throw ended;
    if (ended.outcome.kind !== 'fault') evaluator.finish();
    else if (!PARTIAL.has(instruction.mnemonic) && (evaluator.stored || snapshot(guest) !== before)) {
      throw new Error(`${instruction.mnemonic}: state changed before a fault`);
    }
    return ended.outcome;
  }
  evaluator.finish();
  guest.rip = bits(evaluator.nextRip());
  return { kind: 'next' };
}

/** What these stored or loaded before a fault stays, as on the processor. */
const PARTIAL: ReadonlySet<string> = new Set<string>([
  'call',
  'enter',
  'pusha',
  'popa',
  ...gatherMnemonics,
  // From an MM register.
  'movd',
  'movq',
  'movntq',
  'maskmovq',
]);

function snapshot({ registers, flags, rip, ymm = [], mm = [], x87 }: Guest): string {
  return [...registers, flags, rip, ...ymm, ...mm, x87].join();
}

/** A register operand. */
export function register(index: number, width: OperandWidth, high = false): Instruction['operands'][number] {
  return { kind: 'register', index, width, high };
}

/** An immediate operand; `value` may be negative. */
export function immediate(width: OperandWidth, value: bigint | number): Instruction['operands'][number] {
  return { kind: 'immediate', width, value: BigInt.asUintN(width, BigInt(value)) };
}

/** A memory operand [base + displacement] in DS. */
export function memory(
  width: AccessWidth | 0,
  base: number,
  displacement = 0n,
): Instruction['operands'][number] {
  return {
    kind: 'memory',
    width,
    segment: base === RSP ? SS : DS,
    base,
    index: -1,
    scale: 0,
    displacement,
    ripRelative: false,
  };
}

/** An instruction of 64-bit code but for what is given. */
export function instruction(
  mnemonic: BuilderMnemonic,
  operandSize: OperandWidth,
  operands: Instruction['operands'],
  rest: Partial<Instruction> = {},
): Instruction {
  return {
    mnemonic,
    length: 4,
    codeSize: 64,
    operandSize,
    addressSize: 64,
    operands,
    condition: 0,
    repeat: '',
    lock: false,
    segment: DS,
    ...rest,
  };
}
