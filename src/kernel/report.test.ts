/** The lines of a report: what is read out of them, and what is refused. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CaseLine,
  codeSegmentKinds,
  formatCase,
  leaked,
  parseReport,
  ReportError,
  returnPaths,
  stackSegmentKinds,
  verdictOf,
} from './report.ts';

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });

const caseLine: fc.Arbitrary<CaseLine> = fc.record({
  cpu: fc.nat(31),
  path: fc.constantFrom(...returnPaths),
  cs: fc.constantFrom(...codeSegmentKinds),
  ss: fc.constantFrom(...stackSegmentKinds),
  set: uint32,
  seen: uint32,
  rsp: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
  kernel: uint32.map((value) => (value & 0xffff_0000) >>> 0),
  result: fc.constantFrom('own', 'kernel', 'other', 'registers', 'missed', 'fault:gp:0000', 'oops:df'),
  ok: fc.boolean(),
  name: fc.constantFrom('-', 'q1-cs64-ss16'),
});

const header = 'espfix none cpus=2 seed=1 protocol=1';
const good: CaseLine = {
  cpu: 0,
  path: 'int80',
  cs: 'cs16-ldt',
  ss: 'ss16-ldt',
  set: 0x5aadc0de,
  seen: 0x5aadc0de,
  rsp: 0x5aadc0den,
  kernel: 0x0300_0000,
  result: 'own',
  ok: true,
  name: '-',
};
const leaking: CaseLine = { ...good, seen: 0x0300c0de, result: 'kernel', ok: false };

function report(cases: readonly CaseLine[], ...extra: string[]): string {
  const ok = cases.filter((c) => c.ok).length;
  return [header, ...extra, ...cases.map(formatCase), `end ok=${ok} failed=${cases.length - ok}`, ''].join(
    '\n',
  );
}

describe('parseReport', () => {
  it('reads back any cases that formatCase wrote', () => {
    fc.assert(
      fc.property(fc.array(caseLine, { maxLength: 5 }), fc.boolean(), (cases, crlf) => {
        const text = `SeaBIOS (version 1.16)\n\u001b[2J${report(cases)}`;
        const parsed = parseReport(crlf ? text.replaceAll('\n', '\r\n') : text);
        expect(parsed.cases).toEqual(cases);
        expect(parsed.end).toEqual({
          ok: cases.filter((c) => c.ok).length,
          failed: cases.filter((c) => !c.ok).length,
        });
      }),
    );
  });

  it('reads every kind of line', () => {
    const parsed = parseReport(
      report(
        [good],
        'pages tables=3 ministacks=1',
        'aliases cpu=0 mapped=65536 writable=0 of=65536',
        'aliases cpu=1 mapped=65536 writable=65536 of=65536',
        'capacity slot=549755813888 aliases=65536 ministack=64 cpus=131072',
        'oops vector=8 error=00000000 rip=ffffffff80101f77 rsp=ffffff005aad0018 cr2=ffffff005aacfff8',
      ),
    );
    expect(parsed).toMatchObject({
      variant: 'none',
      cpus: 2,
      seed: 1,
      pages: { tables: 3, ministacks: 1 },
      aliases: [
        { cpu: 0, mapped: 65536, writable: 0, of: 65536 },
        { cpu: 1, mapped: 65536, writable: 65536, of: 65536 },
      ],
      capacity: { slot: 549755813888n, aliases: 65536, ministack: 64, cpus: 131072 },
      oopses: [{ vector: 8, error: 0n, rip: 0xffffffff80101f77n }],
    });
  });

  it('takes a report that was cut off, without its last half line', () => {
    const whole = report([good, leaking]);
    const parsed = parseReport(whole.slice(0, whole.indexOf('end') - 10));
    expect(parsed.cases).toEqual([good]);
    expect(parsed.end).toBeUndefined();
  });

  const line = formatCase(good);
  const malformed: [string, string][] = [
    ['no header', 'SeaBIOS\n'],
    ['another protocol', `${header.replace('protocol=1', 'protocol=2')}\n`],
    ['an unknown kind of line', `${header}\nhello\n`],
    ['a missing field', `${header}\n${line.replace(/ rsp=\S+/, '')}\n`],
    ['fields in another order', `${header}\n${line.replace('cpu=0 path=int80', 'path=int80 cpu=0')}\n`],
    ['a short hexadecimal number', `${header}\n${line.replace('set=5aadc0de', 'set=5aadc0d')}\n`],
    ['an unknown path', `${header}\n${line.replace('int80', 'int81')}\n`],
    ['an unknown result', `${header}\n${line.replace('result=own', 'result=fine')}\n`],
    ['a number that is not decimal', `${header}\npages tables=0x3 ministacks=1\n`],
    ['counts that do not agree', `${header}\n${line}\nend ok=2 failed=0\n`],
  ];
  it.each(malformed)('raises a ReportError for %s', (_, text) => {
    expect(() => parseReport(text)).toThrow(ReportError);
  });
});

describe('verdicts', () => {
  const fault: CaseLine = { ...good, result: 'fault:gp:0000' };
  const cases: [string, 'safe' | 'leaks' | 'unsafe', string][] = [
    ['all well', 'safe', report([good, fault])],
    ['a leak', 'leaks', report([good, leaking])],
    ['a leak after a repaired fault', 'leaks', report([{ ...leaking, result: 'fault:ss:0024' }])],
    ['a stack pointer from nowhere', 'unsafe', report([{ ...good, seen: 1, result: 'other', ok: false }])],
    ['a wrong fault', 'unsafe', report([{ ...fault, ok: false }])],
    ['a lost event', 'unsafe', report([{ ...good, result: 'missed', ok: false }])],
    [
      'an oops',
      'unsafe',
      report([good], 'oops vector=8 error=0 rip=0000000000000000 rsp=0000000000000000 cr2=0000000000000000'),
    ],
    ['a report that stops', 'unsafe', `${header}\n${formatCase(good)}\n`],
  ];
  it.each(cases)('calls %s %s', (_, verdict, text) => {
    expect(verdictOf(parseReport(text))).toBe(verdict);
  });

  it("sees a leak only where the value differs and the high half is the kernel's", () => {
    expect(leaked(leaking)).toBe(true);
    expect(leaked(good)).toBe(false);
    expect(leaked({ ...good, set: 0x0300_0001, seen: 0x0300_0001 })).toBe(false);
    expect(leaked({ ...good, seen: 0x0301_c0de })).toBe(false);
  });
});
