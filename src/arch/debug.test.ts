/** Debug registers and exceptions: SDM vol. 3B 17.2, 17.3; vol. 2B "MOV to/from debug registers". */
import { beforeEach, describe, expect, it } from 'vitest';
import { RF, TF, writeFlags } from '../isa/flags.ts';
import type { Operand } from '../isa/instruction.ts';
import { CS, RAX, RCX, SHADOW_MOV_SS, SHADOW_STI } from '../isa/state.ts';
import { Fixture, faultOf } from './cpu.fixture.ts';
import {
  afterInstruction,
  DR6_BD,
  DR6_BS,
  dataBreakpointsOnPage,
  instructionBreakpoint,
  matchDataBreakpoint,
  matchIoBreakpoint,
  movFromDebug,
  movToDebug,
  setDebugStatus,
  singleStepNeeded,
} from './debug.ts';
import { DB, GP, UD } from './fault.ts';
import { instruction, register } from './instruction.fixture.ts';
import { NO_STEP_TRAP } from './interrupts.ts';

const ONES6 = 0xffff_0ff0n;
const debugRegister = (index: number): Operand => ({ kind: 'debug', index });
const to = (f: Fixture, index: number, value: bigint) => {
  f.cpu.gpr[RAX] = value;
  movToDebug(f.cpu, instruction('movdr', [debugRegister(index), register(RAX)]));
};
const from = (f: Fixture, index: number) => {
  movFromDebug(f.cpu, instruction('movfromdr', [register(RCX), debugRegister(index)]));
  return f.cpu.gpr[RCX];
};

/** DR7 with breakpoint `i` enabled. */
const control = (i: number, kind: number, length: number, on = true): bigint =>
  (on ? 1n << BigInt(2 * i) : 0n) | (BigInt(kind | (length << 2)) << BigInt(16 + 4 * i));

let f: Fixture;
beforeEach(() => {
  f = new Fixture().enter('64-bit', 0);
  writeFlags(f.cpu, 2n);
  f.cpu.dr[6] = ONES6;
  f.cpu.dr[7] = 0x400n;
});

describe('MOV to and from debug registers', () => {
  it.each([
    [0, 0xffff_8000_1234_5678n, 0xffff_8000_1234_5678n],
    [3, 0x8000_0000_0000n, 0x8000_0000_0000n],
    [6, 0n, ONES6],
    [6, 0xffff_ffffn, 0xffff_0ff0n | 0xe00fn],
    [4, 0xffff_ffffn, 0xffff_0ff0n | 0xe00fn],
    [7, 0n, 0x400n],
    [7, 0xffff_dfffn, 0xffff_07ffn],
    [5, 0xffff_dfffn, 0xffff_07ffn],
  ])('DR%i := %i reads %i', (index, value, reads) => {
    to(f, index, value);
    expect(from(f, index)).toBe(reads);
    expect(f.cpu.dr[index >= 4 && index <= 5 ? index + 2 : index]).toBe(reads);
  });

  it('#GP(0) for bits 63:32 of DR6 and DR7', () => {
    for (const index of [6, 7])
      expect(faultOf(() => to(f, index, 1n << 32n))).toEqual({ vector: GP, errorCode: 0 });
  });

  it('32 bits outside 64-bit mode', () => {
    f.enter('protected32', 0);
    to(f, 0, 0x1_2345_6789n);
    expect(f.cpu.dr[0]).toBe(0x2345_6789n);
    to(f, 7, 1n << 32n);
    expect(f.cpu.dr[7]).toBe(0x400n);
  });

  it('#UD for DR8 and above at any level, and for DR4, DR5 with CR4.DE; #GP(0) above CPL 0', () => {
    expect(faultOf(() => from(f, 8))?.vector).toBe(UD);
    f.cpu.cr4 |= 8n;
    for (const index of [4, 5]) expect(faultOf(() => from(f, index))?.vector).toBe(UD);
    f.enter('64-bit', 3);
    expect(faultOf(() => from(f, 0))).toEqual({ vector: GP, errorCode: 0 });
    expect(faultOf(() => from(f, 4))).toEqual({ vector: GP, errorCode: 0 });
    expect(faultOf(() => from(f, 8))?.vector).toBe(UD);
  });

  it('general detect: #DB with DR6.BD, a fault whose image has RF; after #UD and #GP', () => {
    f.cpu.dr[7] = 0x2400n;
    f.cpu.dr[6] = ONES6 | 3n;
    expect(faultOf(() => to(f, 0, 0n))).toEqual({ vector: DB, errorCode: undefined });
    expect(f.cpu.dr[6]).toBe(ONES6 | BigInt(DR6_BD));
    expect(f.cpu.flagsRest & RF).toBe(RF);
    f.enter('64-bit', 3);
    expect(faultOf(() => to(f, 0, 0n))?.vector).toBe(GP);
  });

  it('makes the engine forget translations, so that watched pages are seen', () => {
    to(f, 7, control(0, 1, 3));
    expect(f.flushes).toContain('all');
  });
});

