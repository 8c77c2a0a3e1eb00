/**
 * IRET in every form: SDM vol. 2A "IRET/IRETD/IRETQ". Tables marked "measured" were taken from a Cascade Lake Xeon at
 * CPL 3, where 64-bit IRET pops SS:RSP without a privilege change.
 */
import { describe, expect, it } from 'vitest';
import { AC, ID, IF, IOPL, NT, RF, readFlags, TF, VIF, VIP, VM, writeFlags } from '../isa/flags.ts';
import { CS, DS, ES, FS, GS, RSP, SS } from '../isa/state.ts';
import {
  encodeDescriptor,
  Fixture,
  FREE_SLOT,
  faultOf,
  flat,
  KERNEL_CODE32,
  KERNEL_CODE64,
  KERNEL_DATA,
  type Mode,
  TSS,
  TSS_SELECTOR,
  USER_CODE32,
  USER_CODE64,
  USER_DATA,
} from './cpu.fixture.ts';
import { GP, NP, PF, SS as STACK_FAULT, TS } from './fault.ts';
import { instruction } from './instruction.fixture.ts';
import { iret } from './iret.ts';

type Size = 16 | 32 | 64;

/** LDT selectors of the program of silicon.md, and faulty ones. */
const SS16 = 0x07;
const SS32 = 0x0f;
const CS16 = 0x17;
const CS32 = 0x1f;
const CS_ABSENT = 0x27;
const SS_ABSENT = 0x2f;
const SS_READ_ONLY = 0x37;
const CS_LIMITED = 0x3f;
const EMPTY = 0x7f;

function machine(mode: Mode, cpl: number): Fixture {
  const f = new Fixture().enter(mode, cpl);
  writeFlags(f.cpu, f.cpu.flagsRest);
  f.ldt(SS16, flat(3, 3, 16));
  f.ldt(SS32, flat(3, 3, 32));
  f.ldt(CS16, flat(0xb, 3, 16));
  f.ldt(CS32, flat(0xb, 3, 32));
  f.ldt(CS_ABSENT, flat(0xb, 3, 32, { p: false }));
  f.ldt(SS_ABSENT, flat(3, 3, 32, { p: false }));
  f.ldt(SS_READ_ONLY, flat(1, 3, 32));
  f.ldt(CS_LIMITED, flat(0xb, 3, 32, { limit: 0xfff, g: false }));
  return f;
}

/** Puts a frame of slots at SS:RSP (base 0) and executes IRET. */
function run(f: Fixture, size: Size, frame: readonly (bigint | number)[], at = 0x8000n): void {
  const bytes = (size / 8) as 2 | 4 | 8;
  for (const [i, slot] of frame.entries())
    f.bus.write(Number(at & 0xff_ffffn) + i * bytes, bytes, BigInt.asUintN(size, BigInt(slot)));
  f.cpu.gpr[RSP] = at;
  iret(f.cpu, instruction('iret', [], { operandSize: size }));
}

const RIP = 0x1234n;

