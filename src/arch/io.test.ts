/** Port input and output, and who may do it. SDM vol. 1 chapter 19. */
import { describe, expect, test } from 'vitest';
import { DF } from '../isa/flags.ts';
import type { Instruction } from '../isa/instruction.ts';
import { DS, ES, FS, RAX, RCX, RDI, RDX, RSI, TR } from '../isa/state.ts';
import { Fixture, FREE, faultOf, type Mode, P, RW, TSS, US } from './cpu.fixture.ts';
import { GP, PF } from './fault.ts';
import { immediate, instruction, register } from './instruction.fixture.ts';
import { checkIoPermission, input, inputString, output, outputString } from './io.ts';

const FAULT = { vector: GP, errorCode: 0 };
const MAP = 0x68;

/** A fixture whose TSS has a bit map at 0x68 that permits nothing but `ports`. */
function withMap(mode: Mode, cpl: number, ports: readonly number[]): Fixture {
  const f = new Fixture().enter(mode, cpl);
  f.bus.write(TSS + 0x66, 2, BigInt(MAP));
  for (let i = 0; i < 0x100; i++) f.bus.write(TSS + MAP + i, 1, 0xffn);
  for (const port of ports) {
    const at = TSS + MAP + (port >> 3);
    f.bus.write(at, 1, f.bus.read(at, 1) & ~(1n << BigInt(port & 7)));
  }
  return f;
}

describe('permission (SDM vol. 1 19.5)', () => {
  test('CPL against IOPL', () => {
    for (const cpl of [0, 1, 2, 3])
      for (const iopl of [0, 1, 2, 3]) {
        const f = withMap('protected32', cpl, []);
        f.cpu.flagsRest |= BigInt(iopl) << 12n;
        expect(faultOf(() => checkIoPermission(f.cpu, 0x80, 1))).toEqual(cpl <= iopl ? null : FAULT);
      }
  });
  test.each(['protected32', 'compatibility', '64-bit', 'virtual8086'] as const)(
    '%s: every bit that an access covers counts',
    (mode) => {
      const ports = [0x10, 0x17, 0x18, 0x20, 0x21, 0x22, 0x23, 0x3ff];
      const f = withMap(mode, 3, ports);
      f.cpu.segLimit[TR] = TSS + 0x200;
      for (const size of [1, 2, 4] as const)
        for (let port = 0; port < 0x400; port++) {
          const wanted = Array.from({ length: size }, (_, i) => port + i).every((p) => ports.includes(p));
          const got = faultOf(() => checkIoPermission(f.cpu, port, size)) === null;
          if (got !== wanted) expect.fail(`port ${port} size ${size}: ${got}`);
        }
    },
  );
  test('virtual-8086 mode always asks the map, whatever IOPL', () => {
    const f = withMap('virtual8086', 3, [0x80]);
    f.cpu.flagsRest |= 3n << 12n;
    expect(faultOf(() => checkIoPermission(f.cpu, 0x80, 1))).toBeNull();
    expect(faultOf(() => checkIoPermission(f.cpu, 0x81, 1))).toEqual(FAULT);
  });
  test('real-address mode asks nothing', () => {
    expect(faultOf(() => checkIoPermission(new Fixture().enter('real').cpu, 0x80, 4))).toBeNull();
  });
  test('both bytes of the map lie within the TSS’s limit', () => {
    const f = withMap('protected32', 3, [0x10, 0x11]);
    f.cpu.segLimit[TR] = MAP + 3;
    expect(faultOf(() => checkIoPermission(f.cpu, 0x10, 1))).toBeNull();
    f.cpu.segLimit[TR] = MAP + 2;
    expect(faultOf(() => checkIoPermission(f.cpu, 0x10, 1))).toEqual(FAULT);
  });
  test('a 16-bit TSS, none, and one too short for the map’s base', () => {
    for (const change of [
      (f: Fixture) => {
        f.cpu.segAttributes[TR] = 0x83;
      },
      (f: Fixture) => {
        f.cpu.segUsable[TR] = 0;
      },
      (f: Fixture) => {
        f.cpu.segLimit[TR] = 0x66;
      },
    ]) {
      const f = withMap('protected32', 3, [0x10]);
      change(f);
      expect(faultOf(() => checkIoPermission(f.cpu, 0x10, 1))).toEqual(FAULT);
    }
  });
  test('the TSS is read as the system', () => {
    const f = withMap('64-bit', 3, [0x10]).enablePaging().map(BigInt(TSS), TSS, P);
    expect(faultOf(() => checkIoPermission(f.cpu, 0x10, 1))).toBeNull();
    f.map(BigInt(TSS), 0, 0n);
    f.cpu.tlb.invalidateContext(-1, true);
    expect(faultOf(() => checkIoPermission(f.cpu, 0x10, 1))).toEqual({ vector: PF, errorCode: 0 });
  });
});

