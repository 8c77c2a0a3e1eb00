/**
 * Findings as files: with the kernel's name and digest, where the visit is and the schedule, so that any machine
 * can replay them.
 */
import { dirname, join, relative, resolve } from 'node:path';
import * as v from 'valibot';
import { type EventKind, eventKinds, trialKinds } from '../check/event.ts';
import { type Finding, type PropertyName, propertyNames } from '../check/finding.ts';
import type { VisitAddress } from '../check/revisit.ts';
import { describeIssue } from '../check/schema-issue.ts';
import type { KernelStack } from '../check/subject.ts';
import { decodeData, encodeData } from './data-codec.ts';
import { UserError } from './failure.ts';
import { makeFolder, readInput, writeOutput } from './files.ts';
import { type ImageSpec, imageNameOf, type Prepared, type SubjectSpec } from './subject-spec.ts';

const text = v.string('a string');
const natural = v.pipe(
  v.number('a number'),
  v.integer('a whole number'),
  v.minValue(0, 'a whole number from 0'),
);
const address = v.bigint('an address, {"$":"0x..."}');
const optional = <S extends v.GenericSchema>(schema: S) => v.optional(schema);

const files = {
  file: text,
  cpus: optional(natural),
  memory: optional(natural),
  cpu: optional(text),
  commandLine: optional(text),
  initrd: optional(text),
  symbols: optional(text),
  plan: optional(text),
};

const spec = v.variant(
  'kind',
  [
    v.object({
      kind: v.literal('builtin'),
      variant: text,
      cpus: natural,
      slot: optional(v.picklist(['first', 'last'], 'first or last')),
      seed: optional(natural),
      plan: optional(text),
    }),
    v.object({ kind: v.literal('image'), ...files }),
    v.object({
      kind: v.literal('linux'),
      ...files,
      patches: optional(v.array(text, 'a list')),
      patience: optional(natural),
    }),
  ],
  'a subject of kind builtin, image or linux',
);

const schema = v.object(
  {
    format: v.literal('espfix-finding', '"espfix-finding"'),
    version: v.literal(1, '1'),
    espfix: text,
    subject: spec,
    digests: v.object({ image: text, plan: optional(text), initrd: optional(text) }, 'digests'),
    visit: v.object(
      {
        id: natural,
        cpu: natural,
        entry: text,
        start: natural,
        boundaries: natural,
        occurrences: natural,
        trigger: optional(v.object({ at: natural, vector: natural }, 'a trigger')),
      },
      'a visit',
    ),
    /** The machine ends in the visit, without any event. */
    fails: v.boolean('true or false'),
    schedule: v.array(
      v.object(
        {
          kind: v.picklist([...eventKinds, ...trialKinds], `one of ${eventKinds.join(', ')}`),
          at: natural,
          vector: optional(natural),
          fault: optional(
            v.object({ vector: natural, error: optional(natural), address: optional(address) }, 'a fault'),
          ),
          pointer: optional(address),
        },
        'an event',
      ),
      'a list of events',
    ),
    property: v.picklist(propertyNames, `one of ${propertyNames.join(', ')}`),
    what: text,
    details: v.array(text, 'a list'),
    stacks: v.array(
      v.object(
        { cpu: natural, name: text, range: v.object({ start: address, end: address }, 'a range') },
        'a stack',
      ),
      'a list of stacks',
    ),
  },
  'an object',
);

export interface SavedFinding {
  readonly spec: SubjectSpec;
  readonly digests: Prepared['digests'];
  readonly visit: VisitAddress;
  readonly fails: boolean;
  readonly schedule: Finding['schedule'];
  readonly property: PropertyName;
  readonly what: string;
  readonly details: readonly string[];
  readonly stacks: readonly KernelStack[];
}

/** Files of a spec, as they are called from another folder. */
function moved(subject: SubjectSpec, move: (file: string) => string): SubjectSpec {
  const plan = subject.plan === undefined ? {} : { plan: move(subject.plan) };
  if (subject.kind === 'builtin') return { ...subject, ...plan };
  if (subject.kind === 'linux') {
    // The booted system is of this run; another boots it anew.
    const { booted, ...rest } = subject;
    return { ...rest, ...plan, ...movedFiles(rest, move) };
  }
  return { ...subject, ...plan, ...movedFiles(subject, move) };
}

function movedFiles(subject: Pick<ImageSpec, 'file' | 'initrd' | 'symbols'>, move: (file: string) => string) {
  return {
    file: move(subject.file),
    ...(subject.initrd !== undefined && { initrd: move(subject.initrd) }),
    ...(subject.symbols !== undefined && { symbols: move(subject.symbols) }),
  };
}

/** Writes a finding; files are named relative to its own folder. Throws a UserError that names the file. */
export async function saveFinding(file: string, finding: SavedFinding, version: string): Promise<void> {
  const folder = dirname(file);
  await makeFolder(folder);
  const { spec: subject, ...rest } = finding;
  const record = {
    format: 'espfix-finding',
    version: 1,
    espfix: version,
    subject: moved(subject, (name) => relative(folder, name)),
    ...rest,
  };
  await writeOutput(file, new TextEncoder().encode(`${encodeData(record, 2)}\n`));
}

/** Reads a finding. Throws a UserError that names the file, the field and what was expected. */
export async function loadFinding(file: string): Promise<SavedFinding> {
  let data: unknown;
  try {
    data = decodeData(new TextDecoder().decode(await readInput(file)));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${file}: expected a finding of espfix check --save, which is JSON`);
  }
  const parsed = v.safeParse(schema, data, { abortEarly: true });
  if (!parsed.success) throw new UserError(`${file}: ${describeIssue(parsed.issues[0], 'the finding')}`);
  const { output } = parsed;
  const subject = output.subject;
  const found: SubjectSpec =
    subject.kind === 'builtin'
      ? { ...withoutUndefined(subject), variant: imageNameOf(subject.variant) }
      : withoutUndefined(subject);
  return {
    spec: moved(found, (name) => resolve(dirname(file), name)),
    digests: withoutUndefined(output.digests),
    visit: withoutUndefined(output.visit),
    fails: output.fails,
    schedule: output.schedule.map(({ kind, at, vector, fault, pointer }) => ({
      kind: kind as EventKind,
      at,
      ...(vector !== undefined && { vector }),
      ...(fault && { fault: withoutUndefined(fault) }),
      ...(pointer !== undefined && { pointer }),
    })),
    property: output.property,
    what: output.what,
    details: output.details,
    stacks: output.stacks,
  };
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** What JSON left out is left out. */
function withoutUndefined<T extends object>(data: T): Defined<T> {
  return Object.fromEntries(Object.entries(data).filter(([, value]) => value !== undefined)) as Defined<T>;
}

/** `DIR/linux-1.json`, less what file systems or shells do not like. */
export function findingFile(folder: string, subject: string, number: number): string {
  const name = subject.replace(/^.*[\\/]/, '').replace(/[^\w.-]+/g, '_');
  return join(folder, `${name}-${number}.json`);
}