describe('the stack pointer by CS and SS (silicon.md, measured)', () => {
  const FRAME_RSP = 0x8bad_f00d_5aad_c0den;
  const rows: [string, number, number, bigint][] = [];
  for (const cs of [USER_CODE64])
    for (const ss of [SS16, SS32, USER_DATA]) rows.push(['64-bit', cs, ss, FRAME_RSP]);
  for (const cs of [USER_CODE32, CS32, CS16]) {
    rows.push(['SP only', cs, SS16, 0x0000_0000_3e42_c0den]);
    for (const ss of [SS32, USER_DATA]) rows.push(['ESP', cs, ss, 0x5aad_c0den]);
  }
  it.each(rows)('%s: CS %i, SS %i', (_name, cs, ss, expected) => {
    const f = machine('64-bit', 3);
    f.enablePaging();
    f.map(0x7ffd_3e42_8000n, 0x8000);
    for (const page of [0x1000, 0x4000]) f.map(BigInt(page), page);
    const at = 0x7ffd_3e42_8a00n;
    [RIP, BigInt(cs), 2n, FRAME_RSP, BigInt(ss)].forEach((slot, i) => {
      f.bus.write(0x8a00 + i * 8, 8, slot);
    });
    f.cpu.gpr[RSP] = at;
    iret(f.cpu, instruction('iret', [], { operandSize: 64 }));
    expect(f.cpu.gpr[RSP]).toBe(expected);
    expect(f.segment(CS).selector).toBe(cs);
    expect(f.segment(SS).selector).toBe(ss);
    expect(f.cpu.rip).toBe(RIP);
  });

  // From 64-bit mode: operand size, CS, SS, where the frame is, what the frame gives, RSP after.
  const sizes: [Size, number, number, bigint, bigint, bigint][] = [
    // ESP[31:16] is that before IRET, not after its pops, which cross a multiple of 64 KiB here.
    [64, CS32, SS16, 0x1_ffe8n, 0x8bad_f00d_5aad_c0den, 0x1_c0den],
    [32, CS32, SS16, 0x1_fff0n, 0x5aad_c0den, 0x1_c0den],
    [32, CS32, SS32, 0x8000n, 0x5aad_c0den, 0x5aad_c0den],
    [32, USER_CODE64, USER_DATA, 0x8000n, 0xfaad_c0den, 0xfaad_c0den],
    [32, USER_CODE64, SS16, 0x8000n, 0xfaad_c0den, 0xfaad_c0den],
    [32, CS16, SS16, 0x8000n, 0xfaad_c0den, 0xc0den],
    [16, CS16, SS16, 0x3_8000n, 0xc0den, 0x3_c0den],
    [16, CS16, SS32, 0x3_8000n, 0xc0den, 0xc0den],
    [16, USER_CODE64, USER_DATA, 0x3_8000n, 0xc0den, 0xc0den],
  ];
  it.each(sizes)('operand size %i to %i:%i', (size, cs, ss, at, frame, expected) => {
    const f = machine('64-bit', 3);
    run(f, size, [RIP, cs, 2, frame, ss], at);
    expect(f.cpu.gpr[RSP]).toBe(expected);
    expect(f.cpu.rip).toBe(RIP);
  });

  it.each([
    ['64-bit', KERNEL_CODE64, 64],
    ['compatibility', KERNEL_CODE32, 32],
    ['protected32', KERNEL_CODE32, 32],
  ] as const)('outward from CPL 0 in %s mode', (mode, _cs, size) => {
    const f = machine(mode, 0);
    run(f, size, [RIP, CS32, 2, 0x5aad_c0den, SS16], 0x3_8000n);
    expect(f.cpu.gpr[RSP]).toBe(0x3_c0den);
    expect(f.cpu.cpl).toBe(3);
    expect(f.segment(SS).selector).toBe(SS16);
  });
});

