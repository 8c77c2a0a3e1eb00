/** CLI, STI, PUSHF, POPF: SDM vol. 2 of each. POPF at CPL 3 was measured on a Cascade Lake Xeon. */
import { describe, expect, it } from 'vitest';
import { AC, ID, IF, IOPL, NT, RF, readFlags, TF, VIF, VIP, VM, writeFlags } from '../isa/flags.ts';
import { RSP, SHADOW_NONE, SHADOW_STI } from '../isa/state.ts';
import { Fixture, faultOf, type Mode } from './cpu.fixture.ts';
import { GP } from './fault.ts';
import { cli, popf, pushf, sti } from './flags-instructions.ts';
import { instruction } from './instruction.fixture.ts';

function machine(mode: Mode, cpl: number, flags = 2n): Fixture {
  const f = new Fixture().enter(mode, cpl);
  writeFlags(f.cpu, flags | (mode === 'virtual8086' ? VM : 0n));
  f.cpu.gpr[RSP] = 0x8000n;
  return f;
}
const iopl = (level: number) => BigInt(level) << 12n;

describe('CLI and STI', () => {
  const rows: [Mode, number, number, boolean][] = [
    ['real', 0, 0, true],
    ['virtual8086', 3, 2, false],
    ['virtual8086', 3, 3, true],
    ['protected32', 0, 0, true],
    ['protected32', 3, 2, false],
    ['protected32', 3, 3, true],
    ['64-bit', 0, 0, true],
    ['64-bit', 1, 0, false],
    ['64-bit', 1, 1, true],
    ['64-bit', 3, 0, false],
  ];
  it.each(rows)('%s at CPL %i with IOPL %i: allowed %s', (mode, cpl, level, allowed) => {
    const fault = allowed ? null : { vector: GP, errorCode: 0 };
    const off = machine(mode, cpl, 2n | iopl(level));
    expect(faultOf(() => sti(off.cpu, instruction('sti')))).toEqual(fault);
    expect((off.cpu.flagsRest & IF) !== 0n).toBe(allowed);
    expect(off.cpu.shadow).toBe(allowed ? SHADOW_STI : SHADOW_NONE);
    const on = machine(mode, cpl, 2n | IF | iopl(level));
    expect(faultOf(() => cli(on.cpu, instruction('cli')))).toEqual(fault);
    expect((on.cpu.flagsRest & IF) === 0n).toBe(allowed);
  });

  it('STI with IF set makes no shadow', () => {
    const f = machine('64-bit', 0, IF | 2n);
    sti(f.cpu, instruction('sti'));
    expect(f.cpu.shadow).toBe(SHADOW_NONE);
  });
});

describe('PUSHF', () => {
  it.each([
    ['64-bit', 64, 8],
    ['64-bit', 16, 2],
    ['protected32', 32, 4],
  ] as const)('%s, operand size %i: RF and VM are pushed as 0', (mode, operandSize, bytes) => {
    const f = machine(mode, 0, 0x3f_7fd7n & ~VM);
    pushf(f.cpu, instruction('pushf', [], { operandSize }));
    expect(f.cpu.gpr[RSP]).toBe(0x8000n - BigInt(bytes));
    const all = 0x3f_7fd7n & ~(VM | RF);
    expect(f.bus.read(0x8000 - bytes, bytes)).toBe(BigInt.asUintN(operandSize, all));
  });

  it('in virtual-8086 mode needs IOPL 3', () => {
    const f = machine('virtual8086', 3, 2n | iopl(2));
    expect(faultOf(() => pushf(f.cpu, instruction('pushf', [], { operandSize: 16 })))).toEqual({
      vector: GP,
      errorCode: 0,
    });
    f.cpu.flagsRest |= IOPL;
    pushf(f.cpu, instruction('pushf'));
    expect(f.bus.read(0x7ffc, 4)).toBe(2n | IOPL);
  });
});

describe('POPF', () => {
  const STATUS = 0x8d5n | 0x400n;
  const rows: [Mode, number, number, 16 | 32 | 64, bigint][] = [
    ['64-bit', 3, 0, 64, STATUS | TF | NT | AC | ID],
    ['64-bit', 3, 0, 16, STATUS | TF | NT],
    ['64-bit', 3, 3, 64, STATUS | TF | NT | AC | ID | IF],
    ['64-bit', 0, 0, 64, STATUS | TF | NT | AC | ID | IF | IOPL],
    ['64-bit', 1, 1, 64, STATUS | TF | NT | AC | ID | IF],
    ['protected32', 3, 0, 32, STATUS | TF | NT | AC | ID],
    ['protected32', 0, 0, 16, STATUS | TF | NT | IF | IOPL],
    ['real', 0, 0, 32, STATUS | TF | NT | AC | ID | IF | IOPL],
    ['virtual8086', 3, 3, 32, STATUS | TF | NT | AC | ID | IF],
    ['virtual8086', 3, 3, 16, STATUS | TF | NT | IF],
  ];
  it.each(rows)('%s at CPL %i with IOPL %i, operand size %i', (mode, cpl, level, operandSize, changed) => {
    const f = machine(mode, cpl, 2n | iopl(level));
    const before = readFlags(f.cpu);
    f.bus.write(0x8000, 8, 0xffff_ffff_ffff_ffffn);
    popf(f.cpu, instruction('popf', [], { operandSize }));
    expect(readFlags(f.cpu) ^ before).toBe(changed & ~(before & IOPL));
    expect(f.cpu.gpr[RSP]).toBe(0x8000n + BigInt(operandSize / 8));
  });

  it('clears RF, and leaves VIF, VIP and, above CPL 0, IF and IOPL', () => {
    const f = machine('64-bit', 3, 0x3f_7fd7n & ~(VM | IOPL));
    f.bus.write(0x8000, 8, 0n);
    popf(f.cpu, instruction('popf', [], { operandSize: 64 }));
    expect(readFlags(f.cpu)).toBe(2n | IF | VIF | VIP);
  });

  it('in virtual-8086 mode needs IOPL 3', () => {
    const f = machine('virtual8086', 3, 2n | iopl(1));
    expect(faultOf(() => popf(f.cpu, instruction('popf', [], { operandSize: 16 })))).toEqual({
      vector: GP,
      errorCode: 0,
    });
    expect(f.cpu.gpr[RSP]).toBe(0x8000n);
  });
});
