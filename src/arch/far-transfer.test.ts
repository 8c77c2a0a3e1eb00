/** Far JMP, CALL, RET: SDM vol. 2A "CALL", "JMP", vol. 2B "RET". "Measured": on a Cascade Lake Xeon at CPL 3. */
import { beforeEach, describe, expect, it } from 'vitest';
import { writeFlags } from '../isa/flags.ts';
import type { Instruction, Operand, OperandWidth } from '../isa/instruction.ts';
import { CS, DS, RSP, SS, TR } from '../isa/state.ts';
import {
  encodeDescriptor,
  encodeGate,
  Fixture,
  FREE_SLOT,
  faultOf,
  flat,
  type GateFields,
  KERNEL_CODE32,
  KERNEL_CODE64,
  KERNEL_DATA,
  LDT_SELECTOR,
  type Mode,
  TSS,
  TSS_SELECTOR,
  USER_CODE32,
  USER_CODE64,
  USER_DATA,
} from './cpu.fixture.ts';
import { callFar, jumpFar, returnFar } from './far-transfer.ts';
import { GP, NP, PF, SS as STACK_FAULT, TS } from './fault.ts';
import { immediate, instruction, memory } from './instruction.fixture.ts';

const CS16 = 0x17;
const CS32 = 0x1f;
const CS_ABSENT = 0x27;
const CS_LIMITED = 0x3f;
const EMPTY = 0x7f;
const TARGET = 0x1234n;
const POINTER = 0x6_0000;
const GATE = FREE_SLOT;

function machine(mode: Mode, cpl: number): Fixture {
  const f = new Fixture().enter(mode, cpl);
  writeFlags(f.cpu, f.cpu.flagsRest);
  f.ldt(0x07, flat(3, 3, 16));
  f.ldt(CS16, flat(0xb, 3, 16));
  f.ldt(CS32, flat(0xb, 3, 32));
  f.ldt(CS_ABSENT, flat(0xb, 3, 32, { p: false }));
  f.ldt(CS_LIMITED, flat(0xb, 3, 32, { limit: 0xfff, g: false }));
  f.cpu.gpr[RSP] = 0x8000n;
  f.cpu.rip = 0x5_0007n;
  return f;
}

/** Executes a far JMP or CALL through a pointer in memory. */
function far(
  f: Fixture,
  what: (cpu: Fixture['cpu'], i: Instruction) => void,
  selector: number,
  offset: bigint,
  size: OperandWidth = 32,
): void {
  const bytes = (size / 8) as 2 | 4 | 8;
  f.bus.write(POINTER, bytes, BigInt.asUintN(size, offset));
  f.bus.write(POINTER + bytes, 2, BigInt(selector));
  what(f.cpu, instruction('jmpf', [memory(BigInt(POINTER), DS)], { operandSize: size }));
}

function ret(
  f: Fixture,
  frame: (number | bigint)[],
  size: OperandWidth,
  released?: number,
  at = 0x8000n,
): void {
  const bytes = (size / 8) as 2 | 4 | 8;
  for (const [i, slot] of frame.entries())
    f.bus.write(Number(at) + i * bytes, bytes, BigInt.asUintN(size, BigInt(slot)));
  f.cpu.gpr[RSP] = at;
  const operands: Operand[] = released === undefined ? [] : [immediate(BigInt(released), 16)];
  returnFar(f.cpu, instruction('retf', operands, { operandSize: size }));
}

