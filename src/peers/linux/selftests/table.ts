/** The self-tests side by side: this processor, our machine, and peers. */
import { type Difference, firstDifference } from './compare.ts';
import { type Outcome, type Verdict, verdictOf } from './transcript.ts';

/** What one program did: on the processor, several times over; elsewhere once, by the system's name. */
export interface Row {
  readonly name: string;
  readonly native: readonly Outcome[];
  readonly guests: ReadonlyMap<string, Outcome>;
}

export interface Judged {
  readonly name: string;
  readonly native: Verdict;
  readonly guests: ReadonlyMap<string, { readonly verdict: Verdict; readonly remark: string | undefined }>;
}

/** The worst of several runs. */
function worst(verdicts: readonly Verdict[]): Verdict {
  return verdicts.find((each) => each === 'fail') ?? verdicts.find((each) => each === 'skip') ?? 'pass';
}

function told(difference: Difference): string {
  const text = (line: string | undefined) => (line === undefined ? 'the end' : `"${line.trim()}"`);
  return `line ${difference.line}: ${text(difference.found)}, natively ${text(difference.expected)}`;
}

export function judge(row: Row): Judged {
  const guests = new Map<string, { verdict: Verdict; remark: string | undefined }>();
  for (const [guest, outcome] of row.guests) {
    const difference =
      outcome.lost === undefined
        ? firstDifference(
            row.native.map(({ lines }) => lines),
            outcome.lines,
          )
        : undefined;
    guests.set(guest, {
      verdict: verdictOf(outcome),
      remark: outcome.lost ?? (difference && told(difference)),
    });
  }
  return { name: row.name, native: worst(row.native.map(verdictOf)), guests };
}

/** Tests that want what our processors do not have, and say so by failing. */
const WANTING: ReadonlySet<string> = new Set(['amx_64']);

/** Whether a guest fails or skips what the processor passes, and nothing that the test wants is missing from it. */
export function isWorse(judged: Judged, guest: string): boolean {
  if (WANTING.has(judged.name)) return false;
  return judged.native === 'pass' && judged.guests.get(guest)?.verdict !== 'pass';
}

/** Plain text, a line for each program, behind it the first differing line of each guest. */
export function selftestTable(rows: readonly Judged[], guests: readonly string[]): string {
  const columns = ['native', ...guests];
  const width = Math.max(4, ...rows.map(({ name }) => name.length));
  const cell = (text: string, i: number) => text.padEnd(Math.max(4, columns[i]?.length ?? 0));
  const lines = [`${'test'.padEnd(width)}  ${columns.map(cell).join('  ')}`.trimEnd()];
  for (const row of rows) {
    const verdicts = [row.native, ...guests.map((guest) => row.guests.get(guest)?.verdict ?? '-')];
    lines.push(`${row.name.padEnd(width)}  ${verdicts.map(cell).join('  ')}`.trimEnd());
    for (const guest of guests) {
      const remark = row.guests.get(guest)?.remark;
      if (remark !== undefined) lines.push(`  ${guest}: ${remark}`);
    }
  }
  const counts = columns.map((column) => {
    const passed = rows.filter(
      (row) => (column === 'native' ? row.native : row.guests.get(column)?.verdict) === 'pass',
    );
    return `${column} ${passed.length}`;
  });
  lines.push('', `passed of ${rows.length}: ${counts.join(', ')}`);
  return lines.join('\n');
}
