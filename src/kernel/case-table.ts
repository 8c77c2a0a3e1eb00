/** The case table in memory: one record a case, read by the test task and by the kernel's report. */

import { type Assembler, type Immediate, type SymbolReference, sym } from './assembler.ts';
import type { Case } from './cases.ts';
import { ldtSelector, selector, USER_TEXT } from './layout.ts';

/** Offsets in a case's record. */
export const record = {
  /** How the target is entered: an index into `entryKinds`. */
  kind: 0,
  /** The event whose return loads the replaced CS:RIP and SS; zero if none. */
  pokeCause: 4,
  /** Offset of the target code in its code segment. */
  target: 8,
  cs: 12,
  ss: 16,
  flags: 20,
  set: 24,
  /** CS:RIP and SS of the frame that the kernel is to load: those above, or faulty ones. */
  frameRip: 32,
  frameCs: 40,
  frameSs: 44,
  /** Offset of the code that records what it finds, where a repaired task goes on. */
  recordRip: 48,
  /** Expected vector + 1, zero if none, and error code. */
  expectedFault: 52,
  expectedError: 56,
  prefixLength: 60,
  prefix: 64,
  suffix: 72,
  suffixLength: 80,
  /** Another vector + 1 that is as good as the expected one, or the same again. */
  alternativeFault: 84,
  size: 88,
} as const;

export const entryKinds = ['jump', 'return-to', 'raise', 'spawn'] as const;

/** Bits of a record's flags. */
export const caseFlag = {
  /** The task steps by TF up to the target. */
  step: 1,
  /** The target is 64-bit code, which must find all 64 bits of RSP. */
  wide: 2,
  /** The return is from the child task's stack. */
  child: 4,
  /** The system call of this case meets a double fault on its way. */
  doubleFault: 8,
  /** The task forges an IRETQ frame at `forgedFrameAt`. */
  forged: 16,
  /** The task makes its system call with the stack pointer of the case. */
  strayStack: 32,
} as const;

const widths = { cs64: 64, 'cs32-gdt': 32, 'cs32-ldt': 32, 'cs16-ldt': 16 } as const;

const codeSelectors: Record<Case['cs'], number> = {
  cs64: selector.userCode64,
  'cs32-gdt': selector.userCode32,
  'cs32-ldt': ldtSelector.code32,
  'cs16-ldt': ldtSelector.code16,
  null: 3,
  'not-present': ldtSelector.absentCode32,
  data: selector.userData,
  'out-of-limit': ldtSelector.outOfLimit,
  'non-canonical-rip': selector.userCode64,
};

const stackSelectors: Record<Case['ss'], number> = {
  'ss16-ldt': ldtSelector.data16,
  'ss32-ldt': ldtSelector.data32,
  'ss16-gdt': selector.tls,
  flat: selector.userData,
  null: 3,
  'not-present': ldtSelector.absentData16,
  'wrong-dpl': selector.kernelData | 3,
  code: ldtSelector.code32,
  'read-only': ldtSelector.readOnlyData16,
  'out-of-limit': ldtSelector.outOfLimit,
  'out-of-limit-gdt': 0x1fb,
};

/** The selector that a code segment kind stands for. */
export const codeSelector = (kind: Case['cs']) => codeSelectors[kind];
/** The selector that a stack segment kind stands for. */
export const stackSelector = (kind: Case['ss']) => stackSelectors[kind];

/** A non-canonical address: bits 63:47 differ (SDM Vol. 1, Section 3.3.7.1). */
const NON_CANONICAL = 0x0000_8000_0000_1000n;

/** Upper half of the RSP that 64-bit targets set; not canonical, as RSP need not be. */
const WIDE_HIGH = 0x8bad_f00dn;

/** The parts of a case's report line that are known beforehand. */
function texts(c: Case): { prefix: string; suffix: string } {
  return {
    prefix: ` path=${c.path} cs=${c.cs} ss=${c.ss} set=${c.set.toString(16).padStart(8, '0')} seen=`,
    suffix: ` name=${c.name}\n`,
  };
}

/** Emits the table `cases` .. `cases_end` and its texts into the current section. */
export function emitCaseTable(a: Assembler, cases: readonly Case[]): void {
  a.align(8);
  a.label('cases');
  for (const [i, c] of cases.entries()) {
    const width = widths[c.good.cs];
    const at = (name: string): SymbolReference => sym(name, width === 16 ? -USER_TEXT : 0n);
    const recordRip = at(`record.${width}`);
    const target = c.kind === 'jump' ? at(`target.${width}.${c.event}`) : recordRip;
    const frameRip: Immediate =
      c.cs === 'non-canonical-rip' ? NON_CANONICAL : c.kind === 'jump' ? recordRip : target;
    const flags =
      (c.path === 'db' ? caseFlag.step : 0) |
      (width === 64 ? caseFlag.wide : 0) |
      (c.kind === 'spawn' ? caseFlag.child : 0) |
      (c.doubleFault ? caseFlag.doubleFault : 0) |
      (c.forged ? caseFlag.forged : 0) |
      (c.strayStack === undefined ? 0 : caseFlag.strayStack);
    const set = c.strayStack ?? (width === 64 ? (WIDE_HIGH << 32n) | BigInt(c.set) : BigInt(c.set));
    const { prefix, suffix } = texts(c);
    // Never "no fault" where one is expected.
    const alternative = c.expected?.alternative ?? c.expected?.vector;
    a.dd(entryKinds.indexOf(c.kind), c.faulty && c.kind === 'jump' ? c.pokeCause : 0, target);
    a.dd(codeSelector(c.good.cs), stackSelector(c.good.ss), flags);
    a.dq(set, frameRip);
    a.dd(codeSelector(c.cs), stackSelector(c.ss), recordRip);
    a.dd(c.expected === undefined ? 0 : c.expected.vector + 1, c.expected?.error ?? 0, prefix.length);
    a.dq(sym(`case_text.${i}`), sym(`case_text.${i}`, prefix.length));
    a.dd(suffix.length, alternative === undefined ? 0 : alternative + 1);
  }
  a.label('cases_end');
  for (const [i, c] of cases.entries()) {
    const { prefix, suffix } = texts(c);
    a.label(`case_text.${i}`).db(prefix, suffix);
  }
}
