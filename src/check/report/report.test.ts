/** Each format carries the findings, is well-formed, and lets nothing of the subject be taken for its own syntax. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeSchedule, verdictOf } from './check-report.ts';
import { escapeMarkup } from './escape.ts';
import { htmlReport } from './html.ts';
import { structureFaults } from './html-structure.fixture.ts';
import { reportJson } from './json.ts';
import { junitReport } from './junit.ts';
import { parseMarkup } from './markup.fixture.ts';
import { NASTY, sample, sampleSubject } from './sample.fixture.ts';
import { sarifReport } from './sarif.ts';
import { sarifValidator } from './sarif-schema.fixture.ts';
import { textReport } from './text.ts';

/** What formats that cannot hold control characters make of it. */
const nasty = NASTY.replaceAll('\u0000', '\ufffd').replaceAll('\u001b', '\ufffd');

describe('text', () => {
  const text = textReport(sample);
  it('tells each finding, shortest first, with its place, schedule, story and replay', () => {
    expect(text).toMatch(/^sample <kernel>, depth 2: 2 findings\n/);
    expect(text).toMatch(/1\. gs: the kernel accesses.*2\. kernel-bits: bits of the kernel/s);
    expect(text).toContain('NMI at boundary 2\n');
    expect(text).toContain('in SYSCALL (visit 0, processor 0, 2,485 instructions from power-on)');
    expect(text).toContain('NMI at entry_SYSCALL (entry.S:12): swapgs');
    expect(text).toMatch(/------- NMI strikes\n.*entry_SYSCALL.*swapgs {2}-> NMI/);
    expect(text).toMatch(/rax +0x0{16} +instead of 0x0{15}1/);
    expect(text).toContain('triple fault: the processor shuts down, at nmi<T>::run+0x2');
    expect(text).toContain('espfix replay findings/sample-1.json');
    expect(text).toMatch(/leaked +rsp\[31:16\]: CPU 0's kernel stack pointer/);
  });

  it('shows the instructions around a strike where there is no story', () => {
    expect(text).toMatch(/> +1 {2}0x401000 +syscall\n +2 {2}entry_SYSCALL/);
  });

  it('says what was complete, what was not, and how much', () => {
    expect(text).toContain('1,237 experiments at 7 boundaries of 2 visits; 10 states were equal');
    expect(text).toContain('1 of 2 visits explored completely to depth 2; the rest was bounded');
    expect(text).toContain('sound, depth 2: clean');
  });

  it('lists the coverage if asked, and holds no control character', () => {
    expect(text).not.toContain('interrupted');
    const listed = textReport(sample, { coverage: true });
    expect(listed).toMatch(/ 0 {2}CPL 3 {2}0x401000 +syscall +nmi, irq x2\n/);
    expect(listed).toContain('not explored: alone, processor 0');
    expect([...listed].filter((character) => character < ' ' && character !== '\n')).toEqual([]);
    expect(listed).toContain('\\x1b[31m');
  });
});

describe('JSON', () => {
  const schema = JSON.parse(
    readFileSync(new URL('../../../docs/check-report.schema.json', import.meta.url), 'utf8'),
  );
  const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(schema);
  const parsed = () => JSON.parse(JSON.stringify(reportJson(sample)));

  it('is as its schema says', () => {
    expect(validate(parsed()), JSON.stringify(validate.errors)).toBe(true);
    expect(parsed()).toMatchObject({ verdict: 'findings', subjects: [{ findings: [{ count: 3 }, {}] }, {}] });
    expect(parsed().subjects[0].findings[1].schedule[0].fault.address).toBe('0x0000000000001000');
  });

  it.each<[string, (report: ReturnType<typeof parsed>) => void]>([
    ['another verdict', (r) => (r.verdict = 'fine')],
    ['an unknown property', (r) => (r.subjects[0].findings[0].property = 'speed')],
    ['an unknown event', (r) => (r.subjects[0].findings[0].schedule[0].kind = 'smi')],
    ['an address in decimal', (r) => (r.subjects[0].visits[0].coverage[0].place.address = '12')],
    ['an unknown field', (r) => Object.assign(r.subjects[0], { more: 1 })],
    ['a missing field', (r) => Reflect.deleteProperty(r.subjects[0], 'notes')],
  ])('of %s is refused', (_name, spoil) => {
    const report = parsed();
    spoil(report);
    expect(validate(report)).toBe(false);
  });
});

describe('JUnit', () => {
  const document = parseMarkup(junitReport(sample));
  it('has a suite a subject, a failure a finding, and says what was skipped', () => {
    expect(document.name).toBe('testsuites');
    expect(document.attributes).toMatchObject({ tests: '4', failures: '2', skipped: '2', errors: '0' });
    const [suite, sound] = document.all('testsuite');
    expect(suite.attributes).toMatchObject({ name: 'sample <kernel>', tests: '4', failures: '2' });
    expect(sound.attributes).toMatchObject({ name: 'sound', tests: '0', failures: '0' });
    expect(suite.all('testcase').length).toBe(4);
    expect(suite.all('failure').map(({ attributes }) => attributes.type)).toEqual(['gs', 'kernel-bits']);
    expect(suite.all('failure')[0].text).toContain(nasty);
    expect(suite.all('skipped').map(({ attributes }) => attributes.message)).toEqual([
      'bounded: 3 boundaries were left out',
      'alone, processor 0 does not come back from it',
    ]);
    const names = suite.all('testcase').map(({ attributes }) => attributes.name);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe('SARIF', () => {
  const log = JSON.parse(JSON.stringify(sarifReport(sample)));
  it('is a log of version 2.1.0, a run a subject', () => {
    expect(log.version).toBe('2.1.0');
    expect(log.$schema).toMatch(/^https:.*sarif-schema-2\.1\.0\.json$/);
    expect(log.runs.length).toBe(2);
    expect(log.runs[1].results).toEqual([]);
  });

  it('has results that name their rule, place and level', () => {
    const [run] = log.runs;
    const rules = run.tool.driver.rules;
    expect(run.results.length).toBe(2);
    for (const result of run.results) {
      expect(rules[result.ruleIndex].id).toBe(result.ruleId);
      expect(result.level).toBe('error');
      expect(result.message.text).toBeTruthy();
      expect(Object.values(result.partialFingerprints)).toEqual([expect.any(String)]);
      for (const { physicalLocation, logicalLocations } of result.locations) {
        expect(physicalLocation.artifactLocation.uri).toMatch(/^[\w./%-]+$/);
        expect(logicalLocations[0].fullyQualifiedName).toBeTruthy();
      }
    }
    expect(run.results[0].locations[0].physicalLocation).toEqual({
      artifactLocation: { uri: 'entry.S' },
      region: { startLine: 12 },
    });
    const [flow] = run.results[0].codeFlows;
    expect(flow.threadFlows[0].locations[2]).toMatchObject({ executionOrder: 2, importance: 'essential' });
    expect(run.results[1].codeFlows[0].message.text).toContain('rsp[31:16]');
  });

  const validate = sarifValidator();
  it('is as the schema of the standard says', () => {
    expect(validate(log), JSON.stringify(validate.errors)).toBe(true);
  });

  it.each<[string, (copy: typeof log) => void]>([
    ['another version', (l) => (l.version = '2.0.0')],
    ['an unknown field', (l) => Object.assign(l.runs[0].results[0], { more: 1 })],
    ['a level of its own', (l) => (l.runs[0].results[0].level = 'bad')],
    ['no message', (l) => Reflect.deleteProperty(l.runs[0].results[0], 'message')],
    ['a line 0', (l) => (l.runs[0].results[0].locations[0].physicalLocation.region.startLine = 0)],
    [
      'a name that is no URI',
      (l) => (l.runs[0].results[0].locations[0].physicalLocation.artifactLocation.uri = 'a b'),
    ],
  ])('one with %s is not', (_name, spoil) => {
    const copy = structuredClone(log);
    spoil(copy);
    expect(validate(copy)).toBe(false);
  });

  it('is so whatever the subject is called and says', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (name, text) => {
        const [first] = sampleSubject.findings;
        const place = { address: 0n, name, text };
        const finding = { ...first, what: text, details: [text], struck: [{ event: text, place }] };
        const report = { ...sampleSubject, subject: name, findings: [finding], notes: [text] };
        const made = sarifReport({ version: '1.2.3', subjects: [{ report, file: name, told: [{}] }] });
        expect(validate(JSON.parse(JSON.stringify(made))), JSON.stringify(validate.errors)).toBe(true);
      }),
    );
  });
});

describe('HTML', () => {
  const html = htmlReport(sample);
  const document = parseMarkup(html);

  it('is a document of its own, with whole tables and drawings', () => {
    expect(structureFaults(html)).toEqual([]);
  });

  it.each<[string, string, string, RegExp]>([
    ['a cell less', '<td>0</td>', '', /rows of/],
    ['a picture from elsewhere', '</h1>', '</h1><img src="http://a/b"/>', /a img|attribute src/],
    ['a handler', '<h1>', '<h1 onclick="a()">', /attribute onclick/],
    ['a bar beyond its drawing', ' width="', ' width="9', /leaves the drawing|in a drawing of/],
    ['a list in a paragraph', '<p class="soft">', '<p class="soft"><ul></ul>', /a ul in a p/],
  ])('one with %s is not', (_name, from, to, fault) => {
    const at = from === ' width="' ? html.indexOf('<rect') : 0;
    const spoilt = html.slice(0, at) + html.slice(at).replace(from, to);
    expect(spoilt).not.toBe(html);
    expect(structureFaults(spoilt).join()).toMatch(fault);
  });

  it('needs nothing from elsewhere and runs nothing', () => {
    expect(html).not.toMatch(/<(script|link|img|iframe|object)|\b(src|href)=|url\(|@import|https?:/i);
    expect(document.all('script')).toEqual([]);
  });

  it('tells the findings and draws the schedule', () => {
    expect(document.all('h3').map(({ text }) => text)).toEqual([
      "1. gs: the kernel accesses memory through user mode's GS base",
      '2. kernel-bits: bits of the kernel reach user mode in rsp[31:16]',
    ]);
    expect(document.all('li').some(({ text }) => text === nasty)).toBe(true);
    const [drawing] = document.all('svg');
    const classes = (name: string) => drawing.all(name).map(({ attributes }) => attributes.class);
    // User mode, the kernel, a handler and one nested in it, each below the one before.
    expect(classes('rect')).toEqual(['user', 'kernel', 'kernel', 'kernel']);
    const rows = drawing.all('rect').map(({ attributes }) => Number(attributes.y));
    expect(rows).toEqual([...rows].sort((a, b) => a - b));
    expect(new Set(rows).size).toBe(4);
    expect(classes('line').filter((kind) => kind === 'event').length).toBe(1);
    expect(drawing.all('text').map(({ text }) => text)).toContain('NMI');
    expect(html).toContain('prefers-color-scheme: dark');
  });
});

describe('markup', () => {
  it('any text comes back as it was, less what XML cannot hold', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const { attributes, text: content } = parseMarkup(
          `<a b="${escapeMarkup(text)}">${escapeMarkup(text)}</a>`,
        );
        const expected = text.replace(
          /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu,
          '\ufffd',
        );
        expect([attributes.b, content]).toEqual([expected, expected]);
      }),
    );
  });
});

describe('verdicts and words', () => {
  it.each([
    [['clean', 'clean'], 'clean'],
    [['clean', 'inconclusive'], 'inconclusive'],
    [['inconclusive', 'findings'], 'findings'],
    [[], 'clean'],
  ] as const)('%j together are %s', (verdicts, expected) => {
    expect(verdictOf(verdicts.map((verdict) => ({ ...sampleSubject, verdict })))).toBe(expected);
  });

  it('a schedule in words', () => {
    expect(describeSchedule([])).toBe('no event');
    expect(describeSchedule(sampleSubject.findings[1].schedule)).toBe(
      'fault 13 (error 0x0) at boundary 1, then interrupt 0x40 at boundary 3',
    );
  });
});
