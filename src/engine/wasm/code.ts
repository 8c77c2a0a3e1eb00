/**
 * Writer of WebAssembly function bodies: the binary encoding of instructions, and locals on demand.
 * WebAssembly Core Specification 2.0, section 5.4 (instructions) and 5.4.1 (LEB128).
 */

export const I32 = 0x7f;
export const I64 = 0x7e;
export const V128 = 0x7b;
export type ValueType = typeof I32 | typeof I64 | typeof V128;
const EMPTY = 0x40;

/** Opcodes with no immediate. */
export const Op = {
  i32TruncF32S: 0xa8,
  i32TruncF64S: 0xaa,
  i64TruncF32S: 0xae,
  i64TruncF64S: 0xb0,
  f32ConvertI32S: 0xb2,
  f32ConvertI64S: 0xb4,
  f32DemoteF64: 0xb6,
  f64ConvertI32S: 0xb7,
  f64ConvertI64S: 0xb9,
  f64PromoteF32: 0xbb,
  i32ReinterpretF32: 0xbc,
  i64ReinterpretF64: 0xbd,
  f32ReinterpretI32: 0xbe,
  f64ReinterpretI64: 0xbf,
  unreachable: 0x00,
  else: 0x05,
  end: 0x0b,
  return: 0x0f,
  drop: 0x1a,
  select: 0x1b,
  i32Eqz: 0x45,
  i32Eq: 0x46,
  i32Ne: 0x47,
  i32LtS: 0x48,
  i32LtU: 0x49,
  i32GtU: 0x4b,
  i32LeS: 0x4c,
  i32LeU: 0x4d,
  i32GeS: 0x4e,
  i32GeU: 0x4f,
  i64Eqz: 0x50,
  i64Eq: 0x51,
  i64Ne: 0x52,
  i64LtS: 0x53,
  i64LtU: 0x54,
  i64GtU: 0x56,
  i64LeS: 0x57,
  i64LeU: 0x58,
  i32Clz: 0x67,
  i32Ctz: 0x68,
  i32Popcnt: 0x69,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32Mul: 0x6c,
  i32DivU: 0x6e,
  i32RemU: 0x70,
  i32And: 0x71,
  i32Or: 0x72,
  i32Xor: 0x73,
  i32Shl: 0x74,
  i32ShrS: 0x75,
  i32ShrU: 0x76,
  i32Rotl: 0x77,
  i32Rotr: 0x78,
  i64Clz: 0x79,
  i64Ctz: 0x7a,
  i64Popcnt: 0x7b,
  i64Add: 0x7c,
  i64Sub: 0x7d,
  i64Mul: 0x7e,
  i64DivU: 0x80,
  i64RemU: 0x82,
  i64And: 0x83,
  i64Or: 0x84,
  i64Xor: 0x85,
  i64Shl: 0x86,
  i64ShrS: 0x87,
  i64ShrU: 0x88,
  i64Rotl: 0x89,
  i64Rotr: 0x8a,
  i32WrapI64: 0xa7,
  i64ExtendI32S: 0xac,
  i64ExtendI32U: 0xad,
  i32Extend8S: 0xc0,
  i32Extend16S: 0xc1,
  i64Extend8S: 0xc2,
  i64Extend16S: 0xc3,
  i64Extend32S: 0xc4,
} as const;

/** Loads and stores: opcode and log2 of the natural alignment is not promised (always encoded as 0). */
export const Memory = {
  i32Load: 0x28,
  i64Load: 0x29,
  i32Load8S: 0x2c,
  i32Load8U: 0x2d,
  i32Load16S: 0x2e,
  i32Load16U: 0x2f,
  i64Load8U: 0x31,
  i64Load16U: 0x33,
  i64Load32S: 0x34,
  i64Load32U: 0x35,
  i32Store: 0x36,
  i64Store: 0x37,
  i32Store8: 0x3a,
  i32Store16: 0x3b,
  i64Store8: 0x3c,
  i64Store16: 0x3d,
  i64Store32: 0x3e,
} as const;

