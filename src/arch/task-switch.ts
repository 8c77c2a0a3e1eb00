/**
 * The hardware task switch of protected mode. SDM vol. 3A 7.2 (task structures), 7.3 (the switch, table 7-1 for its
 * checks and error codes), 7.4 (linking, table 7-2), 17.2.4 and 17.3.1.5 (DR7 and the T flag).
 *
 * Whatever fails before the commit point leaves the old task as it was; what fails after it is an exception of the
 * new task, whose segment registers it may find with selectors but without descriptors.
 */
import { NT, readFlags, TF, VM, writeFlags } from '../isa/flags.ts';
import {
  CS,
  DS,
  ES,
  FS,
  GS,
  LDTR,
  RAX,
  RBP,
  RBX,
  RCX,
  RDI,
  RDX,
  RSI,
  RSP,
  type SegmentNumber,
  SHADOW_NONE,
  SS,
  TR,
} from '../isa/state.ts';
import { announcePrivilege, isCode, isConforming } from './code-segment.ts';
import { CR0_PG, CR0_TS, writeCr3 } from './control-registers.ts';
import type { Cpu } from './cpu.ts';
import {
  type Descriptor,
  LDT,
  readDescriptor,
  setAccessed,
  setBusy,
  TSS_AVAILABLE,
  TSS_BUSY,
  TSS16_AVAILABLE,
  TSS16_BUSY,
  TYPE_CODE,
  TYPE_READABLE,
  TYPE_WRITABLE,
  tryReadDescriptor,
} from './descriptors.ts';
import { deliverFault } from './exceptions.ts';
import { Fault, GP, gp, np, ss, TS, ts } from './fault.ts';
import { NO_STEP_TRAP } from './interrupts.ts';
import { type AccessSize, probeWrite, readLinear, SYSTEM, writeLinear } from './linear.ts';
import { setReal, setSegment, setSegmentRaw } from './segmentation.ts';
import { PushStack, setStackPointer } from './stack.ts';

/** What initiates a task switch. */
export type TaskSwitchSource = 'jump' | 'call' | 'interrupt' | 'iret';

/** DR6.BT. */
const DR6_BT = 0x8000;
/** DR7.L0 to L3 and LE: enabled for one task only. */
const DR7_LOCAL = 0x155n;

/** Where a TSS holds what the switch saves and loads. */
interface Layout {
  readonly word: 2 | 4;
  readonly instructionPointer: number;
  readonly flags: number;
  /** EAX ECX EDX EBX ESP EBP ESI EDI. */
  readonly registers: number;
  /** ES CS SS DS, and FS GS in a 32-bit TSS. */
  readonly segments: readonly (readonly [SegmentNumber, number])[];
  readonly ldt: number;
  /** Least limit. */
  readonly limit: number;
}

const TSS32: Layout = {
  word: 4,
  instructionPointer: 32,
  flags: 36,
  registers: 40,
  segments: [
    [ES, 72],
    [CS, 76],
    [SS, 80],
    [DS, 84],
    [FS, 88],
    [GS, 92],
  ],
  ldt: 96,
  limit: 0x67,
};
const TSS16: Layout = {
  word: 2,
  instructionPointer: 14,
  flags: 16,
  registers: 18,
  segments: [
    [ES, 34],
    [CS, 36],
    [SS, 38],
    [DS, 40],
  ],
  ldt: 42,
  limit: 0x2b,
};
const CR3_OFFSET = 28;
const T_OFFSET = 100;
const REGISTERS = [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI] as const;

function layoutOf(type: number): Layout {
  return type & 8 ? TSS32 : TSS16;
}

/** Whether `d` is a TSS in the state, busy or available, that `source` needs. */
function isUsableTss(d: Descriptor, source: TaskSwitchSource): boolean {
  if (!d.system) return false;
  const busy = source === 'iret';
  return d.type === (busy ? TSS_BUSY : TSS_AVAILABLE) || d.type === (busy ? TSS16_BUSY : TSS16_AVAILABLE);
}

/**
 * The TSS descriptor that `selector` (of a task gate or a back link) names. Raises #GP(TSS), or #TS(TSS) for IRET, for one
 * not in the GDT or in the wrong state, and #NP(TSS).
 */
export function newTaskSegment(cpu: Cpu, selector: number, source: TaskSwitchSource): Descriptor {
  const vector = source === 'iret' ? TS : GP;
  const index = selector & 0xfffc;
  if (index & 4) throw new Fault(vector, index);
  const d = readDescriptor(cpu, selector, vector);
  if (!isUsableTss(d, source)) throw new Fault(vector, index);
  if (!d.present) throw np(index);
  return d;
}

/** An exception that is delivered through a task gate: its RFLAGS image, and its error code if it has one. */
export interface TaskEvent {
  readonly image: bigint;
  readonly errorCode: number | undefined;
}

