/** What exploring interleavings came to, for people. */
import type { InterleavingFinding, InterleavingReport } from './interleavings.ts';

const counted = (count: number, what: string) =>
  `${count.toLocaleString('en-US')} ${what}${count === 1 ? '' : 's'}`;

/** One window of a kernel: the verdict, how much was done, and each finding with its shortest schedule. */
export function interleavingText(report: InterleavingReport): string {
  const { subject, window, cpus, verdict, bounds, findings } = report;
  const last = bounds[bounds.length - 1];
  const complete = bounds.every((bound) => bound.complete);
  return [
    `${subject}, ${counted(cpus, 'processor')}: ${verdict}`,
    `  ${window}`,
    `  ${complete ? 'every schedule' : 'not every schedule'} with up to ${counted(last.preemptions, 'preemption')}; ` +
      `${counted(last.shared, 'dword')} shared; ${counted(last.turns, 'turn')}, ${last.merged.toLocaleString('en-US')} merged; ` +
      `${last.preempted.toLocaleString('en-US')} of ${counted(last.points, 'point')} preempted`,
    ...findings.flatMap(findingLines),
    '',
  ].join('\n');
}

function findingLines(finding: InterleavingFinding, i: number): string[] {
  const { property, what, preemptions, details, turns } = finding;
  return [
    '',
    `  ${i + 1}. ${property}: ${what} (${counted(preemptions, 'preemption')})`,
    ...details.map((detail) => `     ${detail}`),
    ...turns.map(
      ({ cpu, instructions, at }) => `     CPU ${cpu} runs ${counted(instructions, 'instruction')}, to ${at}`,
    ),
  ];
}
