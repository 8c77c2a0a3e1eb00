/** Hardware task switches: SDM vol. 3A 7.2, 7.3 (table 7-1), 7.4 (table 7-2). */
import { beforeEach, describe, expect, it } from 'vitest';
import { IF, NT, RF, readFlags, TF, VM, writeFlags } from '../isa/flags.ts';
import { CS, DS, ES, FS, GS, LDTR, RAX, RBP, RDI, RSP, SS, TR } from '../isa/state.ts';
import {
  encodeDescriptor,
  encodeGate,
  Fixture,
  FREE_SLOT,
  faultOf,
  flat,
  IDT,
  KERNEL_CODE32,
  KERNEL_DATA,
  LDT_SELECTOR,
  TSS,
  TSS_SELECTOR,
  USER_CODE32,
  USER_DATA,
} from './cpu.fixture.ts';
import { readDescriptor } from './descriptors.ts';
import { callFar, jumpFar } from './far-transfer.ts';
import { GP, NP, PF, SS as STACK_FAULT, TS } from './fault.ts';
import { instruction } from './instruction.fixture.ts';
import { deliver } from './interrupts.ts';
import { iret } from './iret.ts';
import { newTaskSegment, switchTask } from './task-switch.ts';

const NEW = FREE_SLOT;
const NEW_TSS = 0x9000;
const OLD_TSS = TSS;
const SPARE = FREE_SLOT + 8;

/** Writes a 32-bit TSS that a switch can load. */
function writeTss(f: Fixture, more: Partial<Record<number, number>> = {}): void {
  const dwords: Record<number, number> = {
    28: 0,
    32: 0x1234,
    36: 0x202,
    40: 0xaaaa_0001,
    44: 0xaaaa_0002,
    48: 0xaaaa_0003,
    52: 0xaaaa_0004,
    56: 0x7000,
    60: 0xaaaa_0006,
    64: 0xaaaa_0007,
    68: 0xaaaa_0008,
    72: USER_DATA,
    76: USER_CODE32,
    80: USER_DATA,
    84: USER_DATA,
    88: 0,
    92: 3,
    96: LDT_SELECTOR,
    100: 0,
    ...more,
  };
  for (const [offset, value] of Object.entries(dwords))
    f.bus.write(NEW_TSS + Number(offset), 4, BigInt(value));
}

function machine(cpl = 0): Fixture {
  const f = new Fixture().enter('protected32', cpl);
  writeFlags(f.cpu, 2n);
  f.gdt(NEW, encodeDescriptor({ base: BigInt(NEW_TSS), limit: 0x67, type: 9, dpl: 3 }));
  writeTss(f);
  f.cpu.rip = 0x5555n;
  for (let i = 0; i < 8; i++) f.cpu.gpr[i] = BigInt(0xbbbb_0000 + i);
  f.cpu.gpr[RSP] = 0x6000n;
  return f;
}

const jump = (f: Fixture) => jumpFar(f.cpu, instruction('jmpf', [{ kind: 'far', selector: NEW, offset: 0 }]));
const call = (f: Fixture) =>
  callFar(f.cpu, instruction('callf', [{ kind: 'far', selector: NEW, offset: 0 }]));
const busy = (f: Fixture, selector: number) => (f.descriptor(selector).type & 2) !== 0;

describe('a switch by JMP', () => {
  let f: Fixture;
  beforeEach(() => {
    f = machine();
    jump(f);
  });

  it('loads the new task', () => {
    const { cpu } = f;
    expect(cpu.rip).toBe(0x1234n);
    expect(readFlags(cpu)).toBe(0x202n);
    expect(cpu.gpr[RAX]).toBe(0xaaaa_0001n);
    expect(cpu.gpr[RSP]).toBe(0x7000n);
    expect(cpu.gpr[RBP]).toBe(0xaaaa_0006n);
    expect(cpu.gpr[RDI]).toBe(0xaaaa_0008n);
    expect(cpu.cpl).toBe(3);
    expect(([ES, CS, SS, DS, FS, GS] as const).map((s) => cpu.segSelector[s])).toEqual([
      USER_DATA,
      USER_CODE32,
      USER_DATA,
      USER_DATA,
      0,
      3,
    ]);
    expect(f.segment(LDTR)).toMatchObject({ selector: LDT_SELECTOR, usable: true });
    expect(f.segment(TR)).toMatchObject({ selector: NEW, base: BigInt(NEW_TSS), limit: 0x67 });
    expect(f.segment(TR).attributes & 0x1f).toBe(0xb);
  });

  it('saves the old one, and no more than its registers', () => {
    const read = (offset: number) => f.bus.read(OLD_TSS + offset, 4);
    expect(read(32)).toBe(0x5555n);
    expect(read(36)).toBe(2n);
    expect(read(40)).toBe(0xbbbb_0000n);
    expect(read(56)).toBe(0x6000n);
    expect(read(68)).toBe(0xbbbb_0007n);
    expect(f.bus.read(OLD_TSS + 76, 2)).toBe(BigInt(KERNEL_CODE32));
    expect(f.bus.read(OLD_TSS + 80, 2)).toBe(BigInt(KERNEL_DATA));
    expect(read(28)).toBe(0n);
    expect(read(96)).toBe(0n);
  });

  it('moves the busy bit, sets CR0.TS, clears the local breakpoint enables, links nothing', () => {
    expect(busy(f, TSS_SELECTOR)).toBe(false);
    expect(busy(f, NEW)).toBe(true);
    expect(f.cpu.cr0 & 8n).toBe(8n);
    expect(f.bus.read(NEW_TSS, 2)).toBe(0n);
    expect(readFlags(f.cpu) & NT).toBe(0n);
  });
});