describe('direct', () => {
  it.each([16, 32, 64] as const)('CALL with operand size %i pushes slots of that size (measured)', (size) => {
    const f = machine('64-bit', 3);
    const bytes = (size / 8) as 2 | 4 | 8;
    far(f, callFar, USER_CODE64, TARGET, size);
    expect(f.cpu.rip).toBe(TARGET);
    expect(f.cpu.gpr[RSP]).toBe(0x8000n - BigInt(2 * bytes));
    expect(f.bus.read(0x8000 - bytes, bytes)).toBe(BigInt(USER_CODE64));
    expect(f.bus.read(0x8000 - 2 * bytes, bytes)).toBe(BigInt.asUintN(size, 0x5_0007n));
  });

  it('a far pointer immediate', () => {
    const f = machine('compatibility', 3);
    const operands: Operand[] = [{ kind: 'far', selector: USER_CODE64, offset: 0x1234 }];
    callFar(f.cpu, instruction('callf', operands));
    expect(f.cpu.mode64).toBe(true);
    expect(f.bus.read(0x7ffc, 4)).toBe(BigInt(USER_CODE32));
  });

  it('nonconforming code: RPL of CS becomes CPL, an RPL below CPL is allowed (measured)', () => {
    const f = machine('64-bit', 3);
    far(f, jumpFar, USER_CODE64 & ~3, TARGET);
    expect(f.segment(CS).selector).toBe(USER_CODE64);
    expect(f.cpu.gpr[RSP]).toBe(0x8000n);
  });

  it('conforming code of a lower DPL keeps CPL', () => {
    const f = machine('64-bit', 3);
    f.gdt(FREE_SLOT, flat(0xf, 0, 64));
    far(f, jumpFar, FREE_SLOT, TARGET);
    expect(f.segment(CS).selector).toBe(FREE_SLOT | 3);
    expect(f.cpu.cpl).toBe(3);
  });

  // In 64-bit mode at CPL 3 (measured).
  const errors: [string, number, bigint, OperandWidth, number, number][] = [
    ['null', 0, TARGET, 32, GP, 0],
    ['null with RPL 3', 3, TARGET, 32, GP, 0],
    ['data', USER_DATA, TARGET, 32, GP, USER_DATA & ~3],
    ['code of the kernel', KERNEL_CODE64, TARGET, 32, GP, KERNEL_CODE64],
    ['code of the kernel with RPL 3', KERNEL_CODE64 | 3, TARGET, 32, GP, KERNEL_CODE64],
    ['TSS', TSS_SELECTOR, TARGET, 32, GP, TSS_SELECTOR],
    ['upper half of the TSS', TSS_SELECTOR + 8, TARGET, 32, GP, TSS_SELECTOR + 8],
    ['LDT', LDT_SELECTOR | 3, TARGET, 32, GP, LDT_SELECTOR],
    ['beyond the GDT', 0xfff3, TARGET, 32, GP, 0xfff0],
    ['not present', CS_ABSENT, TARGET, 32, NP, CS_ABSENT & ~3],
    ['not present, RPL 0', CS_ABSENT & ~3, TARGET, 32, NP, CS_ABSENT & ~3],
    ['empty', EMPTY, TARGET, 32, GP, EMPTY & ~3],
    ['beyond the limit', CS_LIMITED, 0x1000n, 32, GP, 0],
    ['not canonical', USER_CODE64, 0x8000_0000_0000n, 64, GP, 0],
  ];
  it.each(errors)('%s', (_name, selector, offset, size, vector, errorCode) => {
    for (const what of [jumpFar, callFar]) {
      const f = machine('64-bit', 3);
      expect(faultOf(() => far(f, what, selector, offset, size))).toEqual({ vector, errorCode });
      expect(f.cpu.rip).toBe(0x5_0007n);
      expect(f.cpu.gpr[RSP]).toBe(0x8000n);
      expect(f.segment(CS).selector).toBe(USER_CODE64);
    }
  });

  it('CALL pushes before it finds RIP bad (measured)', () => {
    const f = machine('64-bit', 3);
    expect(faultOf(() => far(f, callFar, CS_LIMITED, 0x1000n))).toEqual({ vector: GP, errorCode: 0 });
    expect(f.bus.read(0x7ff8, 8)).toBe((BigInt(USER_CODE64) << 32n) | 0x5_0007n);
    f.enablePaging();
    for (const page of [0x1000, 0x4000, POINTER]) f.map(BigInt(page), page);
    expect(faultOf(() => far(f, callFar, CS_LIMITED, 0x1000n))).toEqual({ vector: PF, errorCode: 6 });
    expect(f.cpu.cr2).toBe(0x7ffcn);
    expect(faultOf(() => far(f, callFar, CS_ABSENT, TARGET))?.vector).toBe(NP);
  });

  it('CALL pushes as the mode of the target has it (measured)', () => {
    // 32-bit code with a 16-bit stack at 0x30000, to 64-bit code: at RSP.
    const f = machine('compatibility', 3);
    f.cpu.segBase[SS] = 0x3_0000n;
    f.cpu.segAttributes[SS] = 0xf3;
    f.cpu.segWriteHigh[SS] = 0xffff;
    f.cpu.gpr[RSP] = 0x7_0004n;
    far(f, callFar, USER_CODE64, TARGET);
    expect(f.cpu.gpr[RSP]).toBe(0x6_fffcn);
    expect(f.bus.read(0x6_fffc, 8)).toBe((BigInt(USER_CODE32) << 32n) | 0x5_0007n);
    // To 32-bit code: through SS, wrapping at 64 KiB.
    f.enter('compatibility', 3);
    f.cpu.rip = 0x5_0007n;
    f.cpu.segBase[SS] = 0x3_0000n;
    f.cpu.segAttributes[SS] = 0xf3;
    f.cpu.segWriteHigh[SS] = 0xffff;
    f.cpu.gpr[RSP] = 0x7_0004n;
    far(f, callFar, USER_CODE32, TARGET);
    expect(f.cpu.gpr[RSP]).toBe(0x7_fffcn);
    expect(f.bus.read(0x3_fffc, 4)).toBe(0x5_0007n);
    expect(f.bus.read(0x3_0000, 4)).toBe(BigInt(USER_CODE32));
  });

  it('from 64-bit to compatibility mode pushes through SS, and RSP[63:32] is gone (measured)', () => {
    const f = machine('64-bit', 3);
    f.cpu.segBase[SS] = 0x3_0000n;
    f.cpu.segAttributes[SS] = 0xf3;
    f.cpu.segWriteHigh[SS] = 0xffff;
    f.cpu.gpr[RSP] = 0x7000_0000_8000n;
    far(f, callFar, CS32, TARGET, 64);
    expect(f.cpu.gpr[RSP]).toBe(0x7ff0n);
    expect(f.bus.read(0x3_7ff0, 8)).toBe(0x5_0007n);
    expect(f.bus.read(0x3_7ff8, 8)).toBe(BigInt(USER_CODE64));
  });

  it('JMP to compatibility mode: RSP[63:32] is gone (measured)', () => {
    const f = machine('64-bit', 3);
    f.cpu.gpr[RSP] = 0x7000_0000_8000n;
    far(f, jumpFar, USER_CODE32, TARGET);
    expect(f.cpu.gpr[RSP]).toBe(0x8000n);
  });

  it('#SS(0) where the stack has no room, before anything is pushed', () => {
    const f = machine('protected16', 0);
    f.gdt(FREE_SLOT, flat(0xb, 0, 16));
    f.cpu.segWriteHigh[SS] = 0xffff;
    f.cpu.gpr[RSP] = 2n;
    expect(faultOf(() => far(f, callFar, FREE_SLOT, TARGET))).toEqual({ vector: STACK_FAULT, errorCode: 0 });
    expect(f.bus.read(0xfffe, 2)).toBe(0n);
  });

  it('in real-address and virtual-8086 mode', () => {
    for (const mode of ['real', 'virtual8086'] as const) {
      const f = machine(mode, 0);
      f.cpu.rip = 0x77n;
      callFar(
        f.cpu,
        instruction('callf', [{ kind: 'far', selector: 0x900, offset: 0x55 }], { operandSize: 16 }),
      );
      expect(f.segment(CS)).toMatchObject({ selector: 0x900, base: 0x9000n });
      expect(f.cpu.rip).toBe(0x55n);
      expect(f.bus.read(0x7ffc, 4)).toBe(0x77n);
      ret(f, [0x66, 0x800], 16, 6);
      expect(f.segment(CS).base).toBe(0x8000n);
      expect(f.cpu.gpr[RSP]).toBe(0x800an);
      expect(faultOf(() => ret(f, [0x1_0000, 0x800], 32))).toEqual({ vector: GP, errorCode: 0 });
    }
  });
});

