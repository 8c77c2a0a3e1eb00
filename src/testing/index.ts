/**
 * Checks of kernels as tests: plain functions, and a matcher for Vitest and Jest.
 *
 * ```ts
 * import { expect, it } from 'vitest';
 * import { imageSubject, matchers } from 'espfix/testing';
 *
 * expect.extend(matchers);
 * it('survives NMIs', () => expect(imageSubject(image)).toSurvive(['nmi'], { depth: 2 }));
 * ```
 */
import { checkPlanned } from '../check/check-planned.ts';
import type { CheckSubjectOptions } from '../check/check-subject.ts';
import { type EventKind, eventKinds } from '../check/event.ts';
import type { SubjectReport } from '../check/finding.ts';
import { applyPlan, type Plan, parsePlan } from '../check/plan.ts';
import { textReport } from '../check/report/text.ts';
import type { Subject } from '../check/subject.ts';

export { type BuiltinOptions, builtinSubject } from '../check/builtin.ts';
export { type CheckSubjectOptions, checkSubject } from '../check/check-subject.ts';
export { type EventKind, eventKinds, type Schedule, type ScheduledEvent } from '../check/event.ts';
export type { Finding, PropertyName, SubjectReport, VisitReport } from '../check/finding.ts';
export { type ImageSubjectOptions, imageSubject } from '../check/foreign.ts';
export type { Plan } from '../check/plan.ts';
export { PlanError } from '../check/plan-error.ts';
export type { Subject } from '../check/subject.ts';
export { SubjectError } from '../check/subject-error.ts';

export interface SurviveOptions extends Omit<CheckSubjectOptions, 'events' | 'visits'> {
  /** What a plan file may say; what is given beside it counts more. */
  readonly plan?: Plan;
}

/** Whether a kernel survives, and the report that says so. */
export interface Survival {
  /** Clean: nothing was found, and everything was tried. */
  readonly survives: boolean;
  readonly report: SubjectReport;
  /** The report for people. */
  readonly text: string;
}

/**
 * Checks a kernel in this thread.
 * @param events to interrupt it by; default: what the subject, or the plan, has
 * Throws PlanError for a plan that does not fit, RangeError for an event that there is not.
 */
export function survival(
  subject: Subject,
  events?: readonly EventKind[],
  { plan, ...options }: SurviveOptions = {},
): Survival {
  for (const kind of events ?? [])
    if (!(eventKinds as readonly EventKind[]).includes(kind))
      throw new RangeError(`event "${kind}": expected one of ${eventKinds.join(', ')}`);
  const planned = applyPlan(subject, parsePlan(plan ?? {}, 'the plan'), 'the plan');
  const report = checkPlanned(planned, { ...options, ...(events && { events }) });
  return {
    survives: report.verdict === 'clean',
    report,
    text: textReport({ version: '', subjects: [{ report, told: [] }] }),
  };
}

interface MatcherResult {
  readonly pass: boolean;
  message(): string;
}

/** For `expect.extend`. */
export const matchers = {
  /**
   * `expect(kernel).toSurvive(events, { depth })`: no event at any instruction boundary of any visit, and no schedule of up to
   * `depth` of them, violates a property. A check that was not complete fails: nothing was found is not enough.
   */
  toSurvive(received: unknown, events?: readonly EventKind[], options?: SurviveOptions): MatcherResult {
    if (typeof received !== 'object' || received === null || !('image' in received))
      throw new TypeError('toSurvive: expected a subject, as imageSubject and builtinSubject make them');
    const { survives, text } = survival(received as Subject, events, options);
    return {
      pass: survives,
      message: () => (survives ? `expected a finding or an incomplete check\n\n${text}` : text),
    };
  },
};

/** The matchers' types, to be declared to the test runner; see docs/plan.md. */
export interface EspfixMatchers<R = unknown> {
  toSurvive(events?: readonly EventKind[], options?: SurviveOptions): R;
}