it('CALL links and nests: both busy, NT set; IRET goes back', () => {
  const f = machine();
  call(f);
  expect(busy(f, TSS_SELECTOR)).toBe(true);
  expect(busy(f, NEW)).toBe(true);
  expect(f.bus.read(NEW_TSS, 2)).toBe(BigInt(TSS_SELECTOR));
  expect(readFlags(f.cpu)).toBe(0x202n | NT);
  f.cpu.rip = 0x4321n;
  iret(f.cpu, instruction('iret'));
  expect(f.cpu.rip).toBe(0x5555n);
  expect(f.cpu.cpl).toBe(0);
  expect(f.cpu.segSelector[TR]).toBe(TSS_SELECTOR);
  expect(busy(f, TSS_SELECTOR)).toBe(true);
  expect(busy(f, NEW)).toBe(false);
  // The image of the task left has NT cleared, and RIP after the IRET.
  expect(f.bus.read(NEW_TSS + 36, 4)).toBe(0x202n);
  expect(f.bus.read(NEW_TSS + 32, 4)).toBe(0x4321n);
  expect(readFlags(f.cpu)).toBe(2n);
});

it('an exception through a task gate saves RF, nests, and pushes its error code on the new stack', () => {
  const f = machine();
  f.bus.write(IDT + 13 * 8, 8, encodeGate({ selector: NEW, offset: 0n, type: 5 }));
  deliver(f.cpu, 13, 'exception', 0x18);
  expect(f.cpu.rip).toBe(0x1234n);
  expect(f.cpu.gpr[RSP]).toBe(0x6ffcn);
  expect(f.bus.read(0x6ffc, 4)).toBe(0x18n);
  expect(f.bus.read(OLD_TSS + 36, 4)).toBe(2n | RF);
  expect(f.bus.read(OLD_TSS + 32, 4)).toBe(0x5555n);
  expect(readFlags(f.cpu)).toBe(0x202n | NT);
  // IF is the task's own: an interrupt gate would have cleared it.
  expect(f.cpu.flagsRest & IF).toBe(IF);
});

it('INT n through a task gate whose TSS is busy: #GP(TSS), with EXT for an interrupt', () => {
  const f = machine();
  f.bus.write(IDT + 0x80 * 8, 8, encodeGate({ selector: TSS_SELECTOR, offset: 0n, type: 5, dpl: 3 }));
  expect(faultOf(() => deliver(f.cpu, 0x80, 'software'))).toEqual({ vector: GP, errorCode: TSS_SELECTOR });
  expect(faultOf(() => deliver(f.cpu, 0x80, 'external'))).toEqual({
    vector: GP,
    errorCode: TSS_SELECTOR | 1,
  });
});

it('the T flag makes a debug trap pending', () => {
  const f = machine();
  writeTss(f, { 100: 1 });
  jump(f);
  expect(f.cpu.pendingDebug).toBe(0x8000);
});

it('TF of the old task makes no trap; TF of the new one only after its first instruction', () => {
  const f = machine();
  f.cpu.flagsRest |= TF;
  writeTss(f, { 36: 0x102 });
  jump(f);
  expect(f.cpu.pendingDebug & 0xffff).toBe(0);
  expect(f.cpu.flagsRest & TF).toBe(TF);
});

it('to a virtual-8086 task', () => {
  const f = machine();
  writeTss(f, { 36: 0x2_0202, 72: 0x111, 76: 0x800, 80: 0x900, 84: 0x222, 88: 0x333, 92: 0x444 });
  jump(f);
  expect(f.cpu.flagsRest & VM).toBe(VM);
  expect(f.cpu.cpl).toBe(3);
  expect(f.segment(CS)).toMatchObject({ selector: 0x800, base: 0x8000n, limit: 0xffff });
  expect(f.segment(GS)).toMatchObject({ selector: 0x444, base: 0x4440n });
});