describe('without a privilege change', () => {
  it('compatibility mode pops three slots, whatever lies above them (measured)', () => {
    const f = machine('compatibility', 3);
    run(f, 32, [RIP, USER_CODE32, 2, 0x1234_5678, SS16]);
    expect(f.cpu.gpr[RSP]).toBe(0x800cn);
    expect(f.segment(SS).selector).toBe(USER_DATA);
    run(f, 32, [RIP, USER_CODE64, 2]);
    expect(f.cpu.mode64).toBe(true);
    expect(f.cpu.gpr[RSP]).toBe(0x800cn);
  });

  it('a 16-bit stack wraps on the way and in the result, unless the target is 64-bit (measured)', () => {
    for (const [cs, after] of [
      [USER_CODE32, 0x1_0004n],
      [USER_CODE64, 0x2_0004n],
    ] as const) {
      const f = machine('compatibility', 3);
      f.ldt(0x57, flat(3, 3, 16, { base: 0x3_0000n, limit: 0xffff, g: false }));
      const d = { ...f.descriptor(USER_DATA), attributes: 0xf3, base: 0x3_0000n, limit: 0xffff };
      f.cpu.segAttributes[SS] = d.attributes;
      f.cpu.segBase[SS] = d.base;
      f.cpu.segReadHigh[SS] = 0xffff;
      f.bus.write(0x3_fff8, 4, RIP);
      f.bus.write(0x3_fffc, 4, BigInt(cs));
      f.bus.write(0x3_0000, 4, 2n);
      f.cpu.gpr[RSP] = 0x1_fff8n;
      iret(f.cpu, instruction('iret'));
      expect(f.cpu.gpr[RSP]).toBe(after);
      expect(f.cpu.rip).toBe(RIP);
    }
  });

  it('reads two bytes of the slots of CS and SS (measured)', () => {
    const f = machine('64-bit', 3);
    f.enablePaging();
    for (const page of [0x1000, 0x4000, 0x8000]) f.map(BigInt(page), page);
    run(f, 64, [RIP, 0xffff_ffff_0000n | BigInt(USER_CODE64), 2, 0x7000, USER_DATA], 0x9000n - 34n);
    expect(f.segment(SS).selector).toBe(USER_DATA);
    expect(f.cpu.gpr[RSP]).toBe(0x7000n);
  });

  it('64-bit CPL 0 may return to a null SS with RPL 0', () => {
    const f = machine('64-bit', 0);
    run(f, 64, [RIP, KERNEL_CODE64, 2, 0x5555_0000_7000n, 0]);
    expect(f.segment(SS)).toMatchObject({ selector: 0, usable: false });
    expect(f.cpu.gpr[RSP]).toBe(0x5555_0000_7000n);
    expect(faultOf(() => run(f, 64, [RIP, KERNEL_CODE64, 2, 0x7000, 1]))).toEqual({
      vector: GP,
      errorCode: 0,
    });
    expect(faultOf(() => run(f, 64, [RIP, KERNEL_CODE32, 2, 0x7000, 0]))).toEqual({
      vector: GP,
      errorCode: 0,
    });
  });
});

