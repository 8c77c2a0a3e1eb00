/** The table of `espfix check`: a column a variant, a row a combination of code and stack segment. */
import Table from 'cli-table3';
import type { CheckedVariant, JudgedCase, Verdict } from '../check/check-variant.ts';
import type { SummarizedVariant } from '../check/summary.ts';
import { vectorNames } from '../kernel/report.ts';
import { colorsFor } from './colors.ts';
import type { Io } from './io.ts';

const CODE: Readonly<Record<string, string>> = {
  cs64: '64-bit',
  'cs32-gdt': '32-bit GDT',
  'cs32-ldt': '32-bit LDT',
  'cs16-ldt': '16-bit LDT',
};
const STACK: Readonly<Record<string, string>> = {
  'ss16-ldt': '16-bit LDT',
  'ss32-ldt': '32-bit LDT',
  flat: 'flat GDT',
};

type Colors = ReturnType<typeof colorsFor>;

/** `own`, `kernel` or several with their counts, over all paths, processors and values. */
function cell(cases: readonly JudgedCase[], colors: Colors): string {
  if (cases.length === 0) return '-';
  const counts = new Map<string, number>();
  for (const c of cases) {
    const word = c.found === 'own' && !c.ok ? 'wrong' : c.found;
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const color = (word: string) =>
    word === 'own' ? colors.green : word === 'kernel' ? colors.yellow : colors.red;
  if (counts.size === 1) return [...counts.keys()].map((word) => color(word)(word))[0];
  return [...counts].map(([word, count]) => color(word)(`${word} ${count}`)).join('\n');
}

const verdictColor = (verdict: Verdict, colors: Colors) =>
  ({ safe: colors.green, leaks: colors.yellow, unsafe: colors.red })[verdict](verdict);

const added = (count: number | undefined) =>
  count === undefined ? '-' : count >= 0 ? `+${count}` : `${count}`;

/** The table and what must be said below it, with a line end. */
export function checkTable(variants: readonly SummarizedVariant[], io: Io): string {
  const colors = colorsFor(io);
  const table = new Table({
    head: ['CS', 'SS', ...variants.map((v) => colors.bold(v.name))],
    style: { head: [], border: [], compact: true },
  });
  for (const [cs, code] of Object.entries(CODE))
    for (const [ss, stack] of Object.entries(STACK))
      table.push([
        code,
        stack,
        ...variants.map((v) =>
          cell(
            v.cases.filter((c) => c.cs === cs && c.ss === ss),
            colors,
          ),
        ),
      ]);
  const spanning = (name: string, values: readonly string[]) =>
    table.push([{ colSpan: 2, content: name }, ...values]);
  const good = (c: JudgedCase) => c.cs in CODE && c.ss in STACK;
  spanning(
    'frames that fault',
    variants.map((v) => {
      const faulty = v.cases.filter((c) => !good(c));
      const survived = faulty.filter((c) => c.ok).length;
      const text = `${survived} of ${faulty.length}`;
      return survived === faulty.length ? colors.green(text) : colors.red(text);
    }),
  );
  spanning(
    'cases not reached',
    variants.map((v) => (v.missing === 0 ? '0' : colors.red(String(v.missing)))),
  );
  spanning(
    'NMI, #MC, #DB at each instruction',
    variants.map(({ interrupted: { findings } }) =>
      findings.length === 0 ? colors.green('clean') : colors.red(`${findings.length} findings`),
    ),
  );
  spanning(
    'runs interrupted',
    variants.map(({ interrupted }) => String(interrupted.experiments)),
  );
  spanning(
    'verdict',
    variants.map((v) => verdictColor(v.verdict, colors)),
  );
  spanning(
    'documented verdict',
    variants.map((v) => v.documented),
  );
  spanning(
    'instructions, ordinary return',
    variants.map((v) => added(v.cost.ordinaryReturn)),
  );
  spanning(
    'instructions, 16-bit return',
    variants.map((v) => added(v.cost.return16)),
  );
  spanning(
    'page-table pages',
    variants.map((v) => String(v.cost.pageTablePages)),
  );
  spanning(
    'ministack pages',
    variants.map((v) => String(v.cost.ministackPages)),
  );

  const lines = [
    'What user space finds in ESP[31:16] after a return: its own value, the bits of the kernel, or something other',
    `(every return path, ${variants[0]?.cpus ?? 0} processors, several values each).`,
    '',
    table.toString(),
  ];
  lines.push(...questionLines(variants, colors));
  for (const v of variants) {
    if (v.ended !== 'completed') lines.push(`${v.name}: ${v.ended}`);
    lines.push(...oopsLines(v));
    const [finding] = v.interrupted.findings;
    if (finding)
      lines.push(
        `${v.name}, interrupted: ${finding.what} (${finding.struck.map(({ event }) => event).join(', ')}); espfix check --variant ${v.name} --depth 1 tells all`,
      );
    if (v.verdict !== v.documented)
      lines.push(colors.red(`${v.name}: documented ${v.documented}, found ${v.verdict}`));
  }
  return `${lines.join('\n')}\n`;
}

/** A line for each of the review's questions: what its cases say of each variant. */
function questionLines(variants: readonly CheckedVariant[], colors: Colors): string[] {
  const names = new Set(variants.flatMap((v) => v.cases.map((c) => c.name)).filter((name) => name !== '-'));
  return [...names].sort().map((name) => {
    const answers = variants.flatMap((v) => {
      const cases = v.cases.filter((c) => c.name === name);
      if (cases.length === 0) return [];
      const ok = cases.filter((c) => c.ok).length;
      const text = `${v.name} ${ok === cases.length ? 'ok' : `${ok}/${cases.length}`}`;
      return [ok === cases.length ? colors.green(text) : colors.red(text)];
    });
    return `${name}: ${answers.join(', ')}`;
  });
}

/** Where and how often the kernel died. */
function oopsLines(variant: CheckedVariant): string[] {
  const counts = new Map<string, number>();
  for (const { vector, at } of variant.oopses) {
    const text = `#${(vectorNames[vector] ?? String(vector)).toUpperCase()} at ${at}`;
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return [...counts].map(([text, count]) => `${variant.name}: the kernel died of ${text}, ${count} times`);
}
