/**
 * Each instruction on vectors in two executions of the same text: by WebAssembly's vector instructions in the handlers that the
 * interpreter makes, and on BigInts. The fuzzer compares both with silicon.
 */
import { expect, test } from 'vitest';
import { HandlerBuilder } from '../../../engine/interpreter/handler-builder.ts';
import { formOf } from '../../../engine/interpreter/handler-form.ts';
import { handlerModule } from '../../../engine/interpreter/handler-module.ts';
import { FAULT, OP_NEXT, OP_START, writeOp } from '../../../engine/interpreter/op.ts';
import { Code } from '../../../engine/wasm/code.ts';
import { readFlags, writeFlags } from '../../flags.ts';
import type { Instruction } from '../../instruction.ts';
import { avxMnemonics, type BuilderMnemonic, simdMnemonics } from '../../mnemonics.ts';
import { RDI, RSI, State } from '../../state.ts';
import { evaluate, type Guest } from '../evaluate.fixture.ts';
import { meanings } from '../index.ts';
import { everyForm } from './forms.fixture.ts';

const CPU = 1024;
const OP = 0x6000;
const PAGE = 0x10000;
const RUNS = 3;

const memory = new WebAssembly.Memory({ initial: 2 });
const view = new DataView(memory.buffer);
const page = new Uint8Array(memory.buffer, PAGE, 64);
const state = new State(memory, CPU);

/** xorshift, 32 bits. */
let seed = 0x2545_f491;
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
/** Bytes at which lanes of all widths change their minds, or random ones. */
function randomBytes(count: number): Uint8Array {
  const plain = random() % 3 === 0;
  const edges = [0, 0, 1, 0x7f, 0x80, 0xff, 0xff, 0x61];
  return Uint8Array.from({ length: count }, () => (plain ? random() & 0xff : edges[random() % 8]));
}
function bigOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** Where an access is, or 0 outside the bytes that there are. */
function host(_cpu: number, linear: bigint, access: number): number {
  const offset = Number(linear) - PAGE;
  return offset >= 0 && offset + (access & 0x3f) <= page.length ? PAGE + offset : 0;
}
function storeVector(_cpu: number, linear: bigint, access: number): number {
  const bounce = new Uint8Array(memory.buffer, state.bounce.byteOffset, access & 0x3f);
  new Uint8Array(memory.buffer).set(bounce, Number(linear));
  return 1;
}
function store(_cpu: number, linear: bigint, access: number, value: bigint): number {
  for (let i = 0; i < (access & 0x3f); i++)
    view.setUint8(Number(linear) + i, Number((value >> BigInt(8 * i)) & 0xffn));
  return 1;
}
function never(): number {
  throw new Error('not to be called');
}

/** Handlers of all forms, in one module. */
function compile(forms: readonly Instruction[]): ((cpu: number, op: number) => number)[] {
  const { writer, handler: type } = handlerModule();
  forms.forEach((instruction, i) => {
    const code = new Code(2);
    const builder = new HandlerBuilder(formOf(instruction, 64), code);
    meanings[instruction.mnemonic as BuilderMnemonic](builder);
    builder.finish();
    writer.export(`f${i}`, writer.define(type, code));
  });
  const imports = {
    load: host,
    store,
    probe: () => 1,
    system: never,
    divide: never,
    unimplemented: never,
    storeVector,
  };
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(writer.finish()), {
    e: { m: memory, ...imports },
  });
  return forms.map((_, i) => exports[`f${i}`] as (cpu: number, op: number) => number);
}

const forms = everyForm();
const handlers = compile(forms);

/** Lanes with offsets that mostly lie in memory. */
function smallIndices(): bigint {
  if (random() % 2) return bigOf(randomBytes(32));
  const width = random() % 2 ? 32n : 64n;
  let value = 0n;
  for (let at = 0n; at < 256n; at += width)
    value |= BigInt.asUintN(Number(width), BigInt((random() % 56) - 24)) << at;
  return value;
}

interface Start extends Guest {
  readonly memory: Map<bigint, number>;
  readonly ymm: bigint[];
  readonly mm: bigint[];
}