describe('errors in 64-bit mode at CPL 3 (measured)', () => {
  const BAD_RIP = 0x8000_0000_0000n;
  const KERNEL_CODE = KERNEL_CODE64;
  // CS, SS, RIP, fault.
  const rows: [string, number, number, bigint, number, number][] = [
    ['null CS', 0, USER_DATA, RIP, GP, 0],
    ['null CS with RPL 3', 3, USER_DATA, RIP, GP, 0],
    ['CS is data', USER_DATA, USER_DATA, RIP, GP, USER_DATA & ~3],
    ['CS of the kernel', KERNEL_CODE, USER_DATA, RIP, GP, KERNEL_CODE],
    ['CS of the kernel with RPL 3', KERNEL_CODE | 3, USER_DATA, RIP, GP, KERNEL_CODE],
    ['CS with RPL 1', (USER_CODE64 & ~3) | 1, USER_DATA, RIP, GP, USER_CODE64 & ~3],
    ['CS with RPL 0', USER_CODE64 & ~3, USER_DATA, RIP, GP, USER_CODE64 & ~3],
    ['CS beyond the GDT', 0xfff3, USER_DATA, RIP, GP, 0xfff0],
    ['CS beyond the LDT', 0xfff7, USER_DATA, RIP, GP, 0xfff4],
    ['CS not present', CS_ABSENT, USER_DATA, RIP, NP, CS_ABSENT & ~3],
    ['CS not present with RPL 0', CS_ABSENT & ~3, USER_DATA, RIP, GP, CS_ABSENT & ~3],
    ['CS is a TSS', TSS_SELECTOR | 3, USER_DATA, RIP, GP, TSS_SELECTOR],
    ['CS is an empty slot', EMPTY, USER_DATA, RIP, GP, EMPTY & ~3],
    ['null SS', USER_CODE64, 0, RIP, GP, 0],
    ['null SS with RPL 3', USER_CODE64, 3, RIP, GP, 0],
    ['null SS to 32-bit code', USER_CODE32, 3, RIP, GP, 0],
    ['SS is code', USER_CODE64, USER_CODE64, RIP, GP, USER_CODE64 & ~3],
    ['SS with RPL 0', USER_CODE64, USER_DATA & ~3, RIP, GP, USER_DATA & ~3],
    ['SS with RPL 2', USER_CODE64, (USER_DATA & ~3) | 2, RIP, GP, USER_DATA & ~3],
    ['SS of the kernel', USER_CODE64, KERNEL_DATA | 3, RIP, GP, KERNEL_DATA],
    ['SS beyond the GDT', USER_CODE64, 0xfffb, RIP, GP, 0xfff8],
    ['SS not present', USER_CODE64, SS_ABSENT, RIP, STACK_FAULT, SS_ABSENT & ~3],
    ['SS not present with RPL 2', USER_CODE64, SS_ABSENT & ~1, RIP, GP, SS_ABSENT & ~3],
    ['SS read-only', USER_CODE64, SS_READ_ONLY, RIP, GP, SS_READ_ONLY & ~3],
    ['RIP not canonical', USER_CODE64, USER_DATA, BAD_RIP, GP, 0],
    ['RIP beyond the limit', CS_LIMITED, USER_DATA, 0x1000n, GP, 0],
    // The order: CS, its presence included, then SS, its presence included, then RIP.
    ['RIP, null SS', USER_CODE64, 0, BAD_RIP, GP, 0],
    ['RIP, SS not present', USER_CODE64, SS_ABSENT, BAD_RIP, STACK_FAULT, SS_ABSENT & ~3],
    ['RIP, SS of the kernel', USER_CODE64, KERNEL_DATA | 3, BAD_RIP, GP, KERNEL_DATA],
    ['limit, SS of the kernel', CS_LIMITED, KERNEL_DATA | 3, 0x1000n, GP, KERNEL_DATA],
    ['limit, SS not present', CS_LIMITED, SS_ABSENT, 0x1000n, STACK_FAULT, SS_ABSENT & ~3],
    ['CS not present, SS of the kernel', CS_ABSENT, KERNEL_DATA | 3, RIP, NP, CS_ABSENT & ~3],
    ['CS not present, SS not present', CS_ABSENT, SS_ABSENT, RIP, NP, CS_ABSENT & ~3],
    ['CS not present, RIP', CS_ABSENT, USER_DATA, BAD_RIP, NP, CS_ABSENT & ~3],
    ['CS of the kernel, null SS', KERNEL_CODE, 0, RIP, GP, KERNEL_CODE],
    ['null CS, SS of the kernel', 0, KERNEL_DATA | 3, RIP, GP, 0],
  ];
  it.each(rows)('%s', (_name, cs, ss, rip, vector, errorCode) => {
    const f = machine('64-bit', 3);
    f.cpu.nmiBlocked = 1;
    f.cpu.rip = 0x77n;
    const before = { cs: f.segment(CS), ss: f.segment(SS), flags: readFlags(f.cpu) };
    expect(faultOf(() => run(f, 64, [rip, cs, 0xfff, 0x7000, ss]))).toEqual({ vector, errorCode });
    expect({ cs: f.segment(CS), ss: f.segment(SS), flags: readFlags(f.cpu) }).toEqual(before);
    expect(f.cpu.gpr[RSP]).toBe(0x8000n);
    expect(f.cpu.rip).toBe(0x77n);
    // SDM vol. 3A 6.7.1: NMIs are unblocked even by an IRET that faults.
    expect(f.cpu.nmiBlocked).toBe(0);
  });

  it('takes 32 bits of RIP to compatibility mode (measured)', () => {
    const f = machine('64-bit', 3);
    run(f, 64, [0x8000_0000_0000_1234n, CS32, 2, 0x7000, USER_DATA]);
    expect(f.cpu.rip).toBe(RIP);
  });

  it('a RIP of the kernel, and an RSP that is not canonical, are no errors of IRET (measured)', () => {
    const f = machine('64-bit', 3);
    run(f, 64, [0xffff_8000_0000_0000n, USER_CODE64, 2, 0x8000_0000_0000n, USER_DATA]);
    expect(f.cpu.rip).toBe(0xffff_8000_0000_0000n);
    expect(f.cpu.gpr[RSP]).toBe(0x8000_0000_0000n);
  });

  // Which page of the frame is found missing: the order of the reads is flags, CS, RIP, and later SS, RSP.
  const reads: [string, bigint, number, bigint][] = [
    ['flags first', 0x9000n, 0, 0x9010n],
    ['CS before RIP', 0x8ff0n - 0x1000n, 0x8000, 0x7ff8n],
    ['SS before RSP', 0x9000n - 24n, 0x8000, 0x9008n],
    ['SS alone', 0x9000n - 32n, 0x8000, 0x9000n],
    ['flags before CS', 0x9000n - 8n, 0x8000, 0x9008n],
  ];
  it.each(reads)('reads %s (measured)', (_name, at, page, cr2) => {
    const f = machine('64-bit', 3);
    f.enablePaging();
    for (const there of [0x1000, 0x4000, page]) if (there) f.map(BigInt(there), there);
    expect(faultOf(() => run(f, 64, [RIP, USER_CODE64, 2, 0x7000, USER_DATA], at))).toEqual({
      vector: PF,
      errorCode: 4,
    });
    expect(f.cpu.cr2).toBe(cr2);
  });

  it('a CS that fails its checks comes before a missing SS (measured)', () => {
    const f = machine('64-bit', 3);
    f.enablePaging();
    for (const there of [0x1000, 0x4000, 0x8000]) f.map(BigInt(there), there);
    expect(faultOf(() => run(f, 64, [RIP, 0, 2], 0x9000n - 24n))).toEqual({ vector: GP, errorCode: 0 });
  });

  it('#SS(0) for a frame that is not canonical (measured)', () => {
    const f = machine('64-bit', 3);
    f.cpu.gpr[RSP] = 0x7fff_ffff_fff8n;
    expect(faultOf(() => iret(f.cpu, instruction('iret', [], { operandSize: 64 })))).toEqual({
      vector: STACK_FAULT,
      errorCode: 0,
    });
  });

  it('#GP(0) with NT set in IA-32e mode', () => {
    for (const mode of ['64-bit', 'compatibility'] as const) {
      const f = machine(mode, 3);
      f.cpu.flagsRest |= NT;
      expect(faultOf(() => run(f, 32, [RIP, USER_CODE32, 2, 0x7000, USER_DATA]))).toEqual({
        vector: GP,
        errorCode: 0,
      });
    }
  });
});

