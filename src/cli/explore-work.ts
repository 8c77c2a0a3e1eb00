/** The pieces of work of an exploration, as worker threads do them. */
import type { MessagePort } from 'node:worker_threads';
import { selectVisits } from '../check/check-planned.ts';
import { type OpenSubject, openSubject, type VisitResult } from '../check/check-subject.ts';
import type { EventKind } from '../check/event.ts';
import type { Failure, Visit } from '../check/explore/visit.ts';
import type { PropertyName } from '../check/finding.ts';
import type { PlannedCheck } from '../check/plan.ts';
import type { KernelStack } from '../check/subject.ts';
import { UserError } from './failure.ts';
import { prepare, type SubjectSpec, specName, subjectFailure } from './subject-spec.ts';

/** How to explore: the same for all visits. */
export interface ExploreSettings {
  readonly depth: number;
  readonly events: readonly EventKind[];
  readonly without: readonly PropertyName[];
  readonly most?: number;
  readonly turns?: number;
}

/** Opens the subject in this thread, and says what was seen of it. */
export interface SurveyTask {
  readonly kind: 'survey';
  readonly spec: SubjectSpec;
}

/** Explores boundaries of a visit. */
export interface VisitTask {
  readonly kind: 'visit';
  readonly spec: SubjectSpec;
  readonly id: number;
  readonly range: readonly [number, number];
  readonly settings: ExploreSettings;
  /** Not 0: end soon. */
  readonly stop: SharedArrayBuffer;
  readonly progress?: MessagePort;
}

export type SurveyedVisit = Omit<Visit, 'begin'>;

/** What watching a subject showed, less its states. */
export interface Survey {
  readonly visits: readonly SurveyedVisit[];
  /** Visits that the plan selects. */
  readonly selected: readonly number[];
  readonly failures: readonly Failure[];
  readonly seen: number;
  readonly unfinished: number;
  readonly leftOut: number;
  readonly reachedUser: boolean;
  /** How the watching ended. */
  readonly ended: string;
  readonly stacks: readonly KernelStack[];
}

interface Opened {
  readonly key: string;
  readonly open: OpenSubject;
  readonly planned: PlannedCheck;
}

let opened: Promise<Opened> | undefined;
let openedKey = '';

/** The subject, opened once in a thread. */
function openOnce(spec: SubjectSpec): Promise<Opened> {
  const key = JSON.stringify(spec);
  if (!opened || openedKey !== key) {
    openedKey = key;
    opened = prepare(spec).then(({ planned }) => {
      try {
        return { key, planned, open: openSubject(planned.subject) };
      } catch (error) {
        throw subjectFailure(specName(spec), error);
      }
    });
  }
  return opened;
}

export async function survey({ spec }: SurveyTask): Promise<Survey> {
  const { open, planned } = await openOnce(spec);
  const { recording, stacks } = open;
  const { visits, failures, seen, unfinished, leftOut, reachedUser, stop } = recording;
  return {
    visits: visits.map(({ begin, ...visit }) => visit),
    selected: selectVisits(open, planned),
    failures,
    seen,
    unfinished,
    leftOut,
    reachedUser,
    ended: stop.reason,
    stacks,
  };
}

/** Milliseconds between two messages of progress. */
const INTERVAL = 200;

/** How far a piece of work has come. */
export interface PieceProgress {
  readonly experiments: number;
  /** Of its own boundaries; 0 where that cannot be told. */
  readonly boundaries: number;
}

/** A result that was cut short by `stop` says so: it is worth nothing to a later run. */
export interface VisitWork {
  readonly result: VisitResult;
  readonly stopped: boolean;
}

export async function exploreVisit(
  { spec, id, range, settings, stop }: VisitTask,
  onProgress?: (done: PieceProgress) => void,
): Promise<VisitWork> {
  const { open } = await openOnce(spec);
  const flag = new Int32Array(stop);
  let stopped = false;
  let last = 0;
  const result = open.exploreVisit(id, {
    ...settings,
    range,
    stop: () => {
      stopped ||= Atomics.load(flag, 0) !== 0;
      return stopped;
    },
    onProgress({ experiments, boundaries }) {
      const now = performance.now();
      if (now - last < INTERVAL) return;
      last = now;
      // Deeper, boundaries are counted in what follows events, too.
      onProgress?.({ experiments, boundaries: settings.depth === 1 ? boundaries : 0 });
    },
  });
  return { result, stopped };
}

/** An error of the user's on its way out of a worker thread, which would lose its class. */
export interface Refusal {
  readonly refused: string;
}

export async function refusing<T>(work: Promise<T>): Promise<T | Refusal> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof UserError) return { refused: error.message };
    throw error;
  }
}
