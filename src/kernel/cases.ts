/**
 * The cases: every path back to user mode, for every combination of code and stack segment of the silicon
 * table, and for the frames that IRET must refuse.
 */

import { cause, FRAME_SIZE, selector, USER_AREA, user, vector } from './layout.ts';
import type { CodeSegmentKind, ReturnPath, StackSegmentKind } from './report.ts';
import type { VariantName } from './variants/index.ts';

export type GoodCode = 'cs64' | 'cs32-gdt' | 'cs32-ldt' | 'cs16-ldt';
type GoodStack = 'ss16-ldt' | 'ss32-ldt' | 'ss16-gdt' | 'flat';

/** An exception that user space is told of. */
export interface Fault {
  readonly vector: number;
  readonly error: number;
  /** A vector that a processor model is known to raise in its place; the kernel is not to blame for it. */
  readonly alternative?: number;
}

/** A return to user mode and what user space should find. */
export interface Case {
  readonly path: ReturnPath;
  /** Segments of the frame that the kernel returns through. */
  readonly cs: CodeSegmentKind;
  readonly ss: StackSegmentKind;
  /** Segments that the task runs on; a faulty frame is repaired to these. */
  readonly good: { readonly cs: GoodCode; readonly ss: GoodStack };
  readonly set: number;
  readonly name: string;
  /** How the test task gets to the return. */
  readonly kind: 'jump' | 'return-to' | 'raise' | 'spawn';
  /** What the target code does to enter the kernel. */
  readonly event: TargetEvent | undefined;
  /** The event whose return loads the faulty frame. */
  readonly pokeCause: number;
  readonly faulty: boolean;
  /** The fault that the return must raise. */
  readonly expected: Fault | undefined;
  /** The kernel double-faults while it serves the event, and its task gate saves it. */
  readonly doubleFault?: boolean;
  /** The task lays a frame of its own where a return through the segment base would look for one. */
  readonly forged?: boolean;
  /** RSP, 64 bits, with which the task makes its system call and which it asks for: anywhere it likes. */
  readonly strayStack?: bigint;
}

/** Ways in which target code enters the kernel. */
export const targetEvents = [
  'int80',
  'interrupt',
  'timer',
  'exception',
  'breakpoint',
  'nmi',
  'mc',
  'db',
] as const;
export type TargetEvent = (typeof targetEvents)[number];

const paths: Record<ReturnPath, { kind: Case['kind']; event?: TargetEvent; cause: number }> = {
  int80: { kind: 'jump', event: 'int80', cause: vector.syscall },
  syscall: { kind: 'return-to', cause: cause.syscall },
  interrupt: { kind: 'jump', event: 'interrupt', cause: vector.ipi },
  timer: { kind: 'jump', event: 'timer', cause: vector.timer },
  exception: { kind: 'jump', event: 'exception', cause: 6 },
  breakpoint: { kind: 'jump', event: 'breakpoint', cause: 3 },
  nmi: { kind: 'jump', event: 'nmi', cause: 2 },
  mc: { kind: 'jump', event: 'mc', cause: 18 },
  db: { kind: 'jump', event: 'db', cause: 1 },
  sigreturn: { kind: 'raise', cause: vector.syscall },
  'first-entry': { kind: 'spawn', cause: cause.syscall },
};

const goodCodes: readonly GoodCode[] = ['cs64', 'cs32-gdt', 'cs32-ldt', 'cs16-ldt'];
const goodStacks: readonly GoodStack[] = ['ss16-ldt', 'ss32-ldt', 'flat'];

/** Stack pointers that user space sets: values whose bits 31:16 are easily told from a kernel stack's. */
export const stackPointers = [0x5aadc0de, 0x8badf00d, 0x0000ffff, 0xffff0000] as const;

/**
 * A stack pointer whose bits 31:16 lead a 64-bit kernel that trusts a segment base into the first task's own
 * stack page: the kernel's IRETQ frame has the same bits 15:0 on every kernel stack.
 */
export const forgedFrameAt = USER_AREA + BigInt(user.stack) - BigInt(FRAME_SIZE);
const forgedStackPointer = (Number(forgedFrameAt) & ~0xffff) | 0x5678;

/** All values that cases put into bits 31:16 of a stack pointer. */
export const alienStackPointers: readonly number[] = [...stackPointers, forgedStackPointer];

/** Faults of IRET on a frame of this kind, by the SDM's order of checks (Vol. 2A, IRET, 64-bit mode). */
const GP = 13;
const SS = 12;
const NP = 11;

const ldt = { code32: 0x04, absentData16: 0x24, readOnlyData16: 0x2c, absentCode32: 0x34, outOfLimit: 0x10c };

