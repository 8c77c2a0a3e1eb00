/** docs/userspace.md, as it is written. */
import { expect, it } from 'vitest';
import { userspacePage } from './page.ts';

it('the page says what ran where, in what time', () => {
  const outcome = { status: 0, lines: ['a'] };
  const page = userspacePage(
    [
      {
        name: 'gcc/float',
        native: [outcome],
        nativeSeconds: 1,
        guests: new Map([['espfix, 4', { outcome, seconds: 20 }]]),
      },
    ],
    ['espfix, 4'],
    {
      native: 'a processor, Linux 6.18',
      versions: new Map([['espfix', 'espfix 0.1.0']]),
      kernel: 'Linux 6.1',
      boots: new Map([['espfix, 4', 17.4]]),
    },
  );
  expect(page.slice(page.indexOf('- native'))).toBe(
    [
      '- native: a processor, Linux 6.18',
      '- espfix: espfix 0.1.0, on that computer',
      '- kernel of the guests: Linux 6.1',
      "- to the battery's /init, from power-on, by number of processors: espfix, 4: 17 s",
      '',
      'Seconds are of processor time on that computer, all threads of a machine together. A column is a machine and its number of processors.',
      '',
      '| test        | lines | native s | espfix, 4 | s   |',
      '| ----------- | ----- | -------- | --------- | --- |',
      '| `gcc/float` | 1     | 1.0      | same      | 20  |',
      '',
      '1 tests of 1 lines: native 1.0 s; espfix, 4 1 of 1 the same, in 20 s',
      '',
    ].join('\n'),
  );
});