describe('IN and OUT (SDM vol. 2A, 2B)', () => {
  test.each([
    [8, 0xffff_ffff_ffff_ff78n],
    [16, 0xffff_ffff_ffff_5678n],
    [32, 0x9234_5678n],
  ] as const)('%i bits', (size, rax) => {
    const f = new Fixture().enter('64-bit');
    f.bus.portInput.push(0x9234_5678);
    f.cpu.gpr[RAX] = 0xffff_ffff_ffff_ffffn;
    f.cpu.gpr[RDX] = 0xffff_1234n;
    const a = register(RAX, size);
    input(f.cpu, instruction('in', [a, register(RDX, 16)], { operandSize: size }));
    expect(f.cpu.gpr[RAX]).toBe(rax);
    output(f.cpu, instruction('out', [immediate(0x80n), a], { operandSize: size }));
    expect(f.bus.portLog).toEqual([
      { port: 0x1234, size: size / 8, value: 0x9234_5678, write: false },
      { port: 0x80, size: size / 8, value: Number(BigInt.asUintN(size, rax)), write: true },
    ]);
  });
  test('no port is touched without permission', () => {
    const f = withMap('64-bit', 3, []);
    const a = register(RAX, 8);
    expect(faultOf(() => input(f.cpu, instruction('in', [a, immediate(0x80n)])))).toEqual(FAULT);
    expect(faultOf(() => output(f.cpu, instruction('out', [immediate(0x80n), a])))).toEqual(FAULT);
    expect(f.bus.portLog).toEqual([]);
  });
});

