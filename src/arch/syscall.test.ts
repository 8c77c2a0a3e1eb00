/** SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS: SDM vol. 2B, vol. 3A 5.8.7, 5.8.8. */
import { beforeEach, describe, expect, it } from 'vitest';
import { IF, NT, RF, readFlags, TF, VM, writeFlags } from '../isa/flags.ts';
import { CS, GS, RCX, RDX, RSP, SS } from '../isa/state.ts';
import { Fixture, faultOf } from './cpu.fixture.ts';
import { DR6_BS } from './debug.ts';
import { GP, UD } from './fault.ts';
import { instruction } from './instruction.fixture.ts';
import { NO_STEP_TRAP } from './interrupts.ts';
import { swapgs } from './swapgs.ts';
import { syscall, sysret } from './syscall.ts';
import { sysenter, sysexit } from './sysenter.ts';

const ENTRY = 0xffff_8000_0000_1000n;

function machine(mode: '64-bit' | 'compatibility' | 'protected32', cpl: number): Fixture {
  const f = new Fixture().enter(mode, cpl);
  const { cpu } = f;
  writeFlags(cpu, 2n);
  cpu.efer |= 1n;
  cpu.star = (0x23n << 48n) | (0x10n << 32n);
  cpu.lstar = ENTRY;
  cpu.cstar = 0x1111n;
  cpu.sfmask = 0x4_7700n;
  cpu.sysenterCs = 0x10n;
  cpu.sysenterEsp = 0xffff_8000_0000_2000n;
  cpu.sysenterEip = 0xffff_8000_0000_3000n;
  cpu.gpr[RSP] = 0x7000_0000_7000n;
  cpu.rip = 0x5555n;
  return f;
}
const wide = instruction('sysret', [], { operandSize: 64 });
const narrow = instruction('sysret', [], { operandSize: 32 });

describe('SYSCALL', () => {
  let f: Fixture;
  beforeEach(() => {
    f = machine('64-bit', 3);
  });

  it('saves RIP and RFLAGS, masks RFLAGS, loads fixed segments', () => {
    writeFlags(f.cpu, 0x24_0ed7n);
    const seen: number[][] = [];
    f.cpu.hooks = { privilegeChange: (_cpu, from, to) => void seen.push([from, to]) };
    syscall(f.cpu, instruction('syscall'));
    expect(f.cpu.rip).toBe(ENTRY);
    expect(f.cpu.gpr[RCX]).toBe(0x5555n);
    expect(f.cpu.gpr[11]).toBe(0x24_0ed7n);
    expect(readFlags(f.cpu)).toBe(0x24_0ed7n & ~0x4_7700n);
    expect(f.cpu.cpl).toBe(0);
    expect(f.segment(CS)).toEqual({
      selector: 0x10,
      base: 0n,
      limit: 0xffff_ffff,
      attributes: 0xa09b,
      usable: true,
    });
    expect(f.segment(SS)).toEqual({
      selector: 0x18,
      base: 0n,
      limit: 0xffff_ffff,
      attributes: 0xc093,
      usable: true,
    });
    expect(f.cpu.gpr[RSP]).toBe(0x7000_0000_7000n);
    expect(seen).toEqual([[3, 0]]);
  });

  it('clears the RPL of CS; SS is CS + 8 of STAR as it is', () => {
    f.cpu.star = 0x13n << 32n;
    syscall(f.cpu, instruction('syscall'));
    expect(f.segment(CS).selector).toBe(0x10);
    expect(f.segment(SS).selector).toBe(0x1b);
  });

  it('R11 shows RF as 0 (measured)', () => {
    f.cpu.flagsRest |= RF;
    syscall(f.cpu, instruction('syscall'));
    expect(f.cpu.gpr[11]).toBe(2n);
  });

  it('with TF masked no single-step trap follows; with TF kept one does', () => {
    f.cpu.flagsRest |= TF;
    syscall(f.cpu, instruction('syscall'));
    expect(f.cpu.gpr[11]).toBe(TF | 2n);
    expect(f.cpu.pendingDebug).toBe(NO_STEP_TRAP);
    const g = machine('64-bit', 3);
    g.cpu.sfmask = 0n;
    g.cpu.flagsRest |= TF;
    syscall(g.cpu, instruction('syscall'));
    expect(g.cpu.pendingDebug).toBe(DR6_BS);
  });

  it('#UD outside 64-bit mode, as on Intel, and with EFER.SCE clear', () => {
    const g = machine('compatibility', 3);
    expect(faultOf(() => syscall(g.cpu, instruction('syscall')))?.vector).toBe(UD);
    f.cpu.efer &= ~1n;
    expect(faultOf(() => syscall(f.cpu, instruction('syscall')))?.vector).toBe(UD);
  });
});