describe('RETF', () => {
  it.each([
    [64, 0x8010n],
    [32, 0x8008n],
    [16, 0x8004n],
  ] as const)('operand size %i', (size, after) => {
    const f = machine('64-bit', 3);
    ret(f, [TARGET, USER_CODE64], size);
    expect(f.cpu.rip).toBe(TARGET);
    expect(f.cpu.gpr[RSP]).toBe(after);
    ret(f, [TARGET, USER_CODE64], size, 0x10);
    expect(f.cpu.gpr[RSP]).toBe(after + 0x10n);
  });

  it('to compatibility mode with SS.B = 0 moves SP alone, on ESP[31:16] as it was (measured)', () => {
    const f = machine('64-bit', 3);
    f.cpu.segAttributes[SS] = 0xf3;
    ret(f, [TARGET, CS32], 64, undefined, 0x1_fff8n);
    expect(f.cpu.gpr[RSP]).toBe(0x1_0008n);
    f.enter('64-bit', 3);
    f.cpu.segAttributes[SS] = 0xf3;
    ret(f, [TARGET, CS32], 64, 0x10, 0x1_fff8n);
    expect(f.cpu.gpr[RSP]).toBe(0x1_0018n);
  });

  // In 64-bit mode at CPL 3 (measured).
  const errors: [string, number, bigint, number, number][] = [
    ['null', 0, TARGET, GP, 0],
    ['data', USER_DATA, TARGET, GP, USER_DATA & ~3],
    ['RPL < CPL', USER_CODE64 & ~3, TARGET, GP, USER_CODE64 & ~3],
    ['DPL < RPL', KERNEL_CODE64 | 3, TARGET, GP, KERNEL_CODE64],
    ['beyond the GDT', 0xfff3, TARGET, GP, 0xfff0],
    ['not present', CS_ABSENT, TARGET, NP, CS_ABSENT & ~3],
    ['not present, RPL 0', CS_ABSENT & ~3, TARGET, GP, CS_ABSENT & ~3],
    ['not canonical', USER_CODE64, 0x8000_0000_0000n, GP, 0],
    ['beyond the limit', CS_LIMITED, 0x1000n, GP, 0],
    ['not present comes before RIP', CS_ABSENT, 0x8000_0000_0000n, NP, CS_ABSENT & ~3],
  ];
  it.each(errors)('%s', (_name, selector, rip, vector, errorCode) => {
    const f = machine('64-bit', 3);
    expect(faultOf(() => ret(f, [rip, selector], 64))).toEqual({ vector, errorCode });
    expect(f.cpu.gpr[RSP]).toBe(0x8000n);
  });

  it('reads CS, of it two bytes, before RIP (measured)', () => {
    const f = machine('64-bit', 3);
    f.enablePaging();
    for (const page of [0x1000, 0x4000, 0x8000]) f.map(BigInt(page), page);
    f.bus.write(0x8ff6, 8, TARGET);
    f.bus.write(0x8ffe, 2, BigInt(USER_CODE64));
    f.cpu.gpr[RSP] = 0x8ff6n;
    returnFar(f.cpu, instruction('retf', [], { operandSize: 64 }));
    expect(f.cpu.rip).toBe(TARGET);
    f.cpu.gpr[RSP] = 0x9000n;
    expect(faultOf(() => returnFar(f.cpu, instruction('retf', [], { operandSize: 64 })))?.vector).toBe(PF);
    expect(f.cpu.cr2).toBe(0x9008n);
  });

  it.each([
    ['protected32', KERNEL_CODE32, USER_CODE32, 32],
    ['64-bit', KERNEL_CODE64, USER_CODE64, 64],
  ] as const)('outward in %s mode releases parameters on both stacks', (mode, _from, to, size) => {
    const f = machine(mode, 0);
    const slot = size / 8;
    ret(f, [TARGET, to, 1, 2, 0x7000, USER_DATA], size, 2 * slot);
    expect(f.cpu.cpl).toBe(3);
    expect(f.cpu.gpr[RSP]).toBe(BigInt(0x7000 + 2 * slot));
    expect(f.segment(SS).selector).toBe(USER_DATA);
    // DS held a segment of DPL 0.
    expect(f.segment(DS)).toMatchObject({ selector: 0, usable: false });
  });

  it('outward to a 16-bit stack loads SP alone', () => {
    const f = machine('protected32', 0);
    ret(f, [TARGET, CS32, 0xaaaa_7000n, 0x07], 32, undefined, 0x3_8000n);
    expect(f.cpu.gpr[RSP]).toBe(0x3_7000n);
  });

  it.each([
    ['null SS', USER_CODE64, 3, GP, 0],
    ['SS with RPL 0', USER_CODE64, USER_DATA & ~3, GP, USER_DATA & ~3],
    ['SS of DPL 0', USER_CODE64, KERNEL_DATA | 3, GP, KERNEL_DATA],
  ])('outward, %s', (_name, cs, ss, vector, errorCode) => {
    const f = machine('64-bit', 0);
    expect(faultOf(() => ret(f, [TARGET, cs, 0x7000, ss], 64))).toEqual({ vector, errorCode });
  });

  it('from CPL 0 to CPL 1 in 64-bit mode, a null SS with RPL 1 is allowed', () => {
    const f = machine('64-bit', 0);
    f.gdt(FREE_SLOT, flat(0xb, 1, 64));
    ret(f, [TARGET, FREE_SLOT | 1, 0x7000, 1], 64);
    expect(f.cpu.cpl).toBe(1);
    expect(f.segment(SS)).toMatchObject({ selector: 1, usable: false });
  });
});

