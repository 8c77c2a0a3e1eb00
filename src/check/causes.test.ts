/** What makes findings one, and which of them is told. */
import { describe, expect, it } from 'vitest';
import { Causes } from './causes.ts';
import type { EventKind } from './event.ts';
import type { Finding } from './finding.ts';

type Given = Partial<Pick<Finding, 'property' | 'what'>> & {
  kinds?: EventKind[];
  at?: string;
  visit?: number;
};

function finding({
  property = 'stack',
  what = 'words',
  kinds = ['nmi'],
  at = 'f',
  visit = 0,
}: Given): Finding {
  const struck = kinds.map((event) => ({ event, place: { address: 0n, name: at, text: '' } }));
  return {
    property,
    what,
    details: [],
    subject: 'kernel',
    visit: { id: visit, cpu: 0, entry: 'SYSCALL', start: 0, boundaries: 10, occurrences: 1 },
    schedule: kinds.map((kind, i) => ({ kind, at: i })),
    struck,
    registers: [],
    provenance: [],
    count: 1,
    alsoAt: struck.slice(-1).map(({ place }) => place.name),
  };
}

const list = (given: Given[]) => {
  const causes = new Causes();
  const first = given.map((one) => causes.add(finding(one)));
  return { first, list: causes.list };
};

describe('findings of one cause', () => {
  it.each<[name: string, given: Given[]]>([
    ['in one function', [{ at: 'f' }, { at: 'f+0x12' }]],
    ['in several visits', [{ visit: 1 }, { visit: 2 }]],
    [
      'asserted in the same words: events',
      [{ property: 'assertion' }, { property: 'assertion', kinds: ['mc'] }],
    ],
    [
      'asserted in the same words: functions',
      [{ property: 'assertion' }, { property: 'assertion', at: 'g' }],
    ],
    [
      'asserted in the same words: depths',
      [{ property: 'assertion', kinds: ['nmi', 'mc'] }, { property: 'assertion' }],
    ],
  ])('are one: %s', (_name, given) => {
    const { first, list: found } = list(given);
    expect([first, found.map(({ count }) => count)]).toEqual([[true, false], [2]]);
  });

  it.each<[name: string, given: Given[]]>([
    ['functions', [{ at: 'f' }, { at: 'g' }]],
    ['events', [{}, { kinds: ['mc'] }]],
    ['depths', [{}, { kinds: ['nmi', 'nmi'] }]],
    ['words', [{}, { what: 'others' }]],
    ['words of an assertion', [{ property: 'assertion' }, { property: 'assertion', what: 'others' }]],
    ['properties', [{}, { property: 'assertion' }]],
  ])('are not one: other %s', (_name, given) => {
    const { first, list: found } = list(given);
    expect([first, found.length]).toEqual([[true, true], 2]);
  });

  it('are told by the shortest, with all places', () => {
    const { list: found } = list([
      { property: 'assertion', kinds: ['nmi', 'mc'], at: 'f', visit: 1 },
      { property: 'assertion', kinds: ['mc'], at: 'g', visit: 3 },
      { property: 'assertion', kinds: ['mc'], at: 'h', visit: 2 },
    ]);
    expect(found).toMatchObject([{ count: 3, alsoAt: ['f', 'g', 'h'], visit: { id: 2 } }]);
    expect(found[0].schedule).toHaveLength(1);
  });
});
