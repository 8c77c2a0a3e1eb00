/** Events that were asked for and that a kernel cannot take. */
import type { EventKind } from '../check/event.ts';
import type { Subject } from '../check/subject.ts';
import { UserError } from './failure.ts';

/** Vectors by which the processor takes events. */
const VECTORS: Partial<Record<EventKind, number>> = {
  nmi: 2,
  mc: 18,
  'db-code': 1,
  'db-data': 1,
  'db-step': 1,
  'mov-ss': 1,
};

/**
 * Throws a UserError for events that the kernel has no handlers for: they are no test of the path that they interrupt, and a
 * name in a plan or an option is mistaken.
 */
export function refuseWithoutHandler(
  name: string,
  { handlers, vectors }: Pick<Subject, 'handlers' | 'vectors'>,
  events: readonly EventKind[],
): void {
  if (!handlers) return;
  const refuse = (kind: EventKind, why: string) => {
    throw new UserError(`${name}: no handler for the event ${kind}: ${why}`);
  };
  for (const kind of events) {
    const vector = VECTORS[kind];
    if (vector !== undefined && !handlers.has(vector))
      refuse(kind, `the IDT has no gate at vector ${vector}`);
    if (kind !== 'irq') continue;
    if (vectors.length === 0) refuse(kind, 'no interrupt came while watching; a plan may name vectors');
    for (const one of vectors) if (!handlers.has(one)) refuse(kind, `the IDT has no gate at vector ${one}`);
  }
}