describe('call gates in 64-bit mode', () => {
  let f: Fixture;
  function gate(fields: Partial<GateFields> = {}, upper = 0n): void {
    f.gdt(
      GATE,
      encodeGate({ selector: KERNEL_CODE64, offset: 0x9000n, type: 0xc, dpl: 3, ...fields }),
      upper,
    );
  }
  beforeEach(() => {
    f = machine('64-bit', 3);
    f.bus.write(TSS + 4, 8, 0x2_0008n);
    gate();
  });

  it('CALL to an inner level: RSP0 as it is, null SS, SS RSP CS RIP pushed', () => {
    far(f, callFar, GATE | 3, 0x5555n);
    expect(f.cpu.cpl).toBe(0);
    expect(f.cpu.rip).toBe(0x9000n);
    expect(f.cpu.gpr[RSP]).toBe(0x2_0008n - 32n);
    expect([0, 1, 2, 3].map((i) => f.bus.read(0x2_0008 - 32 + 8 * i, 8))).toEqual([
      0x5_0007n,
      BigInt(USER_CODE64),
      0x8000n,
      BigInt(USER_DATA),
    ]);
    expect(f.segment(SS)).toMatchObject({ selector: 0, usable: false });
  });

  it('takes 64 bits of offset', () => {
    gate({}, 0xffff_8000n);
    far(f, callFar, GATE, 0n);
    expect(f.cpu.rip).toBe(0xffff_8000_0000_9000n);
  });

  it('JMP stays at the level: #GP(CS) for nonconforming code of another DPL', () => {
    expect(faultOf(() => far(f, jumpFar, GATE, 0n))).toEqual({ vector: GP, errorCode: KERNEL_CODE64 });
    gate({ selector: USER_CODE64 });
    far(f, jumpFar, GATE, 0n);
    expect(f.cpu.rip).toBe(0x9000n);
    far(f, callFar, GATE, 0n);
    expect(f.cpu.gpr[RSP]).toBe(0x8000n - 16n);
  });

  const errors: [string, () => void, number, number][] = [
    ['DPL < CPL', () => gate({ dpl: 2 }), GP, GATE],
    ['not present', () => gate({ p: false }), NP, GATE],
    ['DPL before presence', () => gate({ dpl: 0, p: false }), GP, GATE],
    ['16-bit gate', () => gate({ type: 4 }), GP, GATE],
    ['task gate', () => gate({ type: 5 }), GP, GATE],
    ['null CS', () => gate({ selector: 0 }), GP, 0],
    ['CS is data', () => gate({ selector: KERNEL_DATA }), GP, KERNEL_DATA],
    ['CS is 32-bit', () => gate({ selector: KERNEL_CODE32 }), GP, KERNEL_CODE32],
    ['upper type not 0', () => gate({}, 0x100_0000_0000n), GP, GATE],
    ['RIP not canonical', () => gate({}, 0x8000n), GP, 0],
    ['RSP0 not canonical', () => f.bus.write(TSS + 4, 8, 0x8000_0000_0100n), STACK_FAULT, 0],
    ['TSS too short', () => (f.cpu.segLimit[TR] = 10), TS, TSS_SELECTOR],
  ];
  it.each(errors)('%s', (_name, prepare, vector, errorCode) => {
    prepare();
    expect(faultOf(() => far(f, callFar, GATE, 0n))).toEqual({ vector, errorCode });
    expect(f.cpu.cpl).toBe(3);
  });
});

