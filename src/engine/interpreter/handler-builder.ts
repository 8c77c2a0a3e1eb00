/**
 * The interpreter's builder: turns a semantic into the body of a WebAssembly handler.
 *
 * A handler is a function (state address, op address) -> status. Values of width 1 to 32 are i32 locals,
 * zero-extended; values of width 64 are i64 locals, of width 128 v128 locals. Every operation is emitted where it is called, so that the order
 * of effects is the order of the text.
 */
import type {
  Builder,
  FlagEffect,
  FloatOperations,
  SegmentReference,
  StatusFlag,
  Value,
  Variable,
  Width,
} from '../../isa/builder.ts';
import type { OperandWidth } from '../../isa/instruction.ts';
import type { LaneOperation, LaneShift, LaneWidth } from '../../isa/lanes.ts';
import { CS, DS, ES, offsetOf, RAX, RCX, RDI, RSI, type SegmentNumber, SS } from '../../isa/state.ts';
import { FAST_TLB_ENTRIES } from '../layout.ts';
import {
  type Code,
  I32,
  I64,
  Lane,
  Memory,
  Op,
  V128,
  type ValueType,
  Vector,
  VectorMemory,
} from '../wasm/code.ts';
import type { HandlerForm } from './handler-form.ts';
import {
  AGAIN,
  FAULT,
  JUMP,
  NEXT,
  OP_BASE,
  OP_DISPLACEMENT,
  OP_IMMEDIATE,
  OP_IMMEDIATE_2,
  OP_INDEX,
  OP_NEXT,
  OP_SCALE,
  OP_SEGMENT,
  OP_SEGMENT_BASE,
  registerField,
} from './op.ts';

/** Parameters of a handler. */
export const CPU = 0;
export const OP = 1;

/** Bits of the `access` argument of the slow paths: size in bytes, write intent, stack segment. */
export const ACCESS_SIZE = 0x3f;
export const ACCESS_WRITE = 0x40;
const STACK_POSITION = 7;
export const ACCESS_STACK = 1 << STACK_POSITION;

const PAGE_BYTES = 4096;
/** So many iterations at least are worth being made one. */
const LEAST_HASTENED = 4;

/** Function indices of the imports of a handler module, in this order. */
export const IMPORTS = {
  /** (cpu, linear, access) -> host address, or 0 after recording a fault. */
  load: 0,
  /** (cpu, linear, access, value) -> 1, or 0 after recording a fault. */
  store: 1,
  /** (cpu, linear, access) -> 1, or 0 after recording a fault. */
  probe: 2,
  /** (cpu, op) -> status. */
  system: 3,
  /** (cpu, high, low, divisor) -> quotient; the remainder and whether it fits go to `bounce`. */
  divide: 4,
  /** (cpu, op) -> status; for what the machine does not have. */
  unimplemented: 5,
  /** (cpu, linear, access) -> 1, or 0 after recording a fault; stores the first bytes of `bounce`. */
  storeVector: 6,
} as const;

const GP = 13;
const STACK_FAULT = 12;
const MF = 16;
/** x87 status word: an unmasked exception is pending; number of the register on top of the stack. */
const FSW_ES = 0x80;
const FSW_TOP = 0x3800;
const PAGE_MASK = -0x1000n;

/** The lazy fields that hold the status flags (isa/state.ts). */
export type FlagsField = 'flagsZero' | 'flagsSign' | 'flagsCarry';

interface WasmValue extends Value {
  readonly local: number;
}

function typeOf(width: Width): ValueType {
  return width === 64 ? I64 : width === 128 ? V128 : I32;
}

/** Vector instructions by operation and lane width; -1 where there is none. */
const FLOAT_OPERATIONS = {
  add: { 32: Vector.f32x4Add, 64: Vector.f64x2Add },
  sub: { 32: Vector.f32x4Sub, 64: Vector.f64x2Sub },
  mul: { 32: Vector.f32x4Mul, 64: Vector.f64x2Mul },
  div: { 32: Vector.f32x4Div, 64: Vector.f64x2Div },
  sqrt: { 32: Vector.f32x4Sqrt, 64: Vector.f64x2Sqrt },
} as const;
const LANE_OPERATIONS: Readonly<Record<LaneOperation | LaneShift, Readonly<Record<LaneWidth, number>>>> = {
  add: { 8: Vector.i8x16Add, 16: Vector.i16x8Add, 32: Vector.i32x4Add, 64: Vector.i64x2Add },
  sub: { 8: Vector.i8x16Sub, 16: Vector.i16x8Sub, 32: Vector.i32x4Sub, 64: Vector.i64x2Sub },
  mul: { 8: -1, 16: Vector.i16x8Mul, 32: Vector.i32x4Mul, 64: Vector.i64x2Mul },
  addSaturatingSigned: { 8: Vector.i8x16AddSatS, 16: Vector.i16x8AddSatS, 32: -1, 64: -1 },
  addSaturatingUnsigned: { 8: Vector.i8x16AddSatU, 16: Vector.i16x8AddSatU, 32: -1, 64: -1 },
  subSaturatingSigned: { 8: Vector.i8x16SubSatS, 16: Vector.i16x8SubSatS, 32: -1, 64: -1 },
  subSaturatingUnsigned: { 8: Vector.i8x16SubSatU, 16: Vector.i16x8SubSatU, 32: -1, 64: -1 },
  minSigned: { 8: Vector.i8x16MinS, 16: Vector.i16x8MinS, 32: Vector.i32x4MinS, 64: -1 },
  minUnsigned: { 8: Vector.i8x16MinU, 16: Vector.i16x8MinU, 32: Vector.i32x4MinU, 64: -1 },
  maxSigned: { 8: Vector.i8x16MaxS, 16: Vector.i16x8MaxS, 32: Vector.i32x4MaxS, 64: -1 },
  maxUnsigned: { 8: Vector.i8x16MaxU, 16: Vector.i16x8MaxU, 32: Vector.i32x4MaxU, 64: -1 },
  average: { 8: Vector.i8x16AvgrU, 16: Vector.i16x8AvgrU, 32: -1, 64: -1 },
  eq: { 8: Vector.i8x16Eq, 16: Vector.i16x8Eq, 32: Vector.i32x4Eq, 64: Vector.i64x2Eq },
  gtSigned: { 8: Vector.i8x16GtS, 16: Vector.i16x8GtS, 32: Vector.i32x4GtS, 64: Vector.i64x2GtS },
  shl: { 8: Vector.i8x16Shl, 16: Vector.i16x8Shl, 32: Vector.i32x4Shl, 64: Vector.i64x2Shl },
  shr: { 8: Vector.i8x16ShrU, 16: Vector.i16x8ShrU, 32: Vector.i32x4ShrU, 64: Vector.i64x2ShrU },
  sar: { 8: Vector.i8x16ShrS, 16: Vector.i16x8ShrS, 32: Vector.i32x4ShrS, 64: Vector.i64x2ShrS },
};
/** Products of the low halves' lanes, signed; high halves' and unsigned ones follow in the order of these offsets. */
const EXTENDED_PRODUCTS: Readonly<Record<LaneWidth, number>> = {
  8: Vector.i16x8ExtmulLowS,
  16: Vector.i32x4ExtmulLowS,
  32: Vector.i64x2ExtmulLowS,
  64: -1,
};
const BITMASKS: Readonly<Record<LaneWidth, number>> = {
  8: Vector.i8x16Bitmask,
  16: Vector.i16x8Bitmask,
  32: Vector.i32x4Bitmask,
  64: Vector.i64x2Bitmask,
};
const SPLATS: Readonly<Record<LaneWidth, number>> = {
  8: Vector.i8x16Splat,
  16: Vector.i16x8Splat,
  32: Vector.i32x4Splat,
  64: Vector.i64x2Splat,
};
const EXTRACTIONS: Readonly<Record<LaneWidth, number>> = {
  8: Lane.i8x16ExtractU,
  16: Lane.i16x8ExtractU,
  32: Lane.i32x4Extract,
  64: Lane.i64x2Extract,
};
const REPLACEMENTS: Readonly<Record<LaneWidth, number>> = {
  8: Lane.i8x16Replace,
  16: Lane.i16x8Replace,
  32: Lane.i32x4Replace,
  64: Lane.i64x2Replace,
};

