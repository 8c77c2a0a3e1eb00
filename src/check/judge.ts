/**
 * What one return to user mode did to the stack pointer, judged by the rule: user space finds in every bit what
 * it had set. SDM vol. 2A IRET, as measured on processors: a stack segment with B = 0 takes only bits 15:0.
 */
import type { CaseInfo } from '../kernel/image.ts';
import {
  type CaseLine,
  type CodeSegmentKind,
  type ReturnPath,
  type StackSegmentKind,
  vectorNames,
} from '../kernel/report.ts';

/**
 * What stands in ESP[31:16] after the return: what user space had there, the kernel's stack pointer bits, or
 * neither; `lost` if the task never got there.
 */
export type Found = 'own' | 'kernel' | 'other' | 'lost';

/** A case with its judgement. */
export interface JudgedCase {
  readonly cpu: number;
  readonly path: ReturnPath;
  readonly cs: CodeSegmentKind;
  readonly ss: StackSegmentKind;
  /** A question of the review that the case answers, or `-`. */
  readonly name: string;
  /** ESP as user space set it and as it found it, 32 bits. */
  readonly esp: { readonly set: number; readonly seen: number };
  readonly found: Found;
  /** As the image reports it: `own`, `kernel`, `fault:gp:0000`... */
  readonly result: string;
  /** User space found its own value, or was told of the fault that the frame deserves. */
  readonly ok: boolean;
}

const high = (value: number) => value >>> 16;

/** What the image must report of a case if all is well. */
function wantedResult({ expected }: Pick<CaseInfo, 'expected'>): string {
  if (expected === undefined) return 'own';
  return `fault:${vectorNames[expected.vector]}:${expected.error.toString(16).padStart(4, '0')}`;
}

/**
 * Judges what the image reports, without trusting its own `ok` alone.
 *
 * @param wanted the case as it was built into the image; undefined if no such case was, which is never ok
 */
export function judge(c: CaseLine, wanted: Pick<CaseInfo, 'expected'> | undefined): JudgedCase {
  const lost = c.result === 'missed' || c.result.startsWith('oops:');
  const found: Found = lost
    ? 'lost'
    : high(c.seen) === high(c.set)
      ? 'own'
      : high(c.seen) === high(c.kernel)
        ? 'kernel'
        : 'other';
  return {
    cpu: c.cpu,
    path: c.path,
    cs: c.cs,
    ss: c.ss,
    name: c.name,
    esp: { set: c.set, seen: c.seen },
    found,
    result: c.result,
    ok: c.ok && c.seen === c.set && wanted !== undefined && c.result === wantedResult(wanted),
  };
}
