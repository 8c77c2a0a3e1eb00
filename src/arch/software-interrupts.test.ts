/** INT n, INT3, INTO, INT1: SDM vol. 2A "INT n/INTO/INT3/INT1", vol. 3A 20.3.3. */
import { describe, expect, it } from 'vitest';
import { IOPL, OF, writeFlags } from '../isa/flags.ts';
import { RSP } from '../isa/state.ts';
import {
  encodeGate,
  Fixture,
  faultOf,
  IDT,
  KERNEL_CODE32,
  KERNEL_DATA,
  type Mode,
  TSS,
} from './cpu.fixture.ts';
import type { EventSource } from './cpu.ts';
import { GP, UD } from './fault.ts';
import { immediate, instruction } from './instruction.fixture.ts';
import { int, int1, int3, into } from './software-interrupts.ts';

function machine(mode: Mode, cpl = 0): Fixture {
  const f = new Fixture().enter(mode, cpl);
  writeFlags(f.cpu, f.cpu.flagsRest);
  f.cpu.gpr[RSP] = 0x8000n;
  f.cpu.rip = 0x77n;
  f.bus.write(TSS + 4, 4, 0x2_0000n);
  f.bus.write(TSS + 8, 2, BigInt(KERNEL_DATA));
  for (let vector = 0; vector < 256; vector++) {
    const offset = BigInt(0x9000 + vector);
    f.bus.write(IDT + vector * 8, 8, encodeGate({ selector: KERNEL_CODE32, offset, type: 0xe, dpl: 3 }));
  }
  return f;
}
const intN = (n: bigint) => instruction('int', [immediate(n)]);
const vectorOf = (f: Fixture) => Number(f.cpu.rip) - 0x9000;

it('INT n delivers vector n and returns after itself', () => {
  for (const n of [0n, 3n, 0x80n, 0xffn]) {
    const f = machine('protected32', 3);
    int(f.cpu, intN(n));
    expect(vectorOf(f)).toBe(Number(n));
    expect(f.bus.read(Number(f.cpu.gpr[RSP]), 4)).toBe(0x77n);
  }
});

describe('in virtual-8086 mode (20.3.3)', () => {
  it('INT n needs IOPL 3', () => {
    const f = machine('virtual8086');
    f.cpu.flagsRest |= 0x2000n;
    expect(faultOf(() => int(f.cpu, intN(0x80n)))).toEqual({ vector: GP, errorCode: 0 });
    f.cpu.flagsRest |= IOPL;
    int(f.cpu, intN(0x80n));
    expect(vectorOf(f)).toBe(0x80);
  });

  it('INT3, INTO and INT1 do not', () => {
    for (const [what, vector] of [
      [int3, 3],
      [into, 4],
      [int1, 1],
    ] as const) {
      const f = machine('virtual8086');
      writeFlags(f.cpu, 0x2_0002n | OF);
      what(f.cpu, instruction('int3'));
      expect(vectorOf(f)).toBe(vector);
    }
  });
});

it('INTO: nothing with OF clear, #UD in 64-bit mode', () => {
  const f = machine('protected32');
  into(f.cpu, instruction('into'));
  expect(f.cpu.rip).toBe(0x77n);
  const g = new Fixture().enter('64-bit', 3);
  expect(faultOf(() => into(g.cpu, instruction('into')))?.vector).toBe(UD);
});

it('INT3 and INT n check the DPL of the gate, INT1 does not', () => {
  for (const [what, fault] of [
    [int3, { vector: GP, errorCode: (3 << 3) | 2 }],
    [int1, null],
  ] as const) {
    const f = machine('protected32', 3);
    for (const vector of [1, 3]) {
      f.bus.write(
        IDT + vector * 8,
        8,
        encodeGate({ selector: KERNEL_CODE32, offset: 0n, type: 0xe, dpl: 0 }),
      );
    }
    expect(faultOf(() => what(f.cpu, instruction('int3')))).toEqual(fault);
  }
});

it('INT1 drops a pending data breakpoint and leaves DR6 alone; INT3 keeps it', () => {
  const f = machine('protected32');
  f.cpu.dr[6] = 0xffff_0ff0n;
  f.cpu.pendingDebug = 1;
  int3(f.cpu, instruction('int3'));
  expect(f.cpu.pendingDebug).toBe(1);
  int1(f.cpu, instruction('int1'));
  expect(f.cpu.pendingDebug).toBe(0);
  expect(f.cpu.dr[6]).toBe(0xffff_0ff0n);
});

it('a hook that stops the event leaves RIP at the instruction', () => {
  const f = machine('protected32', 3);
  const seen: EventSource[] = [];
  f.cpu.hooks = {
    deliver: (_cpu, _vector, _errorCode, source) => {
      seen.push(source);
      return true;
    },
  };
  int(f.cpu, instruction('int', [immediate(0x80n)], { length: 2 }));
  expect(f.cpu.rip).toBe(0x75n);
  f.cpu.pendingDebug = 1;
  int1(f.cpu, instruction('int1', [], { length: 1 }));
  expect(f.cpu.pendingDebug).toBe(1);
  expect(seen).toEqual(['software', 'int1']);
});
