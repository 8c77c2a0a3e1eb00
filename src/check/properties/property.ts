/** A property of runs between user mode and user mode. Each is a file here; its docstring is its definition. */

import type { Schedule } from '../event.ts';
import type { Experiment, Outcome } from '../explore/experiment.ts';
import type { PropertyName, Violation } from '../finding.ts';

export interface Property {
  readonly name: PropertyName;
  /** In one sentence, for reports. */
  readonly title: string;
  /** What the run violates of it; empty if nothing. */
  judge(experiment: Experiment, outcome: Outcome, schedule: Schedule): Violation[];
}

export const hex = (value: bigint | number, digits = 0) => `0x${value.toString(16).padStart(digits, '0')}`;
