/**
 * Plans: what a person says of a kernel that the checker cannot see by watching, and what of it is to be checked. JSON, or the default
 * export of a TypeScript module, which may assert more. The JSON form is docs/plan.schema.json, made from the schema here.
 */
import * as v from 'valibot';
import { type EventKind, eventKinds } from './event.ts';
import type { Visit } from './explore/visit.ts';
import { type PropertyName, propertyNames } from './finding.ts';
import { MAX_CHECK_CPUS, MAX_DEPTH } from './limits.ts';
import { PlanError } from './plan-error.ts';
import type { AssertedRun, Assertion } from './properties/assertion.ts';
import type { Ready } from './ready.ts';
import { describeIssue, foundText } from './schema-issue.ts';
import type { AddressRange, Subject } from './subject.ts';
import { registerParts } from './user-state.ts';
import { describeVector } from './vectors.ts';

function whole(from: number, to: number, description: string) {
  const expected = `a whole number from ${from} to ${to}`;
  return v.pipe(
    v.number(expected),
    v.integer(expected),
    v.minValue(from, expected),
    v.maxValue(to, expected),
    v.description(description),
  );
}

function text(description: string) {
  return v.pipe(v.string('a string'), v.nonEmpty('a string that is not empty'), v.description(description));
}

const HEX = /^0[xX][\da-fA-F]+$/;
const EXPECTED_PLACE = 'an address: "symbol", "symbol+0x10" or "0x..."';
const jsonPlace = v.pipe(
  v.string(EXPECTED_PLACE),
  v.regex(/^[^\s+]+(\+0x[\da-fA-F]+)?$/, EXPECTED_PLACE),
  v.description('A linear address: `symbol`, `symbol+0x10` or `0x...`.'),
);
/** In TypeScript, a number will do as well. */
const anyPlace = v.union([jsonPlace, v.bigint()], EXPECTED_PLACE);

const vector = (description: string) => whole(0, 255, description);
const list = <S extends v.GenericSchema>(item: S, description: string) =>
  v.pipe(v.array(item, 'a list'), v.description(description));

