/** Delivery through the IDT: SDM vol. 3A 6.10 to 6.14, 17.3.1.1, 20.1.4, 20.3; vol. 2A "INT n/INTO/INT3/INT1". */
import { beforeEach, describe, expect, it } from 'vitest';
import { AC, IF, NT, RF, TF, VM, writeFlags } from '../isa/flags.ts';
import { CS, DS, ES, FS, GS, RSP, SHADOW_MOV_SS, SHADOW_STI, SS, TR } from '../isa/state.ts';
import {
  encodeGate,
  Fixture,
  FREE_SLOT,
  faultOf,
  flat,
  type GateFields,
  IDT,
  KERNEL_CODE32,
  KERNEL_CODE64,
  KERNEL_DATA,
  TSS,
  USER_CODE32,
  USER_CODE64,
  USER_DATA,
} from './cpu.fixture.ts';
import type { EventSource } from './cpu.ts';
import { DB, DF, GP, MC, NP, PF, SS as STACK_FAULT, TS, UD } from './fault.ts';
import { deliver } from './interrupts.ts';

const HANDLER = 0x9000n;
const STACK0 = 0x2_0000n;
const VECTOR = 0x80;
const IDT_CODE = (VECTOR << 3) | 2;

/** A fixture whose status flags are clear. */
function fresh(): Fixture {
  const f = new Fixture();
  writeFlags(f.cpu, 2n);
  return f;
}

/** Writes the 64-bit gate of `vector`. */
function gate64(f: Fixture, fields: Partial<GateFields> = {}, vector = VECTOR): void {
  const gate = { selector: KERNEL_CODE64, offset: HANDLER, type: 0xe, ...fields };
  f.bus.write(IDT + vector * 16, 8, encodeGate(gate));
  f.bus.write(IDT + vector * 16 + 8, 8, gate.offset >> 32n);
}

function gate32(f: Fixture, fields: Partial<GateFields> = {}, vector = VECTOR): void {
  f.bus.write(
    IDT + vector * 8,
    8,
    encodeGate({ selector: KERNEL_CODE32, offset: HANDLER, type: 0xe, ...fields }),
  );
}

/** `count` slots of `size` bytes from `address` up. */
function slots(f: Fixture, address: bigint, size: 2 | 4 | 8, count: number): bigint[] {
  return Array.from({ length: count }, (_, i) => f.bus.read(Number(address) + i * size, size));
}