function localOf(value: Value): number {
  return (value as WasmValue).local;
}

/** A memory access that has been checked and translated for writing. */
interface Translated {
  readonly host: number;
  readonly linear: number;
  readonly access: number;
}

export class HandlerBuilder implements Builder {
  readonly form: HandlerForm;
  protected readonly code: Code;
  private readonly translated = new Map<number, Translated>();
  /** NEXT, or STOP once a slow path has asked for it; made by the first access to memory. */
  protected status: number | undefined;

  constructor(form: HandlerForm, code: Code) {
    this.form = form;
    this.code = code;
  }

  private fresh(width: Width): WasmValue {
    return { width, local: this.code.local(typeOf(width)) };
  }

  /** Leaves the status of a handler that came to its end. */
  finish(): void {
    if (this.status === undefined) this.code.i32(NEXT);
    else this.code.get(this.status);
  }

  /** Offsets in ES, SS and DS are linear addresses (CONTEXT_FLAT). */
  protected readonly flat: boolean = false;

  /** The instruction's segment, where it is known when code is made. */
  protected readonly segment: SegmentNumber | undefined = undefined;

  /** No slow path is taken: {@link leave} is emitted in its place. */
  protected readonly alwaysFast: boolean = false;

  /** Leaves before a slow path, where none is taken. */
  protected leave(): void {}

  /** To be emitted before a call of a slow path: tells which instruction is in progress. */
  protected enterSlowPath(): void {
    this.code.get(CPU).get(OP).memory(Memory.i32Store, offsetOf('slowOp'));
  }

  /** To be emitted after it: the slow path may have asked to stop. */
  protected leaveSlowPath(): void {
    this.status ??= this.code.local(I32);
    this.code.get(CPU).memory(Memory.i32Load, offsetOf('stop')).set(this.status);
  }

  /** Takes the value on top of the stack. */
  protected take(width: Width): WasmValue {
    const value = this.fresh(width);
    this.code.set(value.local);
    return value;
  }

  protected push(value: Value): Code {
    return this.code.get(localOf(value));
  }

  /** Clears the bits of the i32 on the stack above an 8- or 16-bit width. */
  protected wrap(width: Width): void {
    if (width === 8) this.code.i32(0xff).op(Op.i32And);
    else if (width === 16) this.code.i32(0xffff).op(Op.i32And);
    else if (width === 1) this.code.i32(1).op(Op.i32And);
  }

  private binary(x: Value, y: Value, op32: number, op64: number, wraps: boolean): Value {
    if (x.width !== y.width)
      throw new Error(`${this.form.mnemonic}: operands of widths ${x.width} and ${y.width}`);
    this.push(x);
    this.push(y).op(x.width === 64 ? op64 : op32);
    if (wraps) this.wrap(x.width);
    return this.take(x.width);
  }

  private vectorBinary(x: Value, y: Value, opcode: number): Value {
    if (opcode < 0 || x.width !== 128 || y.width !== 128)
      throw new Error(`${this.form.mnemonic}: no such operation on vectors`);
    this.push(x);
    this.push(y).vector(opcode);
    return this.take(128);
  }

  /** The value sign-extended to its WebAssembly type, on the stack. */
  private pushSigned(x: Value): Code {
    this.push(x);
    if (x.width === 8) this.code.op(Op.i32Extend8S);
    else if (x.width === 16) this.code.op(Op.i32Extend16S);
    return this.code;
  }

  /** The value zero-extended to an i64, on the stack. */
  protected push64(x: Value): Code {
    this.push(x);
    if (x.width !== 64) this.code.op(Op.i64ExtendI32U);
    return this.code;
  }

  constant(width: Width, value: bigint | number): Value {
    const bits = BigInt.asUintN(width, BigInt(value));
    if (width === 128) this.code.v128(bits);
    else if (width === 64) this.code.i64(bits);
    else this.code.i32(Number(bits));
    return this.take(width);
  }

  add(x: Value, y: Value): Value {
    return this.binary(x, y, Op.i32Add, Op.i64Add, true);
  }
  sub(x: Value, y: Value): Value {
    return this.binary(x, y, Op.i32Sub, Op.i64Sub, true);
  }
  mul(x: Value, y: Value): Value {
    return this.binary(x, y, Op.i32Mul, Op.i64Mul, true);
  }
  and(x: Value, y: Value): Value {
    if (x.width === 128) return this.vectorBinary(x, y, Vector.and);
    return this.binary(x, y, Op.i32And, Op.i64And, false);
  }
  or(x: Value, y: Value): Value {
    if (x.width === 128) return this.vectorBinary(x, y, Vector.or);
    return this.binary(x, y, Op.i32Or, Op.i64Or, false);
  }
  xor(x: Value, y: Value): Value {
    if (x.width === 128) return this.vectorBinary(x, y, Vector.xor);
    return this.binary(x, y, Op.i32Xor, Op.i64Xor, false);
  }
  not(x: Value): Value {
    this.push(x);
    if (x.width === 128) {
      this.code.vector(Vector.not);
      return this.take(128);
    }
    if (x.width === 64) this.code.i64(-1n).op(Op.i64Xor);
    else this.code.i32(-1).op(Op.i32Xor);
    this.wrap(x.width);
    return this.take(x.width);
  }
  neg(x: Value): Value {
    if (x.width === 64) this.code.i64(0n);
    else this.code.i32(0);
    this.push(x).op(x.width === 64 ? Op.i64Sub : Op.i32Sub);
    this.wrap(x.width);
    return this.take(x.width);
  }

  mulHighUnsigned(x: Value, y: Value): Value {
    const width = x.width;
    if (width === 64) return this.mulHigh64(x, y);
    this.push64(x);
    this.push64(y).op(Op.i64Mul).i64(BigInt(width)).op(Op.i64ShrU).op(Op.i32WrapI64);
    return this.take(width);
  }

  mulHighSigned(x: Value, y: Value): Value {
    const width = x.width;
    if (width === 64) {
      // signed high = unsigned high - (x < 0 ? y : 0) - (y < 0 ? x : 0)
      const high = this.mulHigh64(x, y);
      this.push(high);
      this.push(x).i64(63n).op(Op.i64ShrS);
      this.push(y).op(Op.i64And).op(Op.i64Sub);
      this.push(y).i64(63n).op(Op.i64ShrS);
      this.push(x).op(Op.i64And).op(Op.i64Sub);
      return this.take(64);
    }
    this.pushSigned(x).op(Op.i64ExtendI32S);
    this.pushSigned(y).op(Op.i64ExtendI32S).op(Op.i64Mul).i64(BigInt(width)).op(Op.i64ShrU).op(Op.i32WrapI64);
    this.wrap(width);
    return this.take(width);
  }

  /** High half of a 64x64-bit product from four 32x32-bit ones. */
  private mulHigh64(x: Value, y: Value): Value {
    const part = (value: Value, high: boolean) => {
      this.push(value);
      if (high) this.code.i64(32n).op(Op.i64ShrU);
      else this.code.i64(0xffffffffn).op(Op.i64And);
      return this.take(64);
    };
    const [xl, xh, yl, yh] = [part(x, false), part(x, true), part(y, false), part(y, true)];
    const cross = this.add(this.mul(xh, yl), part(this.mul(xl, yl), true));
    const other = this.add(this.mul(xl, yh), part(cross, false));
    return this.add(this.add(this.mul(xh, yh), part(cross, true)), part(other, true));
  }