function entries<P extends typeof jsonPlace | typeof anyPlace>(place: P) {
  const object = <E extends v.ObjectEntries>(fields: E, description: string) =>
    v.pipe(v.strictObject(fields, 'an object'), v.description(description));
  const selector = object(
    {
      entry: v.optional(text('How it enters the kernel: `SYSCALL`, `INT 0x80`, `#UD`, `interrupt 0x40`.')),
      vector: v.optional(vector('It enters through this vector.')),
      through: v.optional(place),
      to: v.optional(text('The segments that it returns to, as reports name them: `cs64 ss32`.')),
    },
    'A visit is selected if all of these hold. `through`: it executes the instruction there.',
  );
  return {
    $schema: v.optional(v.string('a string')),
    machine: v.optional(
      object(
        {
          cpus: v.optional(whole(1, MAX_CHECK_CPUS, 'Processors; default 1.')),
          memory: v.optional(whole(1, 3072, 'RAM in MiB; default 64.')),
          cpu: v.optional(text("The processors' model and features, as `espfix run --cpu` has them.")),
          commandLine: v.optional(v.pipe(v.string('a string'), v.description("The kernel's command line."))),
          initrd: v.optional(
            text('The initial RAM disk or Multiboot module: a file, from where the plan is.'),
          ),
        },
        'The machine that the kernel is booted on.',
      ),
    ),
    symbols: v.optional(
      text(
        "A file with the kernel's symbols (ELF or System.map), from where the plan is; default: the image.",
      ),
    ),
    ready: v.optional(
      object(
        {
          serial: v.optional(text('This text on the first serial line.')),
          reached: v.optional(place),
          instructions: v.optional(whole(1, 1e12, 'So many instructions of all processors.')),
        },
        'When the kernel is ready to be watched: one of these. `reached`: the instruction there is executed. ' +
          'Default: at the first user mode.',
      ),
    ),
    watch: v.optional(whole(1, 1e12, 'Instructions to watch the kernel for.')),
    visits: v.optional(
      object(
        {
          only: v.optional(list(selector, 'Only visits that one of these selects; default: all.')),
          leaveOut: v.optional(list(selector, 'None of the visits that one of these selects.')),
          most: v.optional(whole(1, 1e6, 'At most so many, the first ones.')),
        },
        'Which visits of the kernel are explored: from user mode to user mode.',
      ),
    ),
    events: v.optional(
      list(
        v.picklist(eventKinds, `one of ${eventKinds.join(', ')}`),
        'Events to try; default: those that the kernel has handlers for, of an image without db-code and db-step.',
      ),
    ),
    vectors: v.optional(list(vector('A vector.'), 'Vectors of the event `irq`.')),
    depth: v.optional(whole(0, MAX_DEPTH, 'Events in a schedule, at most; default 1.')),
    properties: v.optional(
      object(
        Object.fromEntries(
          propertyNames.map((name) => [name, v.optional(v.boolean('true or false'))]),
        ) as Record<PropertyName, v.OptionalSchema<v.BooleanSchema<string>, undefined>>,
        'false turns a property off.',
      ),
    ),
    mayDiffer: v.optional(
      object(
        {
          memory: v.optional(
            list(
              object({ start: place, size: whole(1, 2 ** 40, 'Bytes.') }, 'A range of linear addresses.'),
              'Memory that user mode sees and that may differ after an event.',
            ),
          ),
          registers: v.optional(
            list(
              v.picklist(registerParts, `one of ${registerParts.join(', ')}`),
              'Registers of user mode that may differ after an event.',
            ),
          ),
        },
        'What events may change.',
      ),
    ),
    bounds: v.optional(
      object(
        {
          experiments: v.optional(
            whole(
              1,
              1e12,
              'Schedules that each visit, or each part of a long one, is explored with, at most. Other stack pointers and trials, ' +
                'which are few, are not counted.',
            ),
          ),
          turns: v.optional(whole(1, 1e9, 'Turns of a loop in which an instruction is interrupted.')),
        },
        'Bounds of the exploration; what they leave out is reported.',
      ),
    ),
    faultable: v.optional(
      list(
        object(
          {
            at: place,
            faults: list(
              object(
                {
                  vector: vector('The exception.'),
                  error: v.optional(whole(0, 0xffff_ffff, 'Its error code, if it has one.')),
                  address: v.optional(place),
                },
                'A fault. `address`: of a page fault, CR2.',
              ),
              'The faults to try there.',
            ),
          },
          "An instruction that may fault by the kernel's own design.",
        ),
        'Where the event `fault` is tried.',
      ),
    ),
    stacks: v.optional(
      list(
        object(
          {
            cpu: whole(0, MAX_CHECK_CPUS - 1, 'Whose it is.'),
            name: v.optional(text('As reports name it.')),
            start: place,
            size: whole(1, 2 ** 30, 'Bytes.'),
          },
          'A kernel stack; `start` is its lowest address.',
        ),
        'All kernel stacks; default: those that the TSS names and that are seen in use.',
      ),
    ),
    gaveUp: v.optional(
      list(place, 'Where the kernel gives up: a visit without events that executes one of these has failed.'),
    ),
    ministacks: v.optional(
      list(
        object(
          {
            cpu: whole(0, MAX_CHECK_CPUS - 1, 'Whose it is.'),
            address: place,
            size: whole(1, 4096, 'Bytes.'),
            aliasBits: v.optional(
              v.pipe(
                v.string('"0x..."'),
                v.regex(HEX, '"0x..."'),
                v.description('The address bits that its aliases differ in; default 0xffff0000.'),
              ),
            ),
            takesFrames: v.optional(
              v.pipe(
                v.boolean('true or false'),
                v.description('The processor may push exception frames there.'),
              ),
            ),
          },
          'Memory that a return to a 16-bit stack segment goes through.',
        ),
        'The ministacks of espfix64.',
      ),
    ),
  };
}

/** Plans as JSON. */
export const jsonPlanSchema = v.strictObject(entries(jsonPlace), 'an object');
const planSchema = v.strictObject(
  {
    ...entries(anyPlace),
    assertions: v.optional(
      v.array(
        v.custom<Assertion>((value) => typeof value === 'function', 'a function'),
        'a list of functions',
      ),
    ),
  },
  'an object',
);

