/** Faults of the invalidating instructions; what they invalidate is in tlb.test.ts. */
import { describe, expect, test } from 'vitest';
import { RAX } from '../isa/state.ts';
import { writeCr4 } from './control-registers.ts';
import { Fixture, FREE, faultOf } from './cpu.fixture.ts';
import { GP } from './fault.ts';
import { instruction, memory, register } from './instruction.fixture.ts';
import { invpcid } from './invalidation.ts';

const run = (f: Fixture, at: bigint) =>
  faultOf(() => invpcid(f.cpu, instruction('invpcid', [register(RAX), memory(at)])));

describe('INVPCID (SDM vol. 2A)', () => {
  const of = (type: bigint, low: bigint, linear: bigint, pcide = true) => {
    const f = new Fixture().enter('64-bit');
    if (pcide) writeCr4(f.cpu, f.cpu.cr4 | (1n << 17n));
    f.bus.write(FREE, 8, low);
    f.bus.write(FREE + 8, 8, linear);
    f.cpu.gpr[RAX] = type;
    return run(f, BigInt(FREE));
  };
  const FAULT = { vector: GP, errorCode: 0 };
  test('types', () => {
    for (let type = 0n; type < 8n; type++) expect(of(type, 0n, 0n)).toEqual(type < 4n ? null : FAULT);
    expect(of(1n << 32n, 0n, 0n)).toEqual(FAULT);
  });
  test('bits 63:12 of the descriptor', () => {
    for (let bit = 0n; bit < 64n; bit++)
      for (let type = 0n; type < 4n; type++)
        expect(of(type, 1n << bit, 0n)).toEqual(bit < 12n ? null : FAULT);
  });
  test('PCIDs other than 0 need CR4.PCIDE, for types 0 and 1', () => {
    for (let type = 0n; type < 4n; type++) {
      expect(of(type, 0n, 0n, false)).toBeNull();
      expect(of(type, 5n, 0n, false)).toEqual(type < 2n ? FAULT : null);
    }
  });
  test('the address of type 0 is canonical', () => {
    for (let type = 0n; type < 4n; type++)
      expect(of(type, 0n, 1n << 47n)).toEqual(type === 0n ? FAULT : null);
  });
  test('at CPL 0 only', () => {
    for (const [mode, cpl] of [
      ['64-bit', 3],
      ['protected32', 1],
      ['virtual8086', 3],
    ] as const)
      expect(run(new Fixture().enter(mode, cpl), 0n)).toEqual(FAULT);
  });
});
