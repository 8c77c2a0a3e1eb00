/** Writes docs/interleavings.md: explores every row anew, which takes a minute or two. */
import { writeFileSync } from 'node:fs';
import { document, exploreRow } from '../src/check/interleave/document.ts';

const text = document((row) => {
  const begin = performance.now();
  const report = exploreRow(row);
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  console.log(`${row.kernel}, ${row.window}, ${row.cpus} CPUs: ${report.verdict} (${seconds} s)`);
  return report;
});
writeFileSync(new URL('../docs/interleavings.md', import.meta.url), text);
