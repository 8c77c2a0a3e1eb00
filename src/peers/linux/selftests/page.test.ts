/** The page of self-tests. */
import { expect, it } from 'vitest';
import { selftestPage } from './page.ts';
import { judge } from './table.ts';
import type { Outcome } from './transcript.ts';

const ended = (status: number, ...lines: string[]): Outcome => ({ status, lines });

it('has a row for each test, and under each guest what differs', () => {
  const rows = [
    { name: 'iopl_64', native: [ended(0, '[OK]')], guests: new Map([['qemu', ended(1, '[FAIL]\t`x`')]]) },
    { name: 'amx_64', native: [ended(0)], guests: new Map([['qemu', { ...ended(4), wants: 'amx_tile' }]]) },
    { name: 'ldt_32', native: [ended(0)], guests: new Map<string, Outcome>() },
  ].map(judge);
  const page = selftestPage(rows, {
    native: 'a processor',
    guests: new Map([['qemu', 'QEMU 7.2']]),
    kernel: 'Linux 6.1',
  }).split('\n');
  const from = (start: string, count: number) => {
    const at = page.indexOf(start);
    return page.slice(at, at + count);
  };
  expect(from('- native: a processor', 3)).toEqual([
    '- native: a processor',
    '- qemu: QEMU 7.2',
    '- kernel of the guests: Linux 6.1',
  ]);
  expect(from('| test      | native | qemu |', 5)).toEqual([
    '| test      | native | qemu |',
    '| --------- | ------ | ---- |',
    '| `iopl_64` | pass   | fail |',
    '| `amx_64`  | pass   | skip |',
    '| `ldt_32`  | pass   | -    |',
  ]);
  expect(page).toContain('passed of 3: native 3, qemu 0.');
  expect(from('## qemu', 4)).toEqual([
    '## qemu',
    '',
    `- \`iopl_64\` (fail): \`line 1: "[FAIL] 'x'", natively "[OK]"\``,
    '- `amx_64` (skip): `not run: its processor reports no amx_tile`',
  ]);
});
