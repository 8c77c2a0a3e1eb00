/** LAR, LSL, VERR, VERW and ARPL. SDM vol. 3A 5.10; vol. 2 of each. */
import { describe, expect, test } from 'vitest';
import { CF, readFlags, writeFlags, ZF } from '../isa/flags.ts';
import { DS, RAX, RBX } from '../isa/state.ts';
import {
  encodeDescriptor,
  Fixture,
  FREE_SLOT,
  faultOf,
  GDT,
  LDT_SELECTOR,
  type Mode,
  P,
  US,
} from './cpu.fixture.ts';
import { PF, UD } from './fault.ts';
import { instruction, memory, register } from './instruction.fixture.ts';
import { arpl, lar, lsl, verr, verw } from './selector-checks.ts';

const ALL = 0xffff_ffff_ffff_ffffn;

function ask(f: Fixture, what: typeof lar, selector: number): { zf: boolean; value: bigint } {
  f.cpu.gpr[RAX] = BigInt(selector);
  f.cpu.gpr[RBX] = ALL;
  const two = what === lar || what === lsl;
  const operands = two ? [register(RBX, 32), register(RAX, 16)] : [register(RAX, 16)];
  writeFlags(f.cpu, 2n | CF);
  what(f.cpu, instruction('lar', operands));
  if ((readFlags(f.cpu) & ~ZF) !== (2n | CF)) throw new Error('another flag changed');
  return { zf: (readFlags(f.cpu) & ZF) !== 0n, value: f.cpu.gpr[RBX] };
}

/** System types that LAR and LSL take, from SDM vol. 2A tables 3-54 and 3-57, by hand. */
const LAR_TYPES = { legacy: [1, 2, 3, 4, 5, 9, 11, 12], long: [2, 9, 11, 12] };
const LSL_TYPES = { legacy: [1, 2, 3, 9, 11], long: [2, 9, 11] };

describe.each(['protected32', 'compatibility', '64-bit'] as const)('%s mode', (mode: Mode) => {
  const kind = mode === 'protected32' ? 'legacy' : 'long';
  test('LAR, LSL, VERR and VERW for every type, DPL, CPL and RPL', () => {
    const wrong: string[] = [];
    for (const cpl of [0, 1, 2, 3]) {
      const f = new Fixture().enter(mode, cpl);
      for (const s of [false, true])
        for (let type = 0; type < 16; type++)
          for (const dpl of [0, 1, 2, 3])
            for (const p of [false, true]) {
              const bits = encodeDescriptor({ limit: 0xa_0123, type, s, dpl, p, g: true, db: true });
              f.gdt(FREE_SLOT, bits, 0n);
              for (const rpl of [0, 1, 2, 3]) {
                const label = `cpl ${cpl} s ${s} type ${type} dpl ${dpl} p ${p} rpl ${rpl}`;
                const conforming = s && type >= 12;
                const visible = conforming || (cpl <= dpl && rpl <= dpl);
                const selector = FREE_SLOT | rpl;
                const rights = (bits >> 32n) & 0x00ff_ff00n;
                const larOk = visible && (s || LAR_TYPES[kind].includes(type));
                const lslOk = visible && (s || LSL_TYPES[kind].includes(type));
                const readable = s && (type < 8 || (type & 2) !== 0);
                const writable = s && type < 8 && (type & 2) !== 0;
                const check = (what: typeof lar, ok: boolean, value: bigint) => {
                  const got = ask(f, what, selector);
                  if (got.zf !== ok || got.value !== (ok ? value : ALL)) wrong.push(`${what.name} ${label}`);
                };
                check(lar, larOk, rights);
                check(lsl, lslOk, 0xa012_3fffn);
                check(verr, visible && readable, ALL);
                check(verw, visible && writable, ALL);
              }
              expect(f.bus.read(GDT + FREE_SLOT, 8)).toBe(bits);
            }
    }
    expect(wrong).toEqual([]);
  });
  test('null selectors and ones beyond the tables clear ZF', () => {
    const f = new Fixture().enter(mode);
    f.gdt(0, encodeDescriptor({ type: 3, s: true }));
    for (const what of [lar, lsl, verr, verw])
      for (const selector of [0, 3, 0xfff8, 0xfffc]) expect(ask(f, what, selector).zf).toBe(false);
  });
});

test('operand sizes of LAR and LSL', () => {
  const f = new Fixture().enter('64-bit');
  f.gdt(FREE_SLOT, encodeDescriptor({ limit: 0xf_ffff, g: true, type: 3, s: true }));
  f.cpu.gpr[RAX] = BigInt(FREE_SLOT);
  const results = [16, 32, 64].flatMap((size) =>
    [lar, lsl].map((what) => {
      f.cpu.gpr[RBX] = ALL;
      const operandSize = size as 16 | 32 | 64;
      what(
        f.cpu,
        instruction('lar', [register(RBX, operandSize), register(RAX, operandSize)], { operandSize }),
      );
      return f.cpu.gpr[RBX];
    }),
  );
  expect(results).toEqual([
    0xffff_ffff_ffff_9300n,
    ALL,
    0x008f_9300n,
    0xffff_ffffn,
    0x008f_9300n,
    0xffff_ffffn,
  ]);
});

test('the selector in memory is of 16 bits', () => {
  const f = new Fixture().enter('64-bit', 3).enablePaging().map(BigInt(GDT), GDT, P);
  f.map(0x5000n, 0x9000, P | US);
  f.bus.write(0x9ffe, 2, 0x2bn);
  lar(f.cpu, instruction('lar', [register(RBX, 32), memory(0x5ffen, DS, 16)]));
  expect(f.cpu.gpr[RBX]).toBe(0x00cf_f300n);
});

test.each(['real', 'virtual8086'] as const)('%s mode: #UD', (mode) => {
  const f = new Fixture().enter(mode);
  for (const what of [lar, lsl, verr, verw, arpl])
    expect(faultOf(() => what(f.cpu, instruction('lar', [register(RAX, 16), register(RBX, 16)])))).toEqual({
      vector: UD,
      errorCode: undefined,
    });
});

describe('ARPL (SDM vol. 2A)', () => {
  test('all pairs of RPLs', () => {
    for (const cpl of [0, 3])
      for (const destination of [0, 1, 2, 3])
        for (const source of [0, 1, 2, 3]) {
          const { cpu } = new Fixture().enter('protected32', cpl);
          cpu.gpr[RAX] = BigInt(0xffff_1230 | destination) & 0xffff_ffffn;
          cpu.gpr[RBX] = BigInt(LDT_SELECTOR | source);
          arpl(cpu, instruction('arpl', [register(RAX, 16), register(RBX, 16)]));
          const raised = source > destination;
          expect((readFlags(cpu) & ZF) !== 0n).toBe(raised);
          expect(cpu.gpr[RAX]).toBe(0xffff_1230n | BigInt(raised ? source : destination));
        }
  });
  // As measured on Intel processors.
  test('memory is written only where it changes', () => {
    const f = new Fixture()
      .enter('compatibility', 3)
      .enablePaging()
      .map(0x5000n, 0x9000, P | US);
    const operands = [memory(0x5000n, DS, 16), register(RBX, 16)];
    const go = () => arpl(f.cpu, instruction('arpl', operands, { addressSize: 32, codeSize: 32 }));
    f.cpu.gpr[RBX] = 0n;
    expect(faultOf(go)).toBeNull();
    f.cpu.gpr[RBX] = 3n;
    expect(faultOf(go)).toEqual({ vector: PF, errorCode: 7 });
    expect(readFlags(f.cpu) & ZF).toBe(0n);
  });
});
