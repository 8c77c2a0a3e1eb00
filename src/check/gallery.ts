/**
 * The check of the gallery: that it finds what is wrong with each kernel there, by the shortest schedule, and nothing wrong
 * with the sound kernel in the same cases.
 *
 * Kernels of one processor get every event at every boundary; where it takes two events, those alone. Of kernels of several
 * processors every window's interleavings are explored, and their visits without events where that does not show the fault.
 */
import {
  type GalleryEntry,
  type GalleryEvent,
  type GalleryName,
  gallery,
  type ImageName,
} from '../kernel/variants/gallery/index.ts';
import { builtinSubject } from './builtin.ts';
import { mergeReports, type OpenSubject, openSubject } from './check-subject.ts';
import { disassemble } from './disassemble.ts';
import type { EventKind } from './event.ts';
import type { Experiment } from './explore/experiment.ts';
import { judge } from './explore/explore.ts';
import { tell, tellFailure } from './explore/story.ts';
import type { Finding, Place, Story, SubjectReport, Violation } from './finding.ts';
import { builtinWindow, windowNames } from './interleave/builtin.ts';
import {
  exploreInterleavings,
  type Interleaved,
  type InterleavingFinding,
  type InterleavingReport,
  replayInterleaving,
} from './interleave/interleavings.ts';
import { tainted } from './properties/kernel-bits.ts';
import { Revisits } from './revisit.ts';
import type { Subject } from './subject.ts';

/** What came of a kernel's visits. */
export interface ExaminedVisits {
  readonly report: SubjectReport;
  /** Of the sound kernel, in the same cases. */
  readonly sound: SubjectReport;
  /** The shortest finding of the property that the gallery names, and its story. */
  readonly shown:
    | {
        readonly finding: Finding;
        readonly story: Story;
        /** The instruction at which it shows, if at one. */
        readonly place: Place | undefined;
      }
    | undefined;
  readonly replayed: readonly Replayed[];
}

/** A finding, and what its schedule violates when it is run again. */
export interface Replayed {
  readonly finding: Violation;
  readonly again: readonly Violation[];
}

/** A turn of a schedule of processors, and where it leaves its processor. */
export interface PlacedTurn {
  readonly cpu: number;
  readonly instructions: number;
  readonly place: Place;
}

/** What came of the interleavings of a kernel's processors. */
export interface ExaminedInterleavings {
  /** By window. */
  readonly reports: readonly InterleavingReport[];
  /** Of the sound kernel. */
  readonly sound: readonly InterleavingReport[];
  /** The shortest finding of the property that the gallery names, or of any. */
  readonly shown:
    | {
        readonly window: string;
        readonly finding: InterleavingFinding;
        readonly turns: readonly PlacedTurn[];
      }
    | undefined;
  readonly replayed: readonly Replayed[];
}

export interface Examined {
  readonly entry: GalleryEntry;
  readonly visits: ExaminedVisits | undefined;
  readonly interleavings: ExaminedInterleavings | undefined;
}

/** A subject, and what it takes to replay its findings. */
interface Opened {
  readonly subject: Subject;
  readonly open: OpenSubject;
  readonly revisits: Revisits;
}

/** The entry of that name. Throws RangeError if there is none. */
export function galleryEntry(name: GalleryName): GalleryEntry {
  const entry = gallery.find((each) => each.name === name);
  if (!entry) throw new RangeError(`${name}: not in the gallery`);
  return entry;
}

/** Checks one kernel of the gallery, and the sound one beside it. */
export function examine(entry: GalleryEntry): Examined {
  const interleavings = entry.cpus > 1 ? examineInterleavings(entry) : undefined;
  const isShown =
    entry.property === undefined
      ? interleavings !== undefined
      : interleavings?.shown?.finding.property === entry.property;
  return { entry, interleavings, visits: isShown ? undefined : examineVisits(entry) };
}

function openKernel(name: ImageName, entry: GalleryEntry): Opened {
  // One case shows it.
  let cases = 0;
  const subject = builtinSubject(name, {
    cpus: entry.cpus,
    only: (c) => entry.shows(c) && cases++ === 0,
    casesOf: entry.name,
    ...(entry.variant.tasks && { tasks: entry.variant.tasks }),
  });
  const open = openSubject(subject);
  return { subject, open, revisits: new Revisits(subject, open.stacks) };
}

function check({ subject, open }: Opened, { cpus, events }: GalleryEntry): SubjectReport {
  const kinds: readonly EventKind[] = [...new Set(events)].filter(isOfOneProcessor);
  const options = {
    depth: cpus > 1 ? 0 : Math.max(1, events.length),
    ...(events.length > 1 && { events: kinds }),
    // Watching the second world of several processors takes longer than all the rest.
    ...(cpus > 1 && { without: ['kernel-bits'] as const }),
  };
  const { visits } = open.recording;
  return mergeReports(
    subject,
    open.recording,
    visits.map(({ id }) => open.exploreVisit(id, options)),
    options,
  );
}

const isOfOneProcessor = (event: GalleryEvent): event is Exclude<GalleryEvent, 'cpu'> => event !== 'cpu';

