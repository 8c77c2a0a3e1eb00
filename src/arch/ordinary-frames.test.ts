/** The short ways of ordinary-frames.ts do what the checked ones do: property tests over random frames and gates. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readFlagsDword, writeFlags } from '../isa/flags.ts';
import { RSP, STATE_SIZE } from '../isa/state.ts';
import {
  encodeGate,
  Fixture,
  FREE_SLOT,
  faultOf,
  flat,
  GDT,
  IDT,
  KERNEL_CODE32,
  KERNEL_CODE64,
  KERNEL_DATA,
  RAM_BYTES,
  TSS,
  USER_CODE32,
  USER_CODE64,
  USER_DATA,
} from './cpu.fixture.ts';
import { instruction } from './instruction.fixture.ts';
import { deliver } from './interrupts.ts';
import { iret } from './iret.ts';

const VECTOR = 0x80;
const SELECTORS = [
  0, 1, 3, KERNEL_CODE64, KERNEL_DATA, KERNEL_CODE32, USER_CODE32, USER_DATA, USER_CODE64, KERNEL_CODE64 | 3,
  USER_CODE64 & ~3, FREE_SLOT | 3, (FREE_SLOT + 8) | 3, (FREE_SLOT + 16) | 1, (FREE_SLOT + 24) | 1, FREE_SLOT + 32, 0x07, 0xfff8,
]; // biome-ignore format: a table

/** Whether the latest run went the short way: the engine then was asked and all it was asked for was there. */
let misses = 0;

function machine(cpl: number, fast: boolean): Fixture {
  const f = new Fixture().enter('64-bit', cpl);
  f.gdt(FREE_SLOT, flat(0xa, 3, 64));
  f.gdt(FREE_SLOT + 8, flat(0x2, 3, 32));
  f.gdt(FREE_SLOT + 16, flat(0xb, 1, 64));
  f.gdt(FREE_SLOT + 24, flat(0x3, 1, 16, { base: 0x1234_5000n, limit: 0x123, g: false }));
  f.gdt(FREE_SLOT + 32, flat(0xf, 0, 64));
  f.ldt(0x07, flat(3, 3, 16));
  f.bus.write(TSS + 4, 8, 0x2_0000n);
  f.bus.write(TSS + 12, 8, 0x2_1008n);
  f.bus.write(TSS + 36, 8, 0x2_2000n);
  misses = fast ? 0 : 1;
  if (fast) {
    f.cpu.engine = {
      ...f.cpu.engine,
      fastAddress: (linear, size) => {
        const at = Number(linear);
        const there = at < RAM_BYTES && (at & 0xfff) + size <= 0x1000;
        if (!there) misses++;
        return there ? f.bus.ramOffset(at) : -1;
      },
    };
  }
  return f;
}

/** All that an action leaves behind: state, tables and stacks, the fault. */
function outcome(f: Fixture, action: () => unknown): unknown {
  const fault = faultOf(action);
  const bytes = (from: number, count: number) =>
    new TextDecoder('latin1').decode(new Uint8Array(f.cpu.memory.buffer, from, count));
  const ram = (from: number, count: number) => bytes(f.bus.ramOffset(from), count);
  const state = bytes(f.cpu.address, STATE_SIZE);
  return { fault, state, tables: ram(GDT, 0x4000), stacks: ram(0x1_f000, 0x4000), own: ram(0x6000, 0x3000) };
}

const cpl = fc.constantFrom(0, 1, 3);
const flags = fc.bigInt(0n, 0x3f_ffffn).map((bits) => bits & ~0x2_4000n);
const pointer = fc.constantFrom(0x8000n, 0x7ff8n, 0x7fe0n, 0x8123n, 0x7030n, 0x7020n, 0x8000_0000_0000n);
const rip = fc.constantFrom(0x1234n, 0xffff_8000_0000_1234n, 0x8000_0000_0000n, 0x7fff_ffff_f000n);

it('readFlagsDword', () => {
  const f = machine(0, false);
  fc.assert(
    fc.property(flags, (image) => {
      writeFlags(f.cpu, image);
      expect(BigInt(readFlagsDword(f.cpu))).toBe((image & 0x3f_7fd7n) | 2n);
    }),
  );
});

describe('the short and the checked way agree', () => {
  it('on IRETQ', () => {
    let short = 0;
    const selector = fc.constantFrom(...SELECTORS);
    const pairs = fc.oneof(
      fc.tuple(selector, selector),
      fc.constantFrom([USER_CODE64, USER_DATA] as const, [KERNEL_CODE64, KERNEL_DATA] as const),
    );
    fc.assert(
      fc.property(
        cpl,
        pairs,
        rip,
        pointer,
        flags,
        flags,
        pointer,
        (level, [cs, ss], target, top, image, old, at) => {
          const run = (fast: boolean) => {
            const f = machine(level, fast);
            writeFlags(f.cpu, old & ~0x4_0000n);
            f.cpu.gpr[RSP] = at;
            if (at < 0x10_0000n) {
              [target, BigInt(cs), image, top, BigInt(ss)].forEach((slot, i) => {
                f.bus.write(Number(at) + i * 8, 8, slot);
              });
            }
            return outcome(f, () => iret(f.cpu, instruction('iret', [], { operandSize: 64 })));
          };
          const checked = run(false);
          const fast = run(true);
          if (misses === 0) short++;
          expect(fast).toEqual(checked);
        },
      ),
      { numRuns: 600 },
    );
    expect(short).toBeGreaterThan(60);
  });

  it('on delivery', () => {
    let short = 0;
    const sources = fc.constantFrom('external', 'exception', 'software', 'nmi', 'int3', 'int1');
    const gates = fc.record({
      selector: fc.oneof(fc.constant(KERNEL_CODE64), fc.constantFrom(...SELECTORS)),
      offset: rip,
      type: fc.oneof(fc.constantFrom(0xe, 0xf), fc.constantFrom(0x5, 0x6, 0xc)),
      dpl: fc.constantFrom(0, 3),
      p: fc.oneof(fc.constant(true), fc.boolean()),
      count: fc.constantFrom(0, 0, 1),
    });
    const error = fc.option(fc.integer({ min: 0, max: 0xffff }), { nil: undefined });
    fc.assert(
      fc.property(
        cpl,
        sources,
        gates,
        flags,
        pointer,
        error,
        fc.boolean(),
        (level, source, gate, old, at, code, limit) => {
          const run = (fast: boolean) => {
            const f = machine(level, fast);
            writeFlags(f.cpu, old);
            f.cpu.gpr[RSP] = at;
            f.cpu.rip = 0x5555_6666n;
            if (limit) f.cpu.segLimit[7] = 0x2a;
            f.bus.write(IDT + VECTOR * 16, 8, encodeGate(gate));
            f.bus.write(IDT + VECTOR * 16 + 8, 8, gate.offset >> 32n);
            return outcome(f, () => deliver(f.cpu, VECTOR, source, code));
          };
          const checked = run(false);
          const fast = run(true);
          if (misses === 0) short++;
          expect(fast).toEqual(checked);
        },
      ),
      { numRuns: 600 },
    );
    expect(short).toBeGreaterThan(60);
  });
});