it('to a 16-bit TSS and back', () => {
  const f = machine();
  f.gdt(NEW, encodeDescriptor({ base: BigInt(NEW_TSS), limit: 0x2b, type: 1 }));
  const words: Record<number, number> = {
    14: 0x1234, 16: 0x202, 18: 1, 20: 2, 22: 3, 24: 4, 26: 0x7000, 28: 6, 30: 7, 32: 8,
    34: KERNEL_DATA, 36: KERNEL_CODE32, 38: KERNEL_DATA, 40: KERNEL_DATA, 42: 0,
  }; // biome-ignore format: a table
  for (const [offset, value] of Object.entries(words))
    f.bus.write(NEW_TSS + Number(offset), 2, BigInt(value));
  call(f);
  expect(f.cpu.rip).toBe(0x1234n);
  expect(f.cpu.gpr[RSP] & 0xffffn).toBe(0x7000n);
  expect(f.cpu.segSelector[FS]).toBe(0);
  expect(f.segment(LDTR)).toMatchObject({ selector: 0, usable: false });
  f.cpu.rip = 0x4321n;
  iret(f.cpu, instruction('iret'));
  expect(f.cpu.rip).toBe(0x5555n);
  expect(f.bus.read(NEW_TSS + 14, 2)).toBe(0x4321n);
  expect(f.bus.read(NEW_TSS + 26, 2)).toBe(0x7000n);
});

it('loads CR3 where paging is on', () => {
  const f = machine();
  f.enablePaging().mapRam();
  const cr3 = Number(f.cpu.cr3);
  f.cpu.cr3 = BigInt(f.table());
  f.mapRam();
  const next = Number(f.cpu.cr3);
  f.cpu.cr3 = BigInt(cr3);
  writeTss(f, { 28: next });
  jump(f);
  expect(f.cpu.cr3).toBe(BigInt(next));
  // The old CR3 is not saved.
  expect(f.bus.read(OLD_TSS + 28, 4)).toBe(0n);
});

describe('before the commit point nothing changes', () => {
  it.each([
    ['limit of a 32-bit TSS below 67H', { limit: 0x66, type: 9 }],
    ['limit of a 16-bit TSS below 2BH', { limit: 0x2a, type: 1 }],
  ])('#TS(TSS): %s', (_name, fields) => {
    const f = machine();
    f.gdt(NEW, encodeDescriptor({ base: BigInt(NEW_TSS), dpl: 3, ...fields }));
    expect(faultOf(() => jump(f))).toEqual({ vector: TS, errorCode: NEW });
    expect(f.cpu.rip).toBe(0x5555n);
    expect(busy(f, TSS_SELECTOR)).toBe(true);
    expect(busy(f, NEW)).toBe(false);
  });

  it('a page fault on either TSS', () => {
    for (const page of [NEW_TSS, OLD_TSS]) {
      const f = machine();
      f.enablePaging().mapRam();
      f.map(BigInt(page), page, 0n);
      expect(faultOf(() => jump(f))?.vector).toBe(PF);
      expect(f.cpu.cr2 >> 12n).toBe(BigInt(page >> 12));
      expect(busy(f, TSS_SELECTOR)).toBe(true);
      expect(f.bus.read(OLD_TSS + 32, 4)).toBe(0n);
      expect(f.cpu.segSelector[TR]).toBe(TSS_SELECTOR);
    }
  });
});

