/**
 * Which instructions on vectors CR0.EM, CR0.TS, CR4.OSFXSR and a pending x87 exception forbid, and the order of faults. SDM vol. 2A
 * 2.4 and vol. 3B 22.25.3 (tables of exception conditions); user mode cannot change these bits, so no fuzz case does.
 */
import { describe, expect, test } from 'vitest';
import { GP, MF, NM, PF, SS, UD } from '../arch/fault.ts';
import { RUNNING, SS as STACK } from '../isa/state.ts';
import { USER_CS, USER_DS } from './linux-abi.ts';
import { World } from './world.ts';

const CODE = 0x40_0000n;
const DATA = 0x50_0000n;
const BP = 3;
const CR0_EM = 4n;
const CR0_TS = 8n;
const CR4_OSFXSR = 0x200n;
const ES = 0x8081;

const world = new World();
const code = world.ram(world.map(CODE, 0x1000, { write: false, execute: true }), 0x1000);
world.map(DATA, 0x1000, { write: true, execute: false });
const { cpu, execution } = world;
const [cr0, cr4] = [cpu.cr0, cpu.cr4];
let vector = -1;
cpu.hooks = {
  deliver: (_cpu, which) => {
    vector = which;
    return true;
  },
};

interface Setting {
  readonly cr0?: bigint;
  readonly withoutFxsr?: boolean;
  readonly fsw?: number;
  readonly rdi?: bigint;
}

/** The vector that an instruction, with INT3 after it, ends with. */
function run(bytes: string, setting: Setting = {}): number {
  code.fill(0xcc);
  code.set(bytes.split(' ').map((byte) => Number.parseInt(byte, 16)));
  execution.interpreter.flushAll();
  world.loadSegment(1, USER_CS);
  world.loadSegment(STACK, USER_DS);
  cpu.cr0 = cr0 | (setting.cr0 ?? 0n);
  cpu.cr4 = setting.withoutFxsr ? cr4 & ~CR4_OSFXSR : cr4;
  cpu.fsw = setting.fsw ?? 0;
  cpu.gpr[7] = setting.rdi ?? DATA;
  cpu.gpr[5] = setting.rdi ?? DATA;
  cpu.cpl = 3;
  cpu.rip = CODE;
  cpu.activity = RUNNING;
  cpu.stopRequested = false;
  vector = -1;
  execution.run(cpu, 10);
  return vector;
}

const PXOR_XMM = '66 0f ef 07';
const PXOR_MM = '0f ef 07';
const EMMS = '0f 77';
const MOVQ2DQ = 'f3 0f d6 c1';

describe('the processor’s state', () => {
  const rows: [string, Setting, sse: number, mmx: number, both: number][] = [
    ['all is permitted', {}, BP, BP, BP],
    ['CR0.EM', { cr0: CR0_EM }, UD, UD, UD],
    ['CR0.TS', { cr0: CR0_TS }, NM, NM, NM],
    ['CR0.EM goes before CR0.TS', { cr0: CR0_EM | CR0_TS }, UD, UD, UD],
    ['no CR4.OSFXSR', { withoutFxsr: true }, UD, BP, UD],
    ['no CR4.OSFXSR, and CR0.TS', { withoutFxsr: true, cr0: CR0_TS }, UD, NM, UD],
    ['a pending x87 exception', { fsw: ES }, BP, MF, MF],
    ['CR0.TS goes before a pending x87 exception', { fsw: ES, cr0: CR0_TS }, NM, NM, NM],
    ['a pending x87 exception goes before a page fault', { fsw: ES, rdi: 0x1000n }, PF, MF, MF],
  ];
  test.each(rows)('%s', (_, setting, sse, mmx, both) => {
    expect(run(PXOR_XMM, setting)).toBe(sse);
    expect(run(PXOR_MM, setting)).toBe(mmx);
    expect(run(MOVQ2DQ, setting)).toBe(both);
    if (!setting.rdi) expect(run(EMMS, setting)).toBe(mmx);
  });

  test('general registers alone need nothing: MOVNTI', () => {
    expect(run('0f c3 07', { cr0: CR0_EM | CR0_TS, withoutFxsr: true, fsw: ES })).toBe(BP);
  });
});

describe('alignment', () => {
  test.each([
    ['MOVDQA', '66 0f 6f 07', GP],
    ['a store', '66 0f 7f 07', GP],
    ['an operand', '66 0f fe 07', GP],
    ['MOVDQU', 'f3 0f 6f 07', BP],
    ['a quadword', 'f3 0f 7e 07', BP],
  ])('%s', (_, bytes, expected) => {
    expect(run(bytes, { rdi: DATA + 8n })).toBe(expected);
    expect(run(bytes)).toBe(BP);
  });

  test('goes before page faults and canonical addresses', () => {
    expect(run('66 0f 6f 07', { rdi: 0x1008n })).toBe(GP);
    expect(run('66 0f 6f 45 00', { rdi: 0x8000_0000_0000_0008n })).toBe(GP);
    expect(run('66 0f 6f 45 00', { rdi: 0x8000_0000_0000_0000n })).toBe(SS);
  });
});

test.each([
  ['a load', 'c5 fc 58 07'],
  ['a store', 'c4 e3 7d 1d 07 00'],
])('the end of canonical addresses goes before page faults: %s across it', (_, bytes) => {
  expect(run(bytes, { rdi: 0x7fff_ffff_fff5n })).toBe(GP);
  expect(run(bytes, { rdi: 0x7fff_ffff_ff00n })).toBe(PF);
});

test('lanes of a masked move go on beyond an address size of 32 bits', () => {
  // Of XMM1, which is the mask of VMASKMOVPS XMM2, XMM1, [EDI], only the third lane.
  cpu.ymm.fill(0n, 4, 8);
  cpu.ymm[5] = 0x8000_0000n;
  expect([run('67 c4 e2 71 2c 17', { rdi: 0xffff_fffcn }), cpu.cr2]).toEqual([PF, 0x1_0000_0004n]);
});
