/**
 * The builder of regions: the meanings of runs of decoded instructions that lead to one another within a page, as one
 * WebAssembly function. Registers and status flags live in locals from its start to its end, and what the decoded
 * instructions say (registers, displacements, immediates, addresses) is constant. It stands in for the handler of the
 * first op of each of the runs.
 *
 * Every way out goes through the function's end, which writes back what the region may have changed, and says at
 * which of the region's ops it left: faults, stops and jumps are as exact as those of handlers. A way from run to run
 * takes the next run's instructions from the budget as the dispatch loop does, and leaves where they are not
 * covered.
 *
 * There are no slow paths in it: where an access is not in the fast TLB, the instruction's own handler carries it out, from its
 * start, and the rest of its run follows in the same way. So an instruction whose accesses are not all made before
 * its first change of state (ENTER) is left to its handler altogether. Calls would also keep registers from being registers, and
 * cost V8's compiler more than all else.
 *
 * The ops of a run of a region: one for the function, those of its instructions with their handlers, and an end.
 */
import type { Value } from '../../isa/builder.ts';
import type { CodeSize, Instruction, MemoryOperand, OperandWidth } from '../../isa/instruction.ts';
import { offsetOf, RAX, type SegmentNumber } from '../../isa/state.ts';
import { OP_SIZE } from '../layout.ts';
import { Code, I32, I64, Memory, Op } from '../wasm/code.ts';
import { CONTEXT_LIMITED } from './context.ts';
import { emitMeaning } from './emit-meaning.ts';
import { CPU, type FlagsField, HandlerBuilder, OP } from './handler-builder.ts';
import { formOf, type HandlerForm } from './handler-form.ts';
import { BY_HANDLER, JUMP, OP_POSITION, OP_RUN, OP_START, registerOffset, STATUS_BITS } from './op.ts';

/** Calls of a region to whose return RET may go within it. */
const MOST_RETURNS = 4;

/** A field of the state that lives in a local. */
interface Kept {
  readonly local: number;
  readonly offset: number;
  written: boolean;
}

/** A run of a region. */
export interface RegionRun {
  /** As decoded: only the last may be a system instruction. */
  readonly instructions: readonly Instruction[];
  /** Offset of its first byte from the region's lowest. */
  readonly start: number;
}

/** Where a run stands in its region. */
interface Placed extends RegionRun {
  readonly number: number;
  /** Ops of the region before that of its first instruction. */
  readonly position: number;
}

/** Ops of a run of so many instructions. */
export function opsOfRun(instructions: number): number {
  return instructions + 2;
}

/** The function of a region under construction: what its instructions share. */
export class Region {
  readonly code = new Code(2);
  readonly stackSize: CodeSize;
  /** Offsets in ES, SS and DS are linear addresses. */
  readonly flat: boolean;
  /** RIP of the region's lowest byte. */
  readonly base = this.code.local(I64);
  /** Address of the region's first op. */
  readonly ops: number;
  /** Where RET may go: runs that follow a call. */
  readonly returns: readonly number[];
  readonly #runs: readonly Placed[];
  readonly #byStart = new Map<number, Placed>();
  readonly #kept = new Map<number, Kept>();
  readonly #fixed = new Map<string, number>();
  readonly #prelude = new Code(2);
  readonly #result = this.code.local(I32);
  /** Number of the run to go on with. */
  readonly #next = this.code.local(I32);