  divideUnsigned(
    high: Value,
    low: Value,
    divisor: Value,
  ): { quotient: Value; remainder: Value; fits: Value } {
    const width = low.width;
    const fits = this.ltUnsigned(high, divisor);
    const quotient = this.fresh(width);
    const remainder = this.fresh(width);
    const { code } = this;
    if (width === 64) {
      this.push(fits).if();
      this.push(high).op(Op.i64Eqz).if();
      this.push(low);
      this.push(divisor).op(Op.i64DivU).set(quotient.local);
      this.push(low);
      this.push(divisor).op(Op.i64RemU).set(remainder.local);
      code.op(Op.else);
      if (this.alwaysFast) this.leave();
      else {
        code.get(CPU);
        this.push(high);
        this.push(low);
        this.push(divisor).call(IMPORTS.divide).set(quotient.local);
        code.get(CPU).memory(Memory.i64Load, offsetOf('bounce')).set(remainder.local);
      }
      code.op(Op.end).op(Op.end);
      return { quotient, remainder, fits };
    }
    const dividend = code.local(I64);
    this.push64(high).i64(BigInt(width)).op(Op.i64Shl);
    this.push64(low).op(Op.i64Or).set(dividend);
    this.push(fits).if();
    code.get(dividend);
    this.push64(divisor).op(Op.i64DivU).op(Op.i32WrapI64).set(quotient.local);
    code.get(dividend);
    this.push64(divisor).op(Op.i64RemU).op(Op.i32WrapI64).set(remainder.local);
    code.op(Op.end);
    return { quotient, remainder, fits };
  }

  /** The shift count on the stack in the type that a shift of `width` wants. */
  private pushCount(count: Value, width: Width): Code {
    this.push(count);
    if (width === 64 && count.width !== 64) this.code.op(Op.i64ExtendI32U);
    if (width !== 64 && count.width === 64) this.code.op(Op.i32WrapI64);
    return this.code;
  }

  shl(x: Value, count: Value): Value {
    this.push(x);
    this.pushCount(count, x.width).op(x.width === 64 ? Op.i64Shl : Op.i32Shl);
    this.wrap(x.width);
    return this.take(x.width);
  }
  shr(x: Value, count: Value): Value {
    this.push(x);
    this.pushCount(count, x.width).op(x.width === 64 ? Op.i64ShrU : Op.i32ShrU);
    return this.take(x.width);
  }
  sar(x: Value, count: Value): Value {
    this.pushSigned(x);
    this.pushCount(count, x.width).op(x.width === 64 ? Op.i64ShrS : Op.i32ShrS);
    this.wrap(x.width);
    return this.take(x.width);
  }
  rotl(x: Value, count: Value): Value {
    return this.rotate(x, count, true);
  }
  rotr(x: Value, count: Value): Value {
    return this.rotate(x, count, false);
  }
  private rotate(x: Value, count: Value, left: boolean): Value {
    const { code } = this;
    if (x.width === 64 || x.width === 32) {
      const op = x.width === 64 ? (left ? Op.i64Rotl : Op.i64Rotr) : left ? Op.i32Rotl : Op.i32Rotr;
      this.push(x);
      this.pushCount(count, x.width).op(op);
      return this.take(x.width);
    }
    this.push(x);
    this.pushCount(count, x.width).op(left ? Op.i32Shl : Op.i32ShrU);
    this.push(x);
    code.i32(x.width);
    this.pushCount(count, x.width).op(Op.i32Sub);
    code.op(left ? Op.i32ShrU : Op.i32Shl).op(Op.i32Or);
    this.wrap(x.width);
    return this.take(x.width);
  }

  countLeadingZeros(x: Value): Value {
    this.push(x).op(x.width === 64 ? Op.i64Clz : Op.i32Clz);
    if (x.width < 32) this.code.i32(32 - x.width).op(Op.i32Sub);
    return this.take(x.width);
  }
  countTrailingZeros(x: Value): Value {
    this.push(x);
    if (x.width < 32) this.code.i32(1 << x.width).op(Op.i32Or);
    this.code.op(x.width === 64 ? Op.i64Ctz : Op.i32Ctz);
    return this.take(x.width);
  }
  countOnes(x: Value): Value {
    this.push(x).op(x.width === 64 ? Op.i64Popcnt : Op.i32Popcnt);
    return this.take(x.width);
  }

  private compare(x: Value, y: Value, op32: number, op64: number, isSigned: boolean): Value {
    if (x.width !== y.width)
      throw new Error(`${this.form.mnemonic}: comparing widths ${x.width} and ${y.width}`);
    if (isSigned) {
      this.pushSigned(x);
      this.pushSigned(y);
    } else {
      this.push(x);
      this.push(y);
    }
    this.code.op(x.width === 64 ? op64 : op32);
    return this.take(1);
  }
  eq(x: Value, y: Value): Value {
    return this.compare(x, y, Op.i32Eq, Op.i64Eq, false);
  }
  ne(x: Value, y: Value): Value {
    return this.compare(x, y, Op.i32Ne, Op.i64Ne, false);
  }
  ltUnsigned(x: Value, y: Value): Value {
    return this.compare(x, y, Op.i32LtU, Op.i64LtU, false);
  }
  leUnsigned(x: Value, y: Value): Value {
    return this.compare(x, y, Op.i32LeU, Op.i64LeU, false);
  }
  ltSigned(x: Value, y: Value): Value {
    return this.compare(x, y, Op.i32LtS, Op.i64LtS, true);
  }
  leSigned(x: Value, y: Value): Value {
    return this.compare(x, y, Op.i32LeS, Op.i64LeS, true);
  }

  select(condition: Value, whenTrue: Value, whenFalse: Value): Value {
    this.push(whenTrue);
    this.push(whenFalse);
    this.push(condition).op(Op.select);
    return this.take(whenTrue.width);
  }

  zeroExtend(x: Value, width: Width): Value {
    if (width === x.width) return x;
    if (width === 128) {
      this.code.v128(0n);
      this.push64(x).lane(Lane.i64x2Replace, 0);
      return this.take(128);
    }
    this.push(x);
    if (width === 64) this.code.op(Op.i64ExtendI32U);
    return this.take(width);
  }
  signExtend(x: Value, width: Width): Value {
    if (width === x.width) return x;
    if (x.width === 1) {
      this.code.i32(0);
      this.push(x).op(Op.i32Sub);
    } else {
      this.pushSigned(x);
    }
    if (width === 64) this.code.op(Op.i64ExtendI32S);
    else this.wrap(width);
    return this.take(width);
  }
  truncate(x: Value, width: Width): Value {
    if (width === x.width) return x;
    this.push(x);
    if (x.width === 128) {
      this.code.lane(EXTRACTIONS[width === 1 ? 8 : (width as LaneWidth)], 0);
      if (width === 1) this.wrap(1);
      return this.take(width);
    }
    if (x.width === 64) this.code.op(Op.i32WrapI64);
    this.wrap(width);
    return this.take(width);
  }

  getRegister(index: number, width: OperandWidth): Value {
    this.code.get(CPU).memory(loadOpcode(width), offsetOf('gpr', index));
    return this.take(width);
  }
  setRegister(index: number, value: Value): void {
    this.code.get(CPU);
    this.storeRegister(value, offsetOf('gpr', index));
  }
  getAh(): Value {
    this.code.get(CPU).memory(Memory.i32Load8U, offsetOf('gpr', RAX) + 1);
    return this.take(8);
  }
  setAh(value: Value): void {
    this.code.get(CPU);
    this.push(value).memory(Memory.i32Store8, offsetOf('gpr', RAX) + 1);
  }