/** What a plan may say; docs/plan.schema.json describes each field. */
export type Plan = v.InferOutput<typeof planSchema>;

/**
 * Checks what a plan file holds.
 * @param file its name, for errors. Throws PlanError that names the field and what was expected of it
 */
export function parsePlan(value: unknown, file: string): Plan {
  if (Array.isArray(value)) throw new PlanError(`${file}: the plan: expected an object, found a list`);
  const result = v.safeParse(planSchema, value, { abortEarly: true, abortPipeEarly: true });
  if (!result.success) throw new PlanError(`${file}: ${describeIssue(result.issues[0], 'the plan')}`);
  const { ready, visits } = result.output;
  const fail = (field: string, expected: string) => {
    throw new PlanError(`${file}: ${field}: expected ${expected}`);
  };
  if (ready && Object.keys(ready).length !== 1) fail('ready', 'one of serial, reached and instructions');
  for (const which of ['only', 'leaveOut'] as const)
    visits?.[which]?.forEach((selector, i) => {
      if (Object.keys(selector).length === 0)
        fail(`visits.${which}[${i}]`, 'at least one of entry, vector, through and to');
    });
  return result.output;
}

/** The address of a place in a plan. Throws PlanError if the image has no such symbol. */
function resolve(place: string | bigint, subject: Pick<Subject, 'symbol' | 'name'>, where: string): bigint {
  if (typeof place === 'bigint') return BigInt.asUintN(64, place);
  if (HEX.test(place)) return BigInt.asUintN(64, BigInt(place));
  const [name, offset] = place.split('+');
  const address = subject.symbol(name);
  if (address === undefined) throw new PlanError(`${where}: ${subject.name} has no symbol "${name}"`);
  return BigInt.asUintN(64, address + BigInt(offset ?? 0));
}

/** Which visits a plan selects: by how they enter and return, and, asked only if it matters, by what they execute. */
export type VisitFilter = (
  visit: Pick<Visit, 'id' | 'entry' | 'returnsTo'>,
  executes: (address: bigint) => boolean,
) => boolean;

/** What a plan makes of a subject. */
export interface PlannedCheck {
  readonly subject: Subject;
  /** The plan's name. */
  readonly file: string;
  readonly depth: number | undefined;
  readonly without: readonly PropertyName[];
  readonly most: number | undefined;
  readonly turns: number | undefined;
  readonly selects: VisitFilter;
  /** The plan's own selectors, each of which has to select something, with the fields that they are in. */
  readonly wanted: readonly { readonly field: string; readonly selects: VisitFilter }[];
  /** The plan says which visits. */
  readonly choosesVisits: boolean;
  /** Visits at most. */
  readonly mostVisits: number | undefined;
}

/**
 * Puts what the plan says over what is known of the subject.
 * @param file the plan's name, for PlanError
 * @param standard which visits are explored where the plan does not say
 */