describe('64-bit mode', () => {
  let f: Fixture;
  beforeEach(() => {
    f = fresh().enter('64-bit', 3);
    f.bus.write(TSS + 4, 8, STACK0);
    f.bus.write(TSS + 12, 8, 0x2_1000n);
    for (let ist = 1; ist <= 7; ist++) f.bus.write(TSS + 28 + ist * 8, 8, BigInt(0x3_0000 + ist * 0x1000));
    f.cpu.gpr[RSP] = 0x7123n;
    f.cpu.rip = 0x1234_5678_9abcn;
    writeFlags(f.cpu, 0x246n);
    gate64(f, { dpl: 3 });
  });

  it('switches to RSP0, makes SS null with RPL = CPL, pushes SS RSP RFLAGS CS RIP (6.14.2, 6.14.4)', () => {
    deliver(f.cpu, VECTOR, 'software');
    const { cpu } = f;
    expect(cpu.rip).toBe(HANDLER);
    expect(cpu.cpl).toBe(0);
    expect(f.segment(CS).selector).toBe(KERNEL_CODE64);
    expect(f.segment(SS)).toMatchObject({ selector: 0, usable: false });
    expect(cpu.gpr[RSP]).toBe(STACK0 - 40n);
    expect(slots(f, cpu.gpr[RSP], 8, 5)).toEqual([
      0x1234_5678_9abcn,
      BigInt(USER_CODE64),
      0x246n,
      0x7123n,
      BigInt(USER_DATA),
    ]);
    expect(cpu.flagsRest & IF).toBe(0n);
  });

  it('pushes an error code last, zero-extended', () => {
    deliver(f.cpu, VECTOR, 'exception', 0xfffc);
    expect(f.cpu.gpr[RSP]).toBe(STACK0 - 48n);
    expect(f.bus.read(Number(STACK0) - 48, 8)).toBe(0xfffcn);
  });

  it('keeps SS and the stack without a privilege change, aligned to 16 bytes (6.14.2)', () => {
    f.enter('64-bit', 0);
    for (const [rsp, first] of [
      [0x5000n, 0x5000n],
      [0x5008n, 0x5000n],
      [0x500fn, 0x5000n],
    ]) {
      f.cpu.gpr[RSP] = rsp;
      deliver(f.cpu, VECTOR, 'external');
      expect(f.cpu.gpr[RSP]).toBe(first - 40n);
      expect(f.bus.read(Number(first) - 16, 8)).toBe(rsp);
      expect(f.segment(SS).selector).toBe(KERNEL_DATA);
    }
  });

  it.each([1, 2, 3, 4, 5, 6, 7])('uses IST%i with and without a privilege change (6.14.5)', (ist) => {
    for (const cpl of [0, 3]) {
      f.enter('64-bit', cpl);
      f.cpu.gpr[RSP] = 0x5000n;
      gate64(f, { dpl: 3, count: ist });
      deliver(f.cpu, VECTOR, 'external');
      expect(f.cpu.gpr[RSP]).toBe(BigInt(0x3_0000 + ist * 0x1000 - 40));
      expect(f.segment(SS).selector).toBe(cpl === 3 ? 0 : KERNEL_DATA);
    }
  });

  it('gives inner levels 1 and 2 their RSP, and SS the RPL', () => {
    f.gdt(FREE_SLOT, flat(0xb, 1, 64));
    gate64(f, { dpl: 3, selector: FREE_SLOT });
    deliver(f.cpu, VECTOR, 'software');
    expect(f.cpu.cpl).toBe(1);
    expect(f.segment(CS).selector).toBe(FREE_SLOT | 1);
    expect(f.segment(SS).selector).toBe(1);
    expect(f.cpu.gpr[RSP]).toBe(0x2_1000n - 40n);
  });

  it('stays at CPL 3 in a conforming segment', () => {
    f.gdt(FREE_SLOT, flat(0xf, 0, 64));
    gate64(f, { dpl: 3, selector: FREE_SLOT });
    f.cpu.gpr[RSP] = 0x5000n;
    deliver(f.cpu, VECTOR, 'software');
    expect(f.cpu.cpl).toBe(3);
    expect(f.segment(CS).selector).toBe(FREE_SLOT | 3);
    expect(f.cpu.gpr[RSP]).toBe(0x5000n - 40n);
  });

  it('takes all 64 bits of the offset', () => {
    gate64(f, { offset: 0xffff_8123_4567_89abn });
    deliver(f.cpu, VECTOR, 'external');
    expect(f.cpu.rip).toBe(0xffff_8123_4567_89abn);
  });

  it('leaves IF set through a trap gate', () => {
    gate64(f, { type: 0xf });
    deliver(f.cpu, VECTOR, 'external');
    expect(f.cpu.flagsRest & IF).toBe(IF);
  });

  it('delivers from compatibility mode', () => {
    f.enter('compatibility', 3);
    f.cpu.gpr[RSP] = 0x7000n;
    deliver(f.cpu, VECTOR, 'software');
    expect(f.cpu.mode64).toBe(true);
    expect(f.bus.read(Number(STACK0) - 32, 8)).toBe(BigInt(USER_CODE32));
  });

  // Vector, source, expected fault; EXT is set but for INT n, INT3, INTO.
  const errors: [string, (f: Fixture) => void, EventSource, number, number][] = [
    ['beyond the IDT limit', (f) => (f.cpu.idtrLimit = VECTOR * 16 + 14), 'software', GP, IDT_CODE],
    ['beyond the IDT limit', (f) => (f.cpu.idtrLimit = VECTOR * 16 + 14), 'external', GP, IDT_CODE | 1],
    ['a task gate', (f) => gate64(f, { type: 5, dpl: 3 }), 'software', GP, IDT_CODE],
    ['a 16-bit gate', (f) => gate64(f, { type: 6, dpl: 3 }), 'software', GP, IDT_CODE],
    ['a call gate', (f) => gate64(f, { type: 0xc, dpl: 3 }), 'external', GP, IDT_CODE | 1],
    ['DPL < CPL, INT n', (f) => gate64(f, { dpl: 0 }), 'software', GP, IDT_CODE],
    ['DPL < CPL, INT3', (f) => gate64(f, { dpl: 2 }), 'int3', GP, IDT_CODE],
    ['DPL < CPL, INTO', (f) => gate64(f, { dpl: 2 }), 'into', GP, IDT_CODE],
    ['DPL < CPL before not present', (f) => gate64(f, { dpl: 0, p: false }), 'software', GP, IDT_CODE],
    ['not present', (f) => gate64(f, { dpl: 3, p: false }), 'software', NP, IDT_CODE],
    ['not present', (f) => gate64(f, { p: false }), 'nmi', NP, IDT_CODE | 1],
    ['null CS', (f) => gate64(f, { dpl: 3, selector: 3 }), 'software', GP, 0],
    ['null CS', (f) => gate64(f, { selector: 0 }), 'external', GP, 1],
    ['CS beyond the GDT', (f) => gate64(f, { dpl: 3, selector: 0xfff8 }), 'software', GP, 0xfff8],
    ['CS is data', (f) => gate64(f, { dpl: 3, selector: KERNEL_DATA }), 'software', GP, KERNEL_DATA],
    ['CS is data', (f) => gate64(f, { selector: KERNEL_DATA }), 'exception', GP, KERNEL_DATA | 1],
    [
      'CS is 32-bit (6.14.1)',
      (f) => gate64(f, { dpl: 3, selector: KERNEL_CODE32 }),
      'software',
      GP,
      IDT_CODE,
    ],
    [
      'CS has L and D',
      (f) => {
        f.gdt(FREE_SLOT, flat(0xb, 0, 64, { db: true }));
        gate64(f, { dpl: 3, selector: FREE_SLOT });
      },
      'software',
      GP,
      IDT_CODE,
    ],
    [
      'CS not present',
      (f) => {
        f.gdt(FREE_SLOT, flat(0xb, 0, 64, { p: false }));
        gate64(f, { selector: FREE_SLOT });
      },
      'external',
      NP,
      FREE_SLOT | 1,
    ],
    ['TSS too short', (f) => (f.cpu.segLimit[TR] = 10), 'external', TS, 0x40 | 1],
    [
      'TSS too short for the IST',
      (f) => {
        f.cpu.segLimit[TR] = 42;
        gate64(f, { dpl: 3, count: 1 });
      },
      'software',
      TS,
      0x40,
    ],
    [
      'RSP0 not canonical',
      (f) => f.bus.write(TSS + 4, 8, 0x8000_0000_0000n + 0x100n),
      'external',
      STACK_FAULT,
      1,
    ],
    [
      'RSP0 at the canonical boundary',
      (f) => f.bus.write(TSS + 4, 8, 0xffff_8000_0000_0000n),
      'software',
      STACK_FAULT,
      0,
    ],
    ['RIP not canonical', (f) => gate64(f, { offset: 0x8000_0000_0000n }), 'external', GP, 1],
  ];
  it.each(errors)('%s: %#', (_name, prepare, source, vector, errorCode) => {
    prepare(f);
    const before = { rip: f.cpu.rip, rsp: f.cpu.gpr[RSP], cs: f.segment(CS), ss: f.segment(SS) };
    const flags = f.cpu.flagsRest;
    expect(faultOf(() => deliver(f.cpu, VECTOR, source))).toEqual({ vector, errorCode });
    expect({ rip: f.cpu.rip, rsp: f.cpu.gpr[RSP], cs: f.segment(CS), ss: f.segment(SS) }).toEqual(before);
    expect(f.cpu.flagsRest).toBe(flags);
    expect(f.cpu.cpl).toBe(3);
  });

  it('does not check DPL for INT1, exceptions, interrupts and NMIs', () => {
    for (const source of ['int1', 'exception', 'external', 'nmi'] as const) {
      f.enter('64-bit', 3);
      gate64(f, { dpl: 0 });
      expect(faultOf(() => deliver(f.cpu, VECTOR, source))).toBeNull();
    }
  });

  it('a data breakpoint on the stack is met by the pushes', () => {
    f.cpu.dr[0] = STACK0 - 16n;
    f.cpu.dr[7] = 0x402n | (1n << 16n);
    deliver(f.cpu, VECTOR, 'external');
    expect(f.cpu.pendingDebug).toBe(1);
  });

  it('a page fault on the new stack is of supervisor mode and has no EXT bit; upper slots are written', () => {
    f.enablePaging().mapRam();
    f.map(STACK0 - 0x1000n, Number(STACK0) - 0x1000, 0n);
    f.bus.write(TSS + 4, 8, STACK0 + 16n);
    expect(faultOf(() => deliver(f.cpu, VECTOR, 'external'))).toEqual({ vector: PF, errorCode: 2 });
    expect(f.cpu.cr2).toBe(STACK0 - 8n);
    expect(slots(f, STACK0, 8, 2)).toEqual([0x7123n, BigInt(USER_DATA)]);
    expect(f.cpu.gpr[RSP]).toBe(0x7123n);
  });
});

