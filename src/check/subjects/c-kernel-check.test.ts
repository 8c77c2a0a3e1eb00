/**
 * The checker on a kernel that was written without a look at it: nothing to complain of in the sound one, and each planted
 * mistake found, at the instruction where it is.
 */
import { describe, expect, it } from 'vitest';
import { type CheckSubjectOptions, checkSubject } from '../check-subject.ts';
import type { PropertyName } from '../finding.ts';
import { imageSubject } from '../foreign.ts';
import { buildCKernel, type CKernelBug, type CKernelOptions, cKernelHere } from './c-kernel.fixture.ts';

const WATCH = 1_500_000;

function check(kernel: CKernelOptions, options: CheckSubjectOptions = {}) {
  const subject = imageSubject(buildCKernel({ ...kernel, format: 'elf64' }), { watch: WATCH });
  return checkSubject(subject, { most: 800, ...options });
}

interface Planted {
  readonly bug: CKernelBug;
  readonly plainTasks: boolean;
  readonly options?: CheckSubjectOptions;
  /** What one of the findings must say. */
  readonly property: PropertyName;
  readonly what: RegExp;
  /** Where its last event struck. */
  readonly at?: RegExp;
}

const planted: readonly Planted[] = [
  {
    bug: 'BUG_NMI_CS_ONLY',
    plainTasks: true,
    options: { events: ['nmi'] },
    property: 'gs',
    what: /through user mode's GS base/,
    at: /^syscall_entry \(entry\.S:\d+\)/m,
  },
  {
    bug: 'BUG_NMI_NO_IST',
    plainTasks: true,
    options: { events: ['nmi'] },
    property: 'stack',
    what: /pushed to user mode's stack/,
    at: /^syscall_entry/m,
  },
  {
    bug: 'BUG_MC_NO_IST',
    plainTasks: true,
    options: { events: ['mc'] },
    property: 'stack',
    what: /pushed to user mode's stack/,
    at: /^syscall_entry/m,
  },
  {
    bug: 'BUG_DB_CS_ONLY',
    plainTasks: false,
    options: { events: ['mov-ss'] },
    property: 'gs',
    what: /through user mode's GS base/,
    at: /^run\+/m,
  },
  {
    bug: 'BUG_SYSRET_UNCHECKED',
    plainTasks: false,
    options: { depth: 0 },
    property: 'progress',
    what: /gives up/,
  },
  {
    bug: 'BUG_LEAK_R11',
    plainTasks: true,
    options: { depth: 0 },
    property: 'kernel-bits',
    what: /r11 holds bits of kernel stack pointer/,
  },
  {
    bug: 'BUG_NMI_BREAKPOINT',
    plainTasks: true,
    options: { depth: 2, events: ['nmi'], most: 400, visits: ({ id }) => id === 0 },
    property: 'stack',
    what: /an IRET takes a frame that another was pushed over/,
    at: /^nmi/m,
  },
  {
    bug: 'BUG_TIMER_LOCK',
    plainTasks: true,
    options: { depth: 2, events: ['irq'] },
    property: 'progress',
    what: /does not come back to user mode/,
    at: /^system_call/m,
  },
  ...(
    [
      ['BUG_NMI_GLOBAL', /finds another rax/],
      ['BUG_NMI_OTHER_STACK', /finds another r12/],
      ['BUG_NMI_INVLPG', /finds another rax/],
      ['BUG_NMI_CMOS', /finds another rax/],
    ] as const
  ).map(([bug, what]) => ({
    bug,
    what,
    plainTasks: true,
    options: { events: ['nmi'], most: 3_000 } as const,
    property: 'transparent' as const,
  })),
];

describe.skipIf(!cKernelHere())('the C kernel', () => {
  it.each([true, false])('is sound, with plain tasks: %s', (plainTasks) => {
    const { findings, visits, experiments } = check({ plainTasks }, { most: 200 });
    expect(findings).toEqual([]);
    expect(visits.length).toBeGreaterThan(10);
    expect(experiments).toBeGreaterThan(1500);
  });

  it.each(planted)('$bug is found', ({ bug, plainTasks, options, property, what, at }) => {
    const { findings } = check({ bug, plainTasks }, options);
    const found = findings.filter((finding) => finding.property === property && what.test(finding.what));
    expect(found.length).toBeGreaterThan(0);
    if (at) expect(found.map(({ struck }) => struck.at(-1)?.place.name).join('\n')).toMatch(at);
  });
});