export function applyPlan(
  subject: Subject,
  plan: Plan,
  file: string,
  standard: Plan['visits'] = {},
): PlannedCheck {
  const at = (place: string | bigint, field: string) => resolve(place, subject, `${file}: ${field}`);
  const range = (start: string | bigint, size: number, field: string): AddressRange => {
    const from = at(start, `${field}.start`);
    return { start: from, end: from + BigInt(size) };
  };
  const { properties, mayDiffer, bounds } = plan;
  const visits = { ...standard, ...plan.visits };
  const { twin } = subject;
  const events: readonly EventKind[] | undefined = plan.events;
  const ready = plan.ready && readyOf(plan.ready, (place) => at(place, 'ready.reached'));
  const selectors = (which: 'only' | 'leaveOut') =>
    visits[which]?.map((selector, i) => ({
      ...selector,
      through:
        selector.through === undefined ? undefined : at(selector.through, `visits.${which}[${i}].through`),
    }));
  const only = selectors('only');
  const leaveOut = selectors('leaveOut') ?? [];
  const planned: Subject = {
    ...subject,
    ...(events && { events }),
    ...(plan.vectors && { vectors: plan.vectors }),
    ...(plan.watch !== undefined && { watch: plan.watch }),
    ...(ready && { ready }),
    ...(plan.faultable && {
      faultable: plan.faultable.map((one, i) => ({
        address: at(one.at, `faultable[${i}].at`),
        faults: one.faults.map(({ vector: number, error, address }, k) => ({
          vector: number,
          ...(error !== undefined && { error }),
          ...(address !== undefined && { address: at(address, `faultable[${i}].faults[${k}].address`) }),
        })),
      })),
    }),
    ...(plan.stacks && {
      stacks: plan.stacks.map(({ cpu, name, start, size }, i) => ({
        cpu,
        name: name ?? `stack ${i}`,
        range: range(start, size, `stacks[${i}]`),
      })),
    }),
    ...(plan.gaveUp && { gaveUp: plan.gaveUp.map((place, i) => at(place, `gaveUp[${i}]`)) }),
    ...(plan.ministacks && {
      ministacks: plan.ministacks.map((one, i) => ({
        cpu: one.cpu,
        address: at(one.address, `ministacks[${i}].address`),
        size: one.size,
        aliasBits: BigInt(one.aliasBits ?? 0xffff_0000),
        takesFrames: one.takesFrames ?? false,
      })),
    }),
    ...(mayDiffer?.memory && {
      mayDiffer: [
        ...subject.mayDiffer,
        ...mayDiffer.memory.map(({ start, size }, i) => range(start, size, `mayDiffer.memory[${i}]`)),
      ],
    }),
    ...(mayDiffer?.registers && { mayDifferIn: mayDiffer.registers }),
    ...(plan.assertions && {
      assertions: plan.assertions.map((assert, i) => guarded(assert, `${file}: assertions[${i}]`)),
    }),
    // The second world is watched like the first.
    ...(twin && { twin: () => applyPlan(twin(), plan, file, standard).subject }),
  };
  return {
    subject: planned,
    file,
    depth: plan.depth,
    without: propertyNames.filter((name) => properties?.[name] === false),
    most: bounds?.experiments,
    turns: bounds?.turns,
    selects: (visit, executes) =>
      (only === undefined || only.some((selector) => matches(selector, visit, executes))) &&
      !leaveOut.some((selector) => matches(selector, visit, executes)),
    wanted: (plan.visits?.only && only ? only : []).map((selector, i) => ({
      field: `visits.only[${i}]`,
      selects: (visit, executes) => matches(selector, visit, executes),
    })),
    choosesVisits: plan.visits !== undefined,
    mostVisits: visits.most,
  };
}

/** The assertion, with a PlanError for what it throws and for an answer that is none. @param where the plan and the field */
function guarded(assert: Assertion, where: string): Assertion {
  return (run: AssertedRun) => {
    let what: unknown;
    try {
      what = assert(run);
    } catch (error) {
      const [reason] = (error instanceof Error ? `${error.name}: ${error.message}` : String(error)).split(
        '\n',
      );
      throw new PlanError(`${where}: throws ${reason}`);
    }
    if (what === undefined || (typeof what === 'string' && what !== '')) return what;
    throw new PlanError(`${where}: expected undefined, or words, found ${foundText(what)}`);
  };
}

function readyOf(ready: NonNullable<Plan['ready']>, at: (place: string | bigint) => bigint): Ready {
  if (ready.serial !== undefined) return { serial: ready.serial };
  if (ready.reached !== undefined) return { address: at(ready.reached) };
  return { instructions: ready.instructions ?? 0 };
}

interface Selector {
  readonly entry?: string | undefined;
  readonly vector?: number | undefined;
  readonly through: bigint | undefined;
  readonly to?: string | undefined;
}

function matches(
  selector: Selector,
  visit: Parameters<VisitFilter>[0],
  executes: (address: bigint) => boolean,
) {
  const { entry, vector: number, through, to } = selector;
  if (entry !== undefined && visit.entry !== entry) return false;
  if (to !== undefined && visit.returnsTo !== to) return false;
  if (
    number !== undefined &&
    !['software', 'external', 'exception'].some((source) => visit.entry === describeVector(number, source))
  )
    return false;
  return through === undefined || executes(through);
}
