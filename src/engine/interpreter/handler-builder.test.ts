/** The builder's operations as WebAssembly, each beside its rule in unbounded integers. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Builder, Value, Width } from '../../isa/builder.ts';
import { readFlags, STATUS_FLAGS, writeFlags } from '../../isa/flags.ts';
import type { OperandWidth } from '../../isa/instruction.ts';
import { RAX, RBX, RCX, RDX, State } from '../../isa/state.ts';
import { Code } from '../wasm/code.ts';
import { HandlerBuilder } from './handler-builder.ts';
import type { HandlerForm } from './handler-form.ts';
import { handlerModule } from './handler-module.ts';

const CPU = 1024;
const memory = new WebAssembly.Memory({ initial: 1 });
const table = new WebAssembly.Table({ element: 'anyfunc', initial: 1 });
const state = new State(memory, CPU);

const form: HandlerForm = {
  mnemonic: 'nop',
  operandSize: 64,
  addressSize: 64,
  codeSize: 64,
  stackSize: 64,
  operands: [],
  condition: 0,
  repeat: '',
  segmented: false,
  vex: false,
  immediate: -1,
  addressForm: 'none',
};

/** Compiles a handler of `semantic` and returns a function that runs it and gives its status. */
function handler(semantic: (b: Builder) => void): () => number {
  const { writer, handler: type } = handlerModule();
  const code = new Code(2);
  const builder = new HandlerBuilder(form, code);
  semantic(builder);
  builder.finish();
  writer.export('f', writer.define(type, code));
  const none = () => 0;
  const divide = (_cpu: number, high: bigint, low: bigint, by: bigint) => {
    const dividend = (BigInt.asUintN(64, high) << 64n) | BigInt.asUintN(64, low);
    state.bounce[0] = dividend % BigInt.asUintN(64, by);
    return BigInt.asIntN(64, dividend / BigInt.asUintN(64, by));
  };
  const instance = new WebAssembly.Instance(new WebAssembly.Module(writer.finish()), {
    e: {
      m: memory,
      t: table,
      load: none,
      store: none,
      probe: none,
      system: none,
      divide,
      unimplemented: none,
      storeVector: none,
    },
  });
  const f = instance.exports.f as (cpu: number, op: number) => number;
  return () => f(CPU, 0);
}

const WIDTHS: OperandWidth[] = [8, 16, 32, 64];
const interesting = (width: number) =>
  fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << BigInt(width)) - 1n }),
    fc.constantFrom(
      ...[0n, 1n, (1n << BigInt(width)) - 1n, 1n << BigInt(width - 1), (1n << BigInt(width - 1)) - 1n],
    ),
  );

type Rule = (x: bigint, y: bigint, width: number) => bigint;
const s = (value: bigint, width: number) => BigInt.asIntN(width, value);
const bit = (truth: boolean) => (truth ? 1n : 0n);

/** Each operation beside its rule in unbounded integers; results are taken modulo 2^width. */
const binary: Record<string, [(b: Builder, x: Value, y: Value) => Value, Rule]> = {
  add: [(b, x, y) => b.add(x, y), (x, y) => x + y],
  sub: [(b, x, y) => b.sub(x, y), (x, y) => x - y],
  mul: [(b, x, y) => b.mul(x, y), (x, y) => x * y],
  mulHighUnsigned: [(b, x, y) => b.mulHighUnsigned(x, y), (x, y, w) => (x * y) >> BigInt(w)],
  mulHighSigned: [(b, x, y) => b.mulHighSigned(x, y), (x, y, w) => (s(x, w) * s(y, w)) >> BigInt(w)],
  and: [(b, x, y) => b.and(x, y), (x, y) => x & y],
  or: [(b, x, y) => b.or(x, y), (x, y) => x | y],
  xor: [(b, x, y) => b.xor(x, y), (x, y) => x ^ y],
  not: [(b, x) => b.not(x), (x) => ~x],
  neg: [(b, x) => b.neg(x), (x) => -x],
  countLeadingZeros: [
    (b, x) => b.countLeadingZeros(x),
    (x, _y, w) => BigInt(x === 0n ? w : w - x.toString(2).length),
  ],
  countTrailingZeros: [
    (b, x) => b.countTrailingZeros(x),
    (x, _y, w) => BigInt(x === 0n ? w : x.toString(2).length - 1 - x.toString(2).lastIndexOf('1')),
  ],
  countOnes: [(b, x) => b.countOnes(x), (x) => BigInt(x.toString(2).replaceAll('0', '').length)],
  eq: [(b, x, y) => b.eq(x, y), (x, y) => bit(x === y)],
  ne: [(b, x, y) => b.ne(x, y), (x, y) => bit(x !== y)],
  ltUnsigned: [(b, x, y) => b.ltUnsigned(x, y), (x, y) => bit(x < y)],
  leUnsigned: [(b, x, y) => b.leUnsigned(x, y), (x, y) => bit(x <= y)],
  ltSigned: [(b, x, y) => b.ltSigned(x, y), (x, y, w) => bit(s(x, w) < s(y, w))],
  leSigned: [(b, x, y) => b.leSigned(x, y), (x, y, w) => bit(s(x, w) <= s(y, w))],
  signExtend: [(b, x) => b.signExtend(x, 64), (x, _y, w) => BigInt.asUintN(64, s(x, w))],
  zeroExtend: [(b, x) => b.zeroExtend(x, 64), (x) => x],
  truncate: [(b, x) => b.truncate(x, 8), (x) => x & 0xffn],
  signFromBit: [(b, x, y) => b.signExtend(b.eq(x, y), x.width), (x, y) => (x === y ? -1n : 0n)],
  select: [(b, x, y) => b.select(b.ltUnsigned(x, y), b.not(x), y), (x, y) => (x < y ? ~x : y)],
};

