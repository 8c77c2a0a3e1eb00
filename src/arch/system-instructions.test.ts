/** System instructions by mnemonic, and which are privileged. SDM vol. 3A 2.8, 5.9. */
import { describe, expect, test } from 'vitest';
import { AC, CF, readFlags, STATUS_FLAGS, writeFlags } from '../isa/flags.ts';
import type { Operand } from '../isa/instruction.ts';
import type { SystemMnemonic } from '../isa/mnemonics.ts';
import { HALTED, RAX, RUNNING } from '../isa/state.ts';
import { Fixture, faultOf, type Mode } from './cpu.fixture.ts';
import { GP, UD } from './fault.ts';
import { instruction, memory, register } from './instruction.fixture.ts';
import { instructions } from './instructions.ts';

const ALL = 0xffff_ffff_ffff_ffffn;
const run = (f: Fixture, mnemonic: SystemMnemonic, operands: readonly Operand[] = []) =>
  faultOf(() => instructions[mnemonic](f.cpu, instruction(mnemonic, operands)));

describe('privileged instructions (SDM vol. 3A 5.9)', () => {
  const modes: [Mode, number, boolean][] = [
    ['real', 0, true],
    ['virtual8086', 3, false],
    ['protected32', 0, true],
    ['protected32', 1, false],
    ['compatibility', 3, false],
    ['64-bit', 0, true],
    ['64-bit', 2, false],
  ];
  test.each(modes)('%s at CPL %i', (mode, cpl, permitted) => {
    for (const mnemonic of ['hlt', 'invd', 'wbinvd', 'clts'] as const) {
      const f = new Fixture().enter(mode, cpl);
      expect(run(f, mnemonic), mnemonic).toEqual(permitted ? null : { vector: GP, errorCode: 0 });
      expect(f.cpu.activity).toBe(mnemonic === 'hlt' && permitted ? HALTED : RUNNING);
    }
    const f = new Fixture().enter(mode, cpl);
    expect(run(f, 'invlpg', [memory(0n)])).toEqual(permitted ? null : { vector: GP, errorCode: 0 });
    for (const mnemonic of ['clac', 'stac'] as const)
      expect(run(new Fixture().enter(mode, cpl), mnemonic)).toEqual(
        permitted ? null : { vector: UD, errorCode: undefined },
      );
  });
  test('instructions that CPUID does not report are #UD', () => {
    for (const mnemonic of ['monitor', 'mwait', 'rsm', 'vmcall', 'xgetbv', 'xsetbv'] as const)
      expect(run(new Fixture().enter('64-bit'), mnemonic)?.vector).toBe(UD);
  });
});

test('STAC and CLAC change AC alone', () => {
  const f = new Fixture().enter('64-bit');
  writeFlags(f.cpu, 0x3246n);
  run(f, 'stac');
  expect(readFlags(f.cpu)).toBe(0x3246n | AC);
  run(f, 'clac');
  expect(readFlags(f.cpu)).toBe(0x3246n);
});

test.each([16, 32, 64] as const)('RDRAND and RDSEED, %i bits', (width) => {
  const values = (['rdrand', 'rdseed'] as const).map((mnemonic) => {
    const f = new Fixture().enter('64-bit', 3);
    writeFlags(f.cpu, STATUS_FLAGS | 2n);
    f.cpu.gpr[RAX] = ALL;
    expect(run(f, mnemonic, [register(RAX, width)])).toBeNull();
    expect(readFlags(f.cpu) & STATUS_FLAGS).toBe(CF);
    return f.cpu.gpr[RAX];
  });
  expect(values[0]).toBe(values[1]);
  if (width === 16) expect(values[0] >> 16n).toBe(0xffff_ffff_ffffn);
  if (width === 32) expect(values[0] >> 32n).toBe(0n);
  expect(BigInt.asUintN(width, values[0])).not.toBe(BigInt.asUintN(width, ALL));
});
