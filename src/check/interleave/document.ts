/** docs/interleavings.md: what was explored of which kernel, what was found, and what that says of the reviewer's questions. */
import type { ImageName } from '../../kernel/variants/gallery/names.ts';
import { builtinWindow, type WindowName, windowTitles } from './builtin.ts';
import {
  exploreInterleavings,
  type InterleavingFinding,
  type InterleavingOptions,
  type InterleavingReport,
} from './interleavings.ts';

/** A row of the table. */
export interface Row {
  readonly kernel: ImageName;
  readonly window: WindowName;
  readonly cpus: number;
  readonly preemptions: number;
  /** Goes on though something was found with fewer preemptions. */
  readonly onward?: boolean;
  /** Takes tens of seconds. */
  readonly slow?: boolean;
}

export interface Section {
  readonly title: string;
  readonly text: string;
  readonly rows: readonly Row[];
}

const two = { cpus: 2, preemptions: 2 } as const;

export const sections: readonly Section[] = [
  {
    title: 'Question 5: is a single static bool enough for "initialized"?',
    text: `Under a lock, looked at again inside it and set last, it is (\`set-up-at-modify-ldt\`), and so is the prototype's walk of all
entries. Without the lock, or set before the work is done, one preemption is enough to break it; and the top-level entry of the page tables,
which is written first, is no substitute.`,
    rows: [
      { kernel: 'prototype', window: 'set-up', ...two, slow: true },
      { kernel: 'set-up-at-modify-ldt', window: 'set-up', ...two },
      { kernel: 'set-up-at-modify-ldt', window: 'set-up', cpus: 3, preemptions: 1, slow: true },
      { kernel: 'static-bool', window: 'set-up', ...two },
      { kernel: 'static-bool-early', window: 'set-up', ...two },
      { kernel: 'tables-published-early', window: 'set-up', ...two },
    ],
  },
  {
    title: 'Question 6: page tables apart from per-CPU set-up, once, from boot or from modify_ldt?',
    text: `Either will do, if it is for all processors at once. After set-up at boot processors share no memory that one of them writes, but for
the LDT of threads: no order of theirs can make a difference. Set-up of the calling processor alone holds as long as every task calls
modify_ldt itself; a thread that uses the LDT of its process on another processor needs no preemption to find no ministack there.`,
    rows: [
      { kernel: 'linux', window: 'set-up', ...two },
      { kernel: 'linux', window: 'returns', ...two },
      { kernel: 'linux', window: 'set-up-and-return', ...two },
      { kernel: 'linux', window: 'threads', ...two },
      { kernel: 'linux', window: 'threads', cpus: 3, preemptions: 1 },
      { kernel: 'set-up-at-modify-ldt', window: 'set-up-and-return', ...two },
      { kernel: 'set-up-at-modify-ldt', window: 'threads', ...two },
      { kernel: 'set-up-at-modify-ldt', window: 'threads', cpus: 3, preemptions: 1 },
      { kernel: 'set-up-own-cpu', window: 'set-up', ...two },
      { kernel: 'set-up-own-cpu', window: 'threads', ...two },
      { kernel: 'prototype', window: 'set-up-and-return', ...two },
      { kernel: 'prototype', window: 'threads', ...two },
    ],
  },
  {
    title: 'One ministack a processor',
    text: "Two processors with one ministack take each other's frames with one preemption.",
    rows: [
      { kernel: 'linux', window: 'returns', cpus: 3, preemptions: 2 },
      { kernel: 'prototype', window: 'returns', ...two },
      { kernel: 'ministack-shared', window: 'returns', ...two, onward: true },
    ],
  },
];

/** Explores what a row says. */
export function exploreRow(row: Row, options: InterleavingOptions = {}): InterleavingReport {
  const { kernel, window, cpus, preemptions, onward = false } = row;
  return exploreInterleavings(builtinWindow(kernel, window, { cpus }), { preemptions, onward, ...options });
}

/** A row's line of the table. */
export function rowLine(row: Row, report: InterleavingReport): string {
  const last = report.bounds[report.bounds.length - 1];
  return `| ${verdictCells(row, report)} | ${cells([
    last.shared,
    last.turns,
    last.merged,
    last.points,
    last.preempted,
    report.bounds.every(({ complete }) => complete) ? `all with up to ${last.preemptions}` : 'bounded',
  ])} |`;
}

