/** The story of a schedule: what the processor did, instruction by instruction. */
import { GS, RSP } from '../../isa/state.ts';
import type { Machine } from '../../machine/machine.ts';
import { disassemble } from '../disassemble.ts';
import { describeEvent, inject, type Schedule, vectorOf } from '../event.ts';
import type { Place, Step, Story } from '../finding.ts';
import { endings } from '../properties/progress.ts';
import type { Subject } from '../subject.ts';
import { describeVector } from '../vectors.ts';
import type { Experiment } from './experiment.ts';
import type { RunEnding } from './observation.ts';

export interface StoryOptions {
  /** Steps to keep at most; the run goes on to its end all the same. Default 2000. */
  readonly most?: number;
  /** Stops at this boundary. Default: at the return to user mode. */
  readonly to?: number;
}

export interface Telling extends Story {
  /** How it ended; undefined if it was stopped at `to`. */
  readonly reason: RunEnding | undefined;
}

const describeEnding = (reason: RunEnding) => (reason === 'user' ? 'user mode goes on' : endings[reason]);

/** Replays `schedule` and tells it. The experiment is left where it ended: `outcome(reason)` is what is to be judged. */
export function tell(experiment: Experiment, schedule: Schedule, options: StoryOptions = {}): Telling {
  return new Teller(experiment, schedule, options).run();
}

class Teller {
  readonly #experiment: Experiment;
  readonly #schedule: Schedule;
  readonly #most: number;
  readonly #to: number;
  readonly #steps: Step[] = [];
  #next = 0;

  constructor(experiment: Experiment, schedule: Schedule, { most = 2000, to }: StoryOptions) {
    this.#experiment = experiment;
    this.#schedule = schedule;
    this.#most = most;
    this.#to = to ?? Number.POSITIVE_INFINITY;
  }

