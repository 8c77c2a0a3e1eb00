/** The check of a subject as a plan says. */
import {
  type CheckSubjectOptions,
  mergeReports,
  type OpenSubject,
  openSubject,
  type VisitResult,
} from './check-subject.ts';
import type { Visit } from './explore/visit.ts';
import type { SubjectReport } from './finding.ts';
import type { PlannedCheck, VisitFilter } from './plan.ts';
import { PlanError } from './plan-error.ts';

/** As much of a subject that was watched as selecting asks for. */
export interface Watched extends Pick<OpenSubject, 'path'> {
  readonly recording: {
    readonly visits: readonly Pick<Visit, 'id' | 'entry' | 'returnsTo'>[];
    readonly failures: readonly unknown[];
  };
}

/**
 * Ids of the visits that the plan selects, in order. Throws PlanError where that is none, or where a selector of `visits.only` selects
 * none: there would be nothing that the plan asks for, and the kernel clean. With visits that failed there is something to tell.
 */
export function selectVisits(
  open: Watched,
  { subject, file, selects, wanted, choosesVisits, mostVisits }: PlannedCheck,
): number[] {
  const { visits, failures } = open.recording;
  const paths = new Map<number, ReadonlySet<bigint>>();
  const ids = (filter: VisitFilter, most: number) => {
    const selected: number[] = [];
    for (const { id, entry, returnsTo } of visits) {
      if (selected.length >= most) break;
      const executes = (address: bigint) => {
        const path = paths.get(id) ?? open.path(id);
        paths.set(id, path);
        return path.has(address);
      };
      if (filter({ id, entry, returnsTo }, executes)) selected.push(id);
    }
    return selected;
  };
  const selected = ids(selects, mostVisits ?? Number.POSITIVE_INFINITY);
  if (visits.length === 0 || failures.length > 0) return selected;
  const none = `none of the ${visits.length} visits seen`;
  for (const one of wanted)
    if (ids(one.selects, 1).length === 0) throw new PlanError(`${file}: ${one.field}: selects ${none}`);
  if (selected.length === 0)
    throw new PlanError(
      choosesVisits
        ? `${file}: visits: selects ${none}`
        : `${subject.name}: ${none} is one that is explored unless a plan says so`,
    );
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
