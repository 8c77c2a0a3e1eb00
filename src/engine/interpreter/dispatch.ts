/** The dispatch loop: runs handler after handler inside WebAssembly until something needs the instruction cycle. */
import { offsetOf } from '../../isa/state.ts';
import {
  CODE_TABLE_ENTRIES,
  CODE_TABLE_ENTRY,
  FAST_TLB_ENTRIES,
  FAST_TLB_ENTRY,
  JUMP_CACHE_ENTRIES,
  JUMP_CACHE_ENTRY,
  OP_SIZE,
} from '../layout.ts';
import { Code, I32, I64, Memory, Op } from '../wasm/code.ts';
import { ModuleWriter } from '../wasm/module.ts';
import { CONTEXT_LIMITED, DECODE_BITS } from './context.ts';
import {
  AGAIN,
  BUDGET,
  BY_HANDLER,
  EXIT,
  HOT,
  JUMP,
  MISS,
  OP_AFTER,
  OP_HANDLER,
  OP_HEAT,
  OP_NEXT,
  OP_START,
  SHORT,
  STATUS_BITS,
  STOP,
} from './op.ts';

/** Entry of a processor's jump cache: linear address (8 bytes), context (4), op address (4). */
export const JUMP_LINEAR = 0;
export const JUMP_CONTEXT = 8;
export const JUMP_OP = 12;

/** Slot of a linear address in the jump cache; the generated code computes the same. */
export function jumpSlot(linear: bigint): number {
  const low = Number(linear & 0xffffffffn);
  return (low ^ (low >>> 12)) & (JUMP_CACHE_ENTRIES - 1);
}

/** Entry of the code table: address in WebAssembly memory of the code's first byte, what it was decoded for, and its op; 4 bytes each. */
export const CODE_HOST = 0;
export const CODE_BITS = 4;
export const CODE_OP = 8;

const CODE_SHIFT = 13;

/** Slot of the code at a WebAssembly address in the code table; the generated code computes the same. */
export function codeSlot(host: number): number {
  return (host ^ (host >>> CODE_SHIFT)) & (CODE_TABLE_ENTRIES - 1);
}

/** The shift that takes a number of entries to one of bytes, or bits of an address to entries. */
const log2 = Math.log2;
const PAGE_SHIFT = 12;

/**
 * Builds the module that exports `run(cpu, op) -> status`: runs from `op` on (0: from RIP, if the jump cache knows it),
 * taking the instructions of each run of decoded ones from `remaining` when it enters it and giving back
 * those not reached, until a handler's status, a miss or the budget ends it. RIP is then the next instruction's
 * address; after FAULT and UNIMPLEMENTED, that instruction's own, and the instruction is not counted.
 */
