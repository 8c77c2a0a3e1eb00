/** Modules as they are written. WebAssembly Core Specification 2.0, chapter 5. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Code, I32, I64, Memory, Op, signed, unsigned } from './code.ts';
import { ModuleWriter } from './module.ts';

const memory = new WebAssembly.Memory({ initial: 1 });
const table = new WebAssembly.Table({ element: 'anyfunc', initial: 4 });

function instantiate(writer: ModuleWriter): WebAssembly.Instance {
  return new WebAssembly.Instance(new WebAssembly.Module(writer.finish()), {
    e: { m: memory, t: table, twice: (x: number) => 2 * x },
  });
}

describe('LEB128 (WebAssembly Core 5.2.2)', () => {
  it.each([
    [0, [0x00]],
    [127, [0x7f]],
    [128, [0x80, 0x01]],
    [624485, [0xe5, 0x8e, 0x26]],
    [0xffffffff, [0xff, 0xff, 0xff, 0xff, 0x0f]],
  ])('unsigned %i', (value, bytes) => {
    const out: number[] = [];
    unsigned(out, value);
    expect(out).toEqual(bytes);
  });

  it.each([
    [0n, [0x00]],
    [-1n, [0x7f]],
    [63n, [0x3f]],
    [64n, [0xc0, 0x00]],
    [-64n, [0x40]],
    [-65n, [0xbf, 0x7f]],
    [-123456n, [0xc0, 0xbb, 0x78]],
  ])('signed %i', (value, bytes) => {
    const out: number[] = [];
    signed(out, value);
    expect(out).toEqual(bytes);
  });

  it('constants survive a round trip through a module', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }), fc.integer(), (wide, narrow) => {
        const writer = new ModuleWriter();
        const a = new Code(0);
        a.i64(wide);
        writer.export('wide', writer.define(writer.type([], [I64]), a));
        const b = new Code(0);
        b.i32(narrow);
        writer.export('narrow', writer.define(writer.type([], [I32]), b));
        const { wide: getWide, narrow: getNarrow } = instantiate(writer).exports as Record<
          string,
          () => unknown
        >;
        expect(getWide()).toBe(wide);
        expect(getNarrow()).toBe(narrow);
      }),
    );
  });
});

describe('modules', () => {
  it('call imports, tables and memory', () => {
    const writer = new ModuleWriter();
    const unary = writer.type([I32], [I32]);
    const twice = writer.importFunction('twice', unary);
    const increment = new Code(1);
    increment.get(0).i32(1).op(Op.i32Add);
    writer.importTable();
    writer.element(3, writer.define(unary, increment));
    const main = new Code(1);
    const kept = main.local(I32);
    main.get(0).call(twice).i32(3).callIndirect(unary).set(kept);
    main.i32(64).get(kept).memory(Memory.i32Store, 4);
    main.i32(68).memory(Memory.i32Load, 0);
    writer.export('main', writer.define(unary, main));
    const { main: run } = instantiate(writer).exports as { main: (x: number) => number };
    expect(run(20)).toBe(41);
    expect(new DataView(memory.buffer).getInt32(68, true)).toBe(41);
  });

  it('a set followed by a get of the same local becomes a tee, and of another does not', () => {
    const writer = new ModuleWriter();
    const unary = writer.type([I32], [I32]);
    const code = new Code(1);
    const x = code.local(I32);
    const y = code.local(I32);
    code.get(0).i32(5).op(Op.i32Add).set(x).get(x).i32(2).op(Op.i32Mul).set(y).get(x).get(y).op(Op.i32Add);
    writer.export('f', writer.define(unary, code));
    expect((instantiate(writer).exports.f as (x: number) => number)(1)).toBe(18);
  });

  it('loops and branches', () => {
    const writer = new ModuleWriter();
    const code = new Code(1);
    const sum = code.local(I32);
    code.block().loop();
    code.get(0).op(Op.i32Eqz).branchIf(1);
    code.get(sum).get(0).op(Op.i32Add).set(sum);
    code.get(0).i32(1).op(Op.i32Sub).set(0);
    code.branch(0).op(Op.end).op(Op.end).get(sum);
    writer.export('sum', writer.define(writer.type([I32], [I32]), code));
    expect((instantiate(writer).exports.sum as (n: number) => number)(10)).toBe(55);
  });
});
