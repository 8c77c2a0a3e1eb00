/** Plans: what is taken, what is refused and in which words, and what they make of a subject. */
import { readFileSync } from 'node:fs';
import { toJsonSchema } from '@valibot/to-json-schema';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { definePlan } from './define-plan.ts';
import { eventKinds } from './event.ts';
import { MAX_CHECK_CPUS } from './limits.ts';
import { applyPlan, jsonPlanSchema, type Plan, parsePlan } from './plan.ts';
import { PlanError } from './plan-error.ts';
import type { AssertedRun } from './properties/assertion.ts';
import type { Subject } from './subject.ts';

const published = JSON.parse(readFileSync(new URL('../../docs/plan.schema.json', import.meta.url), 'utf8'));

const full: Plan = {
  $schema: './plan.schema.json',
  machine: { cpus: 2, memory: 128, commandLine: 'quiet', initrd: 'disk' },
  symbols: 'System.map',
  ready: { serial: 'login:' },
  watch: 1_000_000,
  visits: {
    only: [{ vector: 0x80 }, { entry: 'SYSCALL', through: 'fast+0x2' }],
    leaveOut: [{ to: 'cs32 ss32' }],
  },
  events: ['nmi', 'fault'],
  vectors: [0x40],
  depth: 2,
  properties: { transparent: false },
  mayDiffer: { memory: [{ start: 'counters', size: 8 }], registers: ['rcx'] },
  bounds: { experiments: 1000, turns: 2 },
  faultable: [{ at: 'fast', faults: [{ vector: 14, error: 2, address: '0x1000' }, { vector: 13 }] }],
  gaveUp: ['fast+0x4'],
  stacks: [{ cpu: 0, start: '0xffff800000000000', size: 4096 }],
  ministacks: [{ cpu: 0, address: 'counters', size: 40, aliasBits: '0xffff0000', takesFrames: true }],
};

const symbols: Record<string, bigint> = { fast: 0xffff_ffff_8000_0000n, counters: 0xffff_ffff_8100_0000n };
/** What assertions are given, which these do not look at. */
const run = {} as AssertedRun;
/** As much of a subject as plans ask for. */
const subject = {
  name: 'kernel.elf',
  image: new Uint8Array(),
  cpus: 1,
  memory: 64,
  describe: (address) => `0x${address.toString(16)}`,
  symbol: (name) => symbols[name],
  events: eventKinds,
  vectors: [],
  faultable: [],
  leaveOut: [],
  gaveUp: [],
  ministacks: [],
  mayDiffer: [{ start: 0n, end: 8n }],
  foreign: true,
  watch: 1,
} as Partial<Subject> as Subject;

describe('the published schema', () => {
  it('is the one that plans are checked by', () => {
    expect(published).toEqual({
      ...toJsonSchema(jsonPlanSchema),
      title: 'A plan of espfix check (--plan FILE)',
    });
  });

  it('allows a plan with everything', () => {
    const validate = new Ajv({ strict: true }).compile(published);
    expect(validate(full), JSON.stringify(validate.errors)).toBe(true);
    expect(validate({ ...full, assertions: [] })).toBe(false);
    expect(validate({ depth: 'two' })).toBe(false);
  });
});

describe('the guide', () => {
  it('shows a plan that is one', () => {
    const guide = readFileSync(new URL('../../docs/plan.md', import.meta.url), 'utf8');
    const [, example] = /```json\n(.*?)```/s.exec(guide) ?? [];
    expect(Object.keys(parsePlan(JSON.parse(example), 'plan.md'))).toContain('faultable');
  });
});

