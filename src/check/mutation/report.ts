/** The document on mutants: how many were caught and by what, and why each survivor is harmless. */
import { groups, type Mutant } from './mutant.ts';
import { explain, unusedReasons } from './survivors.ts';
import type { Verdict } from './test-bed.ts';

export interface MutationReport {
  /** Markdown. */
  readonly text: string;
  readonly caught: number;
  /** Keys of survivors that nothing explains. */
  readonly unexplained: readonly string[];
  /** Survivors that are known not to be harmless. */
  readonly open: number;
  /** Explanations whose mutants do not survive, or do not exist. */
  readonly outdated: readonly string[];
}

const titles: Readonly<Record<(typeof groups)[number], string>> = {
  code: 'instructions of entry and return',
  idt: 'interrupt gates',
  gdt: 'descriptors of the GDT',
  tss: 'task-state segment',
  percpu: 'addresses in the per-CPU area',
  pages: 'page-table entries',
};

const percent = (part: number, whole: number) => `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`;
const cell = (text: string) => text.replaceAll('|', '\\|');

/** @param verdicts of all the mutants, by key */
export function mutationReport(
  mutants: readonly Mutant[],
  verdicts: ReadonlyMap<string, Verdict>,
): MutationReport {
  const caught = (mutant: Mutant) => verdicts.get(mutant.key)?.caught === true;
  const unexplained: string[] = [];
  const survivors: Mutant[] = [];
  let open = 0;
  /** Survivors by explanation. */
  const reasons = new Map<string, Mutant[]>();
  for (const mutant of mutants) {
    const verdict = verdicts.get(mutant.key);
    if (!verdict) throw new RangeError(`no verdict for "${mutant.key}"`);
    if (verdict.caught) continue;
    survivors.push(mutant);
    const explained = explain(mutant);
    if (explained === undefined) unexplained.push(mutant.key);
    if (explained?.harmless === false) open++;
    const reason = explained?.why ?? 'Not explained.';
    reasons.set(reason, [...(reasons.get(reason) ?? []), mutant]);
  }
  const total = mutants.filter(caught).length;
  const left = open + unexplained.length;
  const lines = [
    '# Mutants of the sound kernel',
    '',
    'Written by `npm run mutation`; do not edit. Each instruction of the entry and return code of the `linux` variant is',
    'deleted, exchanged with the next, and altered (condition, register, constant, operand size, operation, segment, prefix);',
    'each gate, descriptor, task-state field and page-table bit that brings the processor there is changed. Every mutant runs',
    'the cases of the image, whose own report counts as the first check; then each visit is explored with every event at',
    'every boundary, taint and a second world, and by the trials of `src/check/explore/trials.ts`; code that is about events in',
    'handlers, and what such code uses, with two and three events at some. A visit in which the sound kernel touches nothing that',
    'the mutant changes is left out, and of those that come to it only with events the 14 shortest are kept. `src/check/mutation/`',
    'says how. A survivor is what these bounds do not tell apart.',
    '',
    ...(left === 0
      ? [
          `**${total} of ${mutants.length} mutants are caught (${percent(total, mutants.length)}), and all that are not harmless.** Of each of the`,
          `${survivors.length} survivors it is said below why it is.`,
        ]
      : [
          `**${total} of ${mutants.length} mutants are caught (${percent(total, mutants.length)}).** Of the ${survivors.length} survivors ${survivors.length - left} are`,
          `harmless, each for the reason below; ${left} are not, and what it would take to catch them is said first.`,
          `Of those that are not harmless, ${percent(total, total + left)} are caught.`,
        ]),
    '',
    '| mutants of | tried | caught | share |',
    '| --- | --: | --: | --: |',
    ...groups.map((group) => {
      const all = mutants.filter((mutant) => mutant.group === group);
      const found = all.filter(caught).length;
      return `| ${titles[group]} | ${all.length} | ${found} | ${percent(found, all.length)} |`;
    }),
    '',
    '## Caught by',
    '',
    '| by | mutants | of them with 0, 1, 2, 3 and more events |',
    '| --- | --: | --: |',
    ...byWhat(mutants, verdicts),
    '',
    '## Survivors',
    '',
    ...[...reasons]
      .sort(byImportance)
      .flatMap(([why, list]) => [
        `### ${why}`,
        '',
        '| mutant | change |',
        '| --- | --- |',
        ...list.map(({ key, text }) => `| \`${cell(key)}\` | \`${cell(text)}\` |`),
        '',
      ]),
  ];
  return { text: lines.join('\n'), caught: total, open, unexplained, outdated: unusedReasons(survivors) };
}

/** What is not harmless first, then the most frequent. */
function byImportance([a, x]: [string, Mutant[]], [b, y]: [string, Mutant[]]): number {
  const first = (why: string) => (why.startsWith('Not harmless') ? 0 : 1);
  return first(a) - first(b) || y.length - x.length;
}

function byWhat(mutants: readonly Mutant[], verdicts: ReadonlyMap<string, Verdict>): string[] {
  const counts = new Map<string, number[]>();
  for (const { key } of mutants) {
    const verdict = verdicts.get(key);
    if (!verdict?.caught) continue;
    const name = verdict.by === 'report' ? `the image's report: ${verdict.what}` : `property ${verdict.by}`;
    const row = counts.get(name) ?? [0, 0, 0, 0, 0];
    row[Math.min(verdict.depth, row.length - 1)]++;
    counts.set(name, row);
  }
  const sum = (row: readonly number[]) => row.reduce((a, b) => a + b, 0);
  return [...counts]
    .sort(([, a], [, b]) => sum(b) - sum(a))
    .map(([name, row]) => `| ${name} | ${sum(row)} | ${row.join(', ')} |`);
}