/** Vector instructions with no immediate, after the prefix FD. */
export const Vector = {
  f32x4Sqrt: 0xe3,
  f32x4Add: 0xe4,
  f32x4Sub: 0xe5,
  f32x4Mul: 0xe6,
  f32x4Div: 0xe7,
  f64x2Sqrt: 0xef,
  f64x2Add: 0xf0,
  f64x2Sub: 0xf1,
  f64x2Mul: 0xf2,
  f64x2Div: 0xf3,
  i8x16Swizzle: 0x0e,
  i8x16Splat: 0x0f,
  i16x8Splat: 0x10,
  i32x4Splat: 0x11,
  i64x2Splat: 0x12,
  i8x16Eq: 0x23,
  i8x16GtS: 0x27,
  i16x8Eq: 0x2d,
  i16x8GtS: 0x31,
  i32x4Eq: 0x37,
  i32x4GtS: 0x3b,
  not: 0x4d,
  and: 0x4e,
  andnot: 0x4f,
  or: 0x50,
  xor: 0x51,
  i8x16Bitmask: 0x64,
  i8x16NarrowS: 0x65,
  i8x16NarrowU: 0x66,
  i8x16Shl: 0x6b,
  i8x16ShrS: 0x6c,
  i8x16ShrU: 0x6d,
  i8x16Add: 0x6e,
  i8x16AddSatS: 0x6f,
  i8x16AddSatU: 0x70,
  i8x16Sub: 0x71,
  i8x16SubSatS: 0x72,
  i8x16SubSatU: 0x73,
  i8x16MinS: 0x76,
  i8x16MinU: 0x77,
  i8x16MaxS: 0x78,
  i8x16MaxU: 0x79,
  i8x16AvgrU: 0x7b,
  i16x8Bitmask: 0x84,
  i16x8NarrowS: 0x85,
  i16x8NarrowU: 0x86,
  i16x8Shl: 0x8b,
  i16x8ShrS: 0x8c,
  i16x8ShrU: 0x8d,
  i16x8Add: 0x8e,
  i16x8AddSatS: 0x8f,
  i16x8AddSatU: 0x90,
  i16x8Sub: 0x91,
  i16x8SubSatS: 0x92,
  i16x8SubSatU: 0x93,
  i16x8Mul: 0x95,
  i16x8MinS: 0x96,
  i16x8MinU: 0x97,
  i16x8MaxS: 0x98,
  i16x8MaxU: 0x99,
  i16x8AvgrU: 0x9b,
  i16x8ExtmulLowS: 0x9c,
  i16x8ExtmulHighS: 0x9d,
  i16x8ExtmulLowU: 0x9e,
  i16x8ExtmulHighU: 0x9f,
  i32x4Bitmask: 0xa4,
  i32x4Shl: 0xab,
  i32x4ShrS: 0xac,
  i32x4ShrU: 0xad,
  i32x4Add: 0xae,
  i32x4Sub: 0xb1,
  i32x4Mul: 0xb5,
  i32x4MinS: 0xb6,
  i32x4MinU: 0xb7,
  i32x4MaxS: 0xb8,
  i32x4MaxU: 0xb9,
  i32x4ExtmulLowS: 0xbc,
  i32x4ExtmulHighS: 0xbd,
  i32x4ExtmulLowU: 0xbe,
  i32x4ExtmulHighU: 0xbf,
  i64x2Bitmask: 0xc4,
  i64x2Shl: 0xcb,
  i64x2ShrS: 0xcc,
  i64x2ShrU: 0xcd,
  i64x2Add: 0xce,
  i64x2Sub: 0xd1,
  i64x2Mul: 0xd5,
  i64x2Eq: 0xd6,
  i64x2GtS: 0xd9,
  i64x2ExtmulLowS: 0xdc,
  i64x2ExtmulHighS: 0xdd,
  i64x2ExtmulLowU: 0xde,
  i64x2ExtmulHighU: 0xdf,
} as const;

