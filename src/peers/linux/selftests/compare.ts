/** One program's lines here and there. What changes from run to run on one system (addresses, times) is left out of it. */

/** Words and what stands between them. */
const PIECES = /[\w.]+|[^\w.]+/g;

/** Stands for a word that changes. */
const ANY = Symbol('any');
type Pattern = readonly (string | typeof ANY)[];

const pieces = (line: string): readonly string[] => line.match(PIECES) ?? [];

/** A line of several runs, with the words that differ left open; undefined where their shapes differ. */
function pattern(lines: readonly string[]): Pattern | undefined {
  const [first = [], ...others] = lines.map(pieces);
  if (others.some((other) => other.length !== first.length)) return undefined;
  return first.map((piece, i) => (others.every((other) => other[i] === piece) ? piece : ANY));
}

function fits(line: string, expected: Pattern): boolean {
  const found = pieces(line);
  return (
    found.length === expected.length && expected.every((piece, i) => piece === ANY || piece === found[i])
  );
}

export interface Difference {
  /** Counted from 1. */
  readonly line: number;
  /** Undefined where the output has ended. */
  readonly expected: string | undefined;
  readonly found: string | undefined;
}

/**
 * The first line of `found` that none of `runs` can explain: it differs from theirs in a word that is the same in all of
 * them. Runs that are not alike line by line explain everything from the line on where they part.
 */
export function firstDifference(
  runs: readonly (readonly string[])[],
  found: readonly string[],
): Difference | undefined {
  const lengths = runs.map((run) => run.length);
  const common = Math.min(...lengths);
  for (let i = 0; i < Math.max(common, found.length); i++) {
    if (i >= common && Math.max(...lengths) > common) return undefined;
    const line = found[i];
    if (i < common) {
      const expected = pattern(runs.map((run) => run[i] ?? ''));
      if (!expected) return undefined;
      if (line !== undefined && fits(line, expected)) continue;
    }
    return { line: i + 1, expected: runs[0]?.[i], found: line };
  }
  return undefined;
}