  run(): Telling {
    const experiment = this.#experiment;
    const { cpu, baseline, observation, subject } = experiment;
    experiment.restore(experiment.begin);
    const faulted = this.#schedule.length === 1 && this.#schedule[0].kind === 'fault';
    // Without events the visit is over where it returns; user mode is where it begins, too.
    const end = this.#schedule.length === 0 ? baseline.back.at : Number.POSITIVE_INFINITY;
    let reason: RunEnding | undefined;
    // As in exploration: whether the work of a single event is done.
    const vector = this.#schedule.length === 1 ? vectorOf(this.#schedule[0]) : undefined;
    const work = vector === undefined ? undefined : experiment.subject.work.get(vector);
    let served = work === undefined;
    for (;;) {
      if (this.#next < this.#schedule.length || this.#schedule.length === 0) experiment.trigger();
      if (experiment.at >= this.#to) break;
      if (experiment.at >= end) {
        reason = 'user';
        break;
      }
      const last = this.#schedule.length - 1;
      const waiting = this.#next <= last;
      const struck = this.#strike();
      // A fault is delivered as it strikes: what follows may be another boundary of the schedule.
      if (struck === 'delivered' && this.#next <= last) continue;
      const fromUser = cpu.cpl === 3;
      observation.atUser = false;
      const before = this.#look();
      const ending = experiment.step();
      this.#keep(before);
      if (cpu.rip === work) served = true;
      if (faulted && observation.gaveUp === undefined && subject.gaveUp.includes(cpu.rip))
        observation.gaveUp = cpu.rip;
      const all = this.#next > last && this.#schedule.length > 0;
      if (ending === 'user') {
        if (!all) continue;
        if (!served) observation.unserved = vector;
        reason = 'user';
        break;
      }
      if (
        ending === 'stuck' ||
        (all && this.#steps.length >= this.#most && this.#to === Number.POSITIVE_INFINITY)
      ) {
        // Not told any more; judged all the same.
        reason =
          (served || vector === undefined || !all ? undefined : experiment.stepToWork(vector)) ??
          experiment.runToUser();
        break;
      }
      if (ending !== undefined) {
        reason = ending;
        break;
      }
      // The event was taken as user mode went on: it is over.
      if (all && waiting && struck === 'struck' && fromUser && cpu.cpl === 3) {
        reason = 'user';
        break;
      }
    }
    return {
      steps: this.#steps,
      omitted: Math.max(0, experiment.at - (this.#steps.at(-1)?.at ?? -1) - 1),
      ending: reason === undefined ? `stopped at boundary ${experiment.at}` : describeEnding(reason),
      end: this.#place(),
      reason,
    };
  }

  #place(): Place {
    const { machine, visit, subject, cpu } = this.#experiment;
    return {
      address: cpu.rip,
      name: subject.describe(cpu.rip),
      text: disassemble(machine, visit.cpu, cpu.rip).text,
    };
  }

  #strikes: string[] = [];

  /** Lets the events come that are due. */
  #strike(): 'none' | 'struck' | 'delivered' {
    const { machine, visit, at } = this.#experiment;
    let done: 'none' | 'struck' | 'delivered' = 'none';
    while (this.#next < this.#schedule.length && this.#schedule[this.#next].at === at) {
      const event = this.#schedule[this.#next++];
      this.#strikes.push(describeEvent(event));
      done = 'struck';
      if (event.kind !== 'fault') {
        inject(machine, visit.cpu, event);
        continue;
      }
      const before = this.#look();
      inject(machine, visit.cpu, event);
      this.#keep(before);
      return 'delivered';
    }
    return done;
  }

  #look(): { step: Step; deliveries: number } {
    const { cpu, observation, at } = this.#experiment;
    const strikes = this.#strikes;
    this.#strikes = [];
    return {
      deliveries: observation.deliveries.length,
      step: {
        at,
        place: this.#steps.length < this.#most ? this.#place() : { address: cpu.rip, name: '', text: '' },
        cpl: cpu.cpl,
        rsp: cpu.gpr[RSP],
        gsBase: cpu.segBase[GS],
        nesting: observation.deliveries.reduce((n, { returned }) => n + (returned ? 0 : 1), 0),
        strikes,
      },
    };
  }

  #keep({ step, deliveries }: { step: Step; deliveries: number }): void {
    if (this.#steps.length >= this.#most) return;
    const { observation } = this.#experiment;
    const delivered = observation.deliveries
      .slice(deliveries)
      .map(({ vector, source, errorCode }) =>
        errorCode === undefined
          ? describeVector(vector, source)
          : `${describeVector(vector, source)} (error 0x${errorCode.toString(16)})`,
      )
      .join(', ');
    this.#steps.push(delivered ? { ...step, delivered } : step);
  }
}

/**
 * The story of a visit in which the machine ends without any event: from where `machine` stands, by processor `index`.
 * At most `most` steps.
 */
export function tellFailure(machine: Machine, subject: Subject, index: number, most = 2000): Story {
  const cpu = machine.cpus[index];
  const place = (): Place => ({
    address: cpu.rip,
    name: subject.describe(cpu.rip),
    text: disassemble(machine, index, cpu.rip).text,
  });
  const steps: Step[] = [];
  const first = cpu.instructions;
  const delivered: string[] = [];
  const forget = machine.on('deliver', (which, vector, _error, source) => {
    if (which === index) delivered.push(describeVector(vector, source));
    return false;
  });
  try {
    while (steps.length < most) {
      const at = Number(cpu.instructions - first);
      const step: Step = {
        at,
        place: place(),
        cpl: cpu.cpl,
        rsp: cpu.gpr[RSP],
        gsBase: cpu.segBase[GS],
        nesting: 0,
        strikes: [],
      };
      const { reason } = machine.run({ maxInstructions: 1 });
      if (Number(cpu.instructions - first) > at || reason !== 'limit')
        steps.push(delivered.length > 0 ? { ...step, delivered: delivered.splice(0).join(', ') } : step);
      if (reason === 'triple-fault')
        return { steps, omitted: 0, ending: endings['triple-fault'], end: place() };
      if (reason !== 'limit')
        return { steps, omitted: 0, ending: `the machine ends: ${reason}`, end: place() };
    }
    return { steps, omitted: 0, ending: `${most} steps later it goes on`, end: place() };
  } finally {
    forget();
  }
}