function examineVisits(entry: GalleryEntry): ExaminedVisits {
  const opened = openKernel(entry.name, entry);
  const report = check(opened, entry);
  const finding = report.findings.find(({ property }) => property === entry.property);
  const story = finding && tellFinding(opened, finding);
  const place = story?.steps.find((step) => step.place.address === finding?.rip)?.place;
  return {
    report,
    sound: check(openKernel('linux', entry), entry),
    shown: finding && story && { finding, story, place },
    replayed: report.findings.map((each) => ({ finding: each, again: replayFinding(opened, each) })),
  };
}

/** The story of a finding, instruction by instruction. */
function tellFinding(opened: Opened, finding: Finding): Story {
  const { subject, revisits } = opened;
  if (endsTheMachine(opened, finding))
    return tellFailure(revisits.machineAt(finding.visit.start), subject, finding.visit.cpu);
  return onVisit(opened, finding, (experiment) => tell(experiment, finding.schedule));
}

/** Runs a finding's schedule again. @returns what it violates */
function replayFinding(opened: Opened, finding: Finding): readonly Violation[] {
  if (endsTheMachine(opened, finding)) {
    const { ending } = tellFinding(opened, finding);
    return ending === finding.what ? [finding] : [];
  }
  const { property, schedule } = finding;
  return onVisit(opened, finding, (experiment) => {
    const outcome = schedule.length === 0 ? experiment.baselineOutcome() : experiment.replay(schedule);
    const violations = judge(experiment, outcome, schedule);
    if (property !== 'kernel-bits') return violations;
    const bits = tainted(experiment, experiment.track(schedule));
    return [...violations, ...bits.map(({ violation }) => violation)];
  });
}

/** A visit that ends the machine by itself is none of those that came back. */
function endsTheMachine({ open }: Opened, { visit }: Finding): boolean {
  return open.recording.visits[visit.id]?.start !== visit.start;
}

function onVisit<T>({ open, revisits }: Opened, finding: Finding, look: (experiment: Experiment) => T): T {
  const { trigger } = open.recording.visits[finding.visit.id];
  return revisits.visit({ ...finding.visit, ...(trigger && { trigger }) }, look);
}

/** By number of processors. */
const soundInterleavings = new Map<number, readonly InterleavingReport[]>();

function examineInterleavings({ name, cpus, property }: GalleryEntry): ExaminedInterleavings {
  const sound =
    soundInterleavings.get(cpus) ??
    windowNames.map((window) => exploreInterleavings(builtinWindow('linux', window, { cpus })));
  soundInterleavings.set(cpus, sound);
  const explored = windowNames.map((window) => {
    const subject = builtinWindow(name, window, { cpus });
    return { subject, report: exploreInterleavings(subject) };
  });
  const found = explored.flatMap(({ subject, report }) =>
    report.findings.map((finding) => ({ subject, window: report.window, finding })),
  );
  const named = found.filter(({ finding }) => finding.property === property);
  const [best] = (named.length > 0 ? named : found).sort((a, b) => longer(a.finding, b.finding));
  return {
    reports: explored.map(({ report }) => report),
    sound,
    shown: best && {
      window: best.window,
      finding: best.finding,
      turns: placeTurns(best.subject, best.finding),
    },
    replayed: found.map(({ subject, finding }) => ({
      finding,
      again: replayInterleaving(subject, finding.turns),
    })),
  };
}

function longer(a: InterleavingFinding, b: InterleavingFinding): number {
  const instructions = ({ turns }: InterleavingFinding) =>
    turns.reduce((sum, turn) => sum + turn.instructions, 0);
  return (
    a.preemptions - b.preemptions || a.turns.length - b.turns.length || instructions(a) - instructions(b)
  );
}

/** Runs a schedule of processors, and says where each turn leaves its processor. */
function placeTurns({ window, describe }: Interleaved, { turns }: InterleavingFinding): PlacedTurn[] {
  const { machine, start } = window;
  machine.restore(start);
  return turns.map(({ cpu, instructions }) => {
    const processor = machine.cpus[cpu];
    const end = processor.instructions + BigInt(instructions);
    while (processor.instructions < end) {
      const before = processor.instructions;
      machine.runAlone(cpu, Number(end - before));
      if (processor.instructions === before) break;
    }
    const address = processor.rip;
    const { text } = disassemble(machine, cpu, address);
    return { cpu, instructions, place: { address, name: describe(address), text } };
  });
}

/** Whether every schedule of a finding shows it again. */
export function isReplayed({ visits, interleavings }: Examined): boolean {
  return [...(visits?.replayed ?? []), ...(interleavings?.replayed ?? [])].every(({ finding, again }) =>
    again.some(({ property, what }) => property === finding.property && what === finding.what),
  );
}

/** Whether the check told the kernel from the sound one. */
export function isTold({ entry, visits, interleavings }: Examined): boolean {
  const found = [visits?.shown?.finding.property, interleavings?.shown?.finding.property];
  return entry.property === undefined
    ? found.every((property) => property === undefined) && isClean(interleavings?.reports ?? [])
    : found.includes(entry.property);
}

/** Whether the check finds nothing wrong with the sound kernel in the same cases. */
export function isSoundClean({ visits, interleavings }: Examined): boolean {
  return (!visits || visits.sound.verdict === 'clean') && isClean(interleavings?.sound ?? []);
}

const isClean = (reports: readonly InterleavingReport[]) =>
  reports.every(({ verdict }) => verdict === 'clean');
