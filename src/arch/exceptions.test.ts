/** Double faults and shutdown: SDM vol. 3A 6.15 "Interrupt 8", tables 6-4 and 6-5. */
import { describe, expect, it } from 'vitest';
import { RSP, SHUTDOWN } from '../isa/state.ts';
import { encodeGate, Fixture, IDT, KERNEL_CODE64, TSS } from './cpu.fixture.ts';
import { deliverFault, makesDoubleFault } from './exceptions.ts';
import {
  AC,
  BP,
  BR,
  DB,
  DE,
  DF,
  Fault,
  GP,
  MC,
  MF,
  NM,
  NP,
  OF,
  PF,
  SS,
  TripleFault,
  TS,
  UD,
  XM,
} from './fault.ts';

const BENIGN = [DB, 2, BP, OF, BR, UD, NM, 9, MF, AC, MC, XM];
const CONTRIBUTORY = [DE, TS, NP, SS, GP];

describe('table 6-5', () => {
  const classes = { benign: BENIGN, contributory: CONTRIBUTORY, 'page fault': [PF] };
  const rows: [keyof typeof classes, keyof typeof classes, boolean][] = [
    ['benign', 'benign', false],
    ['benign', 'contributory', false],
    ['benign', 'page fault', false],
    ['contributory', 'benign', false],
    ['contributory', 'contributory', true],
    ['contributory', 'page fault', false],
    ['page fault', 'benign', false],
    ['page fault', 'contributory', true],
    ['page fault', 'page fault', true],
  ];
  it.each(rows)('%s, then %s: double fault %s', (first, second, double) => {
    for (const a of classes[first])
      for (const b of classes[second]) expect(makesDoubleFault(a, b)).toBe(double);
  });
});

/** A gate whose vector's delivery works. */
function gate(f: Fixture, vector: number, selector = KERNEL_CODE64): void {
  const offset = BigInt(0x9000 + vector);
  f.bus.write(IDT + vector * 16, 8, encodeGate({ selector, offset, type: 0xe }));
}

function machine(): Fixture {
  const f = new Fixture().enter('64-bit', 0);
  f.cpu.gpr[RSP] = 0x5000n;
  f.cpu.rip = 0x77n;
  return f;
}

/** The vector that was delivered and its error code, from the frame. */
function delivered(f: Fixture): [number, bigint] {
  return [Number(f.cpu.rip) - 0x9000, f.bus.read(Number(f.cpu.gpr[RSP]), 8)];
}

describe('deliverFault', () => {
  it('a contributory exception whose handler is not there becomes #DF(0)', () => {
    const f = machine();
    gate(f, DF);
    deliverFault(f.cpu, new Fault(GP, 0x10));
    expect(delivered(f)).toEqual([DF, 0n]);
    expect(f.bus.read(Number(f.cpu.gpr[RSP]) + 8, 8)).toBe(0x77n);
  });

  it('a benign exception whose handler is not there becomes #GP', () => {
    const f = machine();
    gate(f, GP);
    deliverFault(f.cpu, new Fault(UD));
    expect(delivered(f)).toEqual([GP, BigInt((UD << 3) | 3)]);
  });

  it('#UD, then #GP, then #NP: double fault', () => {
    const f = machine();
    f.bus.write(IDT + GP * 16, 8, encodeGate({ selector: KERNEL_CODE64, offset: 0n, type: 0xe, p: false }));
    gate(f, DF);
    deliverFault(f.cpu, new Fault(UD));
    expect(delivered(f)).toEqual([DF, 0n]);
  });

  it('a page fault on the stack of a page fault: #DF, on its IST, with CR2 of the second', () => {
    const f = machine();
    f.enablePaging().mapRam();
    f.map(0x4000n, 0x4000, 0n);
    gate(f, PF);
    f.bus.write(
      IDT + DF * 16,
      8,
      encodeGate({ selector: KERNEL_CODE64, offset: 0x9008n, type: 0xe, count: 1 }),
    );
    f.bus.write(TSS + 36, 8, 0x7000n);
    f.cpu.cr2 = 0x1111n;
    deliverFault(f.cpu, new Fault(PF, 4));
    expect(delivered(f)).toEqual([DF, 0n]);
    expect(f.cpu.cr2).toBe(0x4ff8n);
    expect(f.cpu.gpr[RSP]).toBe(0x7000n - 48n);
  });

  it('a contributory exception on whose stack a page fault happens: the page fault', () => {
    const f = machine();
    f.enablePaging().mapRam();
    f.map(0x4000n, 0x4000, 0n);
    gate(f, GP);
    f.bus.write(
      IDT + PF * 16,
      8,
      encodeGate({ selector: KERNEL_CODE64, offset: 0x900en, type: 0xe, count: 1 }),
    );
    f.bus.write(TSS + 36, 8, 0x7000n);
    deliverFault(f.cpu, new Fault(GP, 0));
    expect(delivered(f)).toEqual([PF, 2n]);
  });

  it.each([GP, PF, DE])('shuts down when #DF after vector %i has no handler', (vector) => {
    const f = machine();
    f.cpu.idtrLimit = 0;
    let thrown: unknown;
    try {
      deliverFault(f.cpu, new Fault(vector, vector === DE ? undefined : 0));
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(TripleFault);
    expect((thrown as TripleFault).rip).toBe(0x77n);
    expect(f.cpu.activity).toBe(SHUTDOWN);
  });

  it('drops debug traps that a MOV SS held (Linux self-test mov_ss_trap: "any fault: drop")', () => {
    const f = machine();
    gate(f, GP);
    f.cpu.pendingDebug = 1;
    deliverFault(f.cpu, new Fault(GP, 0));
    expect(f.cpu.pendingDebug).toBe(0);
  });
});