describe('flags', () => {
  const ALL = 0x3f_7fd7n;
  // Mode, CPL, IOPL, operand size, flags that a frame of ones changes from zero.
  const STATUS = 0x8d5n | 0x400n;
  const rows: [Mode, number, number, Size, bigint][] = [
    ['64-bit', 3, 0, 64, STATUS | NT | RF | AC | ID],
    ['64-bit', 3, 0, 32, STATUS | NT | RF | AC | ID],
    ['64-bit', 3, 0, 16, STATUS | NT],
    ['64-bit', 3, 3, 64, STATUS | NT | RF | AC | ID | IF],
    ['64-bit', 0, 0, 64, STATUS | NT | RF | AC | ID | IF | IOPL | VIF | VIP],
    ['64-bit', 0, 0, 16, STATUS | NT | IF | IOPL],
    ['64-bit', 1, 0, 64, STATUS | NT | RF | AC | ID],
    ['64-bit', 1, 1, 64, STATUS | NT | RF | AC | ID | IF],
    ['protected32', 3, 0, 32, STATUS | NT | RF | AC | ID],
    ['protected32', 0, 0, 16, STATUS | NT | IF | IOPL],
  ];
  it.each(rows)(
    'loaded in %s mode at CPL %i with IOPL %i, operand size %i',
    (mode, cpl, iopl, size, changed) => {
      const f = machine(mode, cpl);
      if (cpl === 1) {
        f.gdt(FREE_SLOT, flat(0xb, 1, 64));
        f.gdt(FREE_SLOT + 8, flat(3, 1, 32));
      }
      const wide = mode === '64-bit';
      const cs =
        cpl === 1
          ? FREE_SLOT | 1
          : cpl === 3
            ? wide
              ? USER_CODE64
              : USER_CODE32
            : wide
              ? KERNEL_CODE64
              : KERNEL_CODE32;
      const ss = cpl === 1 ? (FREE_SLOT + 8) | 1 : cpl === 3 ? USER_DATA : KERNEL_DATA;
      const old = 2n | (BigInt(iopl) << 12n);
      writeFlags(f.cpu, old);
      run(f, size, [RIP, cs, ALL & ~TF, 0x7000, ss]);
      expect((readFlags(f.cpu) ^ old) & ~(old & IOPL)).toBe(changed & ~(old & IOPL));
    },
  );

  it('TF is loaded', () => {
    const f = machine('64-bit', 3);
    run(f, 64, [RIP, USER_CODE64, TF | 2n, 0x7000, USER_DATA]);
    expect(readFlags(f.cpu)).toBe(TF | 2n);
  });

  it('an image of zeros clears what may be changed, and keeps the rest', () => {
    const f = machine('64-bit', 3);
    writeFlags(f.cpu, ALL & ~(NT | VM));
    f.cpu.flagsRest &= ~IOPL;
    run(f, 64, [RIP, USER_CODE64, 0, 0x7000, USER_DATA]);
    expect(readFlags(f.cpu)).toBe(IF | VIF | VIP | 2n);
  });

  it('the VM bit of the image is ignored in IA-32e mode', () => {
    const f = machine('compatibility', 0);
    run(f, 32, [RIP, USER_CODE32, VM | 2n, 0x7000, USER_DATA]);
    expect(f.cpu.virtual8086).toBe(false);
    expect(f.cpu.cpl).toBe(3);
  });
});