/**
 * Switches to the task of `tss`, which {@link newTaskSegment} or a far transfer's checks have found usable. RIP is
 * what the old task resumes at.
 *
 * Raises #TS(TSS) and #PF before the commit point. Exceptions after it are delivered to the new task here, but for an
 * `interrupt`, whose delivery they are part of: those are raised, with the new task's RIP.
 */
export function switchTask(cpu: Cpu, tss: Descriptor, source: TaskSwitchSource, event?: TaskEvent): void {
  const from = cpu.cpl;
  const nested = source === 'call' || source === 'interrupt';
  const next = layoutOf(tss.type);
  const old = layoutOf(cpu.segAttributes[TR]);
  const oldBase = cpu.segBase[TR];
  const index = tss.selector & 0xfffc;
  if (tss.limit < next.limit) throw ts(index);

  // All that will be touched is touched first, so that a page fault comes before any change.
  const image = readTss(cpu, tss.base, next);
  const last = old.segments[old.segments.length - 1][1] + old.word - 1;
  probeRange(cpu, oldBase + BigInt(old.instructionPointer), oldBase + BigInt(last));
  if (nested) probeWrite(cpu, tss.base, 2, SYSTEM);
  const oldTss =
    source === 'call' || source === 'interrupt' ? null : readDescriptor(cpu, cpu.segSelector[TR], TS);

  if (oldTss) setBusy(cpu, oldTss, false);
  let saved = event?.image ?? readFlags(cpu);
  if (source === 'iret') saved &= ~NT;
  saveTask(cpu, oldBase, old, saved);
  if (nested) writeLinear(cpu, tss.base, 2, BigInt(cpu.segSelector[TR]), SYSTEM);
  if (source !== 'iret') setBusy(cpu, tss, true);

  // The commit point: from here on the processor runs the new task.
  const stepped = (cpu.flagsRest & TF) !== 0n;
  setSegment(cpu, TR, tss.selector, tss);
  cpu.cr0 |= CR0_TS;
  cpu.dr[7] &= ~DR7_LOCAL;
  cpu.shadow = SHADOW_NONE;
  if (stepped) cpu.pendingDebug |= NO_STEP_TRAP;
  loadRegisters(cpu, image, nested);
  try {
    if (image.cr3 !== undefined && (cpu.cr0 & CR0_PG) !== 0n) writeCr3(cpu, image.cr3);
    loadSegments(cpu, image);
    if (image.trap) cpu.pendingDebug |= DR6_BT;
    announcePrivilege(cpu, from);
    if (event?.errorCode !== undefined) {
      const stack = PushStack.current(cpu, false);
      stack.requireRoom(1, next.word);
      stack.push(next.word, BigInt(event.errorCode));
      setStackPointer(cpu, stack.pointer);
    }
    if (cpu.rip > BigInt(cpu.segLimit[CS])) throw gp();
  } catch (fault) {
    if (source === 'interrupt' || !(fault instanceof Fault)) throw fault;
    deliverFault(cpu, fault);
  }
}

/** What a TSS holds of its task. */
interface TaskImage {
  readonly cr3: bigint | undefined;
  readonly rip: bigint;
  readonly flags: bigint;
  readonly registers: readonly bigint[];
  readonly selectors: readonly (readonly [SegmentNumber, number])[];
  readonly ldt: number;
  readonly trap: boolean;
}

function readTss(cpu: Cpu, base: bigint, layout: Layout): TaskImage {
  const { word } = layout;
  const read = (offset: number, size: AccessSize) => readLinear(cpu, base + BigInt(offset), size, SYSTEM);
  const wide = word === 4;
  return {
    cr3: wide ? read(CR3_OFFSET, 4) : undefined,
    rip: read(layout.instructionPointer, word),
    flags: read(layout.flags, word),
    // A 16-bit TSS leaves the upper halves of the registers all ones, as other implementations have it; the manual is
    // silent.
    registers: REGISTERS.map((_, i) => read(layout.registers + i * word, word) | (wide ? 0n : 0xffff_0000n)),
    selectors: layout.segments.map(([segment, offset]) => [segment, Number(read(offset, 2))] as const),
    ldt: Number(read(layout.ldt, 2)),
    trap: wide && (read(T_OFFSET, 2) & 1n) !== 0n,
  };
}

/** Faults as writes to the pages of first..last would. */
function probeRange(cpu: Cpu, first: bigint, last: bigint): void {
  probeWrite(cpu, first, 1, SYSTEM);
  if (first >> 12n !== last >> 12n) probeWrite(cpu, last, 1, SYSTEM);
}