  /** Reads the register of operand `n`. */
  protected readRegisterOperand(n: number, width: OperandWidth): Value {
    this.pushRegisterAddress(n).memory(loadOpcode(width), 0);
    return this.take(width);
  }

  /** Writes the register of operand `n`. */
  protected writeRegisterOperand(n: number, value: Value): void {
    this.pushRegisterAddress(n);
    this.storeRegister(value, 0);
  }

  /** Stores a register value at the address on the stack: 32 bits are zero-extended to 64. */
  private storeRegister(value: Value, offset: number): void {
    if (value.width >= 32) this.push64(value).memory(Memory.i64Store, offset);
    else this.push(value).memory(value.width === 16 ? Memory.i32Store16 : Memory.i32Store8, offset);
  }

  /** Address of register operand `n`, on the stack. */
  private pushRegisterAddress(n: number): Code {
    return this.code.get(CPU).get(OP).memory(Memory.i32Load, registerField(n)).op(Op.i32Add);
  }

  private operandWidth(n: number): OperandWidth {
    const { width } = this.form.operands[n];
    if (width === 0 || width > 64) throw new Error(`${this.form.mnemonic}: operand ${n} has no width`);
    return width as OperandWidth;
  }

  read(n: number): Value {
    const { kind } = this.form.operands[n];
    const width = this.operandWidth(n);
    switch (kind) {
      case 'register':
        return this.readRegisterOperand(n, width);
      case 'immediate':
        return this.readImmediate(n, width);
      case 'memory':
        return this.load('operand', this.effectiveAddress(n), width);
      default:
        throw new Error(`${this.form.mnemonic}: operand ${n} is not read so`);
    }
  }

  protected readImmediate(n: number, width: OperandWidth): Value {
    const second = this.form.operands.findIndex((operand) => operand.kind === 'immediate') !== n;
    this.code.get(OP);
    if (second) this.code.memory(Memory.i32Load, OP_IMMEDIATE_2);
    else this.code.memory(loadOpcode(width), OP_IMMEDIATE);
    return this.take(width);
  }

  readForWrite(n: number): Value {
    if (this.form.operands[n].kind !== 'memory') return this.read(n);
    const width = this.operandWidth(n);
    const translated = this.translateForWrite('operand', this.effectiveAddress(n), width);
    this.translated.set(n, translated);
    this.code.get(translated.host).memory(loadOpcode(width), 0);
    return this.take(width);
  }

  write(n: number, value: Value): void {
    if (this.form.operands[n].kind === 'register') {
      this.writeRegisterOperand(n, value);
      return;
    }
    const translated = this.translated.get(n);
    if (translated) this.commit(translated, value);
    else this.store('operand', this.effectiveAddress(n), value);
  }

  effectiveAddress(n: number): Value {
    const { addressSize, addressForm, codeSize } = this.form;
    const { code } = this;
    const wide = addressSize === 64;
    const add = wide ? Op.i64Add : Op.i32Add;
    if (addressForm === 'rip') {
      this.push(this.nextRip());
      if (!wide) code.op(Op.i32WrapI64);
    } else this.pushBase(n);
    if (addressForm === 'indexed') {
      this.pushIndex(n);
      code.op(add);
    }
    this.pushDisplacement(n);
    code.op(add);
    if (addressSize === 16) this.wrap(16);
    if (codeSize === 64 && addressSize === 16)
      throw new Error('16-bit addresses do not exist in 64-bit code');
    return this.take(addressSize);
  }

  private pushAddressRegister(field: number): Code {
    return this.code
      .get(CPU)
      .get(OP)
      .memory(Memory.i32Load, field)
      .op(Op.i32Add)
      .memory(this.form.addressSize === 64 ? Memory.i64Load : Memory.i32Load, 0);
  }

  /** The base register of memory operand `n` on the stack, in the type of the address size; 0 without one. */
  protected pushBase(_n: number): void {
    this.pushAddressRegister(OP_BASE);
  }

  /** Its index register, scaled. */
  protected pushIndex(_n: number): void {
    this.pushAddressRegister(OP_INDEX).get(OP);
    if (this.form.addressSize === 64) this.code.memory(Memory.i64Load8U, OP_SCALE).op(Op.i64Shl);
    else this.code.memory(Memory.i32Load8U, OP_SCALE).op(Op.i32Shl);
  }

  protected pushDisplacement(_n: number): void {
    const opcode = this.form.addressSize === 64 ? Memory.i64Load : Memory.i32Load;
    this.code.get(OP).memory(opcode, OP_DISPLACEMENT);
  }

  linear(n: number): Value {
    const { code, form } = this;
    this.push64(this.effectiveAddress(n));
    if (form.codeSize !== 64 || form.segmented) {
      this.pushSegmentBase(undefined);
      code.op(Op.i64Add);
    }
    return this.take(64);
  }

  relative(_n: number): Value {
    this.code.get(OP).memory(Memory.i64Load, OP_IMMEDIATE);
    return this.take(64);
  }

  protected returnStatus(status: number): void {
    this.code.i32(status).op(Op.return);
  }

  /** The linear address of an access, checked against the segment where there is something to check; a local. */
  private linearAddress(
    segment: SegmentReference,
    offset: Value,
    bytes: number,
    write: boolean,
    aligned = false,
  ): number {
    const { code, form } = this;
    const linear = code.local(I64);
    if (aligned) {
      // Before all other checks (measured on Intel silicon).
      this.push64(offset);
      if (form.segmented) {
        this.pushSegmentBase(undefined);
        code.op(Op.i64Add);
      }
      code
        .op(Op.i32WrapI64)
        .i32(bytes - 1)
        .op(Op.i32And)
        .if();
      this.fault(GP, 0);
      code.op(Op.end);
    }
    if (form.codeSize === 64) {
      this.push64(offset);
      if (segment === 'operand' && form.segmented) {
        this.pushSegmentBase(undefined);
        code.op(Op.i64Add);
      }
      code.set(linear);
      return linear;
    }
    const fixed: SegmentNumber | undefined =
      segment === 'es' ? ES : segment === 'ss' ? SS : segment === 'ds' ? DS : undefined;
    const actual = fixed ?? this.segment;
    if (this.flat && (actual === ES || actual === SS || actual === DS)) {
      this.push64(offset).set(linear);
      return linear;
    }
    const low = offsetOf(write ? 'segWriteLow' : 'segReadLow', fixed ?? 0);
    const high = offsetOf(write ? 'segWriteHigh' : 'segReadHigh', fixed ?? 0);
    const element = code.local(I32);
    code.get(CPU);
    if (fixed === undefined) {
      this.pushSegment();
      code.op(Op.i32Add);
    }
    code.set(element);
    // Outside the segment: offset < low, or offset + bytes - 1 > high.
    this.push64(offset).get(element).memory(Memory.i64Load32U, low).op(Op.i64LtU);
    this.push64(offset)
      .i64(BigInt(bytes - 1))
      .op(Op.i64Add);
    code.get(element).memory(Memory.i64Load32U, high).op(Op.i64GtU).op(Op.i32Or).if();
    // A flat segment has no end: accesses run on at address 0 (segmentToLinear in arch/linear.ts).
    code.get(element).memory(Memory.i32Load, low).op(Op.i32Eqz);
    code.get(element).memory(Memory.i32Load, high).i32(-1).op(Op.i32Eq).op(Op.i32And);
    this.pushSegmentBase(fixed);
    code.op(Op.i64Eqz).op(Op.i32And);
    if (form.mnemonic.startsWith('clflush') || form.mnemonic === 'clwb') {
      // Flushes may go through an execute-only segment, which only CS can hold (SDM vol. 2A "CLFLUSH").
      this.pushSegment();
      code.i32(CS * 4).op(Op.i32Eq);
      this.push64(offset).get(CPU).memory(Memory.i64Load32U, offsetOf('segLimit', CS)).op(Op.i64LeU);
      code.op(Op.i32And).op(Op.i32Or);
    }
    code.op(Op.i32Eqz).if();
    if (fixed !== undefined) {
      this.fault(fixed === SS ? STACK_FAULT : GP, 0);
    } else this.faultOfSegment();
    code.op(Op.end).op(Op.end);
    this.push64(offset);
    this.pushSegmentBase(fixed);
    code.op(Op.i64Add).i64(0xffffffffn).op(Op.i64And).set(linear);
    return linear;
  }