describe('flags', () => {
  // SDM 17.3.1.1: the value pushed for RF.
  const pushed: [EventSource, number, bigint, bigint][] = [
    ['exception', GP, 0n, RF],
    ['exception', PF, 0n, RF],
    ['exception', UD, 0n, RF],
    ['exception', DF, 0n, RF],
    ['exception', DB, 0n, 0n],
    ['exception', DB, RF, RF],
    ['exception', MC, 0n, 0n],
    ['external', 0x80, 0n, 0n],
    ['external', 0x80, RF, RF],
    ['nmi', 2, 0n, 0n],
    ['nmi', 2, RF, RF],
    ['software', 0x80, RF, 0n],
    ['int3', 3, RF, 0n],
    ['int1', 1, RF, 0n],
    ['into', 4, RF, 0n],
  ];
  it.each(pushed)('RF pushed for %s %i with RF %i', (source, vector, before, image) => {
    const f = fresh().enter('64-bit', 0);
    gate64(f, {}, vector);
    f.cpu.gpr[RSP] = 0x5000n;
    f.cpu.flagsRest |= before;
    deliver(f.cpu, vector, source);
    expect(f.bus.read(0x5000 - 24, 8) & RF).toBe(image);
    expect(f.cpu.flagsRest & RF).toBe(0n);
  });

  it('RF is pushed as 1 between the iterations of a repeated string instruction (single-stepping measured)', () => {
    for (const [source, vector] of [
      ['external', 0x80],
      ['nmi', 2],
      ['exception', DB],
      ['exception', MC],
    ] as const) {
      const f = fresh().enter('64-bit', 0);
      gate64(f, {}, vector);
      f.cpu.gpr[RSP] = 0x5000n;
      f.cpu.repeating = 1;
      deliver(f.cpu, vector, source);
      expect(f.bus.read(0x5000 - 24, 8) & RF).toBe(RF);
      expect(f.cpu.repeating).toBe(0);
    }
  });

  it('TF and NT are pushed and cleared, AC stays', () => {
    const f = fresh().enter('64-bit', 0);
    gate64(f);
    f.cpu.gpr[RSP] = 0x5000n;
    f.cpu.flagsRest |= TF | NT | AC | IF;
    deliver(f.cpu, VECTOR, 'external');
    expect(f.bus.read(0x5000 - 24, 8)).toBe(TF | NT | AC | IF | 2n);
    expect(f.cpu.flagsRest).toBe(AC | 2n);
  });

  it('clears shadows, blocks NMIs after an NMI, clears DR7.GD for #DB', () => {
    const f = fresh().enter('64-bit', 0);
    for (const vector of [1, 2, VECTOR]) gate64(f, {}, vector);
    const { cpu } = f;
    cpu.gpr[RSP] = 0x5000n;
    for (const shadow of [SHADOW_STI, SHADOW_MOV_SS]) {
      cpu.shadow = shadow;
      deliver(cpu, VECTOR, 'external');
      expect(cpu.shadow).toBe(0);
    }
    expect(cpu.nmiBlocked).toBe(0);
    deliver(cpu, 2, 'nmi');
    expect(cpu.nmiBlocked).toBe(1);
    cpu.dr[7] = 0x2400n;
    deliver(cpu, 1, 'software');
    expect(cpu.dr[7]).toBe(0x2400n);
    deliver(cpu, 1, 'exception');
    expect(cpu.dr[7]).toBe(0x400n);
  });

  it('NMIs are blocked even if the delivery of the NMI faults', () => {
    const f = fresh().enter('64-bit', 0);
    f.cpu.idtrLimit = 0;
    expect(faultOf(() => deliver(f.cpu, 2, 'nmi'))).toEqual({ vector: GP, errorCode: 0x13 });
    expect(f.cpu.nmiBlocked).toBe(1);
  });
});