/** Operations whose second operand is a count below the width (below 32 for shifts of narrow values). */
const counted: Record<string, [(b: Builder, x: Value, y: Value) => Value, Rule, boolean]> = {
  shl: [(b, x, n) => b.shl(x, n), (x, n) => x << n, true],
  shr: [(b, x, n) => b.shr(x, n), (x, n) => x >> n, true],
  sar: [(b, x, n) => b.sar(x, n), (x, n, w) => s(x, w) >> n, true],
  rotl: [(b, x, n) => b.rotl(x, n), (x, n, w) => (x << n) | (x >> (BigInt(w) - n)), false],
  rotr: [(b, x, n) => b.rotr(x, n), (x, n, w) => (x >> n) | (x << (BigInt(w) - n)), false],
};

function widened(b: Builder, value: Value): Value {
  return b.zeroExtend(value, 64);
}

describe('values', () => {
  for (const width of WIDTHS) {
    it.each(Object.keys(binary))(`%s of ${width} bits`, (name) => {
      const [build, rule] = binary[name];
      let resultWidth: Width = 64;
      const run = handler((b) => {
        const result = build(b, b.getRegister(RAX, width), b.getRegister(RBX, width));
        resultWidth = result.width;
        b.setRegister(RCX, widened(b, result));
      });
      fc.assert(
        fc.property(interesting(width), interesting(width), (x, y) => {
          state.gpr[RAX] = x;
          state.gpr[RBX] = y;
          run();
          expect(state.gpr[RCX]).toBe(BigInt.asUintN(resultWidth, rule(x, y, width)));
        }),
      );
    });

    it.each(Object.keys(counted))(`%s of ${width} bits`, (name) => {
      const [build, rule, past] = counted[name];
      const run = handler((b) => {
        b.setRegister(RCX, widened(b, build(b, b.getRegister(RAX, width), b.getRegister(RBX, 8))));
      });
      const limit = past ? Math.max(width, 32) : width;
      fc.assert(
        fc.property(interesting(width), fc.integer({ min: 0, max: limit - 1 }), (x, count) => {
          state.gpr[RAX] = x;
          state.gpr[RBX] = BigInt(count);
          run();
          expect(state.gpr[RCX]).toBe(BigInt.asUintN(width, rule(x, BigInt(count), width)));
        }),
      );
    });

    it(`divideUnsigned of ${width} bits`, () => {
      const run = handler((b) => {
        const { quotient, remainder, fits } = b.divideUnsigned(
          b.getRegister(RDX, width),
          b.getRegister(RAX, width),
          b.getRegister(RBX, width),
        );
        b.setRegister(RCX, widened(b, fits));
        b.when(fits, () => {
          b.setRegister(RAX, widened(b, quotient));
          b.setRegister(RDX, widened(b, remainder));
        });
      });
      const value = interesting(width);
      fc.assert(
        fc.property(value, value, value, (high, low, divisor) => {
          Object.assign(state.gpr, { [RAX]: low, [RDX]: high, [RBX]: divisor });
          run();
          const dividend = (high << BigInt(width)) | low;
          const fits = divisor !== 0n && dividend / divisor < 1n << BigInt(width);
          expect(state.gpr[RCX]).toBe(bit(fits));
          if (fits) {
            expect(state.gpr[RAX]).toBe(dividend / divisor);
            expect(state.gpr[RDX]).toBe(dividend % divisor);
          }
        }),
      );
    });
  }
});

describe('registers', () => {
  it.each([
    [8, 0x1122334455667788n, 0xffffffffffffff88n],
    [16, 0x1122334455667788n, 0xffffffffffff7788n],
    [32, 0x1122334455667788n, 0x0000000055667788n],
    [64, 0x1122334455667788n, 0x1122334455667788n],
  ] as const)('a write of %i bits', (width, value, expected) => {
    const run = handler((b) => b.setRegister(RCX, b.getRegister(RAX, width)));
    state.gpr[RAX] = value;
    state.gpr[RCX] = (1n << 64n) - 1n;
    run();
    expect(state.gpr[RCX]).toBe(expected);
  });

  it('AH is bits 15:8', () => {
    const run = handler((b) => b.setAh(b.not(b.getAh())));
    state.gpr[RAX] = 0x112233445566a0ffn;
    run();
    expect(state.gpr[RAX]).toBe(0x1122334455665fffn);
  });
});