  /** The base of a fixed segment, or of the instruction's, on the stack. */
  protected pushSegmentBase(fixed: SegmentNumber | undefined): void {
    const { code } = this;
    if (fixed !== undefined) code.get(CPU).memory(Memory.i64Load, offsetOf('segBase', fixed));
    else
      code
        .get(CPU)
        .get(OP)
        .memory(Memory.i32Load16U, OP_SEGMENT_BASE)
        .op(Op.i32Add)
        .memory(Memory.i64Load, 0);
  }

  /** Four times the number of the instruction's effective segment, on the stack. */
  protected pushSegment(): void {
    this.code.get(OP).memory(Memory.i32Load8U, OP_SEGMENT);
  }

  /** The `access` argument of the slow paths, on the stack. */
  private pushAccess(segment: SegmentReference, access: number): Code {
    const { code } = this;
    if (segment !== 'operand') return code.i32(access | (segment === 'ss' ? ACCESS_STACK : 0));
    this.pushSegment();
    return code
      .i32(SS * 4)
      .op(Op.i32Eq)
      .i32(STACK_POSITION)
      .op(Op.i32Shl)
      .i32(access)
      .op(Op.i32Or);
  }

  /** Whether the fast TLB has the access: leaves the comparison on the stack and the entry's address in a local. */
  private lookUp(linear: number, bytes: number, write: boolean): number {
    const { code } = this;
    const entry = code.local(I32);
    this.pushFastTlb(write);
    code.get(linear).op(Op.i32WrapI64).i32(8).op(Op.i32ShrU);
    code
      .i32((FAST_TLB_ENTRIES - 1) * 16)
      .op(Op.i32And)
      .op(Op.i32Add)
      .set(entry);
    code.get(entry).memory(Memory.i64Load, 0);
    code.get(linear);
    if (bytes > 1) code.i64(BigInt(bytes - 1)).op(Op.i64Add);
    code.i64(PAGE_MASK).op(Op.i64And).op(Op.i64Eq);
    return entry;
  }

  /** Address of the fast TLB for reads or writes, on the stack. */
  protected pushFastTlb(write: boolean): void {
    this.code.get(CPU).memory(Memory.i32Load, offsetOf(write ? 'tlbWrite' : 'tlbRead'));
  }

  /** Host address of an access: by the fast TLB, else by the slow path; a local. Returns FAULT from the handler. */
  private translate(segment: SegmentReference, linear: number, bytes: number, write: boolean): number {
    const { code } = this;
    const host = code.local(I32);
    const entry = this.lookUp(linear, bytes, write);
    code.if(I32);
    code.get(linear).op(Op.i32WrapI64).get(entry).memory(Memory.i32Load, 8).op(Op.i32Add);
    code.op(Op.else);
    if (this.alwaysFast) {
      this.leave();
      code.op(Op.unreachable);
    } else {
      this.enterSlowPath();
      code.get(CPU).get(linear);
      this.pushAccess(segment, bytes | (write ? ACCESS_WRITE : 0));
      code.call(IMPORTS.load).tee(host).op(Op.i32Eqz).if();
      this.returnStatus(FAULT);
      code.op(Op.end);
      this.leaveSlowPath();
      code.get(host);
    }
    code.op(Op.end).set(host);
    return host;
  }

  private translateForWrite(segment: SegmentReference, offset: Value, width: OperandWidth): Translated {
    const bytes = width / 8;
    const linear = this.linearAddress(segment, offset, bytes, true);
    // A segment that may be written may be read, but for none; pages likewise.
    const host = this.translate(segment, linear, bytes, true);
    const access = this.code.local(I32);
    if (!this.alwaysFast) this.pushAccess(segment, bytes).set(access);
    return { host, linear, access };
  }

  /** Writes through a translation: straight to RAM, or by the slow path when it went through the bounce area. */
  private commit({ host, linear, access }: Translated, value: Value): void {
    const { code } = this;
    if (this.alwaysFast) {
      code.get(host);
      this.push(value).memory(storeOpcode(value.width), 0);
      return;
    }
    code.get(host).get(CPU).i32(offsetOf('bounce')).op(Op.i32Add).op(Op.i32Eq).if();
    this.enterSlowPath();
    code.get(CPU).get(linear).get(access);
    this.push64(value).call(IMPORTS.store).op(Op.drop);
    this.leaveSlowPath();
    code.op(Op.else).get(host);
    this.push(value).memory(storeOpcode(value.width), 0);
    code.op(Op.end);
  }

  load(segment: SegmentReference, offset: Value, width: OperandWidth): Value {
    const linear = this.linearAddress(segment, offset, width / 8, false);
    const host = this.translate(segment, linear, width / 8, false);
    this.code.get(host).memory(loadOpcode(width), 0);
    return this.take(width);
  }

  store(segment: SegmentReference, offset: Value, value: Value): void {
    const { code } = this;
    const bytes = value.width / 8;
    const linear = this.linearAddress(segment, offset, bytes, true);
    const entry = this.lookUp(linear, bytes, true);
    code.if();
    code.get(linear).op(Op.i32WrapI64).get(entry).memory(Memory.i32Load, 8).op(Op.i32Add);
    this.push(value).memory(storeOpcode(value.width), 0);
    code.op(Op.else);
    if (this.alwaysFast) this.leave();
    else {
      this.enterSlowPath();
      code.get(CPU).get(linear);
      this.pushAccess(segment, bytes);
      this.push64(value).call(IMPORTS.store).op(Op.i32Eqz).if();
      this.returnStatus(FAULT);
      code.op(Op.end);
      this.leaveSlowPath();
    }
    code.op(Op.end);
  }

  loadForWrite(
    segment: SegmentReference,
    offset: Value,
    width: OperandWidth,
  ): { readonly value: Value; commit(value: Value): void } {
    const translated = this.translateForWrite(segment, offset, width);
    this.code.get(translated.host).memory(loadOpcode(width), 0);
    const value = this.take(width);
    return { value, commit: (result) => this.commit(translated, result) };
  }

  probeWrite(segment: SegmentReference, offset: Value, width: OperandWidth): void {
    const { code } = this;
    const bytes = width / 8;
    const linear = this.linearAddress(segment, offset, bytes, true);
    this.lookUp(linear, bytes, true);
    code.op(Op.i32Eqz).if();
    if (this.alwaysFast) this.leave();
    else {
      this.enterSlowPath();
      code.get(CPU).get(linear);
      this.pushAccess(segment, bytes).call(IMPORTS.probe).op(Op.i32Eqz).if();
      this.returnStatus(FAULT);
      code.op(Op.end);
    }
    code.op(Op.end);
  }

  checkSegment(segment: SegmentReference, offset: Value, write: boolean): void {
    const { code } = this;
    const linear = this.linearAddress(segment, offset, 1, write);
    if (this.form.codeSize !== 64) return;
    code.get(linear).i64(16n).op(Op.i64Shl).i64(16n).op(Op.i64ShrS).get(linear).op(Op.i64Ne).if();
    this.faultOfSegment();
    code.op(Op.end);
  }

