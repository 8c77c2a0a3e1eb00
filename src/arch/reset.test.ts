/** The state after RESET, INIT and start-up. SDM vol. 3A 9.1, table 9-1; 8.4. */
import { describe, expect, test } from 'vitest';
import { readFlags } from '../isa/flags.ts';
import { CS, DS, ES, FS, GS, LDTR, RDX, RUNNING, SS, TR, WAIT_FOR_SIPI } from '../isa/state.ts';
import { Fixture } from './cpu.fixture.ts';
import { Cpu } from './cpu.ts';
import { cpuidLeaf } from './cpuid.ts';
import { pageAccess, translate } from './paging.ts';
import { initReset, reset, startUp } from './reset.ts';

/** A processor with something in every register. */
function dirty(): Fixture {
  const f = new Fixture().enter('64-bit', 3).enablePaging().map(0x5000n, 0x9000);
  const { cpu } = f;
  translate(cpu, 0x5000n, pageAccess(false, false, false, false));
  cpu.gpr.fill(0x1234n);
  cpu.dr.fill(0xffn);
  cpu.cr2 = 5n;
  cpu.flagsCarry = 1n << 63n;
  cpu.flagsRest |= 0x200n;
  cpu.lstar = 0x1234n;
  cpu.tscAux = 7n;
  cpu.tscOffset = 100n;
  cpu.pat = 0n;
  cpu.fcw = 0x37f;
  cpu.mtrrDefType = 0x806n;
  cpu.nmiBlocked = 1;
  cpu.shadow = 1;
  cpu.pendingDebug = 1;
  cpu.initPending = 1;
  return f;
}

// SDM vol. 3A table 9-1.
describe.each([
  ['RESET', reset, 0x6000_0010n],
  ['INIT', initReset, 0x10n],
] as const)('%s', (_, action, cr0) => {
  test('registers', () => {
    const f = dirty();
    const { cpu } = f;
    cpu.apicBase = 0xfee0_0900n;
    action(cpu);
    expect([cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.efer]).toEqual([cr0, 0n, 0n, 0n, 0n]);
    expect(readFlags(cpu)).toBe(2n);
    expect(cpu.rip).toBe(0xfff0n);
    expect(cpu.cpl).toBe(0);
    expect(cpu.codeSize).toBe(16);
    for (let i = 0; i < 16; i++) expect(cpu.gpr[i]).toBe(i === RDX ? 0x106b1n : 0n);
    expect(cpu.gpr[RDX]).toBe(BigInt(cpuidLeaf(cpu, 1, 0)[0]));
    const data = { selector: 0, base: 0n, limit: 0xffff, attributes: 0x93, usable: true };
    for (const segment of [ES, SS, DS, FS, GS] as const) expect(f.segment(segment)).toEqual(data);
    expect(f.segment(CS)).toEqual({ ...data, selector: 0xf000, base: 0xffff_0000n });
    expect(f.segment(LDTR)).toEqual({ ...data, attributes: 0x82 });
    expect(f.segment(TR)).toEqual({ ...data, attributes: 0x8b });
    expect([cpu.segReadHigh[DS], cpu.segWriteHigh[CS]]).toEqual([0xffff, 0xffff]);
    expect([cpu.gdtrBase, cpu.gdtrLimit, cpu.idtrBase, cpu.idtrLimit]).toEqual([0n, 0xffff, 0n, 0xffff]);
    expect([...cpu.dr]).toEqual([0n, 0n, 0n, 0n, 0n, 0n, 0xffff_0ff0n, 0x400n]);
    expect([cpu.nmiBlocked, cpu.shadow, cpu.pendingDebug, cpu.initPending]).toEqual([0, 0, 0, 0]);
    expect(cpu.tlb.size).toBe(0);
    expect(cpu.activity).toBe(RUNNING);
  });
  test('what INIT keeps and RESET sets', () => {
    const { cpu } = dirty();
    action(cpu);
    const kept = [cpu.lstar, cpu.tscAux, cpu.tscOffset, cpu.pat, cpu.mtrrDefType, BigInt(cpu.fcw)];
    expect(kept).toEqual(
      action === reset
        ? [0n, 0n, 0n, 0x0007_0406_0007_0406n, 0n, 0x40n]
        : [0x1234n, 7n, 100n, 0n, 0x806n, 0x37fn],
    );
  });
});

test('INIT keeps CR0.CD and NW as they are', () => {
  const { cpu } = dirty();
  cpu.cr0 |= 0x6000_0000n;
  initReset(cpu);
  expect(cpu.cr0).toBe(0x6000_0010n);
});

test('application processors wait for a start-up IPI, after INIT too', () => {
  const f = new Fixture();
  const cpu = new Cpu(f.cpu.memory, 0, 1, f.bus, f.interrupts, 0x2000);
  reset(cpu);
  expect(cpu.apicBase).toBe(0xfee0_0800n);
  expect(cpu.activity).toBe(WAIT_FOR_SIPI);
  cpu.activity = RUNNING;
  initReset(cpu);
  expect(cpu.activity).toBe(WAIT_FOR_SIPI);
  startUp(cpu, 0x9a);
  expect(cpu.activity).toBe(RUNNING);
  expect([cpu.segSelector[CS], cpu.segBase[CS], cpu.rip]).toEqual([0x9a00, 0x9_a000n, 0n]);
});

test('processor 0 is the bootstrap processor', () => {
  const { cpu } = new Fixture();
  reset(cpu);
  expect(cpu.apicBase).toBe(0xfee0_0900n);
  expect(cpu.activity).toBe(RUNNING);
  expect([cpu.xcr0, cpu.mxcsr, cpu.ftw, cpu.miscEnable]).toEqual([1n, 0x1f80, 0x5555, 0x1801n]);
});
