/** The report for programs. Its schema is docs/check-report.schema.json; addresses are strings, `0x` and hexadecimal digits. */
import type { ScheduledEvent } from '../event.ts';
import type { Finding, Place, Story, VisitReport, VisitSummary } from '../finding.ts';
import { type CheckReport, hex, type ReportedSubject, verdictOf } from './check-report.ts';

/** The report as plain JSON data. */
export function reportJson({ version, subjects }: CheckReport) {
  return {
    format: 'espfix-check-report',
    version: 1,
    espfix: version,
    verdict: verdictOf(subjects.map(({ report }) => report)),
    subjects: subjects.map(subjectJson),
  };
}

function subjectJson({ report, file, told }: ReportedSubject) {
  return {
    subject: report.subject,
    file: file ?? null,
    verdict: report.verdict,
    depth: report.depth,
    events: report.events,
    properties: report.properties,
    experiments: report.experiments,
    seen: report.seen,
    leftOut: report.leftOut,
    unfinished: report.unfinished,
    notes: report.notes,
    findings: report.findings.map((finding, i) => findingJson(finding, told[i]?.story, told[i]?.replay)),
    visits: report.visits.map(visitJson),
  };
}

const placeJson = ({ address, name, text }: Place) => ({ address: hex(address), name, text });

const summaryJson = ({ id, cpu, entry, start, boundaries, occurrences }: VisitSummary) => ({
  id,
  cpu,
  entry,
  start,
  boundaries,
  occurrences,
});

/** An event of a schedule as JSON. */
const eventJson = ({ kind, at, vector, fault, pointer }: ScheduledEvent) => ({
  kind,
  at,
  ...(vector !== undefined && { vector }),
  ...(fault && {
    fault: {
      vector: fault.vector,
      ...(fault.error !== undefined && { error: fault.error }),
      ...(fault.address !== undefined && { address: hex(fault.address) }),
    },
  }),
  ...(pointer !== undefined && { pointer: hex(pointer) }),
});

function findingJson(finding: Finding, story: Story | undefined, replay: string | undefined) {
  return {
    property: finding.property,
    what: finding.what,
    details: finding.details,
    rip: finding.rip === undefined ? null : hex(finding.rip),
    visit: summaryJson(finding.visit),
    schedule: finding.schedule.map(eventJson),
    struck: finding.struck.map(({ event, place }) => ({ event, place: placeJson(place) })),
    registers: finding.registers,
    provenance: finding.provenance.map(({ location, birth, hops }) => ({
      location,
      birth,
      hops: hops.map(({ at, place, text }) => ({ at, place: placeJson(place), text })),
    })),
    count: finding.count,
    alsoAt: finding.alsoAt,
    replay: replay ?? null,
    story: story
      ? {
          steps: story.steps.map(({ at, place, cpl, rsp, gsBase, nesting, strikes, delivered }) => ({
            at,
            place: placeJson(place),
            cpl,
            rsp: hex(rsp),
            gsBase: hex(gsBase),
            nesting,
            strikes,
            delivered: delivered ?? null,
          })),
          omitted: story.omitted,
          ending: story.ending,
          end: placeJson(story.end),
        }
      : null,
  };
}

function visitJson(report: VisitReport) {
  return {
    ...summaryJson(report.visit),
    returnsTo: report.returnsTo,
    experiments: report.experiments,
    tried: report.boundaries,
    merged: report.merged,
    bounded: report.bounded,
    complete: report.complete,
    skipped: report.skipped ?? null,
    notes: report.notes,
    coverage: report.coverage.map(({ at, place, cpl, events }) => ({
      at,
      place: placeJson(place),
      cpl,
      events,
    })),
  };
}

export type ReportJson = ReturnType<typeof reportJson>;
