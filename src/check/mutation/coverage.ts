/**
 * What the sound kernel executes and reads, visit by visit and event by event: a mutant of anything else cannot be told
 * from it there.
 */
import { KERNEL_BASE } from '../../kernel/layout.ts';
import type { Machine } from '../../machine/machine.ts';
import { OpenSubject } from '../check-subject.ts';
import { type EventKind, eventKinds } from '../event.ts';
import type { Visit } from '../explore/visit.ts';

/** Physical addresses of executed instructions; numbers of quadwords that were read, negated. */
export type Places = ReadonlySet<number>;

/** Numbers of the quadwords that are watched: physical address / 8. */
export type Watched = ReadonlySet<number>;

export interface Deep {
  readonly depth: number;
  readonly events: readonly EventKind[];
  /** Boundaries of the first event. */
  readonly range: readonly [number, number];
}

/** What runs of a visit touch: without events, and with each kind of event. */
export interface Coverage {
  /** Number of the visit. */
  readonly visit: number;
  /** Schedules of several events, if it is about those. */
  readonly deep: Deep | undefined;
  readonly by: ReadonlyMap<EventKind | 'baseline', Places>;
}

/** The same to be sent to another thread. */
export type CoverageData = readonly {
  readonly visit: number;
  readonly deep: Deep | undefined;
  readonly by: readonly (readonly [EventKind | 'baseline', readonly number[]])[];
}[];

export function readCoverage(data: CoverageData): Coverage[] {
  return data.map(({ visit, deep, by }) => ({
    visit,
    deep,
    by: new Map(by.map(([kind, places]) => [kind, new Set(places)])),
  }));
}

/**
 * Visits that get schedules of several events, as their entries and segments tell; how many; and the boundary of the first:
 * user mode's last and the kernel's first, the way back, and one at which interrupts are allowed. Negative ones count from the end.
 */
const deepVisits = [
  ['SYSCALL', 'cs64 ss32', 2, [2, 3]],
  ['INT 0x80', 'cs32 ss16 ldt', 2, [-20]],
  ['SYSCALL', 'cs64 ss32', 3, [-38]],
] as const;
const TWO: readonly EventKind[] = ['nmi', 'mc', 'db-code', 'db-data'];
const THREE: readonly EventKind[] = ['nmi', 'mc', 'irq'];

/**
 * Explores every visit once and notes what is touched.
 * @param begin the visit as mutants begin it
 * @param some numbers of the only visits to explore, with one event; default: all, and some with more
 */
export function coverageOf(
  machine: Machine,
  open: OpenSubject,
  watched: Watched,
  begin: (visit: Visit) => Visit,
  some?: readonly number[],
): Coverage[] {
  const { recording, subject } = open;
  const result: Coverage[] = [];
  let places = new Set<number>();
  const note = (rip: bigint) => {
    if (rip >= KERNEL_BASE) places.add(Number(rip - KERNEL_BASE));
  };
  const off = [
    machine.on('deliver', (cpu) => {
      note(machine.cpus[cpu].rip);
      return false;
    }),
    machine.on('access', (_cpu, physical, size) => {
      for (let quadword = physical >> 3; quadword <= (physical + size - 1) >> 3; quadword++)
        if (watched.has(quadword)) places.add(-quadword);
    }),
  ];
  machine.trace = (_cpu, rip) => note(rip);
  const during = (visit: Visit, options: Parameters<OpenSubject['exploreVisit']>[1]) => {
    places = new Set();
    const visits = recording.visits.slice();
    visits[visit.id] = visit;
    const each = new OpenSubject({ ...subject, stacks: open.stacks }, machine, { ...recording, visits });
    each.exploreVisit(visit.id, { ...options, without: ['kernel-bits'] });
    return places;
  };
  try {
    const all = recording.visits
      .filter(({ id }) => some?.includes(id) ?? true)
      .map(begin)
      .sort((a, b) => a.boundaries - b.boundaries);
    for (const visit of all) {
      const baseline = during(visit, { depth: 0 });
      const by = new Map<EventKind | 'baseline', Places>([['baseline', baseline]]);
      for (const kind of eventKinds) {
        const touched = during(visit, { depth: 1, events: [kind] });
        for (const place of baseline) touched.delete(place);
        by.set(kind, touched);
      }
      result.push({ visit: visit.id, deep: undefined, by });
    }
    if (some) return result;
    for (const [entry, segments, depth, boundaries] of deepVisits) {
      const visit = all.find((each) => each.entry === entry && each.returnsTo === segments);
      if (!visit) throw new Error(`no visit by ${entry} returns to ${segments}`);
      for (const boundary of boundaries) {
        const at = boundary < 0 ? visit.boundaries + boundary : boundary;
        const deep = { depth, events: depth === 2 ? TWO : THREE, range: [at, at + 1] } as const;
        const touched = during(visit, deep);
        result.push({ visit: visit.id, deep, by: new Map([['nmi', touched]]) });
      }
    }
  } finally {
    machine.trace = undefined;
    for (const each of off) each();
  }
  return result;
}
