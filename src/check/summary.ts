/**
 * A variant under the events that no kernel may refuse: an NMI, a machine check and a debug exception held off by MOV SS, one
 * at each boundary of each path that its returns take. The short form of what `espfix check --variant NAME --depth 1` does.
 */

import type { CaseInfo } from '../kernel/image.ts';
import type { VariantName } from '../kernel/variants/index.ts';
import { builtinSubject, oneOfEach } from './builtin.ts';
import { mergeReports, openSubject, type VisitResult } from './check-subject.ts';
import type { CheckedVariant } from './check-variant.ts';
import type { EventKind } from './event.ts';
import type { Finding } from './finding.ts';

const summaryEvents: readonly EventKind[] = ['nmi', 'mc', 'mov-ss'];

/** Experiments a visit: more than any return path of the kernel needs, less than its set-up of page tables has. */
const MOST = 800;

/** What one event at each boundary does to a variant. */
export interface Interrupted {
  readonly events: readonly EventKind[];
  readonly experiments: number;
  /** Paths through the kernel. */
  readonly visits: number;
  /** Findings that take no event: bits that leak by themselves, and what else is wrong with the visits as they are. */
  readonly withoutEvents: readonly Finding[];
  readonly findings: readonly Finding[];
}

/** A variant by its own cases and interrupted. */
export interface SummarizedVariant extends CheckedVariant {
  readonly interrupted: Interrupted;
}

/** The cases that between them take every path, but for frames that IRET refuses: of those, the ones of a 16-bit stack. */
function everyPath(): (c: CaseInfo) => boolean {
  const each = oneOfEach();
  const shown = ({ cs, ss, name }: CaseInfo) =>
    name.startsWith('q4') ||
    (ss === 'flat' && (cs === 'cs64' || cs === 'cs32-gdt')) ||
    (ss === 'ss16-ldt' && (cs === 'cs64' || cs === 'cs16-ldt'));
  return (c) => shown(c) && each(c);
}

/** Interrupts a variant. */
export function interrupt(name: VariantName): Interrupted {
  const subject = builtinSubject(name, { only: everyPath() });
  const open = openSubject(subject);
  const paths = new Set<string>();
  const results: VisitResult[] = [];
  for (const { id, path } of open.recording.visits) {
    if (paths.has(path)) continue;
    paths.add(path);
    results.push(open.exploreVisit(id, { depth: 1, events: summaryEvents, most: MOST }));
  }
  const { findings, experiments } = mergeReports(subject, open.recording, results);
  return {
    events: summaryEvents,
    experiments,
    visits: paths.size,
    withoutEvents: findings.filter(({ schedule }) => schedule.length === 0),
    findings: findings.filter(({ schedule }) => schedule.length > 0),
  };
}
