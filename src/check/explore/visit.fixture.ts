/** Single visits of the built-in kernels, to be explored. */
import type { CaseInfo } from '../../kernel/image.ts';
import type { ImageName } from '../../kernel/variants/gallery/index.ts';
import { Machine } from '../../machine/machine.ts';
import { builtinSubject } from '../builtin.ts';
import { openSubject } from '../check-subject.ts';
import type { Schedule } from '../event.ts';
import type { Violation } from '../finding.ts';
import { Experiment } from './experiment.ts';
import { explore } from './explore.ts';

const int80 = (ss: CaseInfo['ss']) => (c: CaseInfo) =>
  c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === ss && c.set === 0x5aad_c0de;

/** The visit that returns to the 16-bit stack (or the flat one), ready for experiments. */
export function visitOf(name: ImageName, ss: CaseInfo['ss'] = 'ss16-ldt') {
  const subject = builtinSubject(name, { only: int80(ss) });
  const open = openSubject(subject);
  const machine = Machine.create();
  machine.boot(subject.image);
  const visit = open.recording.visits.find(({ entry }) => entry === 'INT 0x80');
  if (!visit) throw new Error('the image makes no INT 0x80');
  return { subject, open, visit, experiment: new Experiment(machine, subject, visit, open.stacks) };
}

/** Explores and collects what is violated. */
export function run(experiment: Experiment, options: Partial<Parameters<typeof explore>[1]>) {
  const found: { schedule: Schedule; violations: readonly Violation[] }[] = [];
  const exploration = explore(experiment, {
    depth: 1,
    events: ['nmi', 'mc'],
    vectors: [],
    onViolation: (schedule, _outcome, violations) => found.push({ schedule, violations }),
    ...options,
  });
  return { ...exploration, found };
}
