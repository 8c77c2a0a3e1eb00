/** The battery side by side: this processor and machines. */
import { markdownCode, markdownTable } from '../markdown.ts';
import { firstDifference } from '../selftests/compare.ts';
import type { Outcome } from '../selftests/transcript.ts';

/**
 * What one test did, and in how many seconds of processor time: on the processor, several times over; on machines once, by
 * column.
 */
export interface Row {
  readonly name: string;
  readonly native: readonly Outcome[];
  readonly nativeSeconds: number;
  readonly guests: ReadonlyMap<string, { readonly outcome: Outcome; readonly seconds: number }>;
}

/**
 * What of a machine's outcome is not as on the processor, in one line; undefined where nothing is. Words that change from run
 * to run on the processor are left out.
 */
export function differenceOf(native: readonly Outcome[], outcome: Outcome): string | undefined {
  if (outcome.lost !== undefined) return outcome.lost;
  const difference = firstDifference(
    native.map(({ lines }) => lines),
    outcome.lines,
  );
  if (difference) {
    const text = (line: string | undefined) => (line === undefined ? 'the end' : `"${line.trim()}"`);
    return `line ${difference.line}: ${text(difference.found)}, natively ${text(difference.expected)}`;
  }
  if (native.some(({ status }) => status === outcome.status)) return undefined;
  return `status ${outcome.status}, natively ${native[0]?.status}`;
}

/** Whether a machine has answered all as the processor did. */
export function isSame(rows: readonly Row[], column: string): boolean {
  return rows.every((row) => {
    const found = row.guests.get(column);
    return found !== undefined && differenceOf(row.native, found.outcome) === undefined;
  });
}

const seconds = (value: number) => (value < 10 ? value.toFixed(1) : value.toFixed(0));

/** A table in Markdown, a line for each test, behind it what differs and the sums. */
export function batteryTable(rows: readonly Row[], columns: readonly string[]): string {
  const body = rows.map((row) => {
    const lines = row.native[0]?.lines.length ?? 0;
    const cells = columns.flatMap((column) => {
      const found = row.guests.get(column);
      if (!found) return ['-', '-'];
      return [
        differenceOf(row.native, found.outcome) === undefined ? 'same' : 'differs',
        seconds(found.seconds),
      ];
    });
    return [`\`${row.name}\``, String(lines), seconds(row.nativeSeconds), ...cells];
  });
  const head = ['test', 'lines', 'native s', ...columns.flatMap((column) => [column, 's'])];
  const remarks = columns.flatMap((column) =>
    rows.flatMap((row) => {
      const found = row.guests.get(column);
      const what = found && differenceOf(row.native, found.outcome);
      return what === undefined ? [] : [`- ${column}, \`${row.name}\`: ${markdownCode(what)}`];
    }),
  );
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const lines = sum(rows.map((row) => row.native[0]?.lines.length ?? 0));
  const totals = columns.map((column) => {
    const found = rows.filter((row) => row.guests.has(column));
    const same = found.filter((row) => isSame([row], column)).length;
    const took = sum(found.map((row) => row.guests.get(column)?.seconds ?? 0));
    return `${column} ${same} of ${rows.length} the same, in ${seconds(took)} s`;
  });
  const native = `native ${seconds(sum(rows.map((row) => row.nativeSeconds)))} s`;
  return [
    ...markdownTable([head, ...body]),
    '',
    ...(remarks.length === 0 ? [] : [...remarks, '']),
    `${rows.length} tests of ${lines} lines: ${[native, ...totals].join('; ')}`,
  ].join('\n');
}