describe('after it, faults are of the new task (table 7-1)', () => {
  const CODE_ABSENT = FREE_SLOT + 8;
  const DATA_ABSENT = FREE_SLOT + 16;
  const CONFORMING0 = FREE_SLOT + 24;
  const rows: [string, Record<number, number>, number, number][] = [
    ['LDT beyond the GDT', { 96: 0xfff8 }, TS, 0xfff8],
    ['LDT in the LDT', { 96: 0x0c }, TS, 0x0c],
    ['LDT is not one', { 96: KERNEL_DATA }, TS, KERNEL_DATA],
    ['null CS', { 76: 3 }, TS, 0],
    ['CS is data', { 76: USER_DATA }, TS, USER_DATA & ~3],
    ['DPL of CS below its RPL', { 76: KERNEL_CODE32 | 3 }, TS, KERNEL_CODE32],
    ['CS not present', { 76: CODE_ABSENT | 3 }, NP, CODE_ABSENT],
    ['null SS', { 80: 0 }, TS, 0],
    ['SS of another DPL', { 80: KERNEL_DATA | 3 }, TS, KERNEL_DATA],
    ['SS of another RPL', { 80: USER_DATA & ~3 }, TS, USER_DATA & ~3],
    ['SS not present', { 80: DATA_ABSENT | 3 }, STACK_FAULT, DATA_ABSENT],
    ['DS of the kernel', { 84: KERNEL_DATA }, TS, KERNEL_DATA],
    ['ES beyond the GDT', { 72: 0xfffb }, TS, 0xfff8],
    ['FS not present', { 88: DATA_ABSENT | 3 }, NP, DATA_ABSENT],
    ['GS a TSS', { 92: TSS_SELECTOR }, TS, TSS_SELECTOR],
    ['EIP beyond the limit', { 76: (FREE_SLOT + 32) | 3, 32: 0x1000 }, GP, 0],
  ];
  it.each(rows)('%s', (_name, fields, vector, errorCode) => {
    const f = machine();
    f.gdt(CODE_ABSENT, flat(0xb, 3, 32, { p: false }));
    f.gdt(DATA_ABSENT, flat(3, 3, 32, { p: false }));
    f.gdt(CONFORMING0, flat(0xf, 0, 32));
    f.gdt(FREE_SLOT + 32, flat(0xb, 3, 32, { limit: 0xfff, g: false }));
    writeTss(f, fields);
    const tss = newTaskSegment(f.cpu, NEW, 'interrupt');
    const fault = faultOf(() => switchTask(f.cpu, tss, 'interrupt', { image: 2n, errorCode: undefined }));
    expect(fault).toEqual({ vector, errorCode });
    expect(f.cpu.segSelector[TR]).toBe(NEW);
    expect(f.cpu.rip).toBe(BigInt(fields[32] ?? 0x1234));
    expect(busy(f, NEW)).toBe(true);
  });

  it('the stack is there for the exception of an unfit CS, whose privilege alone comes first', () => {
    const f = machine();
    writeTss(f, { 76: USER_DATA });
    const tss = newTaskSegment(f.cpu, NEW, 'interrupt');
    faultOf(() => switchTask(f.cpu, tss, 'interrupt', { image: 2n, errorCode: undefined }));
    expect(f.segment(SS)).toMatchObject({ selector: USER_DATA, usable: true });

    const g = machine();
    writeTss(g, { 76: KERNEL_CODE32 | 3, 80: 0xfffb });
    const other = newTaskSegment(g.cpu, NEW, 'interrupt');
    expect(faultOf(() => switchTask(g.cpu, other, 'interrupt', { image: 2n, errorCode: undefined }))).toEqual(
      { vector: TS, errorCode: KERNEL_CODE32 },
    );
  });

  it('and are delivered to it when an instruction switched', () => {
    const f = machine();
    writeTss(f, { 84: KERNEL_DATA, 4: 0x8000, 8: KERNEL_DATA });
    f.bus.write(IDT + TS * 8, 8, encodeGate({ selector: KERNEL_CODE32, offset: 0xa000n, type: 0xe }));
    jump(f);
    expect(f.cpu.rip).toBe(0xa000n);
    expect(f.cpu.gpr[RSP]).toBe(0x8000n - 24n);
    expect(f.bus.read(0x8000 - 24, 4)).toBe(BigInt(KERNEL_DATA));
    expect(f.bus.read(0x8000 - 20, 4)).toBe(0x1234n);
    expect(f.cpu.segSelector[TR]).toBe(NEW);
  });

  it('a CR3 that PAE paging refuses: #GP(0) in the new task', () => {
    const f = machine();
    f.cpu.cr4 |= 0x20n;
    f.enablePaging().mapRam();
    f.bus.write(0xb000, 8, 0x1ffn);
    writeTss(f, { 28: 0xb000 });
    const tss = newTaskSegment(f.cpu, NEW, 'interrupt');
    expect(faultOf(() => switchTask(f.cpu, tss, 'interrupt', { image: 2n, errorCode: undefined }))).toEqual({
      vector: GP,
      errorCode: 0,
    });
    expect(f.cpu.segSelector[TR]).toBe(NEW);
    expect(f.cpu.rip).toBe(0x1234n);
  });

  it('no room for the error code: #SS in the new task', () => {
    const f = machine();
    f.gdt(SPARE, flat(3, 3, 32, { limit: 0xfff, g: false }));
    writeTss(f, { 80: SPARE | 3, 56: 0x2000 });
    f.bus.write(IDT + 13 * 8, 8, encodeGate({ selector: NEW, offset: 0n, type: 5 }));
    expect(faultOf(() => deliver(f.cpu, 13, 'exception', 0))).toEqual({ vector: STACK_FAULT, errorCode: 1 });
    expect(f.cpu.segSelector[TR]).toBe(NEW);
  });
});

it('newTaskSegment wants a busy TSS for IRET and an available one otherwise', () => {
  const f = machine();
  expect(readDescriptor(f.cpu, NEW).type).toBe(9);
  expect(faultOf(() => newTaskSegment(f.cpu, NEW, 'iret'))).toEqual({ vector: TS, errorCode: NEW });
  expect(newTaskSegment(f.cpu, TSS_SELECTOR, 'iret').type).toBe(0xb);
});
