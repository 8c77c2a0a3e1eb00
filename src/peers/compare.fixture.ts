/** Reports of two machines laid side by side, with the known differences of a peer put right. */
import { type CaseLine, formatCase, parseReport } from '../kernel/report.ts';
import { knownDifferences } from './known-differences.ts';
import type { Peer } from './peer.ts';

/** A case, and what the kernel printed since the one before. */
interface Entry {
  readonly before: readonly string[];
  readonly line: CaseLine;
}

/** The lines of the report itself, from its header to its end. */
function reportLines(text: string): string[] {
  const lines = text.slice(text.search(/espfix [a-z0-9-]+ cpus=/)).split(/\r?\n/);
  const end = lines.findIndex((line) => line.startsWith('end '));
  return end < 0 ? lines : lines.slice(0, end + 1);
}

function entries(text: string): { entries: Entry[]; rest: string[] } {
  const cases = parseReport(text).cases;
  const found: Entry[] = [];
  let before: string[] = [];
  for (const line of reportLines(text)) {
    if (line.startsWith('case ')) {
      found.push({ before, line: cases[found.length] });
      before = [];
    } else before.push(line);
  }
  return { entries: found, rest: before };
}

const endLine = (lines: readonly CaseLine[]) => {
  const ok = lines.filter((line) => line.ok).length;
  return `end ok=${ok} failed=${lines.length - ok}`;
};

/** The peer's report as it would be without its known differences from ours; to be equal to `plain(ours)`. */
export function corrected(peer: Peer['name'], ours: string, theirs: string): string[] {
  const known = knownDifferences.filter((difference) => difference.peer === peer);
  const mine = entries(ours).entries;
  const their = entries(theirs);
  const lines: string[] = [];
  const cases: CaseLine[] = [];
  for (const [i, { before, line }] of their.entries.entries()) {
    const own: Entry | undefined = mine[i];
    const put = own ? known.reduce((c, difference) => difference.correct(own.line, c), line) : line;
    // Where the peer's kernel met another fault, what it said of it before is another as well.
    lines.push(...(own && put.result !== line.result ? own.before : before), formatCase(put));
    cases.push(put);
  }
  return [...lines, ...their.rest.map((line) => (line.startsWith('end ') ? endLine(cases) : line))];
}

/** Our own report, line by line. */
export const plain = reportLines;
