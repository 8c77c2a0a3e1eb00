/** Finds where two areas of one WebAssembly memory differ, eight bytes at a time: a loop in JavaScript is several times as slow. */
import { Code, I32, Op } from './code.ts';
import { ModuleWriter } from './module.ts';

const I64_LOAD = 0x29;

/** The least `offset` from `from` (a multiple of 8) at which eight bytes at `a` and `b` differ, or `end`. */
export type FirstDifference = (a: number, b: number, from: number, end: number) => number;

/** Makes a {@link FirstDifference} for a memory. */
export function makeScanner(memory: WebAssembly.Memory): FirstDifference {
  const writer = new ModuleWriter();
  const code = new Code(4);
  const [a, b, from, end] = [0, 1, 2, 3];
  code.block().loop();
  code.get(from).get(end).op(Op.i32GeU).branchIf(1);
  code.get(a).get(from).op(Op.i32Add).memory(I64_LOAD, 0);
  code.get(b).get(from).op(Op.i32Add).memory(I64_LOAD, 0);
  code.op(Op.i64Ne).branchIf(1);
  code.get(from).i32(8).op(Op.i32Add).set(from);
  code.branch(0);
  code.op(Op.end).op(Op.end).get(from);
  writer.export('scan', writer.define(writer.type([I32, I32, I32, I32], [I32]), code));
  const instance = new WebAssembly.Instance(new WebAssembly.Module(writer.finish()), {
    e: { m: memory },
  });
  return instance.exports.scan as FirstDifference;
}