  /** @param runs in the order of their ops; a run alone starts at offset 0 */
  constructor(runs: readonly RegionRun[], stackSize: CodeSize, flat: boolean) {
    this.stackSize = stackSize;
    this.flat = flat;
    let position = 0;
    this.#runs = runs.map((run, number) => {
      const placed = { ...run, number, position: position + 1 };
      position += opsOfRun(run.instructions.length);
      this.#byStart.set(run.start, placed);
      return placed;
    });
    this.returns = runs
      .filter(({ instructions }) => instructions[instructions.length - 1].mnemonic === 'call')
      .map((run) => endOf(run))
      .filter((end) => this.#byStart.has(end))
      .slice(0, MOST_RETURNS);
    this.ops = this.#several ? this.code.local(I32) : OP;
  }

  get #several(): boolean {
    return this.#runs.length > 1;
  }

  /** The local of the 64-bit field at `offset` of the state. */
  kept(offset: number): Kept {
    let kept = this.#kept.get(offset);
    if (!kept) {
      kept = { local: this.code.lasting(I64), offset, written: false };
      this.#kept.set(offset, kept);
      this.#prelude.get(CPU).memory(Memory.i64Load, offset).set(kept.local);
    }
    return kept;
  }

  /** A local with a 32-bit field of the state that does not change while the function runs. */
  fixed(field: 'tlbRead' | 'tlbWrite' | 'context'): number {
    let local = this.#fixed.get(field);
    if (local === undefined) {
      local = this.code.lasting(I32);
      this.#fixed.set(field, local);
      this.#prelude.get(CPU).memory(Memory.i32Load, offsetOf(field)).set(local);
    }
    return local;
  }

  /** Leaves at op `position` of the region with a status. */
  leave(position: number, status: number): void {
    this.code.i32(status | ((position * OP_SIZE) << STATUS_BITS)).set(this.#result);
    this.code.branch(this.code.depth - 1);
  }

  /**
   * Goes to the run that starts at offset `target`, if the region has it, from an instruction after which `after` of its
   * run would follow. Where that may not be, goes on after this.
   */
  goTo(target: number, after: number): void {
    const run = this.#byStart.get(target);
    if (!run) return;
    const { code } = this;
    const left = code.local(I32);
    const remaining = offsetOf('remaining');
    code.get(CPU).memory(Memory.i32Load, remaining);
    code
      .i32(after - run.instructions.length)
      .op(Op.i32Add)
      .set(left);
    code.get(left).i32(0).op(Op.i32GeS);
    // Where CS has a limit, each run must be checked against it: no way leads from run to run.
    if (this.#several)
      code.get(this.fixed('context')).i32(CONTEXT_LIMITED).op(Op.i32And).op(Op.i32Eqz).op(Op.i32And);
    code.if();
    code.get(CPU).get(left).memory(Memory.i32Store, remaining);
    if (this.#several) code.i32(run.number).set(this.#next);
    code.branch(code.depth - 2);
    code.op(Op.end);
  }

  /** Writes back what has been written anywhere in the region. */
  #writeBack(): void {
    for (const { local, offset, written } of this.#kept.values())
      if (written) this.code.get(CPU).get(local).memory(Memory.i64Store, offset);
  }

  /** Tells the position on the stack from the op that the function was called with. */
  #relative(): void {
    if (!this.#several) return;
    const { code } = this;
    code.get(OP).get(this.ops).op(Op.i32Sub).i32(STATUS_BITS).op(Op.i32Shl).op(Op.i32Sub);
  }

  /** Emits the function's body. */
  build(): Code {
    const { code } = this;
    const runs = this.#runs;
    code.block().loop();
    if (this.#several) {
      for (const _ of runs) code.block();
      code.get(this.#next).branchTable(runs.map(({ number }) => number));
    }
    for (const run of runs) {
      if (this.#several) code.op(Op.end);
      this.#emitRun(run);
    }
    code.op(Op.end).op(Op.end);
    this.#writeBack();
    code.get(this.#result);
    this.#relative();
    code.prepend(this.#prelude);
    code.prepend(this.#entry());
    return code;
  }

  #emitRun(run: Placed): void {
    const { code } = this;
    const { instructions, position } = run;
    const last = instructions.length - 1;
    let next = run.start;
    instructions.forEach((instruction, i) => {
      next += instruction.length;
      if (instruction.mnemonic === 'enter') {
        this.leave(position + i, BY_HANDLER);
        return;
      }
      code.scoped(() =>
        emitMeaning(new RunBuilder(this, instruction, { position: position + i, after: last - i, next })),
      );
    });
    code.scoped(() => this.goTo(next, 0));
    code.get(CPU).get(this.base).i64(BigInt(next)).op(Op.i64Add);
    code.memory(Memory.i64Store, offsetOf('rip'));
    this.leave(position + last, JUMP);
  }

  /** Finds out at which run the function is entered, and makes offsets those from the region's lowest byte. */
  #entry(): Code {
    const code = new Code(2);
    const blockRip = offsetOf('blockRip');
    code.get(CPU).memory(Memory.i64Load, blockRip);
    if (!this.#several) return code.set(this.base);
    code.get(OP).memory(Memory.i64Load16U, OP_START).op(Op.i64Sub).set(this.base);
    code.get(CPU).get(this.base).memory(Memory.i64Store, blockRip);
    code.get(OP).memory(Memory.i32Load16U, OP_RUN).set(this.#next);
    code.get(OP).get(OP).memory(Memory.i32Load16U, OP_POSITION);
    return code.i32(OP_SIZE).op(Op.i32Mul).op(Op.i32Sub).set(this.ops);
  }
}

/** Offset of the byte after a run. */
function endOf({ instructions, start }: RegionRun): number {
  return instructions.reduce((end, { length }) => end + length, start);
}

/** Where an instruction stands in its region. */
interface Place {
  /** Ops of the region before its own (of {@link opsOfRun}), and instructions of its run after it. */
  readonly position: number;
  readonly after: number;
  /** Offset of the next instruction from the region's lowest byte. */
  readonly next: number;
}

/** The builder of one instruction of a run. */
class RunBuilder extends HandlerBuilder {
  private readonly region: Region;
  private readonly instruction: Instruction;
  private readonly place: Place;
  protected override readonly alwaysFast = true;
  protected override readonly flat: boolean;
  protected override readonly segment: SegmentNumber;

  constructor(region: Region, instruction: Instruction, place: Place) {
    super(runForm(instruction, region.stackSize), region.code);
    this.region = region;
    this.flat = region.flat;
    this.segment = instruction.segment;
    this.instruction = instruction;
    this.place = place;
  }

  override finish(): void {}

  protected override returnStatus(status: number): void {
    this.region.leave(this.place.position, status);
  }

  protected override leave(): void {
    this.region.leave(this.place.position, BY_HANDLER);
  }

  private readAt(offset: number, width: OperandWidth): Value {
    const { code } = this;
    const byte = offset & 7;
    code.get(this.region.kept(offset - byte).local);
    if (byte !== 0) code.i64(BigInt(byte * 8)).op(Op.i64ShrU);
    if (width !== 64) code.op(Op.i32WrapI64);
    this.wrap(width);
    return this.take(width);
  }

  private writeAt(offset: number, value: Value): void {
    const { code } = this;
    const byte = offset & 7;
    const kept = this.region.kept(offset - byte);
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

  protected override readRegisterOperand(n: number, width: OperandWidth): Value {
    return this.readAt(registerOffset(this.instruction.operands[n]), width);
  }
  protected override writeRegisterOperand(n: number, value: Value): void {
    this.writeAt(registerOffset(this.instruction.operands[n]), value);
  }

  /** Vector registers are not kept: they are read and written where they are. */
  protected override pushVectorRegister(n: number): number {
    this.code.get(CPU);
    return registerOffset(this.instruction.operands[n]);
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
    code.get(this.region.kept(offsetOf('gpr', register)).local);
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
    this.code.get(this.region.fixed(write ? 'tlbWrite' : 'tlbRead'));
  }

  protected override pushFlags(field: FlagsField): Code {
    return this.code.get(this.region.kept(offsetOf(field)).local);
  }
  protected override storeFlags(field: FlagsField, local: number): void {
    const kept = this.region.kept(offsetOf(field));
    kept.written = true;
    this.code.get(local).set(kept.local);
  }

  override nextRip(): Value {
    this.code.get(this.region.base).i64(BigInt(this.place.next)).op(Op.i64Add);
    return this.take(64);
  }

  private displacement(): bigint | undefined {
    const [operand] = this.instruction.operands;
    return operand?.kind === 'relative' ? operand.displacement : undefined;
  }
  override relative(_n: number): Value {
    return this.constant(64, this.displacement() ?? 0n);
  }

  /** A jump to a run of the region stays in the function. */
  override setRip(target: Value): void {
    const { code, region, place, form } = this;
    const displacement = this.displacement();
    if (displacement !== undefined) {
      if (form.codeSize !== 16 && form.operandSize >= form.codeSize)
        region.goTo(place.next + Number(displacement), place.after);
    } else if (form.mnemonic === 'ret') {
      for (const start of region.returns) {
        this.push(target).get(region.base).i64(BigInt(start)).op(Op.i64Add).op(Op.i64Eq).if();
        region.goTo(start, place.after);
        code.op(Op.end);
      }
    }
    super.setRip(target);
  }

  /** By its handler, which calls who knows such instructions. */
  override system(): void {
    this.leave();
  }
  override unimplemented(): void {
    this.leave();
  }
}

function runForm(instruction: Instruction, stackSize: CodeSize): HandlerForm {
  const system = instruction.operands.some(
    ({ kind }) => kind === 'far' || kind === 'segment' || kind === 'control' || kind === 'debug',
  );
  return formOf(system ? { ...instruction, operands: [] } : instruction, stackSize);
}
