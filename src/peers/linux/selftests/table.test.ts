/** The table of self-tests, from consoles as they are read. */
import { describe, expect, it } from 'vitest';
import { firstDifference } from './compare.ts';
import { runSelftests, type System } from './console.ts';
import { isWorse, judge, selftestTable } from './table.ts';
import { type Outcome, Transcript, verdictOf } from './transcript.ts';

const ended = (status: number, ...lines: string[]): Outcome => ({ status, lines });

describe('a console', () => {
  it('is read in pieces, without messages of the kernel', () => {
    const transcript = new Transcript();
    const text =
      'tests: ready, Linux 6.1\r\ntests: begin iopl_64\r\n[OK]\tone\r\n[    1.234567] traps: iopl_64\r\n\n' +
      'tests: end iopl_64 4\r\n';
    const results = [...text].map((byte) => transcript.push(byte)).filter((result) => result !== undefined);
    expect(transcript.ready).toBe(true);
    expect(results).toEqual([{ name: 'iopl_64', outcome: ended(4, '[OK]\tone') }]);
  });

  it('gives what was printed by a program that has no end', () => {
    const transcript = new Transcript();
    transcript.push('tests: begin a\n[RUN]\tone\n[RU');
    expect(transcript.abandon('reset')).toEqual({ status: undefined, lines: ['[RUN]\tone'], lost: 'reset' });
  });

  it.each([
    [0, 'pass'],
    [4, 'skip'],
    [1, 'fail'],
    [137, 'fail'],
  ] as const)('status %i is a %s', (status, verdict) => expect(verdictOf(ended(status))).toBe(verdict));
});

describe('the first difference', () => {
  const native = [
    ['[RUN]\tat 0x1234', 'took 0.25 s', '[OK]\tSP: 5aadc0de'],
    ['[RUN]\tat 0x5678', 'took 0.50 s', '[OK]\tSP: 5aadc0de'],
  ];
  it.each([
    ['of the same but for what changes', ['[RUN]\tat 0x9', 'took 3 s', '[OK]\tSP: 5aadc0de'], undefined],
    ['in a word that does not change', ['[RUN]\tat 0x9', 'took 3 s', '[OK]\tSP: 1'], 3],
    ['in shape', ['[RUN]\tat 0x9', 'took 3 s, or 4', '[OK]\tSP: 5aadc0de'], 2],
    ['at an early end', ['[RUN]\tat 0x9'], 2],
    ['at a line too many', ['[RUN]\tat 0x9', 'took 3 s', '[OK]\tSP: 5aadc0de', 'x'], 4],
  ])('%s', (_, found, line) => expect(firstDifference(native, found)?.line).toBe(line));

  it('is not looked for behind the line where runs part', () => {
    expect(
      firstDifference(
        [
          ['a', 'b 1'],
          ['a', 'b'],
        ],
        ['a', 'c', 'd'],
      ),
    ).toBeUndefined();
    expect(firstDifference([['a', 'b'], ['a']], ['x'])?.line).toBe(1);
  });
});

describe('the table', () => {
  const rows = [
    {
      name: 'iopl_64',
      native: [ended(0, '[OK]'), ended(0, '[OK]')],
      guests: new Map([
        ['espfix', ended(0, '[OK]')],
        ['qemu', ended(1, '[FAIL]')],
      ]),
    },
    {
      name: 'fsgsbase_64',
      native: [ended(0, '[OK]')],
      guests: new Map([['espfix', { status: undefined, lines: [''], lost: 'triple fault at 0x1' }]]),
    },
    { name: 'x_32', native: [ended(0), ended(1)], guests: new Map([['espfix', ended(1)]]) },
  ].map(judge);

  it('has a line for each test, and what differs', () => {
    expect(selftestTable(rows, ['espfix', 'qemu']).split('\n')).toEqual([
      'test         native  espfix  qemu',
      'iopl_64      pass    pass    fail',
      '  qemu: line 1: "[FAIL]", natively "[OK]"',
      'fsgsbase_64  pass    fail    -',
      '  espfix: triple fault at 0x1',
      'x_32         fail    fail    -',
      '',
      'passed of 3: native 2, espfix 1, qemu 0',
    ]);
  });

  it('counts against our machine what the processor passes, unless it wants what ours has not', () => {
    expect(rows.map((row) => isWorse(row, 'espfix'))).toEqual([false, true, false]);
    const notRun: Outcome = { status: 4, lines: [], wants: 'amx_tile' };
    const wantsAmx = judge({ name: 'amx_64', native: [ended(0)], guests: new Map([['espfix', notRun]]) });
    expect(isWorse(wantsAmx, 'espfix')).toBe(false);
  });
});

describe('a system', () => {
  /** Prints a line for each program; `bad` is lost at it. */
  function system(flags = 'fpu') {
    let boots = 1;
    let waiting = `tests: flags ${flags}\ntests: ready\n`;
    const written: string[] = [];
    return {
      name: 'fake',
      boots: () => boots,
      written,
      async until(done: (piece: string) => boolean) {
        const piece = waiting;
        waiting = '';
        return done(piece) ? undefined : 'reset';
      },
      write(text: string) {
        const [name] = text.split(' ');
        written.push(name ?? '');
        waiting = `tests: begin ${name}\nhello\n${name === 'bad' ? '' : `tests: end ${name} 0\n`}`;
      },
      async restart() {
        boots++;
        waiting = 'tests: ready\n';
      },
      async close() {},
    } satisfies System & { boots: () => number; written: string[] };
  }

  it('is started again when it is lost, and goes on with the next', async () => {
    const fake = system();
    const found: [string, Outcome][] = [];
    await runSelftests(fake, ['a', 'bad', 'b', 'c'], { boot: 1, program: 1, guest: 1 }, (...each) =>
      found.push(each),
    );
    expect(found).toEqual([
      ['a', ended(0, 'hello')],
      ['bad', { status: undefined, lines: ['hello'], lost: 'reset' }],
      ['b', ended(0, 'hello')],
      ['c', ended(0, 'hello')],
    ]);
    expect(fake.boots()).toBe(2);
  });

  it.each([
    ['fpu sse', []],
    ['fpu amx_tile', ['amx_64']],
  ])('with %s does not run what wants more', async (flags, expected) => {
    const fake = system(flags);
    const found: Outcome[] = [];
    await runSelftests(fake, ['amx_64'], { boot: 1, program: 1, guest: 1 }, (_, outcome) =>
      found.push(outcome),
    );
    expect(fake.written).toEqual(expected);
    expect(found.map(verdictOf)).toEqual([expected.length === 0 ? 'skip' : 'pass']);
  });
});