describe('lazy flags', () => {
  const all = fc.bigInt({ min: 0n, max: 0xfffn }).map((flags) => (flags & STATUS_FLAGS) | 2n);

  it('RFLAGS written are RFLAGS read, and each flag is as getFlag has it', () => {
    const names = ['cf', 'pf', 'af', 'zf', 'sf', 'of'] as const;
    const bits = [0n, 2n, 4n, 6n, 7n, 11n];
    const run = handler((b) => {
      let value = b.constant(64, 0);
      names.forEach((name, i) => {
        value = b.or(value, b.shl(b.zeroExtend(b.getFlag(name), 64), b.constant(8, bits[i])));
      });
      b.setRegister(RCX, value);
    });
    fc.assert(
      fc.property(all, (flags) => {
        writeFlags(state, flags);
        expect(readFlags(state)).toBe(flags);
        run();
        expect(state.gpr[RCX] | 2n).toBe(flags);
      }),
    );
  });

  it('setFlags changes what it names and keeps the rest', () => {
    const names = ['cf', 'pf', 'af', 'zf', 'sf', 'of'] as const;
    const bits = [0n, 2n, 4n, 6n, 7n, 11n];
    fc.assert(
      fc.property(
        all,
        fc.subarray([0, 1, 2, 3, 4, 5]),
        fc.integer({ min: 0, max: 63 }),
        (flags, chosen, values) => {
          const run = handler((b) => {
            const effect: Partial<Record<(typeof names)[number], Value>> = {};
            for (const i of chosen) effect[names[i]] = b.constant(1, (values >> i) & 1);
            b.setFlags(effect);
          });
          let expected = flags;
          for (const i of chosen) {
            expected &= ~(1n << bits[i]);
            expected |= BigInt((values >> i) & 1) << bits[i];
          }
          writeFlags(state, flags);
          run();
          expect(readFlags(state)).toBe(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each(WIDTHS)('result and carries of %i bits give all six', (width) => {
    const run = handler((b) =>
      b.setFlags({ result: b.getRegister(RAX, width), carries: b.getRegister(RBX, width) }),
    );
    fc.assert(
      fc.property(interesting(width), interesting(width), (result, carries) => {
        state.gpr[RAX] = result;
        state.gpr[RBX] = carries;
        run();
        const top = (value: bigint, from: number) => (value >> BigInt(width - from)) & 1n;
        const ones = (result & 0xffn).toString(2).replaceAll('0', '').length;
        const expected =
          2n |
          top(carries, 1) |
          (ones % 2 ? 0n : 4n) |
          ((carries >> 3n) & 1n ? 0x10n : 0n) |
          (result === 0n ? 0x40n : 0n) |
          (top(result, 1) << 7n) |
          ((top(carries, 1) ^ top(carries, 2)) << 11n);
        expect(readFlags(state)).toBe(expected);
      }),
    );
  });

  it('the sixteen conditions (SDM vol. 2 B.1.4.7)', () => {
    const run = handler((b) => {
      let value = b.constant(64, 0);
      for (let code = 0; code < 16; code++) {
        value = b.or(value, b.shl(b.zeroExtend(b.condition(code), 64), b.constant(8, code)));
      }
      b.setRegister(RCX, value);
    });
    fc.assert(
      fc.property(all, (flags) => {
        const has = (n: bigint) => (flags >> n) & 1n;
        const [cf, pf, zf, sf, of] = [has(0n), has(2n), has(6n), has(7n), has(11n)];
        const base = [of, cf, zf, cf | zf, sf, pf, sf ^ of, (sf ^ of) | zf];
        let expected = 0n;
        base.forEach((truth, i) => {
          expected |= (truth << BigInt(2 * i)) | ((truth ^ 1n) << BigInt(2 * i + 1));
        });
        writeFlags(state, flags);
        run();
        expect(state.gpr[RCX]).toBe(expected);
      }),
    );
  });
});

describe('control', () => {
  it('loop and variables', () => {
    const run = handler((b) => {
      const left = b.variable(b.getRegister(RAX, 64));
      const sum = b.variable(b.constant(64, 0));
      b.loop(
        () => b.ne(left, b.constant(64, 0)),
        () => {
          b.assign(sum, b.add(sum, left));
          b.assign(left, b.sub(left, b.constant(64, 1)));
        },
      );
      b.setRegister(RCX, sum);
    });
    state.gpr[RAX] = 100n;
    run();
    expect(state.gpr[RCX]).toBe(5050n);
  });

  it('a fault ends the handler with nothing changed after it', () => {
    const run = handler((b) => {
      b.when(b.eq(b.getRegister(RAX, 64), b.constant(64, 7)), () => b.fault(13, 0x28));
      b.setRegister(RCX, b.constant(64, 1));
    });
    state.gpr[RCX] = 0n;
    state.gpr[RAX] = 7n;
    expect(run()).toBe(3);
    expect([state.faultVector, state.faultHasError, state.faultError, state.gpr[RCX]]).toEqual([
      13,
      1,
      0x28,
      0n,
    ]);
    state.gpr[RAX] = 8n;
    expect(run()).toBe(0);
    expect(state.gpr[RCX]).toBe(1n);
  });
});