  /** #SS(0) where the instruction's segment is SS, else #GP(0). */
  private faultOfSegment(): void {
    const { code } = this;
    this.pushSegment();
    code
      .i32(SS * 4)
      .op(Op.i32Eq)
      .if();
    this.fault(STACK_FAULT, 0);
    code.op(Op.end);
    this.fault(GP, 0);
  }

  /** One of the lazy fields that hold the status flags, on the stack. */
  protected pushFlags(field: FlagsField): Code {
    return this.code.get(CPU).memory(Memory.i64Load, offsetOf(field));
  }

  protected storeFlags(field: FlagsField, local: number): void {
    this.code.get(CPU).get(local).memory(Memory.i64Store, offsetOf(field));
  }

  getFlag(flag: StatusFlag | 'df'): Value {
    const { code } = this;
    switch (flag) {
      case 'cf':
        this.pushFlags('flagsCarry').i64(63n).op(Op.i64ShrU).op(Op.i32WrapI64);
        break;
      case 'of': {
        this.pushFlags('flagsCarry');
        const carry = this.take(64);
        this.push(carry);
        this.push(carry).i64(1n).op(Op.i64Shl).op(Op.i64Xor).i64(63n).op(Op.i64ShrU).op(Op.i32WrapI64);
        break;
      }
      case 'af':
        this.pushFlags('flagsCarry').op(Op.i32WrapI64).i32(3).op(Op.i32ShrU).i32(1).op(Op.i32And);
        break;
      case 'zf':
        this.pushFlags('flagsZero').op(Op.i64Eqz);
        break;
      case 'sf':
        this.pushFlags('flagsSign').i64(63n).op(Op.i64ShrU).op(Op.i32WrapI64);
        break;
      case 'pf':
        this.pushFlags('flagsSign').op(Op.i32WrapI64).i32(0xff).op(Op.i32And).op(Op.i32Popcnt);
        code.i32(1).op(Op.i32And).i32(1).op(Op.i32Xor);
        break;
      case 'df':
        code
          .get(CPU)
          .memory(Memory.i32Load, offsetOf('flagsRest'))
          .i32(10)
          .op(Op.i32ShrU)
          .i32(1)
          .op(Op.i32And);
        break;
    }
    return this.take(1);
  }

  setFlags(effect: FlagEffect): void {
    const { code } = this;
    const { result, carries } = effect;
    // Everything is computed before anything is stored: flags given may derive from flags replaced.
    const zero = code.local(I64);
    const sign = code.local(I64);
    const carry = code.local(I64);
    const setsZero = result !== undefined || effect.zf !== undefined;
    const setsSign = result !== undefined || effect.sf !== undefined || effect.pf !== undefined;
    if (result) {
      this.pushSigned(result);
      if (result.width !== 64) code.op(Op.i64ExtendI32S);
      code.set(sign);
    }
    if (effect.zf) this.push(effect.zf).op(Op.i32Eqz).op(Op.i64ExtendI32U).set(zero);
    else if (result) code.get(sign).set(zero);
    if (effect.sf || effect.pf) {
      const flag = (given: Value | undefined, name: 'sf' | 'pf') => {
        if (given) return given;
        if (!result) return this.getFlag(name);
        if (name === 'sf') code.get(sign).i64(63n).op(Op.i64ShrU).op(Op.i32WrapI64);
        else {
          code.get(sign).op(Op.i32WrapI64).i32(0xff).op(Op.i32And).op(Op.i32Popcnt);
          code.i32(1).op(Op.i32And).i32(1).op(Op.i32Xor);
        }
        return this.take(1);
      };
      const sf = flag(effect.sf, 'sf');
      const pf = flag(effect.pf, 'pf');
      this.push64(sf).i64(63n).op(Op.i64Shl);
      this.push(pf).op(Op.i32Eqz).op(Op.i64ExtendI32U).op(Op.i64Or).set(sign);
    }
    const single = effect.cf ?? effect.of ?? effect.af;
    const setsCarry = carries !== undefined || single !== undefined;
    if (carries) {
      if (carries.width === 64) this.push(carries).set(carry);
      else {
        this.push64(carries)
          .i64(BigInt(64 - carries.width))
          .op(Op.i64Shl);
        this.push(carries).i32(8).op(Op.i32And).op(Op.i64ExtendI32U).op(Op.i64Or).set(carry);
      }
    }
    if (single !== undefined) {
      if (!carries) this.pushFlags('flagsCarry').set(carry);
      const bit = (given: Value | undefined, name: 'cf' | 'of' | 'af') => {
        if (given) return given;
        code.get(carry);
        if (name === 'of') code.get(carry).i64(1n).op(Op.i64Shl).op(Op.i64Xor);
        code
          .i64(name === 'af' ? 3n : 63n)
          .op(Op.i64ShrU)
          .op(Op.i32WrapI64)
          .i32(1)
          .op(Op.i32And);
        return this.take(1);
      };
      const cf = bit(effect.cf, 'cf');
      const of = bit(effect.of, 'of');
      const af = bit(effect.af, 'af');
      this.push64(cf).i64(63n).op(Op.i64Shl);
      this.push(cf);
      this.push(of).op(Op.i32Xor).op(Op.i64ExtendI32U).i64(62n).op(Op.i64Shl).op(Op.i64Or);
      this.push64(af).i64(3n).op(Op.i64Shl).op(Op.i64Or).set(carry);
    }
    if (setsZero) this.storeFlags('flagsZero', zero);
    if (setsSign) this.storeFlags('flagsSign', sign);
    if (setsCarry) this.storeFlags('flagsCarry', carry);
  }

  setDirectionFlag(value: Value): void {
    const { code } = this;
    code.get(CPU).get(CPU).memory(Memory.i32Load, offsetOf('flagsRest')).i32(~0x400).op(Op.i32And);
    this.push(value).i32(10).op(Op.i32Shl).op(Op.i32Or).memory(Memory.i32Store, offsetOf('flagsRest'));
  }

  condition(number: number): Value {
    const flags = (): Value => {
      switch (number >> 1) {
        case 0:
          return this.getFlag('of');
        case 1:
          return this.getFlag('cf');
        case 2:
          return this.getFlag('zf');
        case 3:
          return this.or(this.getFlag('cf'), this.getFlag('zf'));
        case 4:
          return this.getFlag('sf');
        case 5:
          return this.getFlag('pf');
        case 6:
          return this.xor(this.getFlag('sf'), this.getFlag('of'));
        default:
          return this.or(this.xor(this.getFlag('sf'), this.getFlag('of')), this.getFlag('zf'));
      }
    };
    const value = flags();
    return number & 1 ? this.not(value) : value;
  }

  nextRip(): Value {
    this.code.get(CPU).memory(Memory.i64Load, offsetOf('blockRip'));
    this.code.get(OP).memory(Memory.i64Load16U, OP_NEXT).op(Op.i64Add);
    return this.take(64);
  }

  checkTarget(target: Value): void {
    const { code } = this;
    if (this.form.codeSize === 64) {
      this.push(target).i64(16n).op(Op.i64Shl).i64(16n).op(Op.i64ShrS);
      this.push(target).op(Op.i64Ne).if();
    } else {
      this.push(target).get(CPU).memory(Memory.i64Load32U, offsetOf('segLimit', CS)).op(Op.i64GtU).if();
    }
    this.fault(GP, 0);
    code.op(Op.end);
  }

  setRip(target: Value): void {
    this.code.get(CPU);
    this.push(target).memory(Memory.i64Store, offsetOf('rip'));
    this.returnStatus(JUMP);
  }

  again(): void {
    this.returnStatus(AGAIN);
  }

