/**
 * A visit found again without watching everything before: the machine is deterministic, so an image and a count of
 * instructions from power-on are enough.
 */
import type { Machine } from '../machine/machine.ts';
import { Experiment } from './explore/experiment.ts';
import type { Visit } from './explore/visit.ts';
import type { VisitSummary } from './finding.ts';
import { bootSubject, machineFor } from './ready.ts';
import type { KernelStack, Subject } from './subject.ts';
import { SubjectError } from './subject-error.ts';

/** All that tells where a visit is. */
export interface VisitAddress extends VisitSummary {
  readonly trigger?: Visit['trigger'];
}

/** A subject booted once, for visits in any order. */
export class Revisits {
  readonly #subject: Subject;
  readonly #stacks: readonly KernelStack[];
  #machine: Machine | undefined;

  /** @param stacks as the check knew them */
  constructor(subject: Subject, stacks: readonly KernelStack[]) {
    this.#subject = subject;
    this.#stacks = stacks;
  }

  /** The subject's machine at the visit's first user instruction. Throws SubjectError if it ends before. */
  machineAt(start: number): Machine {
    // A machine goes forward only.
    if (!this.#machine || this.#machine.instructions > start) this.#machine = boot(this.#subject);
    const machine = this.#machine;
    while (machine.instructions < start) {
      const stop = machine.run({ maxInstructions: start - machine.instructions });
      if (stop.reason !== 'limit')
        throw new SubjectError(
          `ended by ${stop.reason} after ${machine.instructions} of ${start} instructions: not the kernel that was checked`,
        );
    }
    return machine;
  }

  /**
   * Calls `look` with an experiment on the visit.
   * Throws SubjectError if the subject does not come to it, NoReturn as Experiment does.
   */
  visit<T>(address: VisitAddress, look: (experiment: Experiment) => T): T {
    const machine = this.machineAt(address.start);
    if (machine.cpus[address.cpu]?.cpl !== 3)
      throw new SubjectError(
        `no visit begins at instruction ${address.start}: not the kernel that was checked`,
      );
    const visit: Visit = {
      ...address,
      begin: machine.snapshot(),
      trigger: address.trigger,
      returnsTo: '',
      path: '',
    };
    const experiment = new Experiment(machine, this.#subject, visit, this.#stacks);
    try {
      return look(experiment);
    } finally {
      experiment.close();
      machine.restore(visit.begin);
    }
  }
}

function boot(subject: Subject): Machine {
  const machine = machineFor(subject);
  bootSubject(machine, subject);
  return machine;
}
