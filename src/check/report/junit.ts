/**
 * The report as JUnit XML, as build servers read it: a suite a subject, a case a finding, and a case a visit without
 * findings.
 */

import type { Finding, VisitReport } from '../finding.ts';
import {
  type CheckReport,
  describeSchedule,
  describeVisit,
  type ReportedSubject,
  type Told,
  titleOf,
} from './check-report.ts';
import { escapeMarkup } from './escape.ts';
import { textReport } from './text.ts';
import { visitNames } from './visit-names.ts';

type Attributes = Readonly<Record<string, string | number>>;

function open(name: string, attributes: Attributes): string {
  return [
    name,
    ...Object.entries(attributes).map(([key, value]) => `${key}="${attribute(`${value}`)}"`),
  ].join(' ');
}

/** Line breaks of an attribute would be read as spaces. */
const attribute = (text: string) =>
  escapeMarkup(text).replace(/\n/g, '&#10;').replace(/\r/g, '&#13;').replace(/\t/g, '&#9;');

/** The document, ending with a newline. */
export function junitReport({ version, subjects }: CheckReport): string {
  const suites = subjects.map((subject) => suite(subject, version));
  const sum = (key: 'tests' | 'failures' | 'skipped') => suites.reduce((n, one) => n + one[key], 0);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<${open('testsuites', { name: 'espfix check', tests: sum('tests'), failures: sum('failures'), errors: 0, skipped: sum('skipped') })}>`,
    ...suites.map(({ xml }) => xml),
    '</testsuites>',
    '',
  ].join('\n');
}

function suite(subject: ReportedSubject, version: string) {
  const { report, told } = subject;
  const names = visitNames(report.visits);
  const cases: string[] = [];
  let skipped = 0;
  for (const [i, finding] of report.findings.entries())
    cases.push(failure(finding, told[i], report.subject, `${titleOf(finding)} (finding ${i + 1})`));
  const guilty = new Set(report.findings.map(({ visit }) => visit.id));
  for (const visit of report.visits) {
    if (guilty.has(visit.visit.id)) continue;
    const why = notTried(visit);
    if (why !== undefined) skipped++;
    const head = open('testcase', { name: names.get(visit.visit.id) ?? '', classname: report.subject });
    cases.push(
      why === undefined
        ? `    <${head}/>`
        : `    <${head}>\n      <${open('skipped', { message: why })}/>\n    </testcase>`,
    );
  }
  const counts = { tests: cases.length, failures: report.findings.length, skipped };
  const properties = [
    ['espfix', version],
    ['verdict', report.verdict],
    ['depth', report.depth],
    ['experiments', report.experiments],
  ].map(([name, value]) => `      <${open('property', { name, value })}/>`);
  return {
    ...counts,
    xml: [
      `  <${open('testsuite', { name: report.subject, ...counts, errors: 0 })}>`,
      '    <properties>',
      ...properties,
      '    </properties>',
      ...cases,
      `    <system-out>${escapeMarkup(textReport({ version, subjects: [subject] }))}</system-out>`,
      '  </testsuite>',
    ].join('\n'),
  };
}

function notTried({ skipped, complete, bounded }: VisitReport): string | undefined {
  if (skipped !== undefined) return skipped;
  return complete ? undefined : `bounded: ${bounded} boundaries were left out`;
}

function failure(finding: Finding, told: Told | undefined, subject: string, name: string): string {
  const text = [
    `${describeSchedule(finding.schedule)}, in ${describeVisit(finding.visit)}`,
    ...finding.struck.map(({ event, place }) => `${event} at ${place.name}: ${place.text}`),
    ...finding.details,
    ...finding.registers.map((r) => `${r.name}: ${r.found} instead of ${r.expected}`),
    ...(told?.replay === undefined ? [] : [told.replay]),
  ].join('\n');
  return [
    `    <${open('testcase', { name, classname: subject })}>`,
    `      <${open('failure', { message: finding.what, type: finding.property })}>${escapeMarkup(text)}</failure>`,
    '    </testcase>',
  ].join('\n');
}
