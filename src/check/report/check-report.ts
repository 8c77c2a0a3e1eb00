/** What all report formats print: the reports of one run of the checker. */
import type { ScheduledEvent } from '../event.ts';
import { describeEvent } from '../event.ts';
import type { Finding, Step, Story, SubjectReport, VisitReport } from '../finding.ts';

export interface CheckReport {
  /** Of espfix. */
  readonly version: string;
  readonly subjects: readonly ReportedSubject[];
}

export interface ReportedSubject {
  readonly report: SubjectReport;
  /** The image's file, where it has one. */
  readonly file?: string;
  /** For the finding of the same index: its story, and the command that replays it. */
  readonly told: readonly Told[];
}

export interface Told {
  readonly story?: Story;
  readonly replay?: string;
}

export type Verdict = SubjectReport['verdict'];

/** Of all subjects together: findings outweigh what is inconclusive. */
export function verdictOf(reports: readonly SubjectReport[]): Verdict {
  for (const verdict of ['findings', 'inconclusive'] as const)
    if (reports.some((report) => report.verdict === verdict)) return verdict;
  return 'clean';
}

/** `0x` and at least so many hexadecimal digits. */
export const hex = (value: bigint | number, digits = 16) => `0x${value.toString(16).padStart(digits, '0')}`;

/** `1,234` */
export const count = (n: number) => n.toString().replace(/\B(?=(\d{3})+$)/g, ',');

/** `1 visit`, `2 visits` */
export const plural = (n: number, noun: string) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;

/** `by 3 schedules, at entry+0x10, entry+0x12`; `in 3 visits` where it takes no event. @param most places to name */
export function describeOccurrences({ count: n, alsoAt, schedule }: Finding, most: number): string {
  if (schedule.length === 0) return `in ${plural(n, 'visit')}`;
  const others = alsoAt.slice(0, most).join(', ');
  return `by ${plural(n, 'schedule')}, at ${others}${alsoAt.length > most ? ', ...' : ''}`;
}

/** `NMI at boundary 17, then #MC at boundary 20` */
export function describeSchedule(schedule: readonly ScheduledEvent[]): string {
  if (schedule.length === 0) return 'no event';
  return schedule.map((event) => `${describeEvent(event)} at boundary ${event.at}`).join(', then ');
}

/** `gs: the kernel accesses ...` */
export const titleOf = ({ property, what }: Finding) => `${property}: ${what}`;

/** `SYSCALL (visit 3, processor 0, 2485 instructions from power-on)` */
export function describeVisit({ entry, id, cpu, start }: Finding['visit']): string {
  return `${entry} (visit ${id}, processor ${cpu}, ${count(start)} instructions from power-on)`;
}

/** How much was tried, and whether that is all that there is to the depth: a sentence or two. */
export function describeExtent(report: SubjectReport): string[] {
  const { visits, depth } = report;
  const explored = visits.filter(({ skipped }) => skipped === undefined);
  const complete = explored.filter((visit) => visit.complete).length;
  const merged = visits.reduce((sum, visit) => sum + visit.merged, 0);
  const boundaries = visits.reduce((sum, visit) => sum + visit.boundaries, 0);
  return [
    `${plural(report.experiments, 'experiment')} at ${plural(boundaries, 'boundary').replace('boundarys', 'boundaries')} of ` +
      `${plural(explored.length, 'visit')}${merged > 0 ? `; ${count(merged)} states were equal to earlier ones` : ''}`,
    explored.length === 0
      ? 'no visit was explored'
      : complete === explored.length
        ? `each of these was explored completely: every schedule of up to ${plural(depth, 'event')} was tried or equals one that was`
        : `${complete} of ${plural(explored.length, 'visit')} explored completely to depth ${depth}; the rest was bounded`,
  ];
}

/** Runs of steps worth showing: around strikes and deliveries, and the end. Undefined stands for what is left out. */
export function highlights(story: Story, before: number, after: number): (Step | number)[] {
  const { steps, omitted } = story;
  const keep = new Set<number>();
  const around = (i: number, from: number, to: number) => {
    for (let k = Math.max(0, i - from); k <= Math.min(steps.length - 1, i + to); k++) keep.add(k);
  };
  steps.forEach(({ strikes }, i) => {
    if (strikes.length > 0) around(i, before, after);
  });
  let deliveries = 0;
  steps.forEach(({ delivered }, i) => {
    if (delivered !== undefined && deliveries++ < 16) around(i, 1, 2);
  });
  around(0, 0, 1);
  if (omitted === 0) around(steps.length - 1, 3, 0);
  const shown: (Step | number)[] = [];
  let left = 0;
  steps.forEach((step, i) => {
    if (!keep.has(i)) {
      left++;
      return;
    }
    if (left > 0) shown.push(left);
    left = 0;
    shown.push(step);
  });
  if (left + omitted > 0) shown.push(left + omitted);
  return shown;
}

/** Events of a visit's boundary: `NMI 1, IRQ 2`; empty if none. */
export function describeCoverage(events: VisitReport['coverage'][number]['events']): string {
  return Object.entries(events)
    .map(([kind, n]) => (n === 1 ? kind : `${kind} x${n}`))
    .join(', ');
}

/** Data with the control characters of all its texts escaped: a kernel's symbols must not move the terminal's cursor. */
export function printable<T>(data: T): T {
  if (typeof data === 'string')
    return Array.from(data, (character) => {
      const code = character.charCodeAt(0);
      return code < 0x20 || (code >= 0x7f && code < 0xa0)
        ? `\\x${code.toString(16).padStart(2, '0')}`
        : character;
    }).join('') as T;
  if (Array.isArray(data)) return data.map(printable) as T;
  if (typeof data !== 'object' || data === null) return data;
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, printable(value)])) as T;
}
