/** Stories end as the replays of their schedules do, and tell each delivery. */
import { beforeAll, describe, expect, it } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { builtinSubject } from '../builtin.ts';
import type { Schedule } from '../event.ts';
import { Experiment } from './experiment.ts';
import { tell } from './story.ts';
import { recordVisits, type Visit } from './visit.ts';

let experiment: Experiment;
let visit: Visit;

beforeAll(() => {
  const subject = builtinSubject('linux');
  const machine = Machine.create({ cpus: 1, memory: 64 });
  machine.boot(subject.image);
  const { visits } = recordVisits(machine, { instructions: 2_000_000, most: 4 });
  visit = visits[3];
  experiment = new Experiment(machine, subject, visit, subject.stacks ?? []);
});

describe('a story', () => {
  it.each<[name: string, schedule: (entry: number) => Schedule]>([
    ['without events', () => []],
    ['an NMI in user mode', () => [{ kind: 'nmi', at: 0 }]],
    ['an NMI at the first kernel instruction', (entry) => [{ kind: 'nmi', at: entry }]],
    ['a breakpoint in user mode', () => [{ kind: 'db-code', at: 1 }]],
    ['MOV SS before the entry', (entry) => [{ kind: 'mov-ss', at: entry - 1 }]],
    ['a fault', (entry) => [{ kind: 'fault', at: entry + 3, fault: { vector: 13, error: 0 } }]],
    [
      'a machine check in an NMI',
      (entry) => [
        { kind: 'nmi', at: entry + 2 },
        { kind: 'mc', at: entry + 5 },
      ],
    ],
  ])('of %s ends as its replay', (_name, make) => {
    const entry = experiment.baseline.boundaries.findIndex(({ cpl }) => cpl !== 3);
    const schedule = make(entry);
    const story = tell(experiment, schedule, { most: 10_000 });
    const { at } = experiment;
    const told = experiment.outcome(story.reason ?? 'hang');
    if (schedule.length > 0) {
      const replayed = experiment.replay(schedule);
      expect(told).toEqual(replayed);
      expect(at).toBe(experiment.at);
    } else expect(at).toBe(experiment.baseline.back.at);
    expect(story.omitted).toBe(0);
    expect(story.steps.map((step) => step.at)).toEqual(Array.from({ length: at }, (_, i) => i));
    expect(story.steps.filter(({ strikes }) => strikes.length > 0).map((step) => step.at)).toEqual(
      schedule.map((event) => event.at),
    );
    // The entry, if nothing came before it, and what the events brought.
    const delivered = story.steps.flatMap((step) => step.delivered?.split(', ') ?? []);
    expect(delivered.length).toBe(told.deliveries.length);
  });

  it('stops where it is told to', () => {
    const story = tell(experiment, [{ kind: 'nmi', at: 9 }], { to: 12 });
    expect([story.steps.length, story.reason, experiment.at]).toEqual([12, undefined, 12]);
    expect(story.steps[9]).toMatchObject({ strikes: ['NMI'], delivered: 'NMI' });
    expect(story.steps[10].nesting).toBe(story.steps[9].nesting + 1);
  });

  it('goes on to its end when no more steps are kept', () => {
    const schedule: Schedule = [{ kind: 'nmi', at: 9 }];
    const whole = tell(experiment, schedule);
    const short = tell(experiment, schedule, { most: 20 });
    expect(short.steps).toEqual(whole.steps.slice(0, 20));
    expect([short.ending, short.end]).toEqual([whole.ending, whole.end]);
    expect(short.omitted).toBe(whole.steps.length - 20);
  });
});
