/** Findings that are one: of each cause the shortest is told, and where else it was met. */
import type { Finding } from './finding.ts';

const MOST_PLACES = 16;

/**
 * Findings by cause: the same violation by the same kinds of events in the same function; of what a plan asserts, the same words,
 * which are the plan's to choose.
 */
export class Causes {
  readonly #causes = new Map<string, Finding>();

  /** @returns whether it is the first of its cause */
  add(finding: Finding): boolean {
    const key = keyOf(finding);
    const known = this.#causes.get(key);
    if (!known) {
      this.#causes.set(key, finding);
      return true;
    }
    const better = shorter(finding, known) ? finding : known;
    const places = [...new Set([...known.alsoAt, ...finding.alsoAt])].slice(0, MOST_PLACES);
    this.#causes.set(key, { ...better, count: known.count + finding.count, alsoAt: places });
    return false;
  }

  get none(): boolean {
    return this.#causes.size === 0;
  }

  get list(): Finding[] {
    return [...this.#causes.values()].sort((a, b) => (shorter(a, b) ? -1 : shorter(b, a) ? 1 : 0));
  }
}

function keyOf({ property, what, schedule, struck }: Finding): string {
  if (property === 'assertion') return `${property}|${what}`;
  const last = struck.at(-1);
  const where = last ? last.place.name.replace(/\+0x[0-9a-f]+.*$/, '') : '';
  const kinds = schedule.map(({ kind }) => kind).join(' ');
  return `${property}|${what}|${kinds}|${where}`;
}

function shorter(a: Finding, b: Finding): boolean {
  if (a.schedule.length !== b.schedule.length) return a.schedule.length < b.schedule.length;
  if (a.visit.boundaries !== b.visit.boundaries) return a.visit.boundaries < b.visit.boundaries;
  if (a.visit.id !== b.visit.id) return a.visit.id < b.visit.id;
  return (a.schedule.at(-1)?.at ?? 0) < (b.schedule.at(-1)?.at ?? 0);
}