describe('plans that are refused, in one line', () => {
  it.each<[plan: unknown, line: string]>([
    [[], 'the plan: expected an object, found a list'],
    [null, 'the plan: expected an object, found null'],
    [{ dept: 1 }, 'dept: no such field'],
    [{ depth: '2' }, 'depth: expected a whole number from 0 to 8, found "2"'],
    [{ depth: 9 }, 'depth: expected a whole number from 0 to 8, found 9'],
    [{ depth: 1.5 }, 'depth: expected a whole number from 0 to 8, found 1.5'],
    [{ events: 'nmi' }, 'events: expected a list, found "nmi"'],
    [{ events: ['smi'] }, `events[0]: expected one of ${eventKinds.join(', ')}, found "smi"`],
    [{ vectors: [3, 256] }, 'vectors[1]: expected a whole number from 0 to 255, found 256'],
    [{ properties: { speed: true } }, 'properties.speed: no such field'],
    [{ properties: { gs: 0 } }, 'properties.gs: expected true or false, found 0'],
    [{ machine: { cpus: 0 } }, `machine.cpus: expected a whole number from 1 to ${MAX_CHECK_CPUS}, found 0`],
    [
      { machine: { cpus: MAX_CHECK_CPUS + 1 } },
      `machine.cpus: expected a whole number from 1 to ${MAX_CHECK_CPUS}, found ${MAX_CHECK_CPUS + 1}`,
    ],
    [
      { ministacks: [{ cpu: MAX_CHECK_CPUS, address: 'x', size: 8 }] },
      `ministacks[0].cpu: expected a whole number from 0 to ${MAX_CHECK_CPUS - 1}, found ${MAX_CHECK_CPUS}`,
    ],
    [{ ready: {} }, 'ready: expected one of serial, reached and instructions'],
    [{ ready: { serial: 'x', reached: 'y' } }, 'ready: expected one of serial, reached and instructions'],
    [{ ready: { serial: '' } }, 'ready.serial: expected a string that is not empty, found ""'],
    [{ visits: { only: [{}] } }, 'visits.only[0]: expected at least one of entry, vector, through and to'],
    [
      { faultable: [{ at: 'a b', faults: [] }] },
      'faultable[0].at: expected an address: "symbol", "symbol+0x10" or "0x...", found "a b"',
    ],
    [{ faultable: [{ faults: [] }] }, 'faultable[0].at: missing'],
    [
      { stacks: [{ cpu: 0, start: 'x', size: -4 }] },
      'stacks[0].size: expected a whole number from 1 to 1073741824, found -4',
    ],
    [{ mayDiffer: { registers: ['xmm0'] } }, 'mayDiffer.registers[0]: expected one of rax, '],
    [{ assertions: ['rax == 0'] }, 'assertions[0]: expected a function, found "rax == 0"'],
  ])('%j', (plan, line) => {
    const refuse = () => parsePlan(plan, 'my.plan.json');
    expect(refuse).toThrow(PlanError);
    expect(refuse).toThrow(`my.plan.json: ${line}`);
    try {
      refuse();
    } catch (error) {
      expect((error as Error).message).not.toContain('\n');
    }
  });

  it.each<[plan: Plan, line: string]>([
    [{ faultable: [{ at: 'slow', faults: [] }] }, 'faultable[0].at: kernel.elf has no symbol "slow"'],
    [
      { visits: { only: [{ through: 'nowhere+0x2' }] } },
      'visits.only[0].through: kernel.elf has no symbol "nowhere"',
    ],
    [{ ready: { reached: 'main' } }, 'ready.reached: kernel.elf has no symbol "main"'],
    [
      { mayDiffer: { memory: [{ start: 'jiffies', size: 8 }] } },
      'mayDiffer.memory[0].start: kernel.elf has no',
    ],
  ])('%j, for a symbol that the image lacks', (plan, line) => {
    expect(() => applyPlan(subject, parsePlan(plan, 'p.json'), 'p.json')).toThrow(`p.json: ${line}`);
  });
});

describe('what a plan makes of a subject', () => {
  const planned = applyPlan(subject, parsePlan(full, 'p'), 'p');

  it('resolves places and keeps what it does not speak of', () => {
    expect(planned.subject).toMatchObject({
      name: 'kernel.elf',
      ready: { serial: 'login:' },
      watch: 1_000_000,
      events: ['nmi', 'fault'],
      vectors: [0x40],
      faultable: [
        {
          address: symbols.fast,
          faults: [{ vector: 14, error: 2, address: 0x1000n }, { vector: 13 }],
        },
      ],
      stacks: [
        { cpu: 0, name: 'stack 0', range: { start: 0xffff_8000_0000_0000n, end: 0xffff_8000_0000_1000n } },
      ],
      ministacks: [{ address: symbols.counters, size: 40, aliasBits: 0xffff_0000n, takesFrames: true }],
      mayDiffer: [
        { start: 0n, end: 8n },
        { start: symbols.counters, end: (symbols.counters ?? 0n) + 8n },
      ],
      mayDifferIn: ['rcx'],
      gaveUp: [0xffff_ffff_8000_0004n],
    });
    expect(planned).toMatchObject({ depth: 2, without: ['transparent'], most: 1000, turns: 2 });
    expect(applyPlan(subject, parsePlan({}, 'p'), 'p').subject).toEqual(subject);
  });

  it.each([
    [{ entry: 'INT 0x80', returnsTo: 'cs64 ss32' }, true],
    [{ entry: 'INT 0x80', returnsTo: 'cs32 ss32' }, false],
    [{ entry: 'SYSCALL', returnsTo: 'cs64 ss32' }, true],
    [{ entry: 'SYSENTER', returnsTo: 'cs64 ss32' }, false],
  ])('selects %j: %s', (visit, expected) => {
    const executes = (address: bigint) => address === symbols.fast + 2n;
    expect(planned.selects({ id: 0, ...visit }, executes)).toBe(expected);
    if (visit.entry === 'SYSCALL') expect(planned.selects({ id: 0, ...visit }, () => false)).toBe(false);
  });

  it('takes numbers and functions from TypeScript', () => {
    const say = () => 'no';
    const plan = definePlan({ faultable: [{ at: 0x1000n, faults: [{ vector: 13 }] }], assertions: [say] });
    const made = applyPlan(subject, parsePlan(plan, 'p.ts'), 'p.ts').subject;
    expect([made.faultable[0].address, made.assertions?.map((assert) => assert(run))]).toEqual([
      0x1000n,
      ['no'],
    ]);
  });

  it.each<[answer: () => unknown, line: string]>([
    [
      () => symbols.nowhere.toString(),
      "throws TypeError: Cannot read properties of undefined (reading 'toString')",
    ],
    [
      () => {
        throw new RangeError('one\ntwo');
      },
      'throws RangeError: one',
    ],
    [() => Promise.reject('no').catch(() => 'no'), 'expected undefined, or words, found object'],
    [() => false, 'expected undefined, or words, found false'],
    [() => '', 'expected undefined, or words, found ""'],
  ])('names an assertion that does not answer: %#', (answer, line) => {
    const fine = () => undefined;
    const { assertions = [] } = applyPlan(
      subject,
      parsePlan({ assertions: [fine, answer] }, 'p.ts'),
      'p.ts',
    ).subject;
    expect(assertions[0](run)).toBeUndefined();
    expect(() => assertions[1](run)).toThrow(new PlanError(`p.ts: assertions[1]: ${line}`));
  });
});
