/**
 * The builder of whole runs: the meanings of a run of decoded instructions, one after another, as one WebAssembly
 * function. Registers and status flags live in locals from its start to its end, and what the decoded instructions say
 * (registers, displacements, immediates, addresses) is constant. It stands in for the handler of the run's first op.
 *
 * Every way out goes through the function's end, which writes back what the run may have changed, and says at
 * which of the run's ops it left: faults, stops and jumps are as exact as those of handlers. While a slow path runs,
 * registers and status flags in memory are those of the run's start.
 */
import type { Value } from '../../isa/builder.ts';
import type { CodeSize, Instruction, MemoryOperand, OperandWidth } from '../../isa/instruction.ts';
import { offsetOf, RAX, type SegmentNumber } from '../../isa/state.ts';
import { OP_SIZE } from '../layout.ts';
import { Code, I32, I64, Memory, Op } from '../wasm/code.ts';
import { emitMeaning } from './emit-meaning.ts';
import { CPU, type FlagsField, HandlerBuilder, IMPORTS, OP } from './handler-builder.ts';
import { formOf, type HandlerForm } from './handler-form.ts';
import { JUMP, STATUS_BITS, STOP } from './op.ts';

/** A field of the state that lives in a local. */
interface Kept {
  readonly local: number;
  readonly offset: number;
  written: boolean;
}

/** The function of a run under construction: what its instructions share. */
export class RunFunction {
  readonly code = new Code(2);
  readonly instructions: readonly Instruction[];
  readonly stackSize: CodeSize;
  readonly #kept = new Map<number, Kept>();
  readonly #constants = new Map<string, number>();
  readonly #prelude = new Code(2);
  readonly #result = this.code.local(I32);
  /** NEXT, or what the latest slow path wants. */
  readonly status = this.code.local(I32);

  /** @param instructions a run as decoded: only the last may be a system instruction */
  constructor(instructions: readonly Instruction[], stackSize: CodeSize) {
    this.instructions = instructions;
    this.stackSize = stackSize;
  }

  /** The local of the 64-bit field at `offset` of the state. */
  kept(offset: number): Kept {
    let kept = this.#kept.get(offset);
    if (!kept) {
      kept = { local: this.code.local(I64), offset, written: false };
      this.#kept.set(offset, kept);
      this.#prelude.get(CPU).memory(Memory.i64Load, offset).set(kept.local);
    }
    return kept;
  }

  /** A local with a 32-bit field of the state that does not change during a run. */
  fixed(field: 'tlbRead' | 'tlbWrite' | 'context'): number {
    let local = this.#constants.get(field);
    if (local === undefined) {
      local = this.code.local(I32);
      this.#constants.set(field, local);
      this.#prelude.get(CPU).memory(Memory.i32Load, offsetOf(field)).set(local);
    }
    return local;
  }

