/** Trials on the sound kernel, which stands them, and on kernels with a byte or two changed, which do not; and that it shows again. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { CaseInfo } from '../../kernel/image.ts';
import { Machine } from '../../machine/machine.ts';
import { builtinSubject } from '../builtin.ts';
import { OpenSubject, openSubject } from '../check-subject.ts';
import { eventKinds, type Schedule } from '../event.ts';
import { mutantsOf } from '../mutation/all-mutants.ts';
import type { Mutant } from '../mutation/mutant.ts';
import { Experiment } from './experiment.ts';
import { explore, judge } from './explore.ts';
import { tell } from './story.ts';
import { tryTrials } from './trials.ts';
import type { Visit } from './visit.ts';

const few = ({ path, cs, ss, set }: CaseInfo) =>
  ss === 'flat' &&
  (((path === 'syscall' || path === 'db') && cs === 'cs64' && set === 0x5aad_c0de) ||
    (path === 'int80' && (cs === 'cs16-ldt' || cs === 'not-present')));

describe('trials', () => {
  const subject = builtinSubject('linux', { only: few });
  const machine = Machine.create();
  let open: OpenSubject;
  let mutants: ReadonlyMap<string, Mutant>;
  beforeAll(() => {
    open = openSubject(subject, undefined, machine);
    machine.restore(open.recording.visits[0].begin);
    const all = mutantsOf(subject.kernel, (address, size) => machine.readPhysical(address, size));
    mutants = new Map(all.map((mutant) => [mutant.key, mutant]));
  });

  const visitBy = (entry: string): Visit => {
    const visit = open.recording.visits.find((each) => each.entry === entry);
    if (!visit) throw new Error(`no visit by ${entry}`);
    return visit;
  };

  /** The visit with a mutant's bytes in place. */
  function changed(visit: Visit, key: string): Visit {
    const mutant = mutants.get(key);
    if (!mutant) throw new Error(`no mutant "${key}"`);
    machine.restore(visit.begin);
    machine.writePhysical(mutant.address, mutant.bytes);
    for (const cpu of machine.cpus) cpu.tlb.invalidateContext(-1, true);
    return { ...visit, begin: machine.snapshot() };
  }

  /** What trials on a visit violate, the first of each kind of schedule. */
  function tried(visit: Visit, depth: number) {
    const experiment = new Experiment(machine, subject, visit, open.stacks);
    const found = new Map<string, { schedule: Schedule; property: string; what: string }>();
    try {
      const runs = tryTrials(experiment, {
        depth,
        events: eventKinds,
        onViolation(schedule, _outcome, [{ property, what }]) {
          const kinds = schedule.map(({ kind }) => kind).join(' ');
          if (!found.has(kinds)) found.set(kinds, { schedule, property, what });
        },
      });
      for (const { schedule, property, what } of found.values()) {
        const again = judge(experiment, experiment.replay(schedule), schedule);
        expect(again).toContainEqual(expect.objectContaining({ property, what }));
        const { reason } = tell(experiment, schedule, { most: 500 });
        expect(reason).toBeDefined();
        const told = judge(experiment, experiment.outcome(reason ?? 'user'), schedule);
        expect(told).toContainEqual(expect.objectContaining({ property, what }));
      }
      return { runs, found: Object.fromEntries([...found].map(([kinds, { what }]) => [kinds, what])) };
    } finally {
      experiment.close();
    }
  }

  it.each([
    ['SYSCALL', 1, 50],
    ['SYSCALL', 2, 70],
    ['INT 0x80', 2, 20],
    // No breakpoint is set in the way of the debug exception.
    ['#DB', 2, 5],
  ])('the sound kernel stands them, entered by %s, depth %i', (entry, depth, least) => {
    const { runs, found } = tried(visitBy(entry), depth);
    expect(found).toEqual({});
    expect(runs).toBeGreaterThan(least);
  });

  it.each<[key: string, entry: string, depth: number, kinds: string, what: RegExp]>([
    ['handle_debug.kernel: delete', 'INT 0x80', 1, 'db-stays', /does not come back|without end/],
    ['return_without_iret+0xd: delete', 'INT 0x80', 2, 'nmi db-stays', /does not come back|without end/],
    ['return_without_iret+0x8: immediate ^1', 'INT 0x80', 2, 'nmi db-stays', /other breakpoints/],
    ['return_without_iret+0x6: delete', 'INT 0x80', 2, 'watch nmi mc', /other breakpoints/],
    ['paranoid_exit+0x44: delete', 'SYSCALL', 1, 'stack-pointer mc', /elsewhere|finds another/],
    ['paranoid_exit+0x44: delete', 'SYSCALL', 1, 'stack-pointer db-data', /elsewhere|finds another/],
    ['paranoid_exit+0x1a: immediate ^0x20000', 'INT 0x80', 2, 'nmi db-data mc nmi', /./],
    ['paranoid_exit+0x1a: immediate ^0x20000', 'INT 0x80', 2, 'nmi mc db-data nmi', /./],
    ['IST of machine checks: a page down', 'INT 0x80', 2, 'mc mc mc mc mc mc mc', /./],
  ])('%s, entered by %s, depth %i: %s', (key, entry, depth, kinds, what) => {
    const { found } = tried(changed(visitBy(entry), key), depth);
    expect(Object.keys(found)).toContain(kinds);
    expect(found[kinds]).toMatch(what);
  });

  it('a breakpoint is in the way of the debug exception if that comes there alone: a fault of IRETD, in 32-bit code', () => {
    const only = ({ path, cs, ss }: CaseInfo) =>
      path === 'int80' && cs === 'not-present' && ss === 'ss16-ldt';
    const sound = builtinSubject('espfix32-pae', { only });
    const pc = Machine.create();
    const { recording, stacks } = openSubject(sound, undefined, pc);
    const faulted = recording.visits.filter(({ boundaries }) => boundaries > 200);
    expect(faulted.length).toBeGreaterThan(0);
    for (const visit of faulted) {
      const experiment = new Experiment(pc, sound, visit, stacks);
      const onViolation = (schedule: Schedule) => expect(schedule).toEqual([]);
      expect(tryTrials(experiment, { depth: 1, events: ['db-code'], onViolation })).toBeGreaterThan(0);
      experiment.close();
    }
  });

  it('are the same after an exploration', () => {
    const experiment = new Experiment(machine, subject, visitBy('SYSCALL'), open.stacks);
    const options = { depth: 2, events: eventKinds, onViolation: () => {} };
    const before = tryTrials(experiment, options);
    explore(experiment, { ...options, depth: 1, events: ['db-code', 'nmi'], vectors: [] });
    expect(tryTrials(experiment, options)).toBe(before);
    experiment.close();
  });

  it('no breakpoint stays in a kernel that nothing is known of', () => {
    const visit = changed(visitBy('INT 0x80'), 'handle_debug.kernel: delete');
    const foreign = new Experiment(machine, { ...subject, foreign: true }, visit, open.stacks);
    const kinds = new Set<string>();
    tryTrials(foreign, {
      depth: 1,
      events: eventKinds,
      onViolation: (schedule) => schedule.forEach(({ kind }) => void kinds.add(kind)),
    });
    foreign.close();
    expect([...kinds]).toEqual([]);
  });

  it('without events, registers that a signal handler gets are those of the task', () => {
    const refused = open.recording.visits.filter(({ id, entry }) => {
      const bad = subject.kernel.symbols.get('interrupt_entry.bad_iret') as bigint;
      return entry === 'INT 0x80' && open.path(id).has(bad);
    });
    expect(refused.length).toBeGreaterThan(0);
    const visits = open.recording.visits.slice();
    const [{ id }] = refused;
    const explored = (visit: Visit) => {
      visits[id] = visit;
      const { twin: _, ...alone } = subject;
      const each = new OpenSubject(alone, machine, { ...open.recording, visits });
      return each.exploreVisit(id, { depth: 0, without: ['kernel-bits'] }).findings.map(({ what }) => what);
    };
    expect(explored(refused[0])).toEqual([]);
    expect(explored(changed(refused[0], 'interrupt_entry.bad_iret+0xd: to r8'))).toEqual([
      'user mode does not get back its r9',
    ]);
  });
});
