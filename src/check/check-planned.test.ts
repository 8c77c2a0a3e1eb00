/** Which visits a plan selects, and plans that select nothing. */
import { describe, expect, it } from 'vitest';
import { selectVisits, type Watched } from './check-planned.ts';
import { applyPlan, type Plan } from './plan.ts';
import { PlanError } from './plan-error.ts';
import type { Subject } from './subject.ts';

const subject = { name: 'kernel.elf', mayDiffer: [], symbol: () => undefined } as Partial<Subject> as Subject;
const entries = ['INT 0x80', 'SYSCALL', 'SYSCALL', '#UD'];
const paths = [[1n, 2n], [2n], [2n, 3n], [4n]];

function watched(failures = 0, visits = entries.length): Watched {
  return {
    path: (id: number) => new Set(paths[id]),
    recording: {
      visits: entries.slice(0, visits).map((entry, id) => ({ id, entry, returnsTo: 'cs64 ss32' })),
      failures: Array.from({ length: failures }, () => ({})),
    },
  };
}

const select = (visits: Plan['visits'], open = watched(), standard?: Plan['visits']) =>
  selectVisits(open, applyPlan(subject, visits ? { visits } : {}, visits ? 'p.json' : '', standard));

describe('visits of a plan', () => {
  it.each<[visits: Plan['visits'], ids: number[]]>([
    [undefined, [0, 1, 2, 3]],
    [{ only: [{ entry: 'SYSCALL' }] }, [1, 2]],
    [{ only: [{ vector: 6 }, { through: '0x2' }] }, [0, 1, 2, 3]],
    [{ only: [{ through: '0x2' }], leaveOut: [{ entry: 'INT 0x80' }] }, [1, 2]],
    // Beyond `most`, and left out, a selector selects all the same.
    [{ only: [{ entry: '#UD' }, { entry: 'SYSCALL' }], most: 1 }, [1]],
    [{ only: [{ entry: '#UD' }, { entry: 'SYSCALL' }], leaveOut: [{ vector: 6 }] }, [1, 2]],
    [{ leaveOut: [{ entry: 'SYSENTER' }] }, [0, 1, 2, 3]],
  ])('%j: %j', (visits, ids) => {
    expect(select(visits)).toEqual(ids);
  });

  it.each<[visits: Plan['visits'], line: string]>([
    [{ only: [{ entry: 'SYSENTER' }] }, 'visits.only[0]: selects none of the 4 visits seen'],
    [
      { only: [{ entry: 'SYSCALL' }, { entry: 'SYSCALL', through: '0x4' }] },
      'visits.only[1]: selects none of the 4 visits seen',
    ],
    [{ only: [] }, 'visits: selects none of the 4 visits seen'],
    [{ only: [{ entry: '#UD' }], leaveOut: [{ vector: 6 }] }, 'visits: selects none of the 4 visits seen'],
  ])('%j is refused', (visits, line) => {
    expect(() => select(visits)).toThrow(new PlanError(`p.json: ${line}`));
    // Where a visit failed, that is to be told, and nothing where none came back, of which others tell.
    expect(select(visits, watched(1))).toEqual(visits?.only?.length === 2 ? [1, 2] : []);
    expect(select(visits, watched(0, 0))).toEqual([]);
  });

  it('of the standard need not all be there', () => {
    const standard = (...names: string[]) => ({ only: names.map((entry) => ({ entry })) });
    expect(select(undefined, watched(), standard('SYSENTER', '#UD'))).toEqual([3]);
    expect(select({ most: 1 }, watched(), standard('SYSENTER', 'SYSCALL'))).toEqual([1]);
    expect(() => select(undefined, watched(), standard('SYSENTER'))).toThrow(
      new PlanError('kernel.elf: none of the 4 visits seen is one that is explored unless a plan says so'),
    );
  });
});