  /** Leaves at op `position` with a status. */
  leave(position: number, status: number): void {
    this.code.i32(status | ((position * OP_SIZE) << STATUS_BITS)).set(this.#result);
    this.code.branch(this.code.depth - 1);
  }

  /** Goes back to the start of the run, to be emitted where nothing but the loop and what is above it is open. */
  repeat(): void {
    this.code.branch(this.code.depth - 2);
  }

  /** Writes back what has been written anywhere in the run so far. */
  writeBack(): void {
    for (const { local, offset, written } of this.#kept.values())
      if (written) this.code.get(CPU).get(local).memory(Memory.i64Store, offset);
  }

  /** Emits the function's body. */
  build(): Code {
    const { code } = this;
    const count = this.instructions.length;
    code.block().loop();
    let start = 0;
    this.instructions.forEach((instruction, position) => {
      start += instruction.length;
      emitMeaning(new RunBuilder(this, instruction, position, start));
    });
    code.get(CPU).get(CPU).memory(Memory.i64Load, offsetOf('blockRip'));
    code.i64(BigInt(start)).op(Op.i64Add).memory(Memory.i64Store, offsetOf('rip'));
    this.leave(count - 1, JUMP);
    code.op(Op.end).op(Op.end);
    this.writeBack();
    code.get(this.#result);
    code.prepend(this.#prelude);
    return code;
  }
}

/** The builder of one instruction of a run. */
class RunBuilder extends HandlerBuilder {
  private readonly run: RunFunction;
  private readonly instruction: Instruction;
  private readonly position: number;
  /** Offset of the next instruction from the run's first. */
  private readonly next: number;
  private slow = false;

  constructor(run: RunFunction, instruction: Instruction, position: number, next: number) {
    super(runForm(instruction, run.stackSize), run.code);
    this.run = run;
    this.instruction = instruction;
    this.position = position;
    this.next = next;
  }

  override finish(): void {
    if (!this.slow) return;
    this.code.get(this.run.status).if();
    this.run.leave(this.position, STOP);
    this.code.op(Op.end);
  }

  protected override returnStatus(status: number): void {
    this.run.leave(this.position, status);
  }

  /** Address of this instruction's op, on the stack. */
  private pushOp(): Code {
    this.code.get(OP);
    if (this.position > 0) this.code.i32(this.position * OP_SIZE).op(Op.i32Add);
    return this.code;
  }

  protected override enterSlowPath(): void {
    this.code.get(CPU);
    this.pushOp().memory(Memory.i32Store, offsetOf('slowOp'));
  }

  protected override leaveSlowPath(): void {
    this.slow = true;
    this.code.get(CPU).memory(Memory.i32Load, offsetOf('stop')).set(this.run.status);
  }

  private readAt(offset: number, width: OperandWidth): Value {
    const { code } = this;
    const byte = offset & 7;
    code.get(this.run.kept(offset - byte).local);
    if (byte !== 0) code.i64(BigInt(byte * 8)).op(Op.i64ShrU);
    if (width !== 64) code.op(Op.i32WrapI64);
    this.wrap(width);
    return this.take(width);
  }

  private writeAt(offset: number, value: Value): void {
    const { code } = this;
    const byte = offset & 7;
    const kept = this.run.kept(offset - byte);
    kept.written = true;
    if (value.width >= 32) {
      this.push64(value).set(kept.local);
      return;
    }
    const shift = BigInt(byte * 8);
    const mask = ((1n << BigInt(value.width)) - 1n) << shift;
    code.get(kept.local).i64(~mask).op(Op.i64And);
    this.push64(value);
    if (byte !== 0) code.i64(shift).op(Op.i64Shl);
    code.op(Op.i64Or).set(kept.local);
  }

  override getRegister(index: number, width: OperandWidth): Value {
    return this.readAt(offsetOf('gpr', index), width);
  }
  override setRegister(index: number, value: Value): void {
    this.writeAt(offsetOf('gpr', index), value);
  }
  override getAh(): Value {
    return this.readAt(offsetOf('gpr', RAX) + 1, 8);
  }
  override setAh(value: Value): void {
    this.writeAt(offsetOf('gpr', RAX) + 1, value);
  }

  private registerOffset(n: number): number {
    const operand = this.instruction.operands[n];
    if (operand.kind !== 'register') throw new Error(`${this.form.mnemonic}: operand ${n} is no register`);
    return offsetOf('gpr', operand.index) + (operand.high ? 1 : 0);
  }
  protected override readRegisterOperand(n: number, width: OperandWidth): Value {
    return this.readAt(this.registerOffset(n), width);
  }
  protected override writeRegisterOperand(n: number, value: Value): void {
    this.writeAt(this.registerOffset(n), value);
  }

  protected override readImmediate(n: number, width: OperandWidth): Value {
    const operand = this.instruction.operands[n];
    if (operand.kind !== 'immediate') throw new Error(`${this.form.mnemonic}: operand ${n} is no immediate`);
    return this.constant(width, operand.value);
  }

  private memoryOperand(n: number): MemoryOperand {
    const operand = this.instruction.operands[n];
    if (operand.kind !== 'memory') throw new Error(`${this.form.mnemonic}: operand ${n} is no memory`);
    return operand;
  }

  /** A register of the address size on the stack; 0 for none. */
  private pushAddress(register: number): void {
    const { code } = this;
    const wide = this.form.addressSize === 64;
    if (register < 0) {
      if (wide) code.i64(0n);
      else code.i32(0);
      return;
    }
    code.get(this.run.kept(offsetOf('gpr', register)).local);
    if (!wide) code.op(Op.i32WrapI64);
  }
  protected override pushBase(n: number): void {
    this.pushAddress(this.memoryOperand(n).base);
  }
  protected override pushIndex(n: number): void {
    const { index, scale } = this.memoryOperand(n);
    this.pushAddress(index);
    if (scale === 0) return;
    if (this.form.addressSize === 64) this.code.i64(BigInt(scale)).op(Op.i64Shl);
    else this.code.i32(scale).op(Op.i32Shl);
  }
  protected override pushDisplacement(n: number): void {
    const { displacement } = this.memoryOperand(n);
    if (this.form.addressSize === 64) this.code.i64(displacement);
    else this.code.i32(Number(BigInt.asIntN(32, displacement)));
  }

  protected override pushSegment(): void {
    this.code.i32(this.instruction.segment * 4);
  }
  protected override pushSegmentBase(fixed: SegmentNumber | undefined): void {
    this.code.get(CPU).memory(Memory.i64Load, offsetOf('segBase', fixed ?? this.instruction.segment));
  }
  protected override pushFastTlb(write: boolean): void {
    this.code.get(this.run.fixed(write ? 'tlbWrite' : 'tlbRead'));
  }

  protected override pushFlags(field: FlagsField): Code {
    return this.code.get(this.run.kept(offsetOf(field)).local);
  }
  protected override storeFlags(field: FlagsField, local: number): void {
    const kept = this.run.kept(offsetOf(field));
    kept.written = true;
    this.code.get(local).set(kept.local);
  }

  override nextRip(): Value {
    this.code.get(CPU).memory(Memory.i64Load, offsetOf('blockRip'));
    this.code.i64(BigInt(this.next)).op(Op.i64Add);
    return this.take(64);
  }

  private displacement(): bigint | undefined {
    const [operand] = this.instruction.operands;
    return operand?.kind === 'relative' ? operand.displacement : undefined;
  }
  override relative(_n: number): Value {
    return this.constant(64, this.displacement() ?? 0n);
  }

  /** A jump to the run's own first instruction stays in the function while the budget and the context last. */
  override setRip(target: Value): void {
    const { code, run } = this;
    const { codeSize, operandSize } = this.form;
    const displacement = this.displacement();
    if (displacement === BigInt(-this.next) && codeSize !== 16 && operandSize >= codeSize) {
      const left = code.local(I32);
      const remaining = offsetOf('remaining');
      const context = run.fixed('context');
      code.get(CPU).memory(Memory.i32Load, remaining);
      code
        .i32(this.position + 1)
        .op(Op.i32Sub)
        .set(left);
      code.get(left).i32(0).op(Op.i32GeS);
      code.get(CPU).memory(Memory.i32Load, offsetOf('context')).get(context).op(Op.i32Eq).op(Op.i32And).if();
      code.get(CPU).get(left).memory(Memory.i32Store, remaining);
      run.repeat();
      code.op(Op.end);
    }
    super.setRip(target);
  }

  override system(): void {
    const { code, run } = this;
    const next = this.nextRip();
    code.get(CPU);
    this.push(next).memory(Memory.i64Store, offsetOf('rip'));
    run.writeBack();
    code.get(CPU);
    this.pushOp().call(IMPORTS.system);
    this.returnPosition();
  }

  override unimplemented(): void {
    this.run.writeBack();
    this.code.get(CPU);
    this.pushOp().call(IMPORTS.unimplemented);
    this.returnPosition();
  }

  /** Returns the status on the stack: the state is in memory, and arch may have changed it. */
  private returnPosition(): void {
    this.code
      .i32((this.position * OP_SIZE) << STATUS_BITS)
      .op(Op.i32Or)
      .op(Op.return);
  }
}

function runForm(instruction: Instruction, stackSize: CodeSize): HandlerForm {
  const system = instruction.operands.some(
    ({ kind }) => kind !== 'register' && kind !== 'memory' && kind !== 'immediate' && kind !== 'relative',
  );
  return formOf(system ? { ...instruction, operands: [] } : instruction, stackSize);
}
