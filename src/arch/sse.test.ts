/**
 * Results that generated code gives by itself are those of arch, to the bit and with the same MXCSR; and it gives nearly all results
 * of ordinary numbers.
 */
import { describe, expect, it } from 'vitest';
import { HandlerBuilder } from '../engine/interpreter/handler-builder.ts';
import { formOf } from '../engine/interpreter/handler-form.ts';
import { handlerModule } from '../engine/interpreter/handler-module.ts';
import { NEXT, OP_NEXT, writeOp } from '../engine/interpreter/op.ts';
import { Code } from '../engine/wasm/code.ts';
import { decode } from '../isa/decode/decode.ts';
import { readFlags, writeFlags } from '../isa/flags.ts';
import { F32, F64 } from '../isa/float/format.ts';
import { generator, interestingFloat } from '../isa/float/native.fixture.ts';
import type { Instruction } from '../isa/instruction.ts';
import type { FloatMnemonic } from '../isa/mnemonics.ts';
import { meanings } from '../isa/semantics/index.ts';
import { RAX, RCX } from '../isa/state.ts';
import { Fixture, FREE, faultOf } from './cpu.fixture.ts';
import { sseInstructions } from './sse.ts';

const LEFT_TO_ARCH = 7;
const CASES = 100;

/** Forms with registers: XMM0 or EAX, then XMM1 or ECX; of VEX XMM0, XMM1, XMM2. */
const codes: (readonly number[])[] = [];
for (const opcode of [0x51, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f]) {
  for (const prefix of [[], [0x66], [0xf3], [0xf2]]) codes.push([...prefix, 0x0f, opcode, 0xc1]);
  for (const second of [0xf0, 0xf4, 0xf1, 0xf5, 0xf2, 0xf3]) {
    const packedRoot = opcode === 0x51 && (second & 2) === 0;
    codes.push([0xc5, packedRoot ? second | 8 : second, opcode, 0xc2]);
  }
}
for (let predicate = 0; predicate < 8; predicate++) {
  for (const prefix of [[], [0x66], [0xf3], [0xf2]]) codes.push([...prefix, 0x0f, 0xc2, 0xc1, predicate]);
}
for (let predicate = 8; predicate < 32; predicate++)
  codes.push([0xc5, 0xf0 | (predicate & 7), 0xc2, 0xc2, predicate]);
for (const opcode of [0x2e, 0x2f]) codes.push([0x0f, opcode, 0xc1], [0x66, 0x0f, opcode, 0xc1]);
for (const prefix of [0xf3, 0xf2]) {
  for (const opcode of [0x2a, 0x2c])
    codes.push([prefix, 0x0f, opcode, 0xc1], [prefix, 0x48, 0x0f, opcode, 0xc1]);
  codes.push([prefix, 0x0f, 0x5a, 0xc1]);
}

function decoded(code: readonly number[]): Instruction {
  const instruction = decode(Uint8Array.from([...code, ...new Array(15).fill(0)]), 0, 15, 64);
  if (!instruction) throw new Error('not decoded');
  return instruction;
}

/** The handler of an instruction, which calls nothing but `system`. */
function compile(memory: WebAssembly.Memory, instruction: Instruction): (cpu: number, op: number) => number {
  const { writer, handler } = handlerModule();
  const code = new Code(2);
  const builder = new HandlerBuilder(formOf(instruction, 64), code);
  meanings[instruction.mnemonic as FloatMnemonic](builder);
  builder.finish();
  writer.export('f', writer.define(handler, code));
  const never = () => {
    throw new Error('not to be called');
  };
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(writer.finish()), {
    e: {
      m: memory,
      load: never,
      store: never,
      storeVector: never,
      probe: never,
      divide: never,
      unimplemented: never,
      system: () => LEFT_TO_ARCH,
    },
  });
  return exports.f as (cpu: number, op: number) => number;
}

describe('generated code', () => {
  const f = new Fixture().enter('64-bit');
  const { cpu, bus } = f;
  cpu.cr4 |= 0x600n;
  const op = bus.ramOffset(FREE);

  it.each(
    codes.map(
      (code) => [decoded(code).mnemonic, code.map((byte) => byte.toString(16)).join(' '), code] as const,
    ),
  )('%s (%s)', (mnemonic, _, code) => {
    const instruction = decoded(code);
    const handler = compile(cpu.memory, instruction);
    writeOp(cpu.view, op, instruction, 0);
    cpu.view.setUint16(op + OP_NEXT, instruction.length, true);
    const pick = generator(code.reduce((sum, byte) => sum * 31 + byte, 7));
    const double = /[pd]d|sd/.test(mnemonic);
    const number = (everyday: boolean): bigint => {
      const value = everyday ? (pick(2 ** 32) - 2 ** 31) / 2 ** pick(40) : 0;
      const view = new DataView(new ArrayBuffer(8));
      if (double) {
        if (!everyday) return interestingFloat(pick, F64);
        view.setFloat64(0, value, true);
      } else {
        for (const at of [0, 4]) {
          if (everyday) view.setFloat32(at, value, true);
          else view.setUint32(at, Number(interestingFloat(pick, F32)), true);
        }
      }
      return view.getBigUint64(0, true);
    };
    let given = 0;
    for (let i = 0; i < CASES; i++) {
      const everyday = i % 2 === 0;
      cpu.ymm.fill(0xa5a5n);
      for (let n = 0; n < 12; n++) cpu.ymm[n] = number(everyday);
      // Roots of positive numbers.
      if (everyday && mnemonic.includes('sqrt')) {
        for (let n = 0; n < 12; n++) cpu.ymm[n] &= 0x7fff_ffff_7fff_ffffn;
      }
      cpu.gpr[RAX] = BigInt(pick(2 ** 32));
      cpu.gpr[RCX] = (BigInt(pick(2 ** 32)) << 32n) | BigInt(pick(2 ** 32));
      writeFlags(cpu, 0x8d7n);
      cpu.mxcsr = everyday ? 0x1fa0 : [0x1f80, 0x1fa0, 0x1fbf, 0x3fa0, 0x9fa0, 0x1fe0, 0x0fa0][pick(7)];
      const before = { ymm: cpu.ymm.slice(), gpr: cpu.gpr.slice(), mxcsr: cpu.mxcsr };
      const status = handler(cpu.address, op);
      const mine = { ymm: cpu.ymm.slice(), gpr: cpu.gpr.slice(), mxcsr: cpu.mxcsr, flags: readFlags(cpu) };
      if (status === LEFT_TO_ARCH) continue;
      expect(status).toBe(NEXT);
      if (everyday) given++;
      cpu.ymm.set(before.ymm);
      cpu.gpr.set(before.gpr);
      cpu.mxcsr = before.mxcsr;
      writeFlags(cpu, 0x8d7n);
      expect(faultOf(() => sseInstructions[mnemonic as FloatMnemonic](cpu, instruction))).toBeNull();
      const theirs = { ymm: cpu.ymm.slice(), gpr: cpu.gpr.slice(), mxcsr: cpu.mxcsr, flags: readFlags(cpu) };
      expect(mine, `${[...before.ymm.slice(0, 12)].map((value) => value.toString(16))}`).toEqual(theirs);
    }
    expect(given / (CASES / 2)).toBeGreaterThan(0.8);
  });
});