  /**
   * Iterations upwards, in code of 64 bits or with flat segments, on pages that the fast TLB has, and as many as the budget has
   * beyond this run: they can neither fault nor be interrupted.
   */
  hasten(string: 'movs' | 'stos'): void {
    const { code, form } = this;
    const { addressSize, codeSize, operandSize } = form;
    if (addressSize !== codeSize || codeSize === 16) return;
    if (codeSize === 64 && string === 'movs' && form.segmented) return;
    const shift = Math.log2(operandSize / 8);
    const remaining = offsetOf('remaining');
    const count = code.local(I32);
    const bytes = code.local(I32);
    const left = code.local(I64);
    code.block();
    const level = code.depth;
    const unless = () => code.op(Op.i32Eqz).branchIf(code.depth - level);
    const push = (register: number) => this.push64(this.getRegister(register, addressSize));

    this.push(this.getFlag('df')).branchIf(code.depth - level);
    code.get(CPU).memory(Memory.i32Load, remaining).set(count);
    code
      .get(count)
      .i32(LEAST_HASTENED)
      .op(Op.i32LtS)
      .branchIf(code.depth - level);
    push(RCX).i64(1n).op(Op.i64Sub).set(left);
    code.get(left).get(count).op(Op.i64ExtendI32U).op(Op.i64LtU).if();
    code.get(left).op(Op.i32WrapI64).set(count).op(Op.end);

    /** The address of what a pointer points to, a local; no more iterations than its page has. */
    const place = (register: number, segment: SegmentNumber | undefined, write: boolean): number => {
      if (codeSize !== 64) {
        const element = code.local(I32);
        code.get(CPU);
        if (segment === undefined) {
          this.pushSegment();
          code.op(Op.i32Add);
        }
        code.set(element);
        const low = offsetOf(write ? 'segWriteLow' : 'segReadLow', segment ?? 0);
        const high = offsetOf(write ? 'segWriteHigh' : 'segReadHigh', segment ?? 0);
        code.get(element).memory(Memory.i32Load, low).op(Op.i32Eqz);
        code.get(element).memory(Memory.i32Load, high).i32(-1).op(Op.i32Eq).op(Op.i32And);
        this.pushSegmentBase(segment);
        code.op(Op.i64Eqz).op(Op.i32And);
        unless();
      }
      const linear = code.local(I64);
      push(register).set(linear);
      const within = code.local(I32);
      code
        .i32(PAGE_BYTES)
        .get(linear)
        .op(Op.i32WrapI64)
        .i32(PAGE_BYTES - 1)
        .op(Op.i32And);
      code.op(Op.i32Sub).i32(shift).op(Op.i32ShrU).set(within);
      code.get(within).get(count).op(Op.i32LtU).if().get(within).set(count).op(Op.end);
      const entry = this.lookUp(linear, 1, write);
      unless();
      const host = code.local(I32);
      code.get(linear).op(Op.i32WrapI64).get(entry).memory(Memory.i32Load, 8).op(Op.i32Add).set(host);
      return host;
    };
    const to = place(RDI, ES, true);
    const from = string === 'movs' ? place(RSI, undefined, false) : undefined;
    code
      .get(count)
      .i32(LEAST_HASTENED)
      .op(Op.i32LtU)
      .branchIf(code.depth - level);
    code.get(count).i32(shift).op(Op.i32Shl).set(bytes);
    if (from !== undefined) {
      // What is copied must not be what a former iteration wrote.
      code
        .get(to)
        .get(from)
        .op(Op.i32Sub)
        .get(bytes)
        .op(Op.i32LtU)
        .branchIf(code.depth - level);
      code.get(to).get(from).get(bytes).memoryCopy();
    } else {
      const value = code.local(I64);
      const ones = (1n << BigInt(operandSize)) / 0xffn;
      this.push64(this.getRegister(RAX, operandSize)).set(value);
      code.get(value).i64(0xffn).op(Op.i64And).i64(ones).op(Op.i64Mul).get(value).op(Op.i64Eq);
      unless();
      code.get(to).get(value).op(Op.i32WrapI64).get(bytes).memoryFill();
    }
    /** Adds a count to a register. */
    const move = (register: number, by: number, back: boolean) => {
      push(register).get(by).op(Op.i64ExtendI32U);
      code.op(back ? Op.i64Sub : Op.i64Add);
      if (addressSize !== 64) code.op(Op.i32WrapI64);
      this.setRegister(register, this.take(addressSize));
    };
    move(RDI, bytes, false);
    if (from !== undefined) move(RSI, bytes, false);
    move(RCX, count, true);
    code.get(CPU).get(CPU).memory(Memory.i32Load, remaining).get(count).op(Op.i32Sub);
    code.memory(Memory.i32Store, remaining).op(Op.end);
  }

  fault(vector: number, errorCode?: number): void {
    const { code } = this;
    code.get(CPU).i32(vector).memory(Memory.i32Store, offsetOf('faultVector'));
    code
      .get(CPU)
      .i32(errorCode === undefined ? 0 : 1)
      .memory(Memory.i32Store, offsetOf('faultHasError'));
    code
      .get(CPU)
      .i32(errorCode ?? 0)
      .memory(Memory.i32Store, offsetOf('faultError'));
    this.returnStatus(FAULT);
  }

  variable(initial: Value): Variable {
    const variable: WasmValue & Variable = { ...this.fresh(initial.width), assignable: true };
    this.push(initial).set(variable.local);
    return variable;
  }
  assign(variable: Variable, value: Value): void {
    if (variable.width !== value.width) {
      throw new Error(`${this.form.mnemonic}: assigning width ${value.width} to width ${variable.width}`);
    }
    this.push(value).set(localOf(variable));
  }

  when(condition: Value, then: () => void, otherwise?: () => void): void {
    this.push(condition).if();
    then();
    if (otherwise) {
      this.code.op(Op.else);
      otherwise();
    }
    this.code.op(Op.end);
  }

  loop(condition: () => Value, body: () => void): void {
    this.code.block().loop();
    this.push(condition()).op(Op.i32Eqz).branchIf(1);
    body();
    this.code.branch(0).op(Op.end).op(Op.end);
  }

  readonly floats: FloatOperations = {
    mxcsr: () => {
      this.code.get(CPU).memory(Memory.i32Load, offsetOf('mxcsr'));
      return this.take(32);
    },
    arithmetic: (operation, lane, x, y) => {
      const opcode = FLOAT_OPERATIONS[operation][lane];
      if (operation !== 'sqrt') return this.vectorBinary(x, y, opcode);
      this.push(y).vector(opcode);
      return this.take(128);
    },
    fromInteger: (lane, x) => {
      this.push(x);
      if (lane === 64)
        this.code.op(x.width === 64 ? Op.f64ConvertI64S : Op.f64ConvertI32S).op(Op.i64ReinterpretF64);
      else this.code.op(x.width === 64 ? Op.f32ConvertI64S : Op.f32ConvertI32S).op(Op.i32ReinterpretF32);
      return this.take(lane);
    },
    toInteger: (width, x) => {
      this.push(x);
      if (x.width === 64)
        this.code.op(Op.f64ReinterpretI64).op(width === 64 ? Op.i64TruncF64S : Op.i32TruncF64S);
      else this.code.op(Op.f32ReinterpretI32).op(width === 64 ? Op.i64TruncF32S : Op.i32TruncF32S);
      return this.take(width);
    },
    convert: (x) => {
      this.push(x);
      if (x.width === 64) {
        this.code.op(Op.f64ReinterpretI64).op(Op.f32DemoteF64).op(Op.i32ReinterpretF32);
        return this.take(32);
      }
      this.code.op(Op.f32ReinterpretI32).op(Op.f64PromoteF32).op(Op.i64ReinterpretF64);
      return this.take(64);
    },
  };

