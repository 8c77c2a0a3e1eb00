/** Instructions that load and store segment registers. SDM vol. 2 of each. */
import { describe, expect, test } from 'vitest';
import { CS, DS, ES, FS, GS, RAX, RBX, RSP, SHADOW_MOV_SS, SS } from '../isa/state.ts';
import { Fixture, FREE, faultOf, flat, KERNEL_DATA, P, RW, US, USER_DATA } from './cpu.fixture.ts';
import { GP, PF, SS as STACK_FAULT, UD } from './fault.ts';
import { instruction, memory, register, segmentRegister } from './instruction.fixture.ts';
import {
  les,
  lfs,
  lss,
  movFromSegment,
  movToSegment,
  popSegment,
  pushSegment,
  rdfsbase,
  rdgsbase,
  wrfsbase,
  wrgsbase,
} from './segment-instructions.ts';

const ALL = 0xffff_ffff_ffff_ffffn;
const fault = (vector: number, errorCode: number | undefined = undefined) => ({ vector, errorCode });

describe('MOV Sreg (SDM vol. 2B "MOV")', () => {
  const load = (f: Fixture, index: number, selector: bigint) => {
    f.cpu.gpr[RAX] = selector;
    movToSegment(f.cpu, instruction('movsreg', [segmentRegister(index), register(RAX, 16)]));
  };
  test('CS and the encodings 6 and 7 raise #UD, at any privilege', () => {
    for (const index of [CS, 6, 7])
      expect(faultOf(() => load(new Fixture().enter('64-bit', 3), index, 0n))).toEqual(fault(UD));
  });
  test('only SS casts a shadow', () => {
    const f = new Fixture().enter('protected32');
    for (const segment of [ES, DS, FS, GS]) {
      load(f, segment, BigInt(KERNEL_DATA));
      expect(f.cpu.shadow).toBe(0);
    }
    expect(faultOf(() => load(f, SS, 0n))).toEqual(fault(GP, 0));
    expect(f.cpu.shadow).toBe(0);
    load(f, SS, BigInt(KERNEL_DATA));
    expect(f.cpu.shadow).toBe(SHADOW_MOV_SS);
  });
  test('memory sources are of 16 bits', () => {
    const f = new Fixture().enter('64-bit').enablePaging().map(0x5000n, 0x9000).mapRam();
    f.map(0x5000n, 0x9000).map(0x6000n, 0, 0n);
    f.bus.write(0x9ffe, 2, BigInt(KERNEL_DATA));
    const from = memory(0x5ffen, DS, 16);
    movToSegment(f.cpu, instruction('movsreg', [segmentRegister(ES), from], { operandSize: 64 }));
    expect(f.cpu.segSelector[ES]).toBe(KERNEL_DATA);
  });
  test('stores: 16 bits to memory, the operand size to registers', () => {
    const f = new Fixture().enter('64-bit', 3);
    f.bus.write(FREE, 8, ALL);
    const to = memory(BigInt(FREE), DS, 16);
    movFromSegment(f.cpu, instruction('movfromsreg', [to, segmentRegister(SS)], { operandSize: 64 }));
    expect(f.bus.read(FREE, 8)).toBe(0xffff_ffff_ffff_0000n | BigInt(USER_DATA));
    for (const [width, rest] of [
      [16, 0xffff_ffff_ffff_0000n],
      [32, 0n],
      [64, 0n],
    ] as const) {
      f.cpu.gpr[RBX] = ALL;
      movFromSegment(f.cpu, instruction('movfromsreg', [register(RBX, width), segmentRegister(SS)]));
      expect(f.cpu.gpr[RBX]).toBe(rest | BigInt(USER_DATA));
    }
  });
});