describe('call gates in protected mode', () => {
  function machine32(fields: Partial<GateFields> = {}): Fixture {
    const f = machine('protected32', 3);
    f.bus.write(TSS + 4, 4, 0x2_0000n);
    f.bus.write(TSS + 8, 2, BigInt(KERNEL_DATA));
    f.gdt(
      GATE,
      encodeGate({ selector: KERNEL_CODE32, offset: 0x9000n, type: 0xc, dpl: 3, count: 3, ...fields }),
    );
    for (let i = 0; i < 3; i++) f.bus.write(0x8000 + 4 * i, 4, BigInt(0x1111_0001 + i));
    return f;
  }

  it('a 32-bit gate copies its parameters between the two return addresses', () => {
    const f = machine32();
    far(f, callFar, GATE | 3, 0n);
    expect(f.cpu.gpr[RSP]).toBe(0x2_0000n - 28n);
    expect([0, 1, 2, 3, 4, 5, 6].map((i) => f.bus.read(0x2_0000 - 28 + 4 * i, 4))).toEqual([
      0x5_0007n,
      BigInt(USER_CODE32),
      0x1111_0001n,
      0x1111_0002n,
      0x1111_0003n,
      0x8000n,
      BigInt(USER_DATA),
    ]);
    // And RETF with them released goes back.
    returnFar(f.cpu, instruction('retf', [immediate(12n, 16)]));
    expect(f.cpu.cpl).toBe(3);
    expect(f.cpu.gpr[RSP]).toBe(0x800cn);
    expect(f.cpu.rip).toBe(0x5_0007n);
  });

  it('a 16-bit gate copies words', () => {
    const f = machine32({ type: 4, count: 2 });
    far(f, callFar, GATE | 3, 0n);
    expect(f.cpu.gpr[RSP]).toBe(0x2_0000n - 12n);
    expect([0, 1, 2, 3, 4, 5].map((i) => f.bus.read(0x2_0000 - 12 + 2 * i, 2))).toEqual([
      7n,
      BigInt(USER_CODE32),
      1n,
      0x1111n,
      0x8000n,
      BigInt(USER_DATA),
    ]);
  });

  it('#SS(SS0) where the new stack has no room', () => {
    const f = machine32();
    f.bus.write(TSS + 4, 4, 0x20n);
    f.gdt(FREE_SLOT + 8, flat(3, 0, 32, { limit: 0xfff, g: false }));
    f.bus.write(TSS + 8, 2, BigInt(FREE_SLOT + 8));
    far(f, callFar, GATE, 0n);
    f.enter('protected32', 3);
    f.bus.write(TSS + 4, 4, 0x18n);
    expect(faultOf(() => far(f, callFar, GATE, 0n))).toEqual({
      vector: STACK_FAULT,
      errorCode: FREE_SLOT + 8,
    });
  });

  it('#GP for an offset beyond the segment of the gate', () => {
    const f = machine32();
    f.gdt(FREE_SLOT + 8, flat(0xb, 0, 32, { limit: 0xfff, g: false }));
    f.gdt(GATE, encodeGate({ selector: FREE_SLOT + 8, offset: 0x1000n, type: 0xc, dpl: 3 }));
    expect(faultOf(() => far(f, callFar, GATE, 0n))).toEqual({ vector: GP, errorCode: 0 });
    expect(f.cpu.cpl).toBe(3);
  });
});

