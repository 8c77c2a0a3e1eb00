/** Explorations from the command line: verdicts and statuses, formats, journals, saved findings and their replay. */
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { afterAll, describe, expect, it } from 'vitest';
import { structureFaults } from '../check/report/html-structure.fixture.ts';
import type { ReportJson } from '../check/report/json.ts';
import { parseMarkup } from '../check/report/markup.fixture.ts';
import { sarifValidator } from '../check/report/sarif-schema.fixture.ts';
import { buildCKernel, cKernelHere } from '../check/subjects/c-kernel.fixture.ts';
import { helloImage } from '../peers/flat-image.fixture.ts';
import { capturedIo } from './io.fixture.ts';
import { espfix } from './program.ts';
import { allFrames, prepare } from './subject-spec.ts';

const folder = mkdtempSync(join(tmpdir(), 'espfix-explore-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = (name: string) => join(folder, name);
const file = (name: string, content: string | Uint8Array) => {
  writeFileSync(path(name), content);
  return path(name);
};
const schema = JSON.parse(
  readFileSync(new URL('../../docs/check-report.schema.json', import.meta.url), 'utf8'),
);
const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(schema);

const sarif = sarifValidator();

/** The first visits only, so that the tests are quick. */
const few = file('few.json', JSON.stringify({ watch: 40_000, visits: { most: 2 } }));
const nmis = file(
  'nmis.json',
  JSON.stringify({
    watch: 1_040_000,
    visits: { most: 4 },
    events: ['nmi'],
    properties: { 'kernel-bits': false },
  }),
);
const BROKEN = ['--variant', 'nmi-without-ist', '--plan', nmis];

async function run(...args: string[]) {
  const io = capturedIo('');
  const status = await espfix(args, io);
  return { status, out: io.out(), err: io.err() };
}

function report(out: string): ReportJson {
  const parsed = JSON.parse(out) as ReportJson;
  expect(validate(parsed), JSON.stringify(validate.errors)).toBe(true);
  return parsed;
}

describe('a sound kernel', () => {
  it('is clean, status 0, in JSON that its schema allows', async () => {
    const { status, out } = await run('check', '--variant', 'linux', '--plan', few, '--format', 'json');
    const { verdict, subjects } = report(out);
    expect([status, verdict]).toEqual([0, 'clean']);
    expect(subjects[0].experiments).toBeGreaterThan(400);
    const [visit] = subjects[0].visits;
    expect(visit.complete).toBe(true);
    expect(visit.coverage.length).toBeGreaterThanOrEqual(visit.boundaries);
    // Every boundary was interrupted by what could come there.
    for (const { cpl, events } of visit.coverage.slice(1))
      expect(Object.keys(events)).toEqual(
        expect.arrayContaining(cpl === 3 ? ['nmi', 'mc', 'irq'] : ['nmi', 'mc']),
      );
  });

  it('is inconclusive where a bound was hit, status 3', async () => {
    const plan = file(
      'bound.json',
      JSON.stringify({ watch: 40_000, bounds: { experiments: 10 }, properties: { 'kernel-bits': false } }),
    );
    const { status, out } = await run('check', '--variant', 'linux', '--plan', plan);
    expect(status).toBe(3);
    expect(out).toContain('inconclusive: nothing was found, but not everything was tried');
  });

  it('takes events and depth from the command line over the plan', async () => {
    const { status, out } = await run(
      ...[
        'check',
        '--variant',
        'linux',
        '--plan',
        few,
        '--depth',
        '0',
        '--events',
        'nmi,mc',
        '--format',
        'json',
      ],
    );
    const { subjects } = report(out);
    expect([status, subjects[0].depth, subjects[0].experiments]).toEqual([0, 0, 0]);
    expect(subjects[0].events).toEqual(['nmi', 'mc']);
  });
});

describe('--frames all', () => {
  it("has a page's first ministack, its last and a random one, with one processor and with two", async () => {
    const offsets: number[][] = [];
    for (const spec of allFrames('linux', 2)) {
      const { subject } = (await prepare(spec)).planned;
      expect(subject.ministacks.length).toBe(subject.cpus);
      offsets.push(subject.ministacks.map(({ address }) => Number(address & 0xfffn)));
    }
    const last = 4096 - 64;
    expect(offsets.slice(0, 2)).toEqual([[0], [last, 0]]);
    const [, , [random]] = offsets;
    expect([0, last]).not.toContain(random);
  });

  it('explores each, and says which', async () => {
    const { status, out } = await run(
      ...[
        'check',
        '--variant',
        'linux',
        '--frames',
        'all',
        '--plan',
        few,
        '--events',
        'nmi',
        '--format',
        'json',
      ],
    );
    const { verdict, subjects } = report(out);
    expect([status, verdict]).toEqual([0, 'clean']);
    expect(subjects.map(({ subject }) => subject)).toEqual([
      'linux, first ministack, 1 processor',
      'linux, last ministack, 2 processors',
      'linux, random ministack, 2 processors',
    ]);
    for (const { experiments } of subjects) expect(experiments).toBeGreaterThan(50);
  });

  it.each([
    [['--frames', 'some', '--variant', 'linux'], /--frames.*expected one or all/],
    [
      ['--frames', 'all', '--variant', 'linux', '--cpus', '1'],
      /--cpus: expected 2 or more with --frames all/,
    ],
    [['--frames', 'all'], /expected an image or --variant/],
    [['--frames', 'all', 'kernel.elf'], /--frames: only with --variant/],
  ])('%j is refused in one line', async (args, line) => {
    const { status, err } = await run('check', ...args);
    expect([status, err]).toEqual([2, expect.stringMatching(line)]);
  });
});

describe('a kernel with a fault', () => {
  const saved = path('saved');

  it('has findings, status 1, each with its file and the command that replays it', async () => {
    const { status, out, err } = await run('check', ...BROKEN, '--save', saved);
    expect(status).toBe(1);
    expect(out).toMatch(/^nmi-without-ist, depth 1: \d+ findings?\n/);
    expect(out).toMatch(/------- NMI strikes\n.* syscall_entry .* swapgs {2}-> NMI/);
    expect(out).toContain(`espfix replay ${path('saved')}/nmi-without-ist-1.json`);
    expect(err).toMatch(/found in nmi-without-ist: stack: an exception frame is pushed to user mode's stack/);
    expect(readdirSync(saved).length).toBe(Number(/: (\d+) findings?\n/.exec(out)?.[1]));
  });

  it.each([
    ['junit', (text: string) => expect(parseMarkup(text).all('failure').length).toBeGreaterThan(0)],
    [
      'html',
      (text: string) => {
        expect(structureFaults(text)).toEqual([]);
        expect(parseMarkup(text).all('svg').length).toBeGreaterThan(0);
      },
    ],
    [
      'sarif',
      (text: string) => {
        const log = JSON.parse(text);
        expect(sarif(log), JSON.stringify(sarif.errors)).toBe(true);
        expect(log.runs[0].results.length).toBeGreaterThan(0);
      },
    ],
    ['json', (text: string) => expect(report(text).subjects[0].findings[0].story).not.toBeNull()],
  ])('is reported as %s to a file', async (format, judge) => {
    const { status, out } = await run('check', ...BROKEN, '--format', format, '-o', path(`report.${format}`));
    expect([status, out]).toEqual([1, '']);
    judge(readFileSync(path(`report.${format}`), 'utf8'));
  });

  it('shows every finding again in its replay, status 1', async () => {
    for (const name of readdirSync(saved)) {
      const { status, out } = await run('replay', join(saved, name));
      expect([status, out]).toEqual([1, expect.stringContaining('\nshows again: ')]);
    }
  });

  it('is replayed to a boundary with the registers there, and traced', async () => {
    const [name] = readdirSync(saved);
    const finding = join(saved, name);
    const { at } = JSON.parse(readFileSync(finding, 'utf8')).schedule[0];
    const { out } = await run('replay', finding, '--to', `${at + 1}`, '--trace', path('trace'));
    expect(out).toMatch(
      new RegExp(`NMI strikes\\n +${at} .*-> NMI.*\\n +stopped at boundary ${at + 1}, at vector[.]`),
    );
    expect(out).toMatch(/rax=[0-9a-f]+/);
    expect(readFileSync(path('trace'), 'utf8')).toMatch(/\n# 0 vector=2 source=nmi\n(#.*\n)*$/);
  });

  it('shows nothing where the schedule is another, status 0', async () => {
    const [name] = readdirSync(saved);
    const finding = JSON.parse(readFileSync(join(saved, name), 'utf8'));
    finding.schedule[0].at = 0;
    const { status, out } = await run('replay', file('saved/other.json', JSON.stringify(finding)));
    expect([status, out]).toEqual([0, expect.stringContaining('does not show')]);
    rmSync(path('saved/other.json'));
  });

  it.each<[string, (finding: Record<string, unknown>) => void, RegExp]>([
    [
      'of another image',
      (f) => (f.digests = { image: '00', plan: (f.digests as { plan: string }).plan }),
      /nmi-without-ist is not the one that was checked/,
    ],
    [
      'of another plan',
      (f) => (f.digests = { image: (f.digests as { image: string }).image, plan: '00' }),
      /nmis.json is not the one that was checked/,
    ],
    [
      'of a visit that there is not',
      (f) => (f.visit = { ...(f.visit as object), start: 1 }),
      /no visit begins at instruction 1/,
    ],
    ['without a schedule', (f) => delete f.schedule, /schedule: missing/],
    [
      'with an unknown event',
      (f) => (f.schedule = [{ kind: 'smi', at: 1 }]),
      /schedule\[0\].kind: expected one of nmi/,
    ],
  ])('%s is refused in one line, status 2', async (_name, spoil, line) => {
    const finding = JSON.parse(readFileSync(join(saved, readdirSync(saved)[0]), 'utf8'));
    spoil(finding);
    const { status, err } = await run('replay', file('saved/spoilt.json', JSON.stringify(finding)));
    rmSync(path('saved/spoilt.json'));
    expect([status, err]).toEqual([2, expect.stringMatching(line)]);
    expect(err.trimEnd()).not.toContain('\n');
  });
});

describe('a journal', () => {
  const command = ['check', ...BROKEN, '--format', 'json'];

  it('goes on after Ctrl-C, and after a kill that cut its last line, without repeating or losing work', async () => {
    const whole = await run(...command);
    const journal = path('journal');
    const io = capturedIo('');
    const pieces = { ...io.stderr, write: io.stderr.write };
    let asked = false;
    const interrupting = {
      ...io,
      stderr: {
        ...pieces,
        write(data: string | Uint8Array) {
          pieces.write(data);
          if (`${data}`.startsWith('found in') && !asked) io.interrupt();
          asked ||= `${data}`.startsWith('found in');
        },
      },
    };
    expect(await espfix([...command, '--journal', journal], interrupting)).toBe(130);
    const known = report(io.out()).subjects[0];
    expect(known.findings.length).toBeGreaterThan(0);
    expect(known.notes.join()).toMatch(/pieces of work were not done/);
    expect(io.err()).toMatch(/interrupted; the same command with --resume .*journal/);

    const begun = readFileSync(journal, 'utf8');
    const resumed = await run(...command, '--resume', journal);
    expect(resumed.status).toBe(1);
    expect(report(resumed.out)).toEqual(report(whole.out));
    const ended = readFileSync(journal, 'utf8');
    expect(ended.startsWith(begun)).toBe(true);
    const tasks = ended
      .split('\n')
      .slice(1, -1)
      .map((line) => JSON.parse(line).task);
    expect(new Set(tasks).size).toBe(tasks.length);
    expect(tasks.length).toBeGreaterThan(begun.split('\n').length - 2);

    writeFileSync(journal, ended.slice(0, -40));
    expect((await run(...command, '--resume', journal)).out).toBe(resumed.out);
    expect(readFileSync(journal, 'utf8')).toBe(ended);
  });

  it('of a process that was killed goes on without booting and watching again, if its recording is there', async () => {
    const plan = (name: string) =>
      file(name, JSON.stringify({ watch: 40_000, visits: { most: 4 }, events: ['nmi'] }));
    const command = (name: string) => [
      'check',
      '--variant',
      'linux',
      '--plan',
      plan(name),
      '--format',
      'json',
    ];
    const journal = path('killed');
    const pieces = () => {
      const text = existsSync(journal) ? readFileSync(journal, 'utf8') : '';
      return text.split('\n').filter((line) => /^\{"task":"0\/\d+:/.test(line)).length;
    };
    const main = new URL('main.ts', import.meta.url).pathname;
    const child = spawn(
      process.execPath,
      ['--import', import.meta.resolve('tsx'), main, ...command('killed.json'), '--journal', journal],
      { stdio: 'ignore' },
    );
    const ended = new Promise((resolve) => child.on('exit', (_code, signal) => resolve(signal)));
    while (pieces() === 0 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGKILL');
    expect(await ended).toBe('SIGKILL');
    const done = pieces();
    expect(done).toBeLessThan(4);

    const gone = path('gone');
    copyFileSync(journal, gone);
    // Another plan of the same content, so that nothing is known of the subject in this process.
    const resumed = await run(...command('resumed.json'), '--resume', journal);
    expect([resumed.status, resumed.err]).toEqual([
      0,
      expect.stringMatching(new RegExp(`linux: ${done} of 4 pieces of work are done\\n`)),
    ]);
    expect(pieces()).toBe(4);
    expect(report(resumed.out).subjects[0].notes.join()).not.toMatch(/not done|differ/);

    for (const world of ['own', 'twin']) writeFileSync(`${journal}.0.${world}`, 'something else');
    const again = await run(...command('again.json'), '--resume', gone);
    expect(again.err).toMatch(
      /pieces of work are done; its recording is gone: it is booted and watched again\n/,
    );
    expect(again.out).toBe(resumed.out);
  }, 120_000);

  it('of another kernel, or of other options, is refused in one line', async () => {
    for (const args of [
      ['check', '--variant', 'linux', '--plan', nmis],
      ['check', ...BROKEN, '--depth', '2'],
    ]) {
      const { status, err } = await run(...args, '--resume', path('journal'));
      expect([status, err]).toEqual([
        2,
        expect.stringMatching(/^espfix: \S+journal: a journal of another check: [^\n]+\n$/),
      ]);
    }
  });
});

describe('a plan in TypeScript', () => {
  it('asserts more, in its own words', async () => {
    const plan = file(
      'plan.ts',
      `import { type AssertedRun, definePlan } from 'espfix';
       const few = ({ deliveries, schedule }: AssertedRun): string | undefined =>
         schedule.length > 0 && deliveries.length > 1 ? 'more than one delivery' : undefined;
       export default definePlan({ watch: 40_000, events: ['nmi'], properties: { 'kernel-bits': false }, assertions: [few] });`,
    );
    const { status, out } = await run('check', '--variant', 'none', '--plan', plan, '--format', 'json');
    const { findings } = report(out).subjects[0];
    expect(status).toBe(findings.length > 0 ? 1 : 0);
    expect(findings.map(({ property }) => property)).not.toContain('gs');
    const always = file(
      'always.ts',
      readFileSync(plan, 'utf8').replace('deliveries.length > 1', 'deliveries.length > 0'),
    );
    const other = await run('check', '--variant', 'none', '--plan', always, '--format', 'json');
    expect(other.status).toBe(1);
    expect(report(other.out).subjects[0].findings[0]).toMatchObject({
      property: 'assertion',
      what: 'more than one delivery',
    });
  });

  it('whose assertion throws is refused in one line', async () => {
    const plan = file(
      'throws.ts',
      `export default { watch: 40_000, visits: { most: 1 }, assertions: [() => undefined, ({ deliveries }) => deliveries[99].vector] };`,
    );
    const { status, err } = await run('check', '--variant', 'none', '--plan', plan);
    expect([status, err]).toEqual([
      2,
      expect.stringMatching(/\nespfix: \S+throws.ts: assertions\[1\]: throws TypeError: [^\n]+\n$/),
    ]);
  });
});

describe('an output that cannot be written', () => {
  const none = file('none', '');

  it.each<[args: string[], line: string]>([
    [['-o', path('nowhere/report')], `${path('nowhere/report')}: no such file or directory`],
    [['-o', folder], `${folder}: is a directory, expected a file`],
    [['-o', join(none, 'report')], `${join(none, 'report')}: a part of the path is not a directory`],
    [['-o', ''], ': no such file or directory'],
    [['--save', none], `${none}: is a file, expected a folder`],
    [['--save', join(none, 'findings')], `${join(none, 'findings')}: a part of the path is not a directory`],
  ])('is noticed before the exploration: %j', async (args, line) => {
    const { status, out, err } = await run('check', '--variant', 'linux', ...args);
    expect([status, out, err]).toEqual([2, '', `espfix: ${line}\n`]);
  });

  it('does not lose the report where a finding cannot be saved', async () => {
    mkdirSync(path('full/nmi-without-ist-1.json'), { recursive: true });
    const { status, out, err } = await run('check', ...BROKEN, '--save', path('full'));
    expect([status, out]).toEqual([2, expect.stringMatching(/^nmi-without-ist, depth 1: \d+ findings?\n/)]);
    expect(err).toMatch(/\nespfix: \S+full\/nmi-without-ist-1.json: is a directory, expected a file\n$/);
  });

  it('makes no file, and a folder, for what is refused after it', async () => {
    const { status } = await run(
      ...['check', 'no-such.elf', '-o', path('early'), '--save', path('made/early')],
    );
    expect([status, existsSync(path('early')), readdirSync(path('made/early'))]).toEqual([2, false, []]);
  });
});

describe('a plan that selects nothing', () => {
  it('is refused in one line', async () => {
    const plan = file(
      'nothing.json',
      JSON.stringify({ watch: 40_000, visits: { only: [{ entry: 'SYSENTER' }] } }),
    );
    const { status, err } = await run('check', '--variant', 'linux', '--plan', plan);
    expect([status, err]).toEqual([
      2,
      expect.stringMatching(
        /\nespfix: \S+nothing.json: visits.only\[0\]: selects none of the \d+ visits seen\n$/,
      ),
    ]);
  });
});

describe('an image', () => {
  it('that never comes to user mode is refused in one line', async () => {
    const { status, err } = await run('check', file('hello.elf', helloImage('hello\n', 3)));
    expect([status, err]).toEqual([
      2,
      expect.stringMatching(/hello.elf: it does not come to user mode: [^\n]+\n$/),
    ]);
  });

  describe.skipIf(!cKernelHere())('in C', () => {
    it('is explored as its plan says, which a first watching wrote', async () => {
      const image = file('kernel.elf', buildCKernel({ plainTasks: true }));
      const init = await run('plan', 'init', image, '--cpu', 'haswell,-fsgsbase', '-o', path('first.json'));
      expect(init).toMatchObject({ status: 0, out: '' });
      const first = JSON.parse(readFileSync(path('first.json'), 'utf8'));
      expect(first.machine).toEqual({ cpus: 1, memory: 64, cpu: 'haswell,-fsgsbase' });
      expect(first.events).toContain('nmi');
      expect(first.visits.only.map(({ entry }: { entry: string }) => entry)).toContain('SYSCALL');
      expect(first.stacks.length).toBeGreaterThan(0);
      const narrow = {
        ...first,
        watch: 100_000,
        events: ['nmi'],
        visits: { only: [{ entry: 'SYSCALL' }], most: 1 },
      };
      const plan = file('narrow.json', JSON.stringify(narrow));
      const { status, out } = await run('check', image, '--plan', plan, '--format', 'json');
      const { subjects } = report(out);
      expect([status, subjects[0].verdict]).toEqual([0, 'clean']);
      expect(subjects[0].visits.map(({ entry }) => entry)).toEqual(['SYSCALL']);
    });
  });
});