describe('instruction breakpoints', () => {
  beforeEach(() => {
    f.cpu.rip = 0x5000n;
    f.cpu.dr[1] = 0x5000n;
    f.cpu.dr[7] = 0x400n | control(1, 0, 0);
  });

  it('match the address of the next instruction', () => {
    expect(instructionBreakpoint(f.cpu)).toBe(true);
    expect(f.cpu.dr[6]).toBe(ONES6 | 2n);
    f.cpu.rip = 0x5001n;
    expect(instructionBreakpoint(f.cpu)).toBe(false);
  });

  it('match the linear address outside 64-bit mode', () => {
    f.enter('protected32', 0);
    f.cpu.segBase[CS] = 0xffff_f000n;
    f.cpu.rip = 0x6000n;
    expect(instructionBreakpoint(f.cpu)).toBe(true);
  });

  it('RF suppresses one, and is used up', () => {
    f.cpu.flagsRest |= RF;
    expect(singleStepNeeded(f.cpu)).toBe(true);
    expect(instructionBreakpoint(f.cpu)).toBe(false);
    expect(f.cpu.flagsRest & RF).toBe(0n);
    expect(instructionBreakpoint(f.cpu)).toBe(true);
  });

  it('the shadow of MOV SS suppresses them, that of STI does not', () => {
    f.cpu.shadow = SHADOW_MOV_SS;
    expect(instructionBreakpoint(f.cpu)).toBe(false);
    f.cpu.shadow = SHADOW_STI;
    expect(instructionBreakpoint(f.cpu)).toBe(true);
  });

  it('not again between the iterations of a repeated string instruction', () => {
    f.cpu.repeating = 1;
    expect(instructionBreakpoint(f.cpu)).toBe(false);
  });

  it('not where disabled; a match of a disabled one shows in DR6 beside an enabled one', () => {
    f.cpu.dr[3] = 0x5000n;
    expect(instructionBreakpoint(f.cpu)).toBe(true);
    expect(f.cpu.dr[6]).toBe(ONES6 | 0xan);
    f.cpu.dr[7] = 0x400n;
    expect(instructionBreakpoint(f.cpu)).toBe(false);
  });

  it('DR6: B bits are replaced, BS, BT and BD stay', () => {
    f.cpu.dr[6] = ONES6 | 0xe005n;
    setDebugStatus(f.cpu, 2);
    expect(f.cpu.dr[6]).toBe(ONES6 | 0xe002n);
  });
});

