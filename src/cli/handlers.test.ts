/** Events without handlers are refused in one line that says what is missing. */
import { expect, it } from 'vitest';
import type { EventKind } from '../check/event.ts';
import { UserError } from './failure.ts';
import { refuseWithoutHandler } from './handlers.ts';

it.each<[events: EventKind[], handlers: number[] | undefined, vectors: number[], line: string | undefined]>([
  [['nmi', 'db-code', 'irq'], [1, 2, 0x40], [0x40], undefined],
  [['nmi'], undefined, [], undefined],
  [['fault', 'spurious'], [], [], undefined],
  [['nmi'], [1], [], 'k: no handler for the event nmi: the IDT has no gate at vector 2'],
  [['nmi', 'mc'], [2], [], 'k: no handler for the event mc: the IDT has no gate at vector 18'],
  [['mov-ss'], [2], [], 'k: no handler for the event mov-ss: the IDT has no gate at vector 1'],
  [
    ['irq'],
    [2],
    [],
    'k: no handler for the event irq: no interrupt came while watching; a plan may name vectors',
  ],
  [['irq'], [0x40], [0x40, 0x41], 'k: no handler for the event irq: the IDT has no gate at vector 65'],
])('%j with gates %j, vectors %j: %s', (events, gates, vectors, line) => {
  const handlers = gates && new Set(gates);
  const refuse = () => refuseWithoutHandler('k', { vectors, ...(handlers && { handlers }) }, events);
  if (line === undefined) expect(refuse()).toBe(undefined);
  else expect(refuse).toThrow(new UserError(line));
});