describe('INS and OUTS', () => {
  const set = (f: Fixture, count: bigint, index: bigint) => {
    f.cpu.gpr[RCX] = count;
    f.cpu.gpr[RDI] = index;
    f.cpu.gpr[RSI] = index;
    f.cpu.gpr[RDX] = 0x1f0n;
    f.cpu.rip = 0x1003n;
  };
  const rep: Partial<Instruction> = { repeat: 'rep', operandSize: 16 };

  test('one iteration at a time: RIP goes back while any are left', () => {
    const f = new Fixture().enter('64-bit');
    f.bus.portInput.push(0x1111, 0x2222);
    set(f, 2n, BigInt(FREE));
    inputString(f.cpu, instruction('inss', [], rep));
    expect([f.cpu.rip, f.cpu.gpr[RCX], f.cpu.gpr[RDI]]).toEqual([0x1000n, 1n, BigInt(FREE + 2)]);
    f.cpu.rip = 0x1003n;
    inputString(f.cpu, instruction('inss', [], rep));
    expect([f.cpu.rip, f.cpu.gpr[RCX], f.cpu.gpr[RDI]]).toEqual([0x1003n, 0n, BigInt(FREE + 4)]);
    expect(f.bus.read(FREE, 4)).toBe(0x2222_1111n);
    inputString(f.cpu, instruction('inss', [], rep));
    expect(f.cpu.rip).toBe(0x1003n);
    expect(f.bus.portLog).toHaveLength(2);
  });
  test('without REP the count is left alone; DF goes down', () => {
    const f = new Fixture().enter('protected32');
    f.cpu.flagsRest |= DF;
    f.bus.write(FREE, 4, 0x8765_4321n);
    set(f, 7n, BigInt(FREE));
    outputString(f.cpu, instruction('outss', [], { addressSize: 32 }));
    expect([f.cpu.rip, f.cpu.gpr[RCX], f.cpu.gpr[RSI]]).toEqual([0x1003n, 7n, BigInt(FREE - 4)]);
    expect(f.bus.portLog).toEqual([{ port: 0x1f0, size: 4, value: 0x8765_4321, write: true }]);
  });
  test('address sizes: 16 bits wrap and keep the rest, 32 bits clear 63:32', () => {
    const f = new Fixture().enter('protected32');
    set(f, 0x1234_0001n, 0x5678_ffffn);
    f.bus.portInput.push(0xaa);
    inputString(f.cpu, instruction('inss', [], { repeat: 'rep', operandSize: 8, addressSize: 16 }));
    expect([f.cpu.gpr[RCX], f.cpu.gpr[RDI]]).toEqual([0x1234_0000n, 0x5678_0000n]);
    expect(f.bus.read(0xffff, 1)).toBe(0xaan);
    const long = new Fixture().enter('64-bit');
    set(long, 0xffff_0000_0000_0001n, 0xffff_0000_0000_0000n | BigInt(FREE));
    inputString(long.cpu, instruction('inss', [], { repeat: 'rep', operandSize: 8, addressSize: 32 }));
    expect([long.cpu.gpr[RCX], long.cpu.gpr[RDI]]).toEqual([0n, BigInt(FREE + 1)]);
  });
  test('OUTS reads through the overriding segment, INS writes through ES', () => {
    const f = new Fixture().enter('protected32');
    f.cpu.segBase[FS] = 0x100n;
    f.cpu.segBase[ES] = 0x200n;
    f.cpu.segBase[DS] = 0x300n;
    f.bus.write(FREE + 0x100, 1, 0x77n);
    set(f, 1n, BigInt(FREE));
    const bytes: Partial<Instruction> = { operandSize: 8, addressSize: 32, segment: FS };
    outputString(f.cpu, instruction('outss', [], bytes));
    expect(f.bus.portLog[0].value).toBe(0x77);
    f.bus.portInput.push(0x66);
    inputString(f.cpu, instruction('inss', [], bytes));
    expect(f.bus.read(FREE + 0x200, 1)).toBe(0x66n);
  });
  test('faults come before the port is read and before registers change', () => {
    const f = new Fixture()
      .enter('64-bit')
      .enablePaging()
      .map(0x5000n, 0x9000, P | RW | US);
    set(f, 3n, 0x6000n);
    expect(faultOf(() => inputString(f.cpu, instruction('inss', [], rep)))?.vector).toBe(PF);
    expect(faultOf(() => outputString(f.cpu, instruction('outss', [], rep)))?.vector).toBe(PF);
    const denied = withMap('64-bit', 3, []);
    set(denied, 3n, BigInt(FREE));
    expect(faultOf(() => inputString(denied.cpu, instruction('inss', [], rep)))).toEqual(FAULT);
    for (const { cpu, bus } of [f, denied]) {
      expect(bus.portLog).toEqual([]);
      expect([cpu.gpr[RCX], cpu.rip]).toEqual([3n, 0x1003n]);
    }
  });
  test('a count of 0 touches no memory, but needs permission, as measured on silicon', () => {
    for (const io of [inputString, outputString]) {
      const allowed = withMap('64-bit', 0, []);
      set(allowed, 0n, 1n << 47n);
      expect(faultOf(() => io(allowed.cpu, instruction('inss', [], rep)))).toBeNull();
      expect(allowed.cpu.gpr[RDI]).toBe(1n << 47n);
      const denied = withMap('64-bit', 3, []);
      set(denied, 0n, 1n << 47n);
      expect(faultOf(() => io(denied.cpu, instruction('inss', [], rep)))).toEqual(FAULT);
    }
  });
});
