/** Names of visits that stay the same from run to run of the same kernel: what a build server tells cases apart by. */
import type { VisitReport } from '../finding.ts';

/** By id: `SYSCALL to cs64 ss32`, numbered where several have the same. */
export function visitNames(visits: readonly VisitReport[]): Map<number, string> {
  const seen = new Map<string, number>();
  return new Map(
    visits.map(({ visit, returnsTo }) => {
      const name = `${visit.entry} to ${returnsTo}`;
      const n = (seen.get(name) ?? 0) + 1;
      seen.set(name, n);
      return [visit.id, `${name}, path ${n}`];
    }),
  );
}
