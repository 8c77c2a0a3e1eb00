/**
 * Writer of WebAssembly function bodies: the binary encoding of instructions, and locals on demand.
 * WebAssembly Core Specification 2.0, section 5.4 (instructions) and 5.4.1 (LEB128).
 */

export const I32 = 0x7f;
export const I64 = 0x7e;
export type ValueType = typeof I32 | typeof I64;
const EMPTY = 0x40;

/** Opcodes with no immediate. */
export const Op = {
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

  /** @param parameters number of parameters, which are the first locals. */
  constructor(parameters: number) {
    this.parameters = parameters;
  }

  /** A fresh local. */
  local(type: ValueType): number {
    this.locals.push(type);
    return this.parameters + this.locals.length - 1;
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