  lanes(operation: LaneOperation, lane: LaneWidth, x: Value, y: Value): Value {
    return this.vectorBinary(x, y, LANE_OPERATIONS[operation][lane]);
  }
  shiftLanes(operation: LaneShift, lane: LaneWidth, x: Value, count: Value): Value {
    this.push(x);
    this.pushCount(count, 32).vector(LANE_OPERATIONS[operation][lane]);
    return this.take(128);
  }
  extractLane(lane: LaneWidth, x: Value, index: number): Value {
    this.push(x).lane(EXTRACTIONS[lane], index);
    return this.take(lane);
  }
  insertLane(lane: LaneWidth, x: Value, index: number, value: Value): Value {
    if (value.width !== lane)
      throw new Error(`${this.form.mnemonic}: width ${value.width} in a lane of ${lane}`);
    this.push(x);
    this.push(value).lane(REPLACEMENTS[lane], index);
    return this.take(128);
  }
  splat(value: Value): Value {
    this.push(value).vector(SPLATS[value.width as LaneWidth]);
    return this.take(128);
  }
  shuffle(x: Value, y: Value, bytes: readonly number[]): Value {
    this.push(x);
    this.push(y).shuffle(bytes);
    return this.take(128);
  }
  swizzle(x: Value, indices: Value): Value {
    return this.vectorBinary(x, indices, Vector.i8x16Swizzle);
  }
  narrow(lane: LaneWidth, signed: boolean, x: Value, y: Value): Value {
    const opcode = lane === 16 ? Vector.i8x16NarrowS : lane === 32 ? Vector.i16x8NarrowS : -2;
    return this.vectorBinary(x, y, opcode + (signed ? 0 : 1));
  }
  multiplyExtended(lane: LaneWidth, signed: boolean, high: boolean, x: Value, y: Value): Value {
    return this.vectorBinary(x, y, EXTENDED_PRODUCTS[lane] + (signed ? 0 : 2) + (high ? 1 : 0));
  }
  signMask(lane: LaneWidth, x: Value): Value {
    this.push(x).vector(BITMASKS[lane]);
    return this.take(32);
  }

  /** Pushes an address from which vector register operand `n` lies at the offset that it returns. */
  protected pushVectorRegister(n: number): number {
    this.pushRegisterAddress(n);
    return 0;
  }

  /** The linear address of memory operand `n`, checked; a local. */
  private vectorAddress(n: number, width: number, aligned: boolean, write: boolean): number {
    return this.linearAddress('operand', this.effectiveAddress(n), width / 8, write, aligned);
  }

  readVector(n: number, aligned = false): readonly Value[] {
    const { code } = this;
    const { kind, width } = this.form.operands[n];
    if (kind === 'memory') {
      if (width <= 64) return [this.zeroExtend(this.read(n), 128)];
      const linear = this.vectorAddress(n, width, aligned, false);
      const host = this.translate('operand', linear, width / 8, false);
      const parts: Value[] = [];
      for (let offset = 0; offset < width / 8; offset += 16) {
        code.get(host).vectorMemory(VectorMemory.load, offset);
        parts.push(this.take(128));
      }
      return parts;
    }
    if (kind === 'mm') {
      const offset = this.pushVectorRegister(n);
      code.memory(Memory.i64Load, offset);
      return [this.zeroExtend(this.take(64), 128)];
    }
    const parts: Value[] = [];
    for (let part = 0; part < width; part += 128) {
      const offset = this.pushVectorRegister(n);
      code.vectorMemory(VectorMemory.load, offset + part / 8);
      parts.push(this.take(128));
    }
    return parts;
  }

  writeVector(n: number, parts: readonly Value[], aligned = false): void {
    const { kind, width } = this.form.operands[n];
    if (kind === 'memory') {
      if (width <= 64) this.write(n, this.truncate(parts[0], width as OperandWidth));
      else this.storeVector(this.vectorAddress(n, width, aligned, true), parts);
      return;
    }
    if (kind === 'mm') {
      // The exponent and sign of the x87 register that an MM register lies in become ones.
      for (const [half, value] of [this.truncate(parts[0], 64), this.constant(64, 0xffff)].entries()) {
        const offset = this.pushVectorRegister(n);
        this.push(value).memory(Memory.i64Store, offset + 8 * half);
      }
      return;
    }
    const all = this.form.vex && parts.length === 1 ? [parts[0], this.constant(128, 0)] : parts;
    all.forEach((value, part) => {
      const offset = this.pushVectorRegister(n);
      this.push(value).vectorMemory(VectorMemory.store, offset + 16 * part);
    });
  }

  /** Stores 128 or 256 bits at a linear address. */
  private storeVector(linear: number, parts: readonly Value[]): void {
    const { code } = this;
    const bytes = parts.length * 16;
    const host = code.local(I32);
    const entry = this.lookUp(linear, bytes, true);
    const store = (offset: number) => {
      parts.forEach((value, part) => {
        code.get(host);
        this.push(value).vectorMemory(VectorMemory.store, offset + 16 * part);
      });
    };
    code.if();
    code.get(linear).op(Op.i32WrapI64).get(entry).memory(Memory.i32Load, 8).op(Op.i32Add).set(host);
    store(0);
    code.op(Op.else);
    if (this.alwaysFast) this.leave();
    else {
      code.get(CPU).set(host);
      store(offsetOf('bounce'));
      this.enterSlowPath();
      code.get(CPU).get(linear);
      this.pushAccess('operand', bytes).call(IMPORTS.storeVector).op(Op.i32Eqz).if();
      this.returnStatus(FAULT);
      code.op(Op.end);
      this.leaveSlowPath();
    }
    code.op(Op.end);
  }

  getXmm(index: number): Value {
    this.code.get(CPU).vectorMemory(VectorMemory.load, offsetOf('ymm', index * 4));
    return this.take(128);
  }
  setXmm(index: number, value: Value): void {
    this.code.get(CPU);
    this.push(value).vectorMemory(VectorMemory.store, offsetOf('ymm', index * 4));
    if (this.form.vex) this.clearUpper(index);
  }
  clearUpper(index: number): void {
    this.code
      .get(CPU)
      .v128(0n)
      .vectorMemory(VectorMemory.store, offsetOf('ymm', index * 4 + 2));
  }

  checkX87(): void {
    const { code } = this;
    code.get(CPU).memory(Memory.i32Load16U, offsetOf('fsw')).i32(FSW_ES).op(Op.i32And).if();
    this.fault(MF);
    code.op(Op.end);
  }
  setX87(tags: 'valid' | 'empty' | 'kept'): void {
    const { code } = this;
    code.get(CPU).get(CPU).memory(Memory.i32Load16U, offsetOf('fsw')).i32(~FSW_TOP).op(Op.i32And);
    code.memory(Memory.i32Store16, offsetOf('fsw'));
    if (tags === 'kept') return;
    code
      .get(CPU)
      .i32(tags === 'empty' ? 0xffff : 0)
      .memory(Memory.i32Store16, offsetOf('ftw'));
  }

  system(): void {
    // Arch finds RIP past the instruction.
    const next = this.nextRip();
    this.code.get(CPU);
    this.push(next).memory(Memory.i64Store, offsetOf('rip'));
    this.code.get(CPU).get(OP).call(IMPORTS.system).op(Op.return);
  }

  /** For instructions that the machine does not have. */
  unimplemented(): void {
    this.code.get(CPU).get(OP).call(IMPORTS.unimplemented).op(Op.return);
  }
}

function loadOpcode(width: Width): number {
  switch (width) {
    case 64:
      return Memory.i64Load;
    case 32:
      return Memory.i32Load;
    case 16:
      return Memory.i32Load16U;
    default:
      return Memory.i32Load8U;
  }
}

function storeOpcode(width: Width): number {
  switch (width) {
    case 64:
      return Memory.i64Store;
    case 32:
      return Memory.i32Store;
    case 16:
      return Memory.i32Store16;
    default:
      return Memory.i32Store8;
  }
}