const stackFaults: Partial<Record<StackSegmentKind, Fault>> = {
  null: { vector: GP, error: 0 },
  // Silicon and the manual say #SS; QEMU 7.2 says #NP.
  'not-present': { vector: SS, error: ldt.absentData16, alternative: NP },
  'wrong-dpl': { vector: GP, error: selector.kernelData },
  code: { vector: GP, error: ldt.code32 },
  'read-only': { vector: GP, error: ldt.readOnlyData16 },
  'out-of-limit': { vector: GP, error: ldt.outOfLimit },
  'out-of-limit-gdt': { vector: GP, error: 0x1f8 },
};

const codeFaults: Partial<Record<CodeSegmentKind, Fault>> = {
  null: { vector: GP, error: 0 },
  'not-present': { vector: NP, error: ldt.absentCode32 },
  data: { vector: GP, error: selector.userData & ~3 },
  'out-of-limit': { vector: GP, error: ldt.outOfLimit },
  'non-canonical-rip': { vector: GP, error: 0 },
};

/** Stack segment kinds whose selector has the TI bit set, which the merged design takes for 16-bit. */
const inLdt: readonly StackSegmentKind[] = [
  'ss16-ldt',
  'ss32-ldt',
  'not-present',
  'code',
  'read-only',
  'out-of-limit',
];

/** The fault that user space is told of when the return path of `variant` meets this frame. */
function expectedFault(variant: VariantName, cs: CodeSegmentKind, ss: StackSegmentKind): Fault | undefined {
  const fault = codeFaults[cs] ?? stackFaults[ss];
  // The double-fault fix-up has no error code to give, and says #GP(0).
  if (fault !== undefined && variant === 'linux' && inLdt.includes(ss)) return { vector: GP, error: 0 };
  return fault;
}

function questionName(cs: CodeSegmentKind, ss: StackSegmentKind): string {
  if (cs === 'cs64' && ss === 'ss16-ldt') return 'q1-cs64-ss16';
  if (cs === 'cs16-ldt' && ss === 'ss32-ldt') return 'q2-cs16-ss32';
  return '-';
}

/** All cases for a variant, in the order in which they run. */
export function buildCases(variant: VariantName): Case[] {
  const cases: Case[] = [];
  for (const [path, { kind, event, cause: pokeCause }] of Object.entries(paths) as [
    ReturnPath,
    (typeof paths)[ReturnPath],
  ][]) {
    const add = (
      cs: CodeSegmentKind,
      ss: StackSegmentKind,
      good: Case['good'],
      set: number,
      name: string,
      faulty: boolean,
    ) =>
      cases.push({
        path,
        cs,
        ss,
        good,
        set,
        name,
        kind,
        event,
        pokeCause,
        faulty,
        expected: faulty ? expectedFault(variant, cs, ss) : undefined,
      });
    for (const cs of goodCodes)
      for (const ss of goodStacks)
        for (const set of stackPointers) add(cs, ss, { cs, ss }, set, questionName(cs, ss), false);

    for (const ss of Object.keys(stackFaults) as StackSegmentKind[])
      add('cs32-gdt', ss, { cs: 'cs32-gdt', ss: 'flat' }, stackPointers[0], '-', true);
    for (const cs of Object.keys(codeFaults) as CodeSegmentKind[])
      add(
        cs,
        'flat',
        { cs: cs === 'non-canonical-rip' ? 'cs64' : 'cs32-gdt', ss: 'flat' },
        stackPointers[1],
        '-',
        true,
      );
    // A bad CS with a 16-bit stack, so that the fault comes on the espfix path, and a thread that goes on.
    add(
      'not-present',
      'ss16-ldt',
      { cs: 'cs32-ldt', ss: 'ss16-ldt' },
      stackPointers[0],
      'q3-fault-leaves-ministack',
      true,
    );
    add(
      'non-canonical-rip',
      'ss16-ldt',
      { cs: 'cs16-ldt', ss: 'ss16-ldt' },
      stackPointers[1],
      'q3-fault-leaves-ministack',
      true,
    );
    for (const set of stackPointers.slice(0, 2))
      add(
        'cs16-ldt',
        'not-present',
        { cs: 'cs16-ldt', ss: 'ss16-ldt' },
        set,
        'q4-faulting-iret-thread-survives-and-espfix-runs-again',
        true,
      );
  }
  const plain = cases.find((c) => c.path === 'int80' && c.cs === 'cs32-gdt' && c.ss === 'ss16-ldt');
  if (plain !== undefined)
    cases.push({ ...plain, set: forgedStackPointer, name: 'frame-from-user-memory', forged: true });
  return cases;
}