/** Vector instructions with a lane's number as immediate. */
export const Lane = {
  i8x16ExtractU: 0x16,
  i8x16Replace: 0x17,
  i16x8ExtractU: 0x19,
  i16x8Replace: 0x1a,
  i32x4Extract: 0x1b,
  i32x4Replace: 0x1c,
  i64x2Extract: 0x1d,
  i64x2Replace: 0x1e,
} as const;

/** Loads and stores of vectors. */
export const VectorMemory = { load: 0x00, store: 0x0b } as const;
const VECTOR_PREFIX = 0xfd;
const VECTOR_CONST = 0x0c;
const VECTOR_SHUFFLE = 0x0d;

const LOCAL_GET = 0x20;
const LOCAL_SET = 0x21;
const LOCAL_TEE = 0x22;

/** Appends `value` as unsigned LEB128. */
export function unsigned(out: number[], value: number): void {
  let rest = value;
  do {
    const byte = rest & 0x7f;
    rest >>>= 7;
    out.push(rest ? byte | 0x80 : byte);
  } while (rest);
}

/** Appends `value` as signed LEB128. */
export function signed(out: number[], value: bigint): void {
  let rest = value;
  for (;;) {
    const byte = Number(rest & 0x7fn);
    rest >>= 7n;
    if ((rest === 0n && !(byte & 0x40)) || (rest === -1n && byte & 0x40)) {
      out.push(byte);
      return;
    }
    out.push(byte | 0x80);
  }
}

/** The body of one function under construction. */
export class Code {
  private readonly bytes: number[] = [];
  private readonly locals: ValueType[] = [];
  private readonly parameters: number;
  /** Where a `local.set` ends that is the last instruction, and of which local; lets set+get become tee. */
  private setEnd = -1;
  private setStart = -1;
  private setLocal = -1;
  private nesting = 0;
  /** Locals of the present scope, and those of all. */
  private scope: Set<number> | undefined;
  private readonly free: number[] = [];

  /** @param parameters number of parameters, which are the first locals. */
  constructor(parameters: number) {
    this.parameters = parameters;
  }

  /** A local; in a scope, until its end. Its value is not defined before it is set. */
  local(type: ValueType): number {
    const scope = this.scope;
    if (!scope) return this.lasting(type);
    const used = this.free.find((local) => this.typeOf(local) === type && !scope.has(local));
    const local = used ?? this.lasting(type);
    if (used === undefined) this.free.push(local);
    scope.add(local);
    return local;
  }

  /** A local of its own to the function's end. */
  lasting(type: ValueType): number {
    this.locals.push(type);
    return this.parameters + this.locals.length - 1;
  }

  /**
   * Emits what `emit` does; other scopes will use the same locals. The time that V8's optimizing compiler takes grows with the
   * product of locals and branches.
   */
  scoped(emit: () => void): void {
    this.scope = new Set();
    emit();
    this.scope = undefined;
  }

  private typeOf(local: number): ValueType {
    return this.locals[local - this.parameters];
  }

  /** Blocks, loops and ifs that are open: `branch(depth - n)` goes to the n-th of them. */
  get depth(): number {
    return this.nesting;
  }

  op(opcode: number): this {
    if (opcode === Op.end) this.nesting--;
    this.bytes.push(opcode);
    return this;
  }

  i32(value: number): this {
    this.bytes.push(0x41);
    signed(this.bytes, BigInt(value | 0));
    return this;
  }

  i64(value: bigint): this {
    this.bytes.push(0x42);
    signed(this.bytes, BigInt.asIntN(64, value));
    return this;
  }

  get(local: number): this {
    if (this.setEnd === this.bytes.length && this.setLocal === local) {
      this.bytes[this.setStart] = LOCAL_TEE;
      this.setEnd = -1;
      return this;
    }
    this.bytes.push(LOCAL_GET);
    unsigned(this.bytes, local);
    return this;
  }

  set(local: number): this {
    this.setStart = this.bytes.length;
    this.setLocal = local;
    this.bytes.push(LOCAL_SET);
    unsigned(this.bytes, local);
    this.setEnd = this.bytes.length;
    return this;
  }

