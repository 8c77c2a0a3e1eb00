/** The check of a subject as a plan says. */
import {
  type CheckSubjectOptions,
  mergeReports,
  type OpenSubject,
  openSubject,
  type VisitResult,
} from './check-subject.ts';
import type { SubjectReport } from './finding.ts';
import type { PlannedCheck } from './plan.ts';

/** Ids of the visits that the plan selects, in order. */
export function selectVisits(open: OpenSubject, { selects, mostVisits }: PlannedCheck): number[] {
  const selected: number[] = [];
  for (const { id, entry, returnsTo } of open.recording.visits) {
    if (selected.length >= (mostVisits ?? Number.POSITIVE_INFINITY)) break;
    let path: ReadonlySet<bigint> | undefined;
    const executes = (address: bigint) => {
      path ??= open.path(id);
      return path.has(address);
    };
    if (selects({ id, entry, returnsTo }, executes)) selected.push(id);
  }
  return selected;
}

/** Checks in this thread. @param options over what the plan says */
export function checkPlanned(
  planned: PlannedCheck,
  options: Omit<CheckSubjectOptions, 'visits'> = {},
): SubjectReport {
  const open = openSubject(planned.subject);
  const { depth, without, most, turns } = planned;
  const settings = {
    without,
    ...(depth !== undefined && { depth }),
    ...(most !== undefined && { most }),
    ...(turns !== undefined && { turns }),
    ...options,
  };
  const selected = new Set(selectVisits(open, planned));
  const visits = open.recording.visits.filter(({ id }) => selected.has(id));
  const results: VisitResult[] = [];
  for (const { id } of visits) {
    if (options.stop?.()) break;
    results.push(open.exploreVisit(id, settings));
  }
  return mergeReports(planned.subject, { ...open.recording, visits }, results, settings);
}
