/** Operands of system instructions. SDM vol. 1 3.4.1, 3.7.5. */
import { describe, expect, test } from 'vitest';
import { DS, FS, GS, RAX, RBX, RCX } from '../isa/state.ts';
import { Fixture, FREE, faultOf } from './cpu.fixture.ts';
import { UD } from './fault.ts';
import { immediate, instruction, memory, register } from './instruction.fixture.ts';
import { advance, effectiveAddress, readOperand, writeOperand } from './operands.ts';

describe('effective addresses (SDM vol. 1 3.7.5)', () => {
  const f = new Fixture().enter('64-bit');
  f.cpu.gpr[RBX] = 0xffff_ffff_ffff_fff0n;
  f.cpu.gpr[RCX] = 0x1_0000_0008n;
  f.cpu.rip = 0x7000_0000n;
  const operand = {
    kind: 'memory',
    width: 0,
    segment: GS,
    base: RBX,
    index: RCX,
    scale: 2,
    displacement: 0x10n,
    ripRelative: false,
  } as const;
  test.each([
    [64, 0x4_0000_0020n],
    [32, 0x20n],
    [16, 0x20n],
  ] as const)('address size %i', (addressSize, offset) => {
    expect(effectiveAddress(f.cpu, instruction('lgdt', [operand], { addressSize }), 0)).toEqual({
      segment: GS,
      offset,
    });
  });
  test('relative to RIP, which is already past the instruction', () => {
    const relative = { ...operand, segment: FS, base: -1, index: -1, ripRelative: true } as const;
    for (const [displacement, addressSize, offset] of [
      [0x10n, 64, 0x7000_0010n],
      [0xffff_ffff_8000_0000n, 64, 0xffff_ffff_f000_0000n],
      [0xffff_ffff_8000_0000n, 32, 0xf000_0000n],
    ] as const)
      expect(
        effectiveAddress(f.cpu, instruction('lgdt', [{ ...relative, displacement }], { addressSize }), 0)
          .offset,
      ).toBe(offset);
  });
});

describe('registers (SDM vol. 1 3.4.1)', () => {
  test.each([
    [register(RBX, 8), 0x88n, 0x1122_3344_5566_77ffn],
    [register(RBX, 8, true), 0x77n, 0x1122_3344_5566_ff88n],
    [register(RBX, 16), 0x7788n, 0x1122_3344_5566_ffffn],
    [register(RBX, 32), 0x5566_7788n, 0xffff_ffffn],
    [register(RBX, 64), 0x1122_3344_5566_7788n, 0xffff_ffff_ffff_ffffn],
  ])('%o', (operand, read, written) => {
    const { cpu } = new Fixture().enter('64-bit');
    cpu.gpr[RBX] = 0x1122_3344_5566_7788n;
    expect(readOperand(cpu, instruction('in', [operand]), 0)).toBe(read);
    writeOperand(cpu, instruction('in', [operand]), 0, 0xffff_ffff_ffff_ffffn);
    expect(cpu.gpr[RBX]).toBe(written);
  });
});

test('memory is accessed at its width, or at the one asked for', () => {
  const f = new Fixture().enter('64-bit');
  f.bus.write(FREE, 8, 0x1122_3344_5566_7788n);
  const ins = instruction('in', [memory(BigInt(FREE), DS, 32)]);
  expect(readOperand(f.cpu, ins, 0)).toBe(0x5566_7788n);
  expect(readOperand(f.cpu, ins, 0, 16)).toBe(0x7788n);
  writeOperand(f.cpu, ins, 0, 0n, 8);
  expect(f.bus.read(FREE, 8)).toBe(0x1122_3344_5566_7700n);
});

test('immediates are read as they are; nothing writes them', () => {
  const { cpu } = new Fixture().enter('64-bit');
  const ins = instruction('in', [register(RAX), immediate(0x80n)]);
  expect(readOperand(cpu, ins, 1)).toBe(0x80n);
  expect(faultOf(() => writeOperand(cpu, ins, 1, 0n))?.vector).toBe(UD);
});

test('advance wraps at the address size', () => {
  expect(advance(instruction('in', [], { addressSize: 16 }), 0xfffen, 4)).toBe(2n);
  expect(advance(instruction('in', [], { addressSize: 64 }), 0xfffen, 4)).toBe(0x1_0002n);
});
