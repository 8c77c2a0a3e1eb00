/** The table of `espfix check`: a column a variant, a row a combination of code and stack segment. */
import Table from 'cli-table3';
import type { CheckedVariant, JudgedCase, Verdict } from '../check/check-variant.ts';
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
export async function checkTable(variants: readonly CheckedVariant[], io: Io): Promise<string> {
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
  for (const v of variants) {
    const wrong = v.verdict !== v.documented;
    if (v.ended !== 'completed') lines.push(`${v.name}: ${v.ended}`);
    if (v.oopses.length > 0) lines.push(`${v.name}: the kernel died ${v.oopses.length} times`);
    if (wrong) lines.push(colors.red(`${v.name}: documented ${v.documented}, found ${v.verdict}`));
  }
  return `${lines.join('\n')}\n`;
}
