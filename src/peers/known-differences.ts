/**
 * Where a peer is known to print another line than our machine for the same image, and how it is known who is
 * right. Everything else must be equal.
 */
import type { CaseLine } from '../kernel/report.ts';
import type { Peer } from './peer.ts';

export interface KnownDifference {
  readonly peer: Peer['name'];
  readonly what: string;
  /** Silicon where it was measured, else the manual. */
  readonly evidence: string;
  /** The peer's line as it would be without this difference, where the difference is what sets it apart from ours. */
  correct(ours: CaseLine, theirs: CaseLine): CaseLine;
}

const low = (value: bigint) => value & 0xffff_ffffn;

/** #NP in place of #SS, of the same selector. */
function stackNotPresent(ours: CaseLine, theirs: CaseLine): CaseLine {
  const [kind, exception, selector] = ours.result.split(':');
  const swapped = kind === 'fault' && exception === 'ss' && theirs.result === `fault:np:${selector}`;
  return swapped ? { ...theirs, result: ours.result } : theirs;
}

const STACK_NOT_PRESENT = {
  what: 'IRETQ with a stack segment that is not present raises #NP in place of #SS',
  evidence:
    'Intel (family 6 model 207): IRETQ at CPL 3 with SS = 0x27, a segment of the LDT that is not present, raises #SS(0x24). ' +
    'SDM vol. 3A 6.15, interrupt 12: "loading the SS register with a selector to a segment that is marked not present".',
  correct: stackNotPresent,
};

export const knownDifferences: readonly KnownDifference[] = [
  { peer: 'qemu', ...STACK_NOT_PRESENT },
  { peer: 'bochs', ...STACK_NOT_PRESENT },
  {
    peer: 'qemu',
    what: 'IRETQ to compatibility mode with a 16-bit stack keeps RSP[63:32]; user space that goes on in 64-bit mode sees it',
    evidence:
      'Intel (family 6 models 85 and 207): zero in every case, read back in 64-bit code after a far jump (docs/espfix.md). Bochs agrees.',
    correct: (ours, theirs) =>
      ours.rsp === low(theirs.rsp) && ours.rsp !== theirs.rsp ? { ...theirs, rsp: ours.rsp } : theirs,
  },
  {
    peer: 'qemu',
    what: 'IRETQ to a RIP that is not canonical completes, and the #GP comes from user mode, off the ministack',
    evidence:
      'Intel (family 6 model 207): IRETQ at CPL 3 with RIP = 0x800000000000 in the frame raises #GP(0) with RIP at the IRETQ ' +
      'itself and RSP unchanged. SDM vol. 2A, IRET, 64-bit mode exceptions, #GP(0). Bochs agrees.',
    correct: (ours, theirs) =>
      ours.cs === 'non-canonical-rip' && ours.result === 'oops:df' && theirs.result === 'fault:gp:0000'
        ? ours
        : theirs,
  },
];
