/** `espfix plan init`: a first plan for a kernel, from what watching it shows. */
import { openSubject } from '../check/check-subject.ts';
import { eventKinds } from '../check/event.ts';
import { propertyNames } from '../check/finding.ts';
import type { Plan } from '../check/plan.ts';
import type { Subject } from '../check/subject.ts';
import { CLEAN } from './exit-status.ts';
import { UserError } from './failure.ts';
import { expectWritable, writeOutput } from './files.ts';
import type { Io } from './io.ts';
import { startProgress } from './progress.ts';
import { prepare, subjectFailure } from './subject-spec.ts';

export interface PlanInitOptions {
  readonly output?: string;
  readonly cpus?: number;
  readonly memory?: number;
  readonly cpu?: string;
  readonly append?: string;
}

/** Watches the image and writes the plan; returns the exit status. */
export async function planInit(file: string, options: PlanInitOptions, io: Io): Promise<number> {
  const { output } = options;
  const kind = output === undefined || output.endsWith('.json') ? 'json' : 'ts';
  if (output !== undefined && !/\.(json|m?ts)$/.test(output))
    throw new UserError(`--output ${output}: expected a file of type .json or .ts`);
  if (output !== undefined) await expectWritable(output);
  const { inferred } = await prepare({
    kind: 'image',
    file,
    ...(options.cpus !== undefined && { cpus: options.cpus }),
    ...(options.memory !== undefined && { memory: options.memory }),
    ...(options.cpu !== undefined && { cpu: options.cpu }),
    ...(options.append !== undefined && { commandLine: options.append }),
  });
  const progress = await startProgress(io, `watching ${file}`);
  let text: string;
  try {
    const { recording, stacks } = openSubject(inferred, (visits, instructions) =>
      progress.update(`watching ${file}: ${visits} visits, ${instructions} instructions`),
    );
    if (recording.visits.length === 0)
      throw new UserError(
        `${file}: never ${recording.reachedUser ? 'enters the kernel from' : 'reaches'} user mode before ` +
          `${recording.stop.reason === 'limit' ? 'the watching ended' : `it ended by ${recording.stop.reason}`}`,
      );
    const seen = recording.visits.map(
      ({ id, entry, returnsTo, boundaries, occurrences, start, cpu }) =>
        `${id}: ${entry} to ${returnsTo}, ${boundaries} boundaries, ${occurrences} times, first at ${start} on processor ${cpu}`,
    );
    const plan = planOf(inferred, [...new Set(recording.visits.map(({ entry }) => entry))], stacks);
    text = kind === 'json' ? `${JSON.stringify(plan, null, 2)}\n` : moduleOf(plan, seen, file);
  } catch (error) {
    throw subjectFailure(file, error);
  } finally {
    progress.end();
  }
  if (output === undefined) io.stdout.write(text);
  else await writeOutput(output, new TextEncoder().encode(text));
  return CLEAN;
}

const hex = (value: bigint) => `0x${value.toString(16)}`;

function planOf(subject: Subject, entries: readonly string[], stacks: NonNullable<Subject['stacks']>): Plan {
  return {
    machine: {
      cpus: subject.cpus,
      memory: subject.memory,
      ...(subject.cpu !== undefined && { cpu: subject.cpu }),
      ...(subject.commandLine && { commandLine: subject.commandLine }),
    },
    watch: subject.watch,
    visits: { only: entries.map((entry) => ({ entry })) },
    events: eventKinds.filter((kind) => subject.events.includes(kind)),
    vectors: [...subject.vectors],
    depth: 1,
    properties: Object.fromEntries(propertyNames.map((name) => [name, true])) as NonNullable<
      Plan['properties']
    >,
    mayDiffer: { memory: [], registers: [] },
    faultable: subject.faultable.map(({ address, faults }) => ({
      at: hex(address),
      faults: faults.map(({ vector, error, address: cr2 }) => ({
        vector,
        ...(error !== undefined && { error }),
        ...(cr2 !== undefined && { address: hex(cr2) }),
      })),
    })),
    stacks: stacks.map(({ cpu, name, range: { start, end } }) => ({
      cpu,
      name,
      start: hex(start),
      size: Number(end - start),
    })),
    ministacks: [],
  };
}

/** The plan as a TypeScript module, with what was seen as comments. */
function moduleOf(plan: Plan, seen: readonly string[], file: string): string {
  const body = JSON.stringify(plan, null, 2).replace(/^(\s*)"(\w+)":/gm, '$1$2:');
  return `import { definePlan } from 'espfix';

// Visits that were seen:
${seen.map((line) => `//   ${line}`).join('\n')}

export default definePlan(${body.slice(0, -2)},
  // What must hold of each run beyond the properties; return what is wrong, in the same words for the same cause.
  assertions: [
    ({ ending }) => (ending === 'reset' ? 'the kernel resets the machine' : undefined),
  ],
});
`.replace('// Visits', `// ${file.replaceAll('\n', ' ')}. Visits`);
}
