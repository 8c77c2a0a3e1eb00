/** The report for people: findings by cause, shortest schedule first, then what was explored. */
import type { Finding, Place, Step, VisitReport } from '../finding.ts';
import {
  type CheckReport,
  describeCoverage,
  describeExtent,
  describeOccurrences,
  describeSchedule,
  describeVisit,
  hex,
  highlights,
  plural,
  printable,
  type ReportedSubject,
  type Told,
  titleOf,
} from './check-report.ts';

/** What text may look like; the default leaves it plain. */
export interface Style {
  bold(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  dim(text: string): string;
}

const PLAIN: Style = {
  bold: (text) => text,
  red: (text) => text,
  green: (text) => text,
  yellow: (text) => text,
  dim: (text) => text,
};

export interface TextOptions {
  /** Lists each boundary and what interrupted it. */
  readonly coverage?: boolean;
  readonly style?: Style;
}

/** The whole report, ending with a newline. */
export function textReport({ subjects }: CheckReport, options: TextOptions = {}): string {
  const style = options.style ?? PLAIN;
  return printable(subjects)
    .map((subject) => subjectText(subject, options.coverage ?? false, style))
    .join('\n');
}

function subjectText({ report, told }: ReportedSubject, coverage: boolean, style: Style): string {
  const { findings, verdict, subject, depth } = report;
  const paint = { clean: style.green, findings: style.red, inconclusive: style.yellow }[verdict];
  const summary =
    verdict === 'findings'
      ? plural(findings.length, 'finding')
      : verdict === 'clean'
        ? 'clean'
        : 'inconclusive: nothing was found, but not everything was tried';
  const lines = [`${style.bold(subject)}, depth ${depth}: ${paint(summary)}`, ''];
  findings.forEach((finding, i) => {
    lines.push(...findingLines(finding, told[i] ?? {}, i + 1, report.visits, style), '');
  });
  lines.push(...describeExtent(report).map((line) => `  ${line}`));
  lines.push(`  events: ${report.events.join(', ') || 'none'}; properties: ${report.properties.join(', ')}`);
  lines.push(
    `  ${plural(report.seen, 'visit')} seen while watching, ${report.visits.length} of them distinct` +
      `${report.leftOut > 0 ? `; ${report.leftOut} left out as services` : ''}`,
  );
  for (const note of report.notes) lines.push(`  ${style.yellow('note')}: ${note}`);
  if (coverage) for (const visit of report.visits) lines.push('', ...coverageLines(visit, style));
  return `${lines.join('\n')}\n`;
}

function findingLines(
  finding: Finding,
  told: Told,
  number: number,
  visits: readonly VisitReport[],
  style: Style,
): string[] {
  const lines = [style.bold(style.red(`${number}. ${titleOf(finding)}`))];
  const add = (label: string, texts: readonly string[]) =>
    texts.forEach((text, i) => {
      lines.push(`   ${style.dim((i === 0 ? label : '').padEnd(10))} ${text}`);
    });
  add('schedule', [describeSchedule(finding.schedule), `in ${describeVisit(finding.visit)}`]);
  add(
    'struck',
    finding.struck.map(({ event, place }) => `${event} at ${place.name}: ${place.text}`),
  );
  add('what', finding.details);
  if (finding.rip !== undefined && finding.struck.every(({ place }) => place.address !== finding.rip))
    add('at', [hex(finding.rip)]);
  add(
    'registers',
    columns(finding.registers.map(({ name, expected, found }) => [name, found, `instead of ${expected}`])),
  );
  for (const { location, birth, hops } of finding.provenance)
    add('leaked', [
      `${location}: ${birth}`,
      ...columns(hops.map(({ at, place, text }) => [`  ${at}`, place.name, place.text, text])),
    ]);
  add(
    'story',
    told.story
      ? [...stepLines(highlights(told.story, 4, 6), style), `${told.story.ending}, at ${told.story.end.name}`]
      : aroundStrike(finding, visits, style),
  );
  if (finding.count > 1) add('seen', [describeOccurrences(finding, 8)]);
  if (told.replay !== undefined) add('replay', [told.replay]);
  return lines;
}

/** Rows with their columns aligned; the last is left ragged. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows.reduce<number[]>(
    (known, row) => row.map((cell, i) => Math.max(known[i] ?? 0, cell.length)),
    [],
  );
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd(),
  );
}

/** Steps of a story, a line each, with a line for each event and for what is left out. */
export function stepLines(shown: readonly (Step | number)[], style: Style = PLAIN): string[] {
  const width = Math.min(
    40,
    shown.reduce<number>(
      (most, step) => (typeof step === 'number' ? most : Math.max(most, step.place.name.length)),
      0,
    ),
  );
  const lines: string[] = [];
  for (const step of shown) {
    if (typeof step === 'number') {
      lines.push(style.dim(`        ... ${plural(step, 'step')} more`));
      continue;
    }
    for (const event of step.strikes) lines.push(style.red(`------- ${event} strikes`));
    lines.push(stepLine(step, width, style));
  }
  return lines;
}

function stepLine({ at, place, cpl, rsp, gsBase, delivered }: Step, width: number, style: Style): string {
  const state = style.dim(
    `CPL ${cpl} RSP ${rsp.toString(16).padStart(16, '0')} GS ${gsBase.toString(16).padStart(16, '0')}`,
  );
  const line = `${String(at).padStart(6)}  ${place.name.padEnd(width)}  ${state}  ${place.text}`;
  return delivered === undefined ? line : `${line}  ${style.yellow(`-> ${delivered}`)}`;
}

/** The instructions of the visit around where the first event struck. */
function aroundStrike(finding: Finding, visits: readonly VisitReport[], style: Style): string[] {
  const at = finding.schedule[0]?.at;
  const coverage = visits.find(({ visit }) => visit.id === finding.visit.id)?.coverage ?? [];
  const middle = coverage.findIndex((boundary) => boundary.at === at);
  if (middle < 0) return [];
  const rows = coverage.slice(Math.max(0, middle - 4), middle + 7);
  const text = columns(rows.map((row) => [String(row.at).padStart(6), row.place.name, row.place.text]));
  return text.map((line, i) => (rows[i].at === at ? style.red(`> ${line}`) : `  ${line}`));
}

function coverageLines(
  { visit, returnsTo, coverage, skipped, ...counts }: VisitReport,
  style: Style,
): string[] {
  const head = `  ${style.bold(`visit ${visit.id}: ${visit.entry}`)}, to ${returnsTo}, ${plural(visit.occurrences, 'occurrence')}`;
  if (skipped !== undefined) return [`${head}: not explored: ${skipped}`];
  const extent = `${plural(counts.experiments, 'experiment')}, ${counts.complete ? 'complete' : `bounded at ${counts.bounded}`}`;
  const row = (at: number, cpl: number, place: Place, events: string) => [
    String(at).padStart(8),
    `CPL ${cpl}`,
    place.name,
    place.text,
    events || '-',
  ];
  return [
    `${head}: ${extent}`,
    ...columns(coverage.map(({ at, cpl, place, events }) => row(at, cpl, place, describeCoverage(events)))),
  ];
}
