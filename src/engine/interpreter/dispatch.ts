/** The dispatch loop: runs handler after handler inside WebAssembly until something needs the instruction cycle. */
import { offsetOf, STATE_SIZE } from '../../isa/state.ts';
import { JUMP_CACHE_ENTRIES, type Layout, OP_SIZE } from '../layout.ts';
import { Code, I32, I64, Memory, Op } from '../wasm/code.ts';
import { ModuleWriter } from '../wasm/module.ts';
import { AGAIN, BUDGET, FAULT, JUMP, MISS, OP_HANDLER, OP_LENGTH, UNIMPLEMENTED } from './op.ts';

/** Entry of a processor's jump cache: linear address (8 bytes), context (4), op address (4). */
export const JUMP_LINEAR = 0;
export const JUMP_CONTEXT = 8;
export const JUMP_OP = 12;

/** Slot of a linear address in the jump cache; the generated code computes the same. */
export function jumpSlot(linear: bigint): number {
  const low = Number(linear & 0xffffffffn);
  return (low ^ (low >>> 12)) & (JUMP_CACHE_ENTRIES - 1);
}

/**
 * Builds the module that exports `run(cpu, op) -> status`: runs from `op` on (0: from RIP, if the jump cache
 * knows it), decrementing `remaining` for every instruction, until a handler's status, a miss or the budget
 * ends it. RIP is then the next instruction's address; after FAULT and UNIMPLEMENTED, that instruction's own,
 * and the instruction is not counted.
 */
export function dispatchModule(layout: Layout): Uint8Array<ArrayBuffer> {
  const module = new ModuleWriter();
  const type = module.type([I32, I32], [I32]);
  const code = new Code(2);
  const cpu = 0;
  const op = 1;
  const status = code.local(I32);
  const left = code.local(I32);
  const linear = code.local(I64);
  const entry = code.local(I32);
  const jumps = code.local(I32);

  const rip = offsetOf('rip');
  const remaining = offsetOf('remaining');
  const moveRip = (opcode: number) =>
    code
      .get(cpu)
      .get(cpu)
      .memory(Memory.i64Load, rip)
      .get(op)
      .memory(Memory.i64Load32U, OP_LENGTH)
      .op(opcode)
      .memory(Memory.i64Store, rip);

  // The jump caches lie one after another in the order of the processors.
  code
    .get(cpu)
    .i32(layout.state(0))
    .op(Op.i32Sub)
    .i32(STATE_SIZE)
    .op(Op.i32DivU)
    .i32(layout.jumpCache(1) - layout.jumpCache(0))
    .op(Op.i32Mul)
    .i32(layout.jumpCache(0))
    .op(Op.i32Add)
    .set(jumps);

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
  code
    .get(entry)
    .get(entry)
    .i32(12)
    .op(Op.i32ShrU)
    .op(Op.i32Xor)
    .i32(JUMP_CACHE_ENTRIES - 1)
    .op(Op.i32And);
  code.i32(4).op(Op.i32Shl).get(jumps).op(Op.i32Add).set(entry);
  code.get(entry).memory(Memory.i64Load, JUMP_LINEAR).get(linear).op(Op.i64Ne);
  code.get(entry).memory(Memory.i32Load, JUMP_CONTEXT).get(cpu).memory(Memory.i32Load, offsetOf('context'));
  code.op(Op.i32Ne).op(Op.i32Or).if();
  code.i32(MISS).op(Op.return);
  code.op(Op.end);
  code.get(entry).memory(Memory.i32Load, JUMP_OP).set(op);
  code.op(Op.end);

  code.loop();
  code.get(cpu).memory(Memory.i32Load, remaining).set(left);
  code.get(left).op(Op.i32Eqz).if();
  code.i32(BUDGET).op(Op.return);
  code.op(Op.end);
  code.get(cpu).get(left).i32(1).op(Op.i32Sub).memory(Memory.i32Store, remaining);
  moveRip(Op.i64Add);
  code.get(cpu).get(op).get(op).memory(Memory.i32Load, OP_HANDLER).callIndirect(type).set(status);
  code.get(status).op(Op.i32Eqz).if();
  code.get(op).i32(OP_SIZE).op(Op.i32Add).set(op).branch(1);
  code.op(Op.end);
  code.get(status).i32(JUMP).op(Op.i32Eq).if();
  code.i32(0).set(op).branch(2);
  code.op(Op.end);
  code.get(status).i32(AGAIN).op(Op.i32Eq).if();
  moveRip(Op.i64Sub);
  code.branch(1);
  code.op(Op.end);
  code.get(status).i32(FAULT).op(Op.i32Eq);
  code.get(status).i32(UNIMPLEMENTED).op(Op.i32Eq).op(Op.i32Or).if();
  moveRip(Op.i64Sub);
  code
    .get(cpu)
    .get(cpu)
    .memory(Memory.i32Load, remaining)
    .i32(1)
    .op(Op.i32Add)
    .memory(Memory.i32Store, remaining);
  code.op(Op.end);
  code.get(status).op(Op.return);
  code.op(Op.end);
  code.op(Op.end).op(Op.unreachable);
  module.export('run', module.define(type, code));

  // The end of a run of decoded instructions: not an instruction itself, so its count is given back.
  const end = new Code(2);
  end
    .get(cpu)
    .get(cpu)
    .memory(Memory.i32Load, remaining)
    .i32(1)
    .op(Op.i32Add)
    .memory(Memory.i32Store, remaining)
    .i32(JUMP);
  module.element(END_HANDLER, module.define(type, end));
  return module.finish();
}

/** Table index of the handler that ends a run of decoded instructions. */
export const END_HANDLER = 0;