  tee(local: number): this {
    this.bytes.push(LOCAL_TEE);
    unsigned(this.bytes, local);
    return this;
  }

  /** A load or store at the address on the stack plus `offset`. */
  memory(opcode: number, offset: number): this {
    this.bytes.push(opcode, 0);
    unsigned(this.bytes, offset);
    return this;
  }

  /** A vector instruction with no immediate. */
  vector(opcode: number): this {
    this.bytes.push(VECTOR_PREFIX);
    unsigned(this.bytes, opcode);
    return this;
  }

  /** A vector instruction on lane `index`. */
  lane(opcode: number, index: number): this {
    this.vector(opcode).bytes.push(index);
    return this;
  }

  v128(value: bigint): this {
    this.vector(VECTOR_CONST);
    for (let i = 0n; i < 128n; i += 8n) this.bytes.push(Number((value >> i) & 0xffn));
    return this;
  }

  /** Chooses bytes from the two vectors on the stack: 0 to 15 of the first, 16 to 31 of the second. */
  shuffle(bytes: readonly number[]): this {
    this.vector(VECTOR_SHUFFLE).bytes.push(...bytes);
    return this;
  }

  /** A load or store of a vector at the address on the stack plus `offset`. */
  vectorMemory(opcode: number, offset: number): this {
    this.vector(opcode).bytes.push(0);
    unsigned(this.bytes, offset);
    return this;
  }

  /** Of (to, from, bytes) on the stack: copies memory, as if all were read first. */
  memoryCopy(): this {
    this.bytes.push(0xfc, 10, 0, 0);
    return this;
  }
  /** Of (to, value, bytes) on the stack: fills memory with a byte. */
  memoryFill(): this {
    this.bytes.push(0xfc, 11, 0);
    return this;
  }

  block(result?: ValueType): this {
    return this.structured(0x02, result);
  }
  loop(result?: ValueType): this {
    return this.structured(0x03, result);
  }
  if(result?: ValueType): this {
    return this.structured(0x04, result);
  }
  private structured(opcode: number, result: ValueType | undefined): this {
    this.nesting++;
    this.bytes.push(opcode, result ?? EMPTY);
    return this;
  }

  branch(depth: number): this {
    this.bytes.push(0x0c);
    unsigned(this.bytes, depth);
    return this;
  }
  branchIf(depth: number): this {
    this.bytes.push(0x0d);
    unsigned(this.bytes, depth);
    return this;
  }

  /** Branches to the `n`-th of `depths` for the i32 `n` on the stack, to the last beyond them. */
  branchTable(depths: readonly number[]): this {
    this.bytes.push(0x0e);
    unsigned(this.bytes, depths.length - 1);
    for (const depth of depths) unsigned(this.bytes, depth);
    return this;
  }

  call(functionIndex: number): this {
    this.bytes.push(0x10);
    unsigned(this.bytes, functionIndex);
    return this;
  }

  /** Indirect call through table 0 with type `typeIndex`. */
  callIndirect(typeIndex: number): this {
    this.bytes.push(0x11);
    unsigned(this.bytes, typeIndex);
    this.bytes.push(0);
    return this;
  }

  /** Puts the instructions of `code` before all others; they may use this function's locals, and no others. */
  prepend(code: Code): void {
    this.bytes.unshift(...code.bytes);
    this.setEnd = -1;
  }

  /** The finished body with its size and locals, as the code section wants it. */
  finish(): number[] {
    const declarations: number[] = [];
    let groups = 0;
    for (let i = 0; i < this.locals.length; ) {
      let run = i;
      while (run < this.locals.length && this.locals[run] === this.locals[i]) run++;
      unsigned(declarations, run - i);
      declarations.push(this.locals[i]);
      groups++;
      i = run;
    }
    const head: number[] = [];
    unsigned(head, groups);
    const out: number[] = [];
    unsigned(out, head.length + declarations.length + this.bytes.length + 1);
    out.push(...head, ...declarations);
    for (const byte of this.bytes) out.push(byte);
    out.push(Op.end);
    return out;
  }
}