describe('to an outer level', () => {
  it('drops ES, DS, FS, GS that the new level may not use, and null selectors with an RPL', () => {
    const f = machine('64-bit', 0);
    f.gdt(FREE_SLOT, flat(0xf, 0, 32));
    f.cpu.segSelector[ES] = 3;
    f.cpu.segUsable[ES] = 0;
    f.cpu.segSelector[DS] = USER_DATA;
    f.cpu.segAttributes[DS] = 0xc0f3;
    f.cpu.segBase[FS] = 0x1234_5678_9000n;
    f.cpu.segSelector[GS] = FREE_SLOT;
    f.cpu.segAttributes[GS] = 0xc09f;
    const seen: number[][] = [];
    f.cpu.hooks = { privilegeChange: (_cpu, from, to) => void seen.push([from, to]) };
    run(f, 64, [RIP, USER_CODE64, 2, 0x7000, USER_DATA]);
    expect(f.segment(ES).selector).toBe(0);
    expect(f.segment(DS).selector).toBe(USER_DATA);
    expect(f.segment(FS)).toMatchObject({ selector: 0, usable: false, base: 0x1234_5678_9000n });
    // Conforming code stays.
    expect(f.segment(GS)).toMatchObject({ selector: FREE_SLOT, usable: true });
    expect(seen).toEqual([[0, 3]]);
  });

  it('protected mode: #GP(0) for a null SS, and all five slots are popped', () => {
    const f = machine('protected32', 0);
    expect(faultOf(() => run(f, 32, [RIP, USER_CODE32, 2, 0x7000, 0]))).toEqual({ vector: GP, errorCode: 0 });
    run(f, 32, [RIP, USER_CODE32, 2, 0x7000, USER_DATA]);
    expect(f.cpu.gpr[RSP]).toBe(0x7000n);
    expect(f.cpu.cpl).toBe(3);
  });

  it('a non-canonical RIP raises #GP(0) at CPL 0', () => {
    const f = machine('64-bit', 0);
    expect(faultOf(() => run(f, 64, [0x8000_0000_0000n, USER_CODE64, 2, 0x7000, USER_DATA]))).toEqual({
      vector: GP,
      errorCode: 0,
    });
    expect(f.cpu.cpl).toBe(0);
  });
});

