/**
 * Experiments a second: restore a snapshot, let an event strike, run on, judge; one processor, the `linux`
 * variant, every event at each boundary of its visits. And the same from outside on QEMU, where it is installed.
 */
import { builtinSubject } from '../src/check/builtin.ts';
import { openSubject } from '../src/check/check-subject.ts';
import { Experiment } from '../src/check/explore/experiment.ts';
import { explore } from '../src/check/explore/explore.ts';
import { KnownRuns } from '../src/check/explore/known-runs.ts';
import { Machine } from '../src/machine/machine.ts';
import { median } from './median.ts';
import { linuxVisit, measureQemuExperiments, qemuExperimentsUnfit } from './qemu-experiments.ts';

export interface ExperimentSpeed {
  /** Experiments per second of processor time, all events, depth 1: each of them run. */
  readonly perSecond: number;
  /** The same at depth 2, and the share of them that is known without being run. */
  readonly deep: { readonly perSecond: number; readonly share: number };
  /** Where the time of an NMI's experiment goes, in microseconds: going back and striking, running until all is as it was. */
  readonly where: {
    readonly strike: number;
    readonly run: number;
  };
  /** Of QEMU, and how many times more there are here at depth 1; why not, where it is not measured. */
  readonly qemu: { readonly perSecond: number; readonly ratio: number } | string;
}

const VISITS = 40;
const DEEP_VISITS = 6;
const NMI = { kind: 'nmi' } as const;
/** Rounds, ours and QEMU's in turn, of which the medians count: computers have slow seconds. */
const ROUNDS = 5;
/** Rounds before them, until the host has compiled all that it will: the first takes four times as long as the sixth. */
const WARM_UP = 5;
const QEMU_EXPERIMENTS = 60;

/** Processor time of this process in microseconds. */
function spent(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Measures what a check comes to after its first seconds. */
export async function experimentSpeed(): Promise<ExperimentSpeed> {
  const subject = builtinSubject('linux');
  const open = openSubject(subject);
  const machine = Machine.create();
  machine.boot(subject.image);
  const visits = open.recording.visits.slice(0, VISITS);
  /** Goes through visits. @returns experiments a second, and the share of those not run */
  const round = (depth: number) => {
    let experiments = 0;
    let known = 0;
    let time = 0;
    const knownRuns = new KnownRuns();
    for (const visit of depth > 1 ? visits.slice(0, DEEP_VISITS) : visits) {
      const experiment = new Experiment(machine, subject, visit, open.stacks);
      const start = spent();
      const { counts } = explore(experiment, {
        depth,
        events: subject.events,
        vectors: subject.vectors,
        known: knownRuns,
        onViolation: () => {
          throw new Error('the linux variant is not clean');
        },
      });
      time += spent() - start;
      experiments += counts.experiments;
      known += counts.known;
      experiment.close();
    }
    return { perSecond: (experiments * 1e6) / time, share: known / experiments };
  };
  const unfit = qemuExperimentsUnfit();
  const visit = linuxVisit();
  for (let i = 0; i < WARM_UP; i++) round(1);
  const rounds = [];
  for (let i = 0; i < ROUNDS; i++) {
    const single = round(1).perSecond;
    const qemu = unfit ? 0 : (await measureQemuExperiments({ ...visit, count: QEMU_EXPERIMENTS })).perSecond;
    rounds.push({ single, qemu, ratio: single / qemu });
  }
  round(2);
  const deep = Array.from({ length: ROUNDS }, () => round(2));
  const perSecond = median(rounds.map(({ single }) => single));
  const deepPerSecond = median(deep.map(({ perSecond }) => perSecond));

  const where = { strike: 0, run: 0 };
  let parts = 0;
  for (const visit of visits) {
    const experiment = new Experiment(machine, subject, visit, open.stacks);
    for (const { snapshot, cpl } of experiment.baseline.boundaries) {
      if (cpl === 3) continue;
      const again = () => experiment.strike(snapshot, NMI);
      const t0 = performance.now();
      again();
      const t1 = performance.now();
      experiment.runBack(snapshot, 'nmi', again);
      const t2 = performance.now();
      where.strike += t1 - t0;
      where.run += t2 - t1;
      parts++;
    }
    experiment.close();
  }
  const each = (value: number) => (value * 1000) / parts;
  return {
    perSecond,
    deep: { perSecond: deepPerSecond, share: deep[0].share },
    where: { strike: each(where.strike), run: each(where.run) },
    qemu: unfit ?? {
      perSecond: median(rounds.map(({ qemu }) => qemu)),
      ratio: median(rounds.map(({ ratio }) => ratio)),
    },
  };
}
