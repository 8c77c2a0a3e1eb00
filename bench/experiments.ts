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
import { linuxVisit, measureQemuExperiments, qemuExperimentsUnfit } from './qemu-experiments.ts';

export interface ExperimentSpeed {
  readonly experiments: number;
  /** Experiments per second of processor time, all events, depth 1: each of them run. */
  readonly perSecond: number;
  /** The same at depth 2, and the share of them that is known without being run. */
  readonly deep: { readonly perSecond: number; readonly share: number };
  /** Where the time of an NMI's experiment goes, in microseconds: going back and striking, running until all is as it was. */
  readonly where: {
    readonly strike: number;
    readonly run: number;
  };
  readonly qemu: { readonly perSecond: number; readonly count: number } | string;
}

const VISITS = 40;
const DEEP_VISITS = 6;
const NMI = { kind: 'nmi' } as const;
const ROUNDS = 3;

/** Processor time of this process in microseconds. */
function spent(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Measures. The first round of each sort warms the machine up and is not counted. */
export async function experimentSpeed(): Promise<ExperimentSpeed> {
  const subject = builtinSubject('linux');
  const open = openSubject(subject);
  const machine = Machine.create();
  machine.boot(subject.image);
  const visits = open.recording.visits.slice(0, VISITS);
  /** Goes through visits. @returns experiments, those not run, and their processor time in microseconds */
  const round = (depth: number) => {
    const sum = { experiments: 0, known: 0, time: 0 };
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
      sum.time += spent() - start;
      sum.experiments += counts.experiments;
      sum.known += counts.known;
      experiment.close();
    }
    return sum;
  };
  const single = { experiments: 0, time: 0 };
  round(1);
  for (let i = 0; i < ROUNDS; i++) {
    const { experiments, time } = round(1);
    single.experiments += experiments;
    single.time += time;
  }
  round(2);
  const deep = round(2);

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
  const unfit = qemuExperimentsUnfit();
  const qemu = unfit ?? (await measureQemuExperiments({ ...linuxVisit(), count: 200 }));
  return {
    experiments: single.experiments,
    perSecond: (single.experiments * 1e6) / single.time,
    deep: { perSecond: (deep.experiments * 1e6) / deep.time, share: deep.known / deep.experiments },
    where: { strike: each(where.strike), run: each(where.run) },
    qemu: typeof qemu === 'string' ? qemu : { perSecond: qemu.perSecond, count: qemu.count },
  };
}