describe('SYSRET', () => {
  let f: Fixture;
  beforeEach(() => {
    f = machine('64-bit', 0);
    f.cpu.gpr[RCX] = 0x1_0000_5555n;
    f.cpu.gpr[11] = 0x3f_7fd7n;
  });

  it('to 64-bit mode', () => {
    sysret(f.cpu, wide);
    expect(f.cpu.rip).toBe(0x1_0000_5555n);
    expect(readFlags(f.cpu)).toBe(0x3c_7fd7n);
    expect(f.cpu.cpl).toBe(3);
    expect(f.segment(CS)).toEqual({
      selector: 0x33,
      base: 0n,
      limit: 0xffff_ffff,
      attributes: 0xa0fb,
      usable: true,
    });
    expect(f.segment(SS)).toEqual({
      selector: 0x2b,
      base: 0n,
      limit: 0xffff_ffff,
      attributes: 0xc0f3,
      usable: true,
    });
    expect(f.cpu.gpr[RSP]).toBe(0x7000_0000_7000n);
  });

  it('to compatibility mode', () => {
    sysret(f.cpu, narrow);
    expect(f.cpu.rip).toBe(0x5555n);
    expect(f.segment(CS)).toMatchObject({ selector: 0x23, attributes: 0xc0fb });
    expect(f.segment(SS)).toMatchObject({ selector: 0x2b, attributes: 0xc0f3 });
    expect(f.cpu.mode64).toBe(false);
  });

  it('with TF loaded traps before the next instruction', () => {
    sysret(f.cpu, wide);
    expect(f.cpu.pendingDebug).toBe(DR6_BS);
    const g = machine('64-bit', 0);
    g.cpu.flagsRest |= TF;
    g.cpu.gpr[11] = 2n;
    sysret(g.cpu, wide);
    expect(g.cpu.pendingDebug).toBe(NO_STEP_TRAP);
  });

  it('#GP(0) at CPL 0 for a RCX that is not canonical, with nothing changed (CVE-2012-0217)', () => {
    f.cpu.gpr[RCX] = 0x8000_0000_0000n;
    expect(faultOf(() => sysret(f.cpu, wide))).toEqual({ vector: GP, errorCode: 0 });
    expect(f.cpu.cpl).toBe(0);
    expect(f.cpu.rip).toBe(0x5555n);
    expect(readFlags(f.cpu)).toBe(2n);
    sysret(f.cpu, narrow);
    expect(f.cpu.rip).toBe(0n);
  });

  it('#GP(0) above CPL 0, #UD outside 64-bit mode and with EFER.SCE clear', () => {
    expect(faultOf(() => sysret(machine('64-bit', 3).cpu, wide))).toEqual({ vector: GP, errorCode: 0 });
    expect(faultOf(() => sysret(machine('compatibility', 3).cpu, narrow))?.vector).toBe(UD);
    f.cpu.efer &= ~1n;
    expect(faultOf(() => sysret(f.cpu, wide))?.vector).toBe(UD);
  });
});

