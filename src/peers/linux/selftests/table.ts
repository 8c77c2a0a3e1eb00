/** The self-tests side by side: this processor, our machine, and peers. */
import { type Difference, firstDifference } from './compare.ts';
import { type Outcome, type Verdict, verdictOf } from './transcript.ts';

/** What one program did: on the processor, several times over; elsewhere once, by the system's name. */
export interface Row {
  readonly name: string;
  readonly native: readonly Outcome[];
  readonly guests: ReadonlyMap<string, Outcome>;
}

export interface Verdicted {
  readonly verdict: Verdict;
  /** What became of the system, or the first line that differs from the processor's. */
  readonly remark: string | undefined;
  /** Whether the guest's processor has what the test wants. */
  readonly isRun: boolean;
}

export interface Judged {
  readonly name: string;
  readonly native: Verdict;
  readonly guests: ReadonlyMap<string, Verdicted>;
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
  const guests = new Map<string, Verdicted>();
  for (const [guest, outcome] of row.guests) {
    const isWhole = outcome.lost === undefined && outcome.wants === undefined;
    const native = row.native.map(({ lines }) => lines);
    const difference = isWhole ? firstDifference(native, outcome.lines) : undefined;
    guests.set(guest, {
      verdict: verdictOf(outcome),
      remark:
        outcome.wants === undefined
          ? (outcome.lost ?? (difference && told(difference)))
          : `not run: its processor reports no ${outcome.wants}`,
      isRun: outcome.wants === undefined,
    });
  }
  return { name: row.name, native: worst(row.native.map(verdictOf)), guests };
}

/** Whether a guest fails or skips what the processor passes, and has what the test wants. */
export function isWorse(judged: Judged, guest: string): boolean {
  const found = judged.guests.get(guest);
  return judged.native === 'pass' && found?.verdict !== 'pass' && found?.isRun !== false;
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
  lines.push('', passedOf(rows, columns));
  return lines.join('\n');
}

/** How many tests pass, a column each. */
export function passedOf(rows: readonly Judged[], columns: readonly string[]): string {
  const counts = columns.map((column) => {
    const passed = rows.filter(
      (row) => (column === 'native' ? row.native : row.guests.get(column)?.verdict) === 'pass',
    );
    return `${column} ${passed.length}`;
  });
  return `passed of ${rows.length}: ${counts.join(', ')}`;
}