export function dispatchModule(): Uint8Array<ArrayBuffer> {
  const module = new ModuleWriter();
  module.importTable();
  const type = module.type([I32, I32], [I32]);
  const code = new Code(2);
  const cpu = 0;
  const op = 1;
  const status = code.local(I32);
  const left = code.local(I32);
  const linear = code.local(I64);
  const entry = code.local(I32);
  const context = code.local(I32);
  const translation = code.local(I32);
  const host = code.local(I32);

  /** The address of an address's slot in a table, on the stack: the numbers of `jumpSlot` and `codeSlot`. */
  const slotOf = (
    address: number,
    shift: number,
    entries: number,
    bytes: number,
    table: 'jumpCache' | 'codeTable',
  ): Code => {
    code.get(address).get(address).i32(shift).op(Op.i32ShrU).op(Op.i32Xor);
    code
      .i32(entries - 1)
      .op(Op.i32And)
      .i32(log2(bytes))
      .op(Op.i32Shl);
    return code.get(cpu).memory(Memory.i32Load, offsetOf(table)).op(Op.i32Add);
  };

  const rip = offsetOf('rip');
  const remaining = offsetOf('remaining');
  /** RIP becomes the address at `field` of the op. */
  const setRip = (to: Code, field: number) =>
    to
      .get(cpu)
      .get(cpu)
      .memory(Memory.i64Load, offsetOf('blockRip'))
      .get(op)
      .memory(Memory.i64Load16U, field)
      .op(Op.i64Add)
      .memory(Memory.i64Store, rip);
  /** Gives back the instructions after `op`, and `more`. */
  const giveBack = (more: number) =>
    code
      .get(cpu)
      .get(cpu)
      .memory(Memory.i32Load, remaining)
      .get(op)
      .memory(Memory.i32Load, OP_AFTER)
      .op(Op.i32Add)
      .i32(more)
      .op(Op.i32Add)
      .memory(Memory.i32Store, remaining);
  const whenStatus = (value: number) => code.get(status).i32(value).op(Op.i32Eq).if();

  code.loop();
  code.block();
  code.get(op).branchIf(0);
  // Look up RIP.
  code
    .get(cpu)
    .memory(Memory.i64Load, rip)
    .get(cpu)
    .memory(Memory.i64Load, offsetOf('codeBase'))
    .op(Op.i64Add)
    .set(linear);
  code.get(linear).op(Op.i32WrapI64).set(entry);
  slotOf(entry, PAGE_SHIFT, JUMP_CACHE_ENTRIES, JUMP_CACHE_ENTRY, 'jumpCache').set(entry);
  code.get(cpu).memory(Memory.i32Load, offsetOf('context')).set(context);
  code.get(entry).memory(Memory.i64Load, JUMP_LINEAR).get(linear).op(Op.i64Ne);
  code.get(entry).memory(Memory.i32Load, JUMP_CONTEXT).get(context);
  code.op(Op.i32Ne).op(Op.i32Or).if();
  // It may be known by where it stands in RAM: by its page's translation for fetches, and the code table.
  code.get(context).i32(CONTEXT_LIMITED).op(Op.i32And).if().i32(MISS).op(Op.return).op(Op.end);
  code.get(cpu).memory(Memory.i32Load, offsetOf('tlbFetch'));
  code
    .get(linear)
    .op(Op.i32WrapI64)
    .i32(PAGE_SHIFT - log2(FAST_TLB_ENTRY))
    .op(Op.i32ShrU);
  code
    .i32((FAST_TLB_ENTRIES - 1) * FAST_TLB_ENTRY)
    .op(Op.i32And)
    .op(Op.i32Add)
    .set(translation);
  code.get(translation).memory(Memory.i64Load, 0);
  code
    .get(linear)
    .i64(-1n << BigInt(PAGE_SHIFT))
    .op(Op.i64And)
    .op(Op.i64Ne)
    .if()
    .i32(MISS)
    .op(Op.return)
    .op(Op.end);
  code.get(linear).op(Op.i32WrapI64).get(translation).memory(Memory.i32Load, 8).op(Op.i32Add).set(host);
  slotOf(host, CODE_SHIFT, CODE_TABLE_ENTRIES, CODE_TABLE_ENTRY, 'codeTable').set(translation);
  code.get(translation).memory(Memory.i32Load, CODE_HOST).get(host).op(Op.i32Ne);
  code.get(translation).memory(Memory.i32Load, CODE_BITS).get(context).i32(DECODE_BITS).op(Op.i32And);
  code.op(Op.i32Ne).op(Op.i32Or).if().i32(MISS).op(Op.return).op(Op.end);
  code.get(entry).get(linear).memory(Memory.i64Store, JUMP_LINEAR);
  code.get(entry).get(context).memory(Memory.i32Store, JUMP_CONTEXT);
  code.get(entry).get(translation).memory(Memory.i32Load, CODE_OP).memory(Memory.i32Store, JUMP_OP);
  code.op(Op.end);
  code.get(entry).memory(Memory.i32Load, JUMP_OP).set(op);
  code.op(Op.end);

  // Runs that are entered often become functions.
  code.get(op).get(op).memory(Memory.i32Load, OP_HEAT).i32(1).op(Op.i32Sub).tee(left);
  code.memory(Memory.i32Store, OP_HEAT).get(left).op(Op.i32Eqz).if();
  code.get(cpu).get(op).memory(Memory.i32Store, offsetOf('slowOp')).i32(HOT).op(Op.return);
  code.op(Op.end);

  // Take the run's instructions from the budget.
  code.get(cpu).memory(Memory.i32Load, remaining);
  code.get(op).memory(Memory.i32Load, OP_AFTER).op(Op.i32Sub).i32(1).op(Op.i32Sub).set(left);
  code.get(left).i32(0).op(Op.i32LtS).if();
  code.get(cpu).memory(Memory.i32Load, remaining).op(Op.i32Eqz).if();
  code.i32(BUDGET).op(Op.return);
  code.op(Op.end);
  code.get(cpu).get(op).memory(Memory.i32Store, offsetOf('slowOp')).i32(SHORT).op(Op.return);
  code.op(Op.end);
  code.get(cpu).get(left).memory(Memory.i32Store, remaining);
  code.get(cpu).get(cpu).memory(Memory.i64Load, rip).memory(Memory.i64Store, offsetOf('blockRip'));

  code.loop();
  code.get(cpu).get(op).get(op).memory(Memory.i32Load, OP_HANDLER).callIndirect(type).set(status);
  code.get(status).op(Op.i32Eqz).if();
  code.get(op).i32(OP_SIZE).op(Op.i32Add).set(op).branch(1);
  code.op(Op.end);
  // The function of a region leaves at any of its ops.
  code.get(status).i32(STATUS_BITS).op(Op.i32ShrS).get(op).op(Op.i32Add).set(op);
  code
    .get(status)
    .i32((1 << STATUS_BITS) - 1)
    .op(Op.i32And)
    .set(status);
  whenStatus(JUMP);
  giveBack(0).i32(0).set(op).branch(2);
  code.op(Op.end);
  whenStatus(BY_HANDLER).branch(1).op(Op.end);
  whenStatus(AGAIN);
  giveBack(0);
  setRip(code, OP_START);
  code.get(cpu).memory(Memory.i32Load, remaining).i32(0).op(Op.i32LeS).if();
  code.get(cpu).i32(1).memory(Memory.i32Store8, offsetOf('repeating'));
  code.i32(BUDGET).op(Op.return);
  code.op(Op.end);
  code.i32(0).set(op).branch(2);
  code.op(Op.end);
  whenStatus(STOP);
  giveBack(0);
  setRip(code, OP_NEXT).i32(BUDGET).op(Op.return);
  code.op(Op.end);
  code.get(status).i32(EXIT).op(Op.i32Eq).if();
  giveBack(0);
  code.op(Op.else);
  giveBack(1);
  setRip(code, OP_START);
  code.op(Op.end);
  code.get(status).op(Op.return);
  code.op(Op.end);
  code.op(Op.end).op(Op.unreachable);
  module.export('run', module.define(type, code));

  // The end of a run of decoded instructions: not an instruction itself.
  const end = new Code(2);
  setRip(end, OP_START).i32(JUMP);
  module.element(END_HANDLER, module.define(type, end));
  return module.finish();
}

/** Table index of the handler that ends a run of decoded instructions. */
export const END_HANDLER = 0;