// Widths of the memory accesses were measured on Intel processors.
describe('PUSH and POP Sreg', () => {
  test.each([
    ['protected16', 16, 2, 2],
    ['protected32', 16, 2, 2],
    ['protected32', 32, 4, 2],
    ['protected16', 32, 4, 2],
    ['64-bit', 16, 2, 2],
    ['64-bit', 64, 8, 8],
  ] as const)('%s, operand size %i: rSP moves by %i, %i bytes are written', (mode, size, by, written) => {
    const f = new Fixture().enter(mode);
    const { cpu, bus } = f;
    for (const at of [FREE - 8, FREE]) bus.write(at, 8, ALL);
    cpu.gpr[RSP] = BigInt(FREE);
    pushSegment(cpu, instruction('pushsreg', [segmentRegister(FS)], { operandSize: size }));
    expect(cpu.gpr[RSP]).toBe(BigInt(FREE - by));
    const mask = (1n << BigInt(written * 8)) - 1n;
    const shift = BigInt((8 - by) * 8);
    const expected = (ALL & ~(mask << shift)) | (BigInt(KERNEL_DATA) << shift);
    expect(bus.read(FREE - 8, 8)).toBe(expected);
    expect(bus.read(FREE, 8)).toBe(ALL);
    popSegment(cpu, instruction('popsreg', [segmentRegister(ES)], { operandSize: size }));
    expect(cpu.gpr[RSP]).toBe(BigInt(FREE));
    expect(cpu.segSelector[ES]).toBe(KERNEL_DATA);
    expect(cpu.shadow).toBe(0);
  });
  test('POP reads 16 bits only: the page beyond is not touched', () => {
    const f = new Fixture().enter('64-bit').enablePaging().mapRam();
    f.map(0x9000n, 0, 0n);
    f.bus.write(0x8ffe, 2, 0n);
    f.cpu.gpr[RSP] = 0x8ffen;
    popSegment(f.cpu, instruction('popsreg', [segmentRegister(GS)], { operandSize: 64 }));
    expect(f.cpu.gpr[RSP]).toBe(0x9006n);
  });
  test('POP SS: shadow, and the stack pointer’s width is that of the old SS', () => {
    const f = new Fixture().enter('protected32');
    f.gdt(0x60, flat(3, 0, 16));
    f.bus.write(0x1_0000 - 2, 2, 0x60n);
    f.cpu.gpr[RSP] = 0xfffen;
    popSegment(f.cpu, instruction('popsreg', [segmentRegister(SS)], { operandSize: 32 }));
    expect(f.cpu.gpr[RSP]).toBe(0x1_0002n);
    expect(f.cpu.stackSize).toBe(16);
    expect(f.cpu.shadow).toBe(SHADOW_MOV_SS);
  });
  test('a fault leaves rSP and memory as they were', () => {
    const f = new Fixture().enter('protected32');
    f.cpu.gpr[RSP] = BigInt(FREE);
    f.bus.write(FREE, 2, 0xfff8n);
    const pop = instruction('popsreg', [segmentRegister(ES)]);
    expect(faultOf(() => popSegment(f.cpu, pop))).toEqual(fault(GP, 0xfff8));
    expect(f.cpu.gpr[RSP]).toBe(BigInt(FREE));
    f.cpu.segWriteHigh[SS] = FREE - 4;
    const push = instruction('pushsreg', [segmentRegister(ES)]);
    expect(faultOf(() => pushSegment(f.cpu, push))).toEqual(fault(STACK_FAULT, 0));
    expect(f.cpu.gpr[RSP]).toBe(BigInt(FREE));
  });
  test('a 16-bit stack pointer wraps and keeps ESP[31:16]', () => {
    const f = new Fixture().enter('protected16');
    f.cpu.gpr[RSP] = 0x1234_0000n;
    pushSegment(f.cpu, instruction('pushsreg', [segmentRegister(ES)], { operandSize: 16 }));
    expect(f.cpu.gpr[RSP]).toBe(0x1234_fffen);
    expect(f.bus.read(0xfffe, 2)).toBe(BigInt(KERNEL_DATA));
  });
});