describe('protected mode', () => {
  let f: Fixture;
  beforeEach(() => {
    f = fresh().enter('protected32', 3);
    f.bus.write(TSS + 4, 4, STACK0);
    f.bus.write(TSS + 8, 2, BigInt(KERNEL_DATA));
    f.cpu.gpr[RSP] = 0x7000n;
    f.cpu.rip = 0x1234n;
    gate32(f, { dpl: 3 });
  });

  it('switches stacks to an inner level (6.12.1)', () => {
    deliver(f.cpu, VECTOR, 'software');
    expect(f.cpu.gpr[RSP]).toBe(STACK0 - 20n);
    expect(slots(f, STACK0 - 20n, 4, 5)).toEqual([
      0x1234n,
      BigInt(USER_CODE32),
      2n,
      0x7000n,
      BigInt(USER_DATA),
    ]);
    expect(f.segment(SS).selector).toBe(KERNEL_DATA);
    expect(f.segment(CS).selector).toBe(KERNEL_CODE32);
    expect(f.cpu.cpl).toBe(0);
  });

  it('pushes on the current stack at the same level, without alignment', () => {
    f.enter('protected32', 0);
    f.cpu.gpr[RSP] = 0x5003n;
    expect(faultOf(() => deliver(f.cpu, 13, 'exception', 0x18))).toEqual({ vector: GP, errorCode: 0x6b });
    gate32(f, {}, 13);
    deliver(f.cpu, 13, 'exception', 0x18);
    expect(f.cpu.gpr[RSP]).toBe(0x5003n - 16n);
    expect(slots(f, 0x5003n - 16n, 4, 4)).toEqual([0x18n, 0x1234n, BigInt(KERNEL_CODE32), 2n | RF]);
  });

  it('16-bit gates push words and take 16 bits of the offset', () => {
    gate32(f, { dpl: 3, type: 6, offset: 0x5555_9000n });
    deliver(f.cpu, VECTOR, 'software');
    expect(f.cpu.rip).toBe(0x9000n);
    expect(f.cpu.gpr[RSP]).toBe(STACK0 - 10n);
    expect(slots(f, STACK0 - 10n, 2, 5)).toEqual([
      0x1234n,
      BigInt(USER_CODE32),
      2n,
      0x7000n,
      BigInt(USER_DATA),
    ]);
  });

  it('a 16-bit TSS gives SS0:SP0', () => {
    f.cpu.segAttributes[TR] = 0x83;
    f.bus.write(TSS + 2, 2, 0x6000n);
    f.bus.write(TSS + 4, 2, BigInt(KERNEL_DATA));
    deliver(f.cpu, VECTOR, 'software');
    expect(f.cpu.gpr[RSP]).toBe(0x6000n - 20n);
  });

  it('on a 16-bit stack SP alone moves', () => {
    f.enter('protected16', 0);
    f.cpu.gpr[RSP] = 0xabcd_0004n;
    deliver(f.cpu, VECTOR, 'software');
    expect(f.cpu.gpr[RSP]).toBe(0xabcd_fff8n);
    expect(f.bus.read(0, 4)).toBe(2n);
    expect(slots(f, 0xfff8n, 4, 2)).toEqual([0x1234n, BigInt(KERNEL_CODE32)]);
  });

  const errors: [string, (f: Fixture) => void, EventSource, number, number][] = [
    ['beyond the IDT limit', (f) => (f.cpu.idtrLimit = VECTOR * 8 + 6), 'external', GP, IDT_CODE | 1],
    ['a call gate', (f) => gate32(f, { dpl: 3, type: 0xc }), 'software', GP, IDT_CODE],
    ['DPL < CPL', (f) => gate32(f, { dpl: 2 }), 'software', GP, IDT_CODE],
    ['not present', (f) => gate32(f, { dpl: 3, p: false }), 'software', NP, IDT_CODE],
    ['null CS', (f) => gate32(f, { dpl: 3, selector: 0 }), 'software', GP, 0],
    ['SS0 null', (f) => f.bus.write(TSS + 8, 2, 0n), 'external', TS, 1],
    ['SS0 with RPL 3', (f) => f.bus.write(TSS + 8, 2, BigInt(KERNEL_DATA | 3)), 'software', TS, KERNEL_DATA],
    [
      'SS0 with DPL 3',
      (f) => f.bus.write(TSS + 8, 2, BigInt(USER_DATA & ~3)),
      'external',
      TS,
      (USER_DATA & ~3) | 1,
    ],
    ['SS0 is code', (f) => f.bus.write(TSS + 8, 2, BigInt(KERNEL_CODE32)), 'software', TS, KERNEL_CODE32],
    ['SS0 beyond the GDT', (f) => f.bus.write(TSS + 8, 2, 0xfff8n), 'software', TS, 0xfff8],
    [
      'SS0 read-only',
      (f) => {
        f.gdt(FREE_SLOT, flat(1, 0, 32));
        f.bus.write(TSS + 8, 2, BigInt(FREE_SLOT));
      },
      'software',
      TS,
      FREE_SLOT,
    ],
    [
      'SS0 not present',
      (f) => {
        f.gdt(FREE_SLOT, flat(3, 0, 32, { p: false }));
        f.bus.write(TSS + 8, 2, BigInt(FREE_SLOT));
      },
      'external',
      STACK_FAULT,
      FREE_SLOT | 1,
    ],
    [
      'no room on the new stack',
      (f) => {
        f.gdt(FREE_SLOT, flat(3, 0, 32, { limit: 0xfff, g: false }));
        f.bus.write(TSS + 8, 2, BigInt(FREE_SLOT));
        f.bus.write(TSS + 4, 4, 0x10n);
      },
      'software',
      STACK_FAULT,
      FREE_SLOT,
    ],
    ['TSS too short', (f) => (f.cpu.segLimit[TR] = 8), 'software', TS, 0x40],
    [
      'EIP beyond the limit',
      (f) => {
        f.gdt(FREE_SLOT, flat(0xb, 0, 32, { limit: 0xfff, g: false }));
        gate32(f, { dpl: 3, selector: FREE_SLOT, offset: 0x1000n });
      },
      'external',
      GP,
      1,
    ],
  ];
  it.each(errors)('%s: %#', (_name, prepare, source, vector, errorCode) => {
    prepare(f);
    expect(faultOf(() => deliver(f.cpu, VECTOR, source))).toEqual({ vector, errorCode });
    expect(f.cpu.cpl).toBe(3);
    expect(f.cpu.gpr[RSP]).toBe(0x7000n);
  });

  it('#SS(EXT) where the current stack has no room', () => {
    f.enter('protected32', 0);
    f.cpu.segWriteHigh[SS] = 0xfff;
    f.cpu.gpr[RSP] = 0x2000n;
    expect(faultOf(() => deliver(f.cpu, VECTOR, 'external'))).toEqual({ vector: STACK_FAULT, errorCode: 1 });
    expect(faultOf(() => deliver(f.cpu, VECTOR, 'int3'))).toEqual({ vector: STACK_FAULT, errorCode: 0 });
  });

  it('sets the accessed bits of CS and SS', () => {
    f.gdt(FREE_SLOT, flat(0xa, 0, 32));
    f.gdt(FREE_SLOT + 8, flat(2, 0, 32));
    gate32(f, { dpl: 3, selector: FREE_SLOT });
    f.bus.write(TSS + 8, 2, BigInt(FREE_SLOT + 8));
    deliver(f.cpu, VECTOR, 'software');
    expect(f.descriptor(FREE_SLOT).type).toBe(0xb);
    expect(f.descriptor(FREE_SLOT + 8).type).toBe(3);
  });
});

