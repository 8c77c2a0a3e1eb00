/** The battery's table, and what counts as a difference. */
import { describe, expect, it } from 'vitest';
import type { Outcome } from '../selftests/transcript.ts';
import { batteryTable, differenceOf, isSame, type Row } from './table.ts';

const ended = (status: number, ...lines: string[]): Outcome => ({ status, lines });

describe('an outcome', () => {
  const native = [ended(0, 'sum 1.5', 'at 0x1234'), ended(0, 'sum 1.5', 'at 0x5678')];
  it.each<[string, Outcome, string | undefined]>([
    ['is the same but for what changes natively', ended(0, 'sum 1.5', 'at 0x9'), undefined],
    ['has another word', ended(0, 'sum 1.25', 'at 0x9'), 'line 1: "sum 1.25", natively "sum 1.5"'],
    ['ends early', ended(0, 'sum 1.5'), 'line 2: the end, natively "at 0x1234"'],
    ['goes on', ended(0, 'sum 1.5', 'at 0x9', 'x'), 'line 3: "x", natively the end'],
    ['has another status', ended(1, 'sum 1.5', 'at 0x9'), 'status 1, natively 0'],
    ['has no end', { status: undefined, lines: ['sum 1.5'], lost: 'triple fault' }, 'triple fault'],
  ])('%s', (_, outcome, expected) => expect(differenceOf(native, outcome)).toBe(expected));
});

it('the table names each difference, and counts', () => {
  const row = (name: string, line: string): Row => ({
    name,
    native: [ended(0, 'a', 'b')],
    nativeSeconds: 0.25,
    guests: new Map([['espfix, 1', { outcome: ended(0, 'a', line), seconds: 12.4 }]]),
  });
  const rows = [row('gcc/float', 'b'), row('bash/language', 'c')];
  expect(batteryTable(rows, ['espfix, 1', 'qemu, 1'])).toBe(
    [
      '| test            | lines | native s | espfix, 1 | s   | qemu, 1 | s   |',
      '| --------------- | ----- | -------- | --------- | --- | ------- | --- |',
      '| `gcc/float`     | 2     | 0.3      | same      | 12  | -       | -   |',
      '| `bash/language` | 2     | 0.3      | differs   | 12  | -       | -   |',
      '',
      '- espfix, 1, `bash/language`: `line 2: "c", natively "b"`',
      '',
      '2 tests of 4 lines: native 0.5 s; espfix, 1 1 of 2 the same, in 25 s; qemu, 1 0 of 2 the same, in 0.0 s',
    ].join('\n'),
  );
  expect(isSame(rows, 'espfix, 1')).toBe(false);
  expect(isSame(rows.slice(0, 1), 'espfix, 1')).toBe(true);
  // What was not run is not the same.
  expect(isSame(rows, 'qemu, 1')).toBe(false);
});
