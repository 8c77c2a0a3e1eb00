/** The pieces of work of an exploration, as worker threads do them. */
import type { MessagePort } from 'node:worker_threads';
import { selectVisits } from '../check/check-planned.ts';
import { OpenSubject, openSubject, type VisitResult } from '../check/check-subject.ts';
import type { EventKind } from '../check/event.ts';
import type { Failure, Visit } from '../check/explore/visit.ts';
import type { PropertyName } from '../check/finding.ts';
import type { PlannedCheck } from '../check/plan.ts';
import { machineFor } from '../check/ready.ts';
import type { KernelStack, Subject } from '../check/subject.ts';
import { isUsers, UserError } from './failure.ts';
import { loadRecording, type SavedRecording, saveRecording } from './recording-file.ts';
import { prepare, type SubjectSpec, specName, subjectFailure } from './subject-spec.ts';

/** How to explore: the same for all visits. */
export interface ExploreSettings {
  readonly depth: number;
  readonly events: readonly EventKind[];
  readonly without: readonly PropertyName[];
  readonly most?: number;
  readonly turns?: number;
}

/** The subject, and the same with its secrets elsewhere, to be compared with. */
export type World = 'own' | 'twin';

/** Boots a subject and watches it in this thread, keeps what was seen in a file, and says it. */
export interface SurveyTask {
  readonly kind: 'survey';
  readonly spec: SubjectSpec;
  readonly world: World;
  readonly file: string;
}

/** Recordings of a subject's worlds. */
export type Recordings = Readonly<Partial<Record<World, SavedRecording>>>;

/** Explores boundaries of a visit. */
export interface VisitTask {
  readonly kind: 'visit';
  readonly spec: SubjectSpec;
  readonly recordings: Recordings;
  readonly stacks: readonly KernelStack[];
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

export interface Surveyed {
  readonly survey: Survey;
  readonly saved: SavedRecording;
}

/** What a thread has opened of one spec: it keeps it. */
interface Opened {
  readonly key: string;
  readonly planned: Promise<PlannedCheck>;
  readonly worlds: Map<World, OpenSubject>;
  /** With the second world, once both are wanted. */
  both: OpenSubject | undefined;
}

let opened: Opened | undefined;

function openedOf(spec: SubjectSpec): Opened {
  const key = JSON.stringify(spec);
  if (opened?.key !== key)
    opened = {
      key,
      planned: prepare(spec).then(({ planned }) => planned),
      worlds: new Map(),
      both: undefined,
    };
  return opened;
}

function subjectOf({ subject }: PlannedCheck, world: World): Subject {
  const found = world === 'own' ? subject : subject.twin?.();
  if (!found) throw new RangeError('the subject has no second world');
  return found;
}

/** Boots a world and watches it; of the second one, nothing is told that is not told of the first. */
export async function survey({ spec, world, file }: SurveyTask): Promise<Surveyed> {
  const { planned: coming, worlds } = openedOf(spec);
  const planned = await coming;
  let open: OpenSubject;
  try {
    open = openSubject(subjectOf(planned, world));
  } catch (error) {
    throw subjectFailure(specName(spec), error);
  }
  worlds.set(world, open);
  const { recording, stacks } = open;
  const selected = world === 'own' ? selectVisits(open, planned) : [];
  const saved = saveRecording(file, recording);
  const { visits, failures, seen, unfinished, leftOut, reachedUser, stop } = recording;
  return {
    saved,
    survey: {
      visits: visits.map(({ begin, ...visit }) => visit),
      selected,
      failures,
      seen,
      unfinished,
      leftOut,
      reachedUser,
      ended: stop.reason,
      stacks,
    },
  };
}

/** A world as it was recorded. @param stacks of its kernel, where it does not tell them itself */
function worldOf(
  planned: PlannedCheck,
  worlds: Map<World, OpenSubject>,
  world: World,
  saved: SavedRecording,
  stacks?: readonly KernelStack[],
): OpenSubject {
  const known = worlds.get(world);
  if (known) return known;
  const subject = subjectOf(planned, world);
  const recording = loadRecording(saved);
  if (!recording) throw new UserError(`${saved.file}: is gone, or another than this exploration has written`);
  const machine = machineFor(subject);
  const open = new OpenSubject({ ...subject, ...(stacks && { stacks }) }, machine, recording);
  worlds.set(world, open);
  return open;
}

/** The subject as it was recorded, opened once in a thread. */
async function openRecorded({ spec, recordings, stacks }: VisitTask): Promise<OpenSubject> {
  const one = openedOf(spec);
  if (one.both) return one.both;
  const planned = await one.planned;
  const { own, twin } = recordings;
  if (!own) throw new RangeError('no recording of the subject');
  const world = worldOf(planned, one.worlds, 'own', own, stacks);
  one.both = twin ? world.beside(worldOf(planned, one.worlds, 'twin', twin)) : world;
  return one.both;
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
  task: VisitTask,
  onProgress?: (done: PieceProgress) => void,
): Promise<VisitWork> {
  const { id, range, settings, stop } = task;
  const open = await openRecorded(task);
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
    if (isUsers(error)) return { refused: error.message };
    throw error;
  }
}
