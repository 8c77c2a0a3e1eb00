/** docs/interleavings.md says what exploring finds. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { galleryNames } from '../../kernel/variants/gallery/names.ts';
import { builtinWindow } from './builtin.ts';
import { exploreRow, rowLine, sections, story, verdictCells } from './document.ts';
import { replayInterleaving } from './interleavings.ts';

const text = readFileSync(new URL('../../../docs/interleavings.md', import.meta.url), 'utf8');
const rows = sections.flatMap((section) => section.rows);
const known = (start: string) => text.split('\n').filter((line) => line.startsWith(start));

describe('docs/interleavings.md', () => {
  it.each(sections)('has a section "$title"', (section) => {
    expect(text).toContain(`## ${section.title}\n\n${section.text}\n`);
  });

  it.each(rows.filter(({ slow }) => !slow))(
    '$kernel, $window, $cpus CPUs: what it says is found, and each schedule shows it again',
    (row) => {
      const report = exploreRow(row);
      // What is stale here is written anew by npm run docs:interleavings.
      expect(text).toContain(`\n${rowLine(row, report)}\n`);
      for (const finding of report.findings) expect(text).toContain(`\n${story(row, finding).join('\n')}\n`);
      expect(report.bounds.every(({ complete }) => complete)).toBe(true);
      const subject = builtinWindow(row.kernel, row.window, { cpus: row.cpus });
      for (const { what, turns } of report.findings)
        expect(replayInterleaving(subject, turns).map((violation) => violation.what)).toContain(what);
    },
    60_000,
  );

  it.each(rows.filter(({ slow }) => slow))(
    '$kernel, $window, $cpus CPUs: it says so, which holds with one preemption less',
    (row) => {
      const fewer = exploreRow({ ...row, preemptions: row.preemptions - 1 });
      expect(fewer.verdict).toBe('clean');
      expect(known(`| ${verdictCells(row, fewer)} |`)).toHaveLength(1);
    },
    60_000,
  );

  it('has every kernel of the gallery whose fault is a matter of several processors', () => {
    const gallery = [
      'static-bool',
      'static-bool-early',
      'tables-published-early',
      'ministack-shared',
      'set-up-own-cpu',
    ];
    for (const name of gallery) {
      expect(galleryNames).toContain(name);
      const found = rows
        .filter(({ kernel }) => kernel === name)
        .some((row) =>
          known(`| \`${name}\` | \`${row.window}\` |`).some((line) => line.includes('preemption')),
        );
      expect([name, found]).toEqual([name, true]);
    }
  });
});