/** A state for both executions: registers, and memory at rSI and rDI. */
function start(): Start {
  const bytes = randomBytes(64);
  const registers = Array.from({ length: 16 }, () => bigOf(randomBytes(8)));
  // Lengths of strings, too.
  if (random() % 2)
    for (const index of [0, 2]) registers[index] = BigInt.asUintN(64, BigInt((random() % 40) - 20));
  registers[RSI] = BigInt(PAGE + 16);
  registers[RDI] = BigInt(PAGE + 24);
  return {
    registers,
    flags: 0x202n | (BigInt(random()) & 0x8d5n),
    rip: 0x1000n,
    memory: new Map(Array.from(bytes, (byte, i) => [BigInt(PAGE + i), byte])),
    ymm: [smallIndices(), ...Array.from({ length: 15 }, () => bigOf(randomBytes(32)))],
    mm: Array.from({ length: 8 }, () => bigOf(randomBytes(8))),
  };
}

function load({ registers, flags, ymm, mm, memory: bytes }: Start): void {
  state.gpr.set(registers);
  writeFlags(state, flags);
  ymm.forEach((value, i) => {
    for (let part = 0; part < 4; part++)
      state.ymm[4 * i + part] = BigInt.asUintN(64, value >> BigInt(64 * part));
  });
  mm.forEach((value, i) => {
    state.x87[2 * i] = value;
    state.x87[2 * i + 1] = 0x3fffn;
  });
  state.fsw = 0x1800;
  state.ftw = 0x5a5a;
  state.tlbRead = 0x8000;
  state.tlbWrite = 0x8000;
  state.blockRip = 0x1000n;
  for (const [address, byte] of bytes) page[Number(address) - PAGE] = byte;
}

/** What either execution has left. */
interface Left {
  readonly registers: readonly bigint[];
  readonly flags: bigint;
  readonly ymm: readonly bigint[];
  readonly mm: readonly bigint[];
  readonly memory: readonly number[];
  readonly fault: boolean;
  readonly x87: Guest['x87'];
}

/** What a handler has left; `mmBefore` tells which MM registers it has written. */
function leftBy(status: number, mmBefore: readonly bigint[]): Left {
  const mm = mmBefore.map((before, i) => {
    const value = state.x87[2 * i];
    // A register that is written gets an exponent of ones.
    const written = state.x87[2 * i + 1] === 0xffffn;
    return value === before || written ? value : -1n;
  });
  const tags = { 0: 'valid', 65535: 'empty' } as const;
  return {
    registers: [...state.gpr],
    flags: readFlags(state),
    ymm: Array.from({ length: 16 }, (_, i) =>
      [3, 2, 1, 0].reduce((value, part) => (value << 64n) | state.ymm[4 * i + part], 0n),
    ),
    mm,
    memory: [...page],
    fault: status === FAULT,
    x87: state.fsw === 0 ? tags[state.ftw as keyof typeof tags] : undefined,
  };
}

const names = [...new Set(forms.map(({ mnemonic }) => mnemonic))];

test('every mnemonic has forms', () => {
  expect([...simdMnemonics, ...avxMnemonics].filter((name) => !names.includes(name))).toEqual([]);
});

test.each(names)('%s', (name) => {
  forms.forEach((instruction, i) => {
    if (instruction.mnemonic !== name) return;
    writeOp(view, OP, instruction, 0);
    view.setUint16(OP + OP_START, 0, true);
    view.setUint16(OP + OP_NEXT, instruction.length, true);
    for (let run = 0; run < RUNS; run++) {
      const guest = start();
      load(guest);
      const mmBefore = [...guest.mm];
      const outcome = evaluate(instruction, guest);
      const expected: Left = {
        registers: guest.registers,
        flags: guest.flags,
        ymm: guest.ymm,
        mm: guest.mm,
        memory: [...guest.memory.values()],
        fault: outcome.kind === 'fault',
        x87: guest.x87,
      };
      const found = leftBy(handlers[i](CPU, OP), mmBefore);
      const text = (left: Left) => Object.values(left).join('; ');
      if (text(found) !== text(expected))
        expect(found, `${instruction.operands.length} operands`).toEqual(expected);
    }
  });
});