describe('TSS and task gates', () => {
  const TASK = FREE_SLOT;
  function machineWith(dpl: number, type = 9, p = true): Fixture {
    const f = machine('protected32', 3);
    f.gdt(TASK, encodeDescriptor({ base: 0x9000n, limit: 0x67, type, dpl, p }));
    return f;
  }
  it.each([
    ['DPL < CPL', 0, 9, true, TASK, GP],
    ['DPL < RPL', 2, 9, true, TASK | 3, GP],
    ['busy', 3, 0xb, true, TASK, GP],
    ['not present', 3, 9, false, TASK, NP],
  ])('TSS, %s', (_name, dpl, type, p, selector, vector) => {
    for (const what of [jumpFar, callFar]) {
      const f = machineWith(dpl, type, p);
      expect(faultOf(() => far(f, what, selector, 0n))).toEqual({ vector, errorCode: TASK });
    }
  });

  it.each([
    ['DPL < CPL', { dpl: 2 }, GP, TASK + 8],
    ['not present', { dpl: 3, p: false }, NP, TASK + 8],
    ['TSS in the LDT', { dpl: 3, selector: 0x0c }, GP, 0x0c],
    ['TSS beyond the GDT', { dpl: 3, selector: 0xfff8 }, GP, 0xfff8],
    ['not a TSS', { dpl: 3, selector: KERNEL_DATA }, GP, KERNEL_DATA],
  ])('task gate, %s', (_name, fields, vector, errorCode) => {
    const f = machineWith(0);
    f.gdt(TASK + 8, encodeGate({ selector: TASK, offset: 0n, type: 5, ...fields }));
    expect(faultOf(() => far(f, jumpFar, TASK + 8, 0n))).toEqual({ vector, errorCode });
  });
});