describe('virtual-8086 mode (20.3.1)', () => {
  function v86(): Fixture {
    const f = fresh().enter('virtual8086');
    f.bus.write(TSS + 4, 4, STACK0);
    f.bus.write(TSS + 8, 2, BigInt(KERNEL_DATA));
    for (const [i, segment] of ([ES, CS, SS, DS, FS, GS] as const).entries())
      f.cpu.segSelector[segment] = 0x100 * (i + 1);
    f.cpu.gpr[RSP] = 0x7000n;
    f.cpu.rip = 0x1234n;
    gate32(f);
    return f;
  }

  it('pushes the data segments, SS, ESP, EFLAGS with VM, CS, EIP, and makes the data segments null', () => {
    const f = v86();
    deliver(f.cpu, VECTOR, 'external');
    expect(f.cpu.virtual8086).toBe(false);
    expect(f.cpu.gpr[RSP]).toBe(STACK0 - 36n);
    expect(slots(f, STACK0 - 36n, 4, 9)).toEqual([
      0x1234n,
      0x200n,
      VM | 2n,
      0x7000n,
      0x300n,
      0x100n,
      0x400n,
      0x500n,
      0x600n,
    ]);
    for (const segment of [ES, DS, FS, GS] as const)
      expect(f.segment(segment)).toMatchObject({ selector: 0, usable: false });
    expect(f.cpu.cpl).toBe(0);
  });

  it('with a 16-bit gate pushes words', () => {
    const f = v86();
    gate32(f, { type: 7 });
    deliver(f.cpu, VECTOR, 'external');
    expect(f.cpu.gpr[RSP]).toBe(STACK0 - 18n);
  });

  it.each([
    ['DPL 1', 0xb, 1],
    ['conforming', 0xf, 0],
  ])('#GP(CS) for a handler in a segment of %s', (_name, type, dpl) => {
    const f = v86();
    f.gdt(FREE_SLOT, flat(type, dpl, 32));
    gate32(f, { selector: FREE_SLOT });
    expect(faultOf(() => deliver(f.cpu, VECTOR, 'external'))).toEqual({
      vector: GP,
      errorCode: FREE_SLOT | 1,
    });
  });
});