function saveTask(cpu: Cpu, base: bigint, layout: Layout, flags: bigint): void {
  const { word } = layout;
  const write = (offset: number, size: AccessSize, value: bigint) =>
    writeLinear(cpu, base + BigInt(offset), size, value, SYSTEM);
  write(layout.instructionPointer, word, cpu.rip);
  write(layout.flags, word, flags);
  REGISTERS.forEach((register, i) => {
    write(layout.registers + i * word, word, cpu.gpr[register]);
  });
  for (const [segment, offset] of layout.segments) write(offset, 2, BigInt(cpu.segSelector[segment]));
}

/** General registers, flags, RIP, and all selectors with their segments still unusable. */
function loadRegisters(cpu: Cpu, image: TaskImage, nested: boolean): void {
  cpu.rip = image.rip;
  writeFlags(cpu, nested ? image.flags | NT : image.flags);
  REGISTERS.forEach((register, i) => {
    cpu.gpr[register] = image.registers[i];
  });
  for (const [segment, selector] of image.selectors) setUnusable(cpu, segment, selector);
  if (image.selectors.length === 4) {
    setUnusable(cpu, FS, 0);
    setUnusable(cpu, GS, 0);
  }
  setUnusable(cpu, LDTR, image.ldt);
  const code = image.selectors.find(([segment]) => segment === CS);
  cpu.cpl = image.flags & VM ? 3 : (code?.[1] ?? 0) & 3;
}

function setUnusable(cpu: Cpu, segment: SegmentNumber, selector: number): void {
  setSegmentRaw(cpu, segment, { selector, base: 0n, limit: 0, attributes: 0, usable: false });
}

/**
 * Loads and checks LDTR, SS, CS, DS, ES, FS, GS, the privilege of CS before SS: SDM vol. 3A table 7-1. A new task whose
 * CS alone is unfit has its stack, so that its exception can be delivered. Raises #TS, #NP, #SS.
 */
function loadSegments(cpu: Cpu, image: TaskImage): void {
  loadLdtr(cpu, image.ldt);
  if (cpu.virtual8086) {
    for (const [segment, selector] of image.selectors) setReal(cpu, segment, selector);
    return;
  }
  checkCodePrivilege(cpu, cpu.segSelector[CS]);
  loadStack(cpu, cpu.segSelector[SS]);
  loadCode(cpu, cpu.segSelector[CS]);
  for (const segment of [DS, ES, FS, GS] as const) loadData(cpu, segment, cpu.segSelector[segment]);
}

function loadLdtr(cpu: Cpu, selector: number): void {
  const index = selector & 0xfffc;
  if (index === 0) return;
  if (index & 4) throw ts(index);
  const d = readDescriptor(cpu, selector, TS);
  if (!d.system || d.type !== LDT || !d.present) throw ts(index);
  setSegment(cpu, LDTR, selector, d);
}

/** Raises #TS(CS) if CS names a code segment whose DPL does not go with its RPL. */
function checkCodePrivilege(cpu: Cpu, selector: number): void {
  const rpl = selector & 3;
  const d = tryReadDescriptor(cpu, selector);
  if (!d || !isCode(d)) return;
  if (isConforming(d) ? d.dpl > rpl : d.dpl !== rpl) throw ts(selector & 0xfffc);
}

function loadCode(cpu: Cpu, selector: number): void {
  const index = selector & 0xfffc;
  if (index === 0) throw ts(0);
  const d = readDescriptor(cpu, selector, TS);
  if (!isCode(d)) throw ts(index);
  if (!d.present) throw np(index);
  setAccessed(cpu, d);
  setSegment(cpu, CS, selector, d);
}

function loadStack(cpu: Cpu, selector: number): void {
  const index = selector & 0xfffc;
  if (index === 0) throw ts(0);
  const d = readDescriptor(cpu, selector, TS);
  const writableData = !d.system && (d.type & TYPE_CODE) === 0 && (d.type & TYPE_WRITABLE) !== 0;
  if (!writableData || d.dpl !== cpu.cpl || (selector & 3) !== cpu.cpl) throw ts(index);
  if (!d.present) throw ss(index);
  setAccessed(cpu, d);
  setSegment(cpu, SS, selector, d);
}

function loadData(cpu: Cpu, segment: SegmentNumber, selector: number): void {
  const index = selector & 0xfffc;
  if (index === 0) return;
  const d = readDescriptor(cpu, selector, TS);
  const readable = !d.system && ((d.type & TYPE_CODE) === 0 || (d.type & TYPE_READABLE) !== 0);
  if (!readable) throw ts(index);
  const conforming = isCode(d) && isConforming(d);
  if (!conforming && d.dpl < Math.max(cpu.cpl, selector & 3)) throw ts(index);
  if (!d.present) throw np(index);
  setAccessed(cpu, d);
  setSegment(cpu, segment, selector, d);
}