describe('SYSENTER', () => {
  it.each(['64-bit', 'compatibility'] as const)('from %s mode enters 64-bit mode', (mode) => {
    const f = machine(mode, 3);
    f.cpu.flagsRest |= IF | TF | NT;
    sysenter(f.cpu, instruction('sysenter'));
    expect(f.cpu.rip).toBe(0xffff_8000_0000_3000n);
    expect(f.cpu.gpr[RSP]).toBe(0xffff_8000_0000_2000n);
    expect(f.segment(CS)).toMatchObject({ selector: 0x10, attributes: 0xa09b });
    expect(f.segment(SS)).toMatchObject({ selector: 0x18, attributes: 0xc093 });
    expect(f.cpu.cpl).toBe(0);
    expect(f.cpu.flagsRest).toBe(TF | NT | 2n);
  });

  it('in protected mode takes 32 bits, and leaves virtual-8086 mode', () => {
    const f = machine('protected32', 3);
    f.enter('virtual8086');
    sysenter(f.cpu, instruction('sysenter'));
    expect(f.cpu.rip).toBe(0x3000n);
    expect(f.cpu.gpr[RSP]).toBe(0x2000n);
    expect(f.segment(CS)).toMatchObject({ selector: 0x10, attributes: 0xc09b });
    expect(f.cpu.flagsRest & VM).toBe(0n);
  });

  it('#GP(0) with a null SYSENTER_CS or in real-address mode', () => {
    const f = machine('64-bit', 3);
    f.cpu.sysenterCs = 3n;
    expect(faultOf(() => sysenter(f.cpu, instruction('sysenter')))).toEqual({ vector: GP, errorCode: 0 });
    const g = machine('protected32', 0);
    g.enter('real');
    expect(faultOf(() => sysenter(g.cpu, instruction('sysenter')))).toEqual({ vector: GP, errorCode: 0 });
  });
});

describe('SYSEXIT', () => {
  it('to 64-bit mode', () => {
    const f = machine('64-bit', 0);
    f.cpu.gpr[RCX] = 0x7fff_0000_0008n;
    f.cpu.gpr[RDX] = 0x1_0000_5555n;
    sysexit(f.cpu, instruction('sysexit', [], { operandSize: 64 }));
    expect(f.cpu.rip).toBe(0x1_0000_5555n);
    expect(f.cpu.gpr[RSP]).toBe(0x7fff_0000_0008n);
    expect(f.segment(CS)).toMatchObject({ selector: 0x33, attributes: 0xa0fb });
    expect(f.segment(SS)).toMatchObject({ selector: 0x3b, attributes: 0xc0f3 });
    expect(f.cpu.cpl).toBe(3);
  });

  it.each(['64-bit', 'protected32'] as const)('to 32-bit code from %s mode', (mode) => {
    const f = machine(mode, 0);
    f.cpu.gpr[RCX] = 0x1_0000_0008n;
    f.cpu.gpr[RDX] = 0x1_0000_5555n;
    sysexit(f.cpu, instruction('sysexit'));
    expect(f.cpu.rip).toBe(0x5555n);
    expect(f.cpu.gpr[RSP]).toBe(8n);
    expect(f.segment(CS)).toMatchObject({ selector: 0x23, attributes: 0xc0fb });
    expect(f.segment(SS)).toMatchObject({ selector: 0x2b, attributes: 0xc0f3 });
  });

  it.each([
    ['CPL 3', 3, 0x10n, 0n, 0n],
    ['null SYSENTER_CS', 0, 0n, 0n, 0n],
    ['RCX not canonical', 0, 0x10n, 0x8000_0000_0000n, 0n],
    ['RDX not canonical', 0, 0x10n, 0n, 0x8000_0000_0000n],
  ])('#GP(0): %s', (_name, cpl, cs, rcx, rdx) => {
    const f = machine('64-bit', cpl);
    f.cpu.sysenterCs = cs;
    f.cpu.gpr[RCX] = rcx;
    f.cpu.gpr[RDX] = rdx;
    const fault = faultOf(() => sysexit(f.cpu, instruction('sysexit', [], { operandSize: 64 })));
    expect(fault).toEqual({ vector: GP, errorCode: 0 });
    expect(f.cpu.cpl).toBe(cpl);
  });
});

describe('SWAPGS', () => {
  it('exchanges the bases', () => {
    const f = machine('64-bit', 0);
    f.cpu.segBase[GS] = 1n;
    f.cpu.kernelGsBase = 0xffff_8000_0000_0000n;
    swapgs(f.cpu, instruction('swapgs'));
    expect([f.cpu.segBase[GS], f.cpu.kernelGsBase]).toEqual([0xffff_8000_0000_0000n, 1n]);
  });

  it('#GP(0) above CPL 0, #UD outside 64-bit mode', () => {
    expect(faultOf(() => swapgs(machine('64-bit', 3).cpu, instruction('swapgs')))).toEqual({
      vector: GP,
      errorCode: 0,
    });
    expect(faultOf(() => swapgs(machine('compatibility', 0).cpu, instruction('swapgs')))?.vector).toBe(UD);
  });
});