describe('real-address mode (20.1.4)', () => {
  it('pushes FLAGS, CS, IP and clears IF, TF and AC', () => {
    const f = fresh().enter('real');
    f.cpu.idtrBase = 0n;
    f.cpu.idtrLimit = 0x3ff;
    f.bus.write(0x21 * 4, 4, 0x1234_5678n);
    f.cpu.segSelector[CS] = 0x800;
    f.cpu.rip = 0x55n;
    f.cpu.gpr[RSP] = 0x9_0002n;
    f.cpu.flagsRest |= IF | TF | AC;
    deliver(f.cpu, 0x21, 'software');
    expect(f.segment(CS)).toMatchObject({ selector: 0x1234, base: 0x1_2340n });
    expect(f.cpu.rip).toBe(0x5678n);
    expect(f.cpu.gpr[RSP]).toBe(0x9_fffcn);
    expect(f.bus.read(0, 2)).toBe(IF | TF | 2n);
    expect(slots(f, 0xfffcn, 2, 2)).toEqual([0x55n, 0x800n]);
    expect(f.cpu.flagsRest).toBe(2n);
  });

  it('#GP for a vector beyond the limit', () => {
    const f = fresh().enter('real');
    f.cpu.idtrBase = 0n;
    f.cpu.idtrLimit = 0x21 * 4 + 2;
    expect(faultOf(() => deliver(f.cpu, 0x21, 'software'))?.vector).toBe(GP);
  });
});

describe('hooks', () => {
  it('deliver may stop the event, with nothing changed', () => {
    const f = fresh().enter('64-bit', 0);
    gate64(f);
    f.cpu.rip = 0x77n;
    const seen: unknown[] = [];
    f.cpu.hooks = {
      deliver: (_cpu, vector, errorCode, source) => {
        seen.push([vector, errorCode, source]);
        return true;
      },
    };
    expect(deliver(f.cpu, VECTOR, 'nmi', undefined)).toBe(false);
    expect(seen).toEqual([[VECTOR, undefined, 'nmi']]);
    expect(f.cpu.stopRequested).toBe(true);
    expect(f.cpu.rip).toBe(0x77n);
    expect(f.cpu.nmiBlocked).toBe(0);
  });

  it('privilegeChange tells of a change only', () => {
    const f = fresh().enter('64-bit', 3);
    gate64(f);
    f.bus.write(TSS + 4, 8, STACK0);
    const seen: number[][] = [];
    f.cpu.hooks = { privilegeChange: (_cpu, from, to) => void seen.push([from, to]) };
    deliver(f.cpu, VECTOR, 'external');
    deliver(f.cpu, VECTOR, 'external');
    expect(seen).toEqual([[3, 0]]);
  });
});