/** The row's cells that say what was found. */
export function verdictCells(row: Row, report: InterleavingReport): string {
  const { verdict, findings } = report;
  const what = findings.map((finding) => `${finding.what} (${counted(finding.preemptions, 'preemption')})`);
  return cells([
    `\`${row.kernel}\``,
    `\`${row.window}\``,
    row.cpus,
    row.preemptions,
    verdict === 'findings' ? what.join('; ') : verdict,
  ]);
}

const cells = (values: readonly (string | number)[]) => values.join(' | ');
const counted = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;

/** The document, of what each row's exploration came to. */
export function document(reportOf: (row: Row) => InterleavingReport): string {
  const lines: string[] = [intro];
  for (const { title, text, rows } of sections) {
    const reports = rows.map((row) => [row, reportOf(row)] as const);
    lines.push(`## ${title}`, '', text, '', ...head);
    for (const [row, report] of reports) lines.push(rowLine(row, report));
    lines.push('');
    for (const [row, report] of reports)
      for (const finding of report.findings) lines.push(...story(row, finding), '');
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

const titles = [
  'kernel',
  'window',
  'CPUs',
  'preemptions',
  'verdict',
  'shared',
  'turns',
  'merged',
  'points',
  'preempted',
  'schedules',
];
const head = [`| ${titles.join(' | ')} |`, `| ${titles.map(() => '---').join(' | ')} |`];

/** Lines that tell a finding of a row. */
export function story({ kernel, window }: Row, finding: InterleavingFinding): string[] {
  return [
    `- \`${kernel}\`, \`${window}\`: **${finding.what}** (${finding.property}, ${counted(finding.preemptions, 'preemption')}).`,
    ...finding.details.map((detail) => `  ${detail}.`),
    ...finding.turns.map(
      ({ cpu, instructions, at }, i) =>
        `  ${i + 1}. CPU ${cpu} runs ${counted(instructions, 'instruction')}, to \`${at}\`.`,
    ),
  ];
}

const intro = `# Interleavings of processors

Generated by \`npm run docs:interleavings\`; \`src/check/interleave/document.test.ts\` holds it to what it says.

Set-up of ministacks by several processors at once, and returns to 16-bit stacks beside it, in every schedule with a bounded number of
preemptions: a processor goes on until it has done its part or waits, but for as many times as the bound says, where another
takes over between any two instructions. All schedules of a bound are explored; those that differ only in the order of
instructions that share no memory are equal, and one of each is run. How, and why that is enough, is at the head of
\`src/check/interleave/search.ts\`; its test compares it with going through every interleaving of random programs.

At the end of each schedule all processors are back in user mode. Judged are: no exception in the kernel; no deadlock; user space sees
what it sees if the processors do their parts one after another; and of ministacks, that each processor's own is mapped at
all 65,536 aliases to the page that the kernel writes, that no two processors have bytes in common, that no TLB holds another
translation, and that no page taken for the tables is lost.

Not explored: more preemptions than the bound; the effects of store buffers, which let a load pass an earlier store to another address (SDM
Vol. 3A, Section 8.2.3.4), as an instruction of the machine is done when the next begins; parts of an instruction without LOCK that reads
and writes memory.

\`espfix check --interleavings --variant NAME\` explores the windows of one kernel, with \`--preemptions N\` and \`--cpus N\`.

Windows:

${Object.entries(windowTitles)
  .map(([name, title]) => `- \`${name}\`: ${title}.`)
  .join('\n')}

Columns: **preemptions**, the bound; **shared**, dwords of memory that several processors touch and one of them writes, page-table entries
with their accessed and dirty flags among them; **turns**, runs of one processor that were made with the last bound; **merged**, those that
came to a state that had been gone on from before; **points**, boundaries before accesses to shared memory at which a preemption was allowed;
**preempted**, those at which one was tried, as it could make a difference; **schedules**, whether all of them were explored. Exploration ends at
the bound with which something is found.
`;