describe('far pointers (SDM vol. 2A "LDS/LES/LFS/LGS/LSS")', () => {
  test.each([16, 32, 64] as const)('operand size %i', (size) => {
    const f = new Fixture().enter('64-bit');
    const { cpu, bus } = f;
    bus.write(FREE, 8, 0x8877_6655_4433_2211n);
    bus.write(FREE + size / 8, 2, BigInt(KERNEL_DATA));
    const offset = BigInt.asUintN(size, bus.read(FREE, 8));
    cpu.gpr[RAX] = ALL;
    lfs(cpu, instruction('lfs', [register(RAX, size), memory(BigInt(FREE))], { operandSize: size }));
    expect(cpu.gpr[RAX]).toBe(size === 16 ? 0xffff_ffff_ffff_0000n | offset : offset);
    expect(cpu.segSelector[FS]).toBe(KERNEL_DATA);
  });
  test('a bad selector leaves the register alone', () => {
    const f = new Fixture().enter('protected32');
    f.bus.write(FREE, 8, 0xfff0_1234_5678n);
    const operands = [register(RAX, 32), memory(BigInt(FREE))];
    expect(faultOf(() => les(f.cpu, instruction('les', operands, { addressSize: 32 })))).toEqual(
      fault(GP, 0xfff0),
    );
    expect(f.cpu.gpr[RAX]).toBe(0n);
  });
  test('LSS casts no shadow; a register operand is #UD', () => {
    const f = new Fixture().enter('protected32');
    f.bus.write(FREE, 8, (BigInt(KERNEL_DATA) << 32n) | 0x7000n);
    lss(f.cpu, instruction('lss', [register(RSP, 32), memory(BigInt(FREE))], { addressSize: 32 }));
    expect(f.cpu.gpr[RSP]).toBe(0x7000n);
    expect(f.cpu.shadow).toBe(0);
    const bad = instruction('lss', [register(RSP, 32), register(RAX, 32)]);
    expect(faultOf(() => lss(f.cpu, bad))).toEqual(fault(UD));
  });
  test('the selector’s page is read too', () => {
    const f = new Fixture().enter('64-bit', 3).enablePaging();
    f.map(0x5000n, 0x9000, P | RW | US);
    const at = instruction('les', [register(RAX, 32), memory(0x5ffcn)]);
    expect(faultOf(() => les(f.cpu, at))).toEqual(fault(PF, 4));
    expect(f.cpu.cr2).toBe(0x6000n);
  });
});

describe('FS and GS bases (SDM vol. 2B "RDFSBASE/RDGSBASE", vol. 2D "WRFSBASE/WRGSBASE")', () => {
  const on = (mode: '64-bit' | 'compatibility' | 'protected32', cr4 = 1n << 16n) => {
    const { cpu } = new Fixture().enter(mode, 3);
    cpu.cr4 |= cr4;
    return cpu;
  };
  test('need 64-bit mode and CR4.FSGSBASE', () => {
    for (const [mode, cr4] of [
      ['64-bit', 0n],
      ['compatibility', 1n << 16n],
      ['protected32', 1n << 16n],
    ] as const)
      for (const action of [rdfsbase, rdgsbase, wrfsbase, wrgsbase])
        expect(faultOf(() => action(on(mode, cr4), instruction('rdfsbase', [register(RAX, 64)])))).toEqual(
          fault(UD),
        );
  });
  test('read and write 64 bits, or 32 zero-extended', () => {
    const cpu = on('64-bit');
    cpu.gpr[RAX] = 0xffff_8000_1234_5678n;
    wrfsbase(cpu, instruction('wrfsbase', [register(RAX, 64)]));
    wrgsbase(cpu, instruction('wrgsbase', [register(RAX, 32)]));
    expect([cpu.segBase[FS], cpu.segBase[GS]]).toEqual([0xffff_8000_1234_5678n, 0x1234_5678n]);
    rdfsbase(cpu, instruction('rdfsbase', [register(RBX, 32)]));
    expect(cpu.gpr[RBX]).toBe(0x1234_5678n);
    rdfsbase(cpu, instruction('rdfsbase', [register(RBX, 64)]));
    expect(cpu.gpr[RBX]).toBe(0xffff_8000_1234_5678n);
    rdgsbase(cpu, instruction('rdgsbase', [register(RBX, 64)]));
    expect(cpu.gpr[RBX]).toBe(0x1234_5678n);
  });
  test('a base that is not canonical raises #GP(0)', () => {
    const cpu = on('64-bit');
    cpu.gpr[RAX] = 1n << 47n;
    expect(faultOf(() => wrfsbase(cpu, instruction('wrfsbase', [register(RAX, 64)])))).toEqual(fault(GP, 0));
    wrfsbase(cpu, instruction('wrfsbase', [register(RAX, 32)]));
    expect(cpu.segBase[FS]).toBe(0n);
  });
});
