/**
 * Experiments a second: restore a snapshot, let an event strike, run on, judge; one processor, the `linux`
 * variant, every event at each boundary of its visits. And the same from outside on QEMU, where it is installed.
 */
import { builtinSubject } from '../src/check/builtin.ts';
import { openSubject } from '../src/check/check-subject.ts';
import { Experiment } from '../src/check/explore/experiment.ts';
import { explore } from '../src/check/explore/explore.ts';
import { Machine } from '../src/machine/machine.ts';
import { linuxVisit, measureQemuExperiments, qemuExperimentsUnfit } from './qemu-experiments.ts';

export interface ExperimentSpeed {
  readonly experiments: number;
  /** Experiments per second of processor time, all events, depth 1. */
  readonly perSecond: number;
  /** Where the time of an NMI's experiment goes, in microseconds: going back and striking, running until all is as it was. */
  readonly where: {
    readonly strike: number;
    readonly run: number;
  };
  readonly qemu: { readonly perSecond: number; readonly count: number } | string;
}

const VISITS = 40;
const NMI = { kind: 'nmi' } as const;
const ROUNDS = 3;

/** Processor time of this process in microseconds. */
function spent(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Measures. The first round warms the machine up and is not counted. */
export async function experimentSpeed(): Promise<ExperimentSpeed> {
  const subject = builtinSubject('linux');
  const open = openSubject(subject);
  const machine = Machine.create();
  machine.boot(subject.image);
  let experiments = 0;
  let time = 0;
  const where = { strike: 0, run: 0 };
  let parts = 0;
  for (let round = 0; round <= ROUNDS; round++) {
    for (const visit of open.recording.visits.slice(0, VISITS)) {
      const experiment = new Experiment(machine, subject, visit, open.stacks);
      const start = spent();
      const { counts } = explore(experiment, {
        depth: 1,
        events: subject.events,
        vectors: subject.vectors,
        onViolation: () => {
          throw new Error('the linux variant is not clean');
        },
      });
      if (round > 0) {
        time += spent() - start;
        experiments += counts.experiments;
      }
      if (round === ROUNDS)
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
  }
  const each = (value: number) => (value * 1000) / parts;
  const unfit = qemuExperimentsUnfit();
  const qemu = unfit ?? (await measureQemuExperiments({ ...linuxVisit(), count: 200 }));
  return {
    experiments,
    perSecond: (experiments * 1e6) / time,
    where: { strike: each(where.strike), run: each(where.run) },
    qemu: typeof qemu === 'string' ? qemu : { perSecond: qemu.perSecond, count: qemu.count },
  };
}
