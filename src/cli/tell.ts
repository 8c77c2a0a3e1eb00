/** The story of a saved finding, and whether it shows again. */
import { NoReturn } from '../check/explore/experiment.ts';
import { judge } from '../check/explore/explore.ts';
import { type StoryOptions, tell, tellFailure } from '../check/explore/story.ts';
import type { Story, Violation } from '../check/finding.ts';
import { tainted } from '../check/properties/kernel-bits.ts';
import type { Revisits } from '../check/revisit.ts';
import type { Subject } from '../check/subject.ts';
import type { Machine } from '../machine/machine.ts';
import type { SavedFinding } from './finding-file.ts';

export interface Replayed {
  readonly story: Story | undefined;
  /** What is violated now; undefined where the story was stopped before its end. */
  readonly violations: readonly Violation[] | undefined;
  /** Registers where it ended. */
  readonly registers: Record<string, bigint>;
}

export interface TellOptions extends StoryOptions {
  /** Called with the machine at the visit's beginning; what it returns, at the end. */
  readonly watch?: (machine: Machine) => () => void;
}

/** Replays a finding. Throws SubjectError where the subject does not come to its visit. */
export function tellSaved(
  revisits: Revisits,
  subject: Subject,
  finding: SavedFinding,
  options: TellOptions = {},
): Replayed {
  const { visit, schedule, fails } = finding;
  if (fails) return retellFailure(revisits, subject, finding, options);
  try {
    return revisits.visit(visit, (experiment) => {
      const { machine } = experiment;
      experiment.restore(experiment.begin);
      const unwatch = options.watch?.(machine);
      const { reason, ...story } = tell(experiment, schedule, options);
      unwatch?.();
      const registers = machine.registers(visit.cpu);
      if (reason === undefined) return { story, violations: undefined, registers };
      const outcome = schedule.length === 0 ? experiment.baselineOutcome() : experiment.outcome(reason);
      const violations = judge(experiment, outcome, schedule);
      if (finding.property === 'kernel-bits')
        violations.push(...tainted(experiment, experiment.track(schedule)).map(({ violation }) => violation));
      return { story, violations, registers };
    });
  } catch (error) {
    if (!(error instanceof NoReturn)) throw error;
    return retellFailure(revisits, subject, finding, options);
  }
}

function retellFailure(
  revisits: Revisits,
  subject: Subject,
  { visit, property, what, details }: SavedFinding,
  options: TellOptions,
): Replayed {
  const machine = revisits.machineAt(visit.start);
  const unwatch = options.watch?.(machine);
  const story = tellFailure(machine, subject, visit.cpu, Math.min(options.to ?? 2000, options.most ?? 2000));
  unwatch?.();
  const again = story.ending === what;
  return {
    story,
    violations: again ? [{ property, what, details }] : [],
    registers: machine.registers(visit.cpu),
  };
}