describe('virtual-8086 and real-address mode', () => {
  it('to virtual-8086 mode from CPL 0', () => {
    const f = machine('protected32', 0);
    run(f, 32, [RIP, 0x800, VM | IF | IOPL | VIF | VIP | 2n, 0xa_7000, 0x900, 0x111, 0x222, 0x333, 0x444]);
    const { cpu } = f;
    expect(cpu.virtual8086).toBe(true);
    expect(cpu.cpl).toBe(3);
    expect(readFlags(cpu)).toBe(VM | IF | IOPL | VIF | VIP | 2n);
    expect(cpu.gpr[RSP]).toBe(0xa_7000n);
    expect(([ES, CS, SS, DS, FS, GS] as const).map((s) => cpu.segSelector[s])).toEqual([
      0x111, 0x800, 0x900, 0x222, 0x333, 0x444,
    ]);
    expect(f.segment(CS)).toMatchObject({ base: 0x8000n, limit: 0xffff, attributes: 0xf3 });
  });

  it('#GP(0) for an EIP above FFFFH; at CPL 3 the VM bit is ignored', () => {
    const f = machine('protected32', 0);
    expect(faultOf(() => run(f, 32, [0x1_0000, 0x800, VM | 2n, 0, 0, 0, 0, 0, 0]))).toEqual({
      vector: GP,
      errorCode: 0,
    });
    f.enter('protected32', 3);
    run(f, 32, [RIP, USER_CODE32, VM | 2n]);
    expect(f.cpu.virtual8086).toBe(false);
  });

  it('in virtual-8086 mode needs IOPL 3, and keeps IOPL, VM, VIF, VIP', () => {
    const f = machine('virtual8086', 3);
    f.cpu.nmiBlocked = 1;
    expect(faultOf(() => run(f, 16, [RIP, 0x800, 2]))).toEqual({ vector: GP, errorCode: 0 });
    expect(f.cpu.nmiBlocked).toBe(0);
    f.cpu.flagsRest |= IOPL;
    run(f, 16, [RIP, 0x800, 0x0fd7]);
    expect(readFlags(f.cpu)).toBe(VM | IOPL | 0xfd7n);
    expect(f.cpu.rip).toBe(RIP);
    expect(f.segment(CS).base).toBe(0x8000n);
    expect(f.cpu.gpr[RSP]).toBe(0x8006n);
    run(f, 32, [RIP, 0x800, VIF | AC | 2n]);
    expect(readFlags(f.cpu)).toBe(VM | IOPL | AC | 2n);
  });

  it('in real-address mode', () => {
    const f = machine('real', 0);
    f.bus.write(0xfffc, 4, (0x800n << 16n) | RIP);
    f.bus.write(0, 2, 0x7fd7n);
    f.cpu.gpr[RSP] = 0xf_fffcn;
    iret(f.cpu, instruction('iret', [], { operandSize: 16 }));
    expect(f.cpu.gpr[RSP]).toBe(0xf_0002n);
    expect(f.cpu.rip).toBe(RIP);
    expect(readFlags(f.cpu)).toBe(0x7fd7n);
    run(f, 32, [RIP, 0x800, 0x3f_7fd7]);
    expect(readFlags(f.cpu)).toBe(0x257fd7n);
    expect(faultOf(() => run(f, 32, [0x1_0000, 0x800, 2]))).toEqual({ vector: GP, errorCode: 0 });
  });
});

describe('from a nested task', () => {
  it.each([
    ['the GDT holds no such TSS', 0xfff8, TS, 0xfff8],
    ['in the LDT', 0x0c, TS, 0x0c],
    ['null', 0, TS, 0],
    ['available, not busy', FREE_SLOT, TS, FREE_SLOT],
    ['not present', FREE_SLOT + 8, NP, FREE_SLOT + 8],
  ])('#TS or #NP for a back link that is %s', (_name, link, vector, errorCode) => {
    const f = machine('protected32', 0);
    f.gdt(FREE_SLOT, encodeDescriptor({ base: 0x9000n, limit: 0x67, type: 9 }));
    f.gdt(FREE_SLOT + 8, encodeDescriptor({ base: 0x9000n, limit: 0x67, type: 0xb, p: false }));
    f.cpu.flagsRest |= NT;
    f.bus.write(TSS, 2, BigInt(link));
    expect(faultOf(() => run(f, 32, []))).toEqual({ vector, errorCode });
  });
});
