/** The vectors once more, through the WebAssembly handlers that the interpreter makes of the semantics. */
import { describe, expect, test } from 'vitest';
import { ACCESS_SIZE, HandlerBuilder } from '../../engine/interpreter/handler-builder.ts';
import { formOf } from '../../engine/interpreter/handler-form.ts';
import { handlerModule } from '../../engine/interpreter/handler-module.ts';
import { AGAIN, FAULT, JUMP, OP_NEXT, OP_START, writeOp } from '../../engine/interpreter/op.ts';
import { Code } from '../../engine/wasm/code.ts';
import { readFlags, writeFlags } from '../flags.ts';
import { CS, DS, ES, SS, State } from '../state.ts';
import { semantics } from './index.ts';
import {
  instructionOf,
  PAGE,
  parseCase,
  readVectors,
  type VectorGroup,
  vectorNames,
} from './vectors.fixture.ts';

/** Where things stand in the memory: the state, the op, an empty fast TLB, and the page. */
const CPU = 1024;
const OP = 0x6000;
const EMPTY_TLB = 0x8000;
const HOST_PAGE = 0x10000;
const PAGE_FAULT = 14;
const NON_STATUS_FLAGS = 0x202n;

const memory = new WebAssembly.Memory({ initial: 2 });
const table = new WebAssembly.Table({ element: 'anyfunc', initial: 1 });
const view = new DataView(memory.buffer);
const page = new Uint8Array(memory.buffer, HOST_PAGE, 4096);
const state = new State(memory, CPU);

/** Host address of an access, or 0 after a page fault. */
function translate(_cpu: number, linear: bigint, access: number): number {
  const offset = BigInt.asUintN(64, linear) - PAGE;
  if (offset >= 0n && offset + BigInt(access & ACCESS_SIZE) <= 4096n) return HOST_PAGE + Number(offset);
  state.faultVector = PAGE_FAULT;
  return 0;
}

function store(cpu: number, linear: bigint, access: number, value: bigint): number {
  const host = translate(cpu, linear, access);
  if (host === 0) return 0;
  for (let i = 0; i < (access & ACCESS_SIZE); i++) {
    view.setUint8(host + i, Number(BigInt.asUintN(8, value >> BigInt(8 * i))));
  }
  return 1;
}

function divide(_cpu: number, high: bigint, low: bigint, divisor: bigint): bigint {
  const dividend = (BigInt.asUintN(64, high) << 64n) | BigInt.asUintN(64, low);
  state.bounce[0] = dividend % BigInt.asUintN(64, divisor);
  return BigInt.asIntN(64, dividend / BigInt.asUintN(64, divisor));
}

function never(): number {
  throw new Error('not an integer instruction');
}

/** The handler of a group's form, compiled. */
function compile(group: VectorGroup): () => number {
  const instruction = instructionOf(group);
  const code = new Code(2);
  const builder = new HandlerBuilder(formOf(instruction, group.stackSize ?? instruction.codeSize), code);
  semantics[group.mnemonic](builder);
  builder.finish();

  const { writer, handler: type } = handlerModule();
  writer.export('handler', writer.define(type, code));
  const imports = {
    load: translate,
    store,
    probe: translate,
    system: never,
    divide,
    unimplemented: never,
    storeVector: never,
  };
  const instance = new WebAssembly.Instance(new WebAssembly.Module(writer.finish()), {
    e: { m: memory, t: table, ...imports },
  });
  writeOp(view, OP, instruction, 0);
  view.setUint16(OP + OP_START, 0, true);
  view.setUint16(OP + OP_NEXT, instruction.length, true);
  const handler = instance.exports.handler as (cpu: number, op: number) => number;
  return () => handler(CPU, OP);
}

/** Segments that reach everything, but for those that a group bases at the page. */
function setSegments(bases: readonly bigint[]): void {
  for (const segment of [ES, CS, SS, DS]) {
    const base = bases[segment] ?? 0n;
    const limit = base === 0n ? 0xffff_ffff : 0xffff;
    state.segBase[segment] = base;
    state.segLimit[segment] = limit;
    state.segReadLow[segment] = 0;
    state.segWriteLow[segment] = 0;
    state.segReadHigh[segment] = limit;
    state.segWriteHigh[segment] = limit;
  }
}

for (const name of vectorNames()) {
  describe(name, () => {
    const groups = readVectors(name);
    test.each(groups.map((group) => [JSON.stringify({ ...group, cases: undefined }), group] as const))(
      '%s',
      (_, group) => {
        const run = compile(group);
        for (const text of group.cases) {
          const { start, end, fault } = parseCase(group, text);
          page.set(start.memory.bytes);
          state.tlbRead = EMPTY_TLB;
          state.tlbWrite = EMPTY_TLB;
          state.gpr.set(start.registers);
          state.rip = start.rip;
          state.blockRip = start.rip;
          writeFlags(state, start.flags | NON_STATUS_FLAGS);
          setSegments(start.segmentBases ?? []);

          let status = run();
          while (status === AGAIN) status = run();

          expect(
            Array.from(state.gpr, (value) => value.toString(16)),
            text,
          ).toEqual(end.registers.map((value) => value.toString(16)));
          expect(readFlags(state), text).toBe(end.flags | NON_STATUS_FLAGS);
          expect(Buffer.compare(page, end.memory.bytes), text).toBe(0);
          const next = start.rip + BigInt(instructionOf(group).length);
          expect(status === JUMP ? state.rip : status === FAULT ? start.rip : next, text).toBe(end.rip);
          expect(status === FAULT ? state.faultVector : undefined, text).toBe(fault);
        }
      },
    );
  });
}
