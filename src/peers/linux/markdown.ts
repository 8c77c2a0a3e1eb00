/** Pieces of Markdown as the formatter has them. */

/** A table with its columns aligned; the first row is its head. */
export function markdownTable(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(3, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = rows;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)];
}

/** Code of one line, whatever is in it. */
export const markdownCode = (text: string) => `\`${text.replaceAll('`', "'").replaceAll('\t', ' ')}\``;