describe('data breakpoints', () => {
  // LEN, address in DR0, access, size, met.
  const rows: [number, bigint, bigint, number, boolean][] = [
    [0, 0x5003n, 0x5003n, 1, true],
    [0, 0x5003n, 0x5000n, 4, true],
    [0, 0x5003n, 0x5000n, 2, false],
    [0, 0x5003n, 0x5004n, 1, false],
    [1, 0x5003n, 0x5002n, 1, true],
    [1, 0x5003n, 0x5004n, 1, false],
    [3, 0x5002n, 0x5000n, 1, true],
    [3, 0x5002n, 0x4ffdn, 4, true],
    [3, 0x5002n, 0x5004n, 4, false],
    [2, 0x5002n, 0x5007n, 1, true],
    [2, 0x5002n, 0x5008n, 1, false],
  ];
  it.each(rows)('LEN %i at %i, access at %i of %i: %s', (length, address, linear, size, met) => {
    f.cpu.dr[0] = address;
    f.cpu.dr[7] = 0x400n | control(0, 1, length);
    matchDataBreakpoint(f.cpu, linear, size, true);
    expect(f.cpu.pendingDebug).toBe(met ? 1 : 0);
  });

  it.each([
    [0, true, 0],
    [0, false, 0],
    [1, true, 4],
    [1, false, 0],
    [2, true, 0],
    [3, true, 4],
    [3, false, 4],
  ])('R/W %i, write %s', (kind, write, pending) => {
    f.cpu.dr[2] = 0x5000n;
    f.cpu.dr[7] = 0x400n | control(2, kind, 0);
    matchDataBreakpoint(f.cpu, 0x5000n, 1, write);
    expect(f.cpu.pendingDebug).toBe(pending);
    expect(dataBreakpointsOnPage(f.cpu, 0x5000n)).toBe(kind === 1 || kind === 3);
    expect(dataBreakpointsOnPage(f.cpu, 0x6000n)).toBe(false);
    expect(singleStepNeeded(f.cpu)).toBe(kind === 0);
  });

  it('collect over the accesses of an instruction, and end the run', () => {
    let ended = 0;
    f.cpu.engine = { ...f.cpu.engine, endRun: () => void ended++ };
    f.cpu.dr[0] = 0x5000n;
    f.cpu.dr[1] = 0x6000n;
    f.cpu.dr[7] = 0x400n | control(0, 3, 0) | control(1, 1, 0);
    matchDataBreakpoint(f.cpu, 0x5000n, 1, false);
    matchDataBreakpoint(f.cpu, 0x6000n, 1, true);
    expect(f.cpu.pendingDebug).toBe(3);
    expect(ended).toBe(2);
  });

  it('on ports, with CR4.DE', () => {
    f.cpu.dr[0] = 0x60n;
    f.cpu.dr[7] = 0x400n | control(0, 2, 1);
    matchIoBreakpoint(f.cpu, 0x61, 1);
    expect(f.cpu.pendingDebug).toBe(0);
    f.cpu.cr4 |= 8n;
    matchIoBreakpoint(f.cpu, 0x62, 1);
    expect(f.cpu.pendingDebug).toBe(0);
    matchIoBreakpoint(f.cpu, 0x61, 1);
    expect(f.cpu.pendingDebug).toBe(1);
  });
});

describe('after an instruction', () => {
  it('TF before it makes the single-step trap pending, unless called off', () => {
    afterInstruction(f.cpu, false);
    expect(f.cpu.pendingDebug).toBe(0);
    f.cpu.pendingDebug = NO_STEP_TRAP | 1;
    afterInstruction(f.cpu, true);
    expect(f.cpu.pendingDebug).toBe(1);
    afterInstruction(f.cpu, true);
    expect(f.cpu.pendingDebug).toBe(DR6_BS | 1);
  });

  it('of MOV SS after MOV SS the second makes no shadow (measured)', () => {
    f.cpu.shadow = SHADOW_MOV_SS;
    afterInstruction(f.cpu, true, SHADOW_MOV_SS);
    expect(f.cpu.shadow).toBe(0);
    f.cpu.shadow = SHADOW_MOV_SS;
    afterInstruction(f.cpu, true, SHADOW_STI);
    expect(f.cpu.shadow).toBe(SHADOW_MOV_SS);
  });

  it('TF, RF and shadows ask for single steps', () => {
    expect(singleStepNeeded(f.cpu)).toBe(false);
    for (const flag of [TF, RF]) {
      f.cpu.flagsRest = 2n | flag;
      expect(singleStepNeeded(f.cpu)).toBe(true);
    }
    f.cpu.flagsRest = 2n;
    f.cpu.shadow = SHADOW_STI;
    expect(singleStepNeeded(f.cpu)).toBe(true);
  });
});
