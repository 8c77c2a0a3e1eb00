/**
 * Exploration of single visits of the built-in kernels: what is complete, what merges, what is found, and that what is found
 * shows again.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { watchStacks } from '../stacks.ts';
import { userPages } from '../user-pages.ts';
import { judge } from './explore.ts';
import { tryStackPointers } from './stack-pointers.ts';
import { run, visitOf } from './visit.fixture.ts';

describe('the sound kernel', () => {
  let at: ReturnType<typeof visitOf>;
  beforeAll(() => {
    at = visitOf('linux');
  });

  it('is entered and left where the visit says', () => {
    const { baseline } = at.experiment;
    expect(baseline.boundaries.map((boundary) => boundary.at)).toEqual(baseline.boundaries.map((_, i) => i));
    expect(baseline.entry.cpl).toBe(3);
    expect(baseline.back.cpl).toBe(3);
    expect(at.subject.describe(baseline.boundaries[baseline.entry.at + 1].rip)).toBe('vector.128');
    expect(
      baseline.boundaries.slice(baseline.entry.at + 1, baseline.back.at).every(({ cpl }) => cpl === 0),
    ).toBe(true);
  });

  it('survives one event of each kind at every boundary', () => {
    const { counts, coverage, complete, found } = run(at.experiment, {
      events: at.subject.events,
      vectors: at.subject.vectors,
    });
    expect(found).toEqual([]);
    expect(complete).toBe(true);
    expect(coverage.length).toBe(at.experiment.baseline.boundaries.length);
    expect(coverage.every(({ events }) => events.nmi === 1 && events.mc === 1)).toBe(true);
    // Interrupts are off in most of the kernel, and an event that is held off is not tried.
    const kernel = coverage.filter(({ cpl }) => cpl === 0);
    expect(kernel.filter(({ events }) => events.irq).length).toBeLessThan(kernel.length / 2);
    expect(counts.experiments).toBeGreaterThan(400);
  });

  it('survives two events, the second anywhere after the first', () => {
    const [from, to] = [30, 36];
    const { counts, complete, found } = run(at.experiment, { depth: 2, range: [from, to] });
    expect(found).toEqual([]);
    expect(complete).toBe(true);
    // After the first handler's return the state is that of the visit without events, which need not be explored again.
    expect(counts.merged).toBeGreaterThan(0);
    expect(counts.experiments).toBeGreaterThan(2 * 2 * (to - from));
    expect(counts.experiments).toBeLessThan(2 * (to - from) * 250);
  });

  it('returns with every upper half of the stack pointer', () => {
    const { runs, violations } = tryStackPointers(at.experiment);
    expect(runs).toBeGreaterThan(20);
    expect(violations).toEqual([]);
  });

  it('has no kernel bit to show, by taint', () => {
    const { findings, ended } = at.experiment.track([]);
    expect(ended).toBe('user');
    expect(findings).toEqual([]);
  });

  it('ends an exploration at its bounds, and says so', () => {
    const few = run(at.experiment, { most: 10 });
    expect(few.counts.experiments).toBe(10);
    expect(few.complete).toBe(false);
    const stopped = run(at.experiment, { stop: () => true });
    expect(stopped.complete).toBe(false);
  });

  it('has the stacks that its TSS names', () => {
    const known = at.subject.stacks ?? [];
    const seen = watchStacks(at.experiment.machine, [at.visit], at.subject);
    for (const { name, range } of known.filter(({ name }) =>
      ['main', 'nmi', 'debug', 'machine-check'].includes(name),
    ))
      expect([name, seen.some(({ range: other }) => other.end === range.end)]).toEqual([name, true]);
  });

  it('has user pages, and no others are called so', () => {
    const { machine, begin } = at.experiment;
    machine.restore(begin);
    const pages = [...userPages(machine, 0).values()];
    expect(pages.length).toBeGreaterThan(4);
    expect(pages.every(({ linear }) => linear < 1n << 32n)).toBe(true);
  });
});

it('without espfix the upper half depends on the kernel', () => {
  const { experiment } = visitOf('none');
  const { findings } = experiment.track([]);
  expect(findings.map(({ register, mask }) => [register, mask])).toEqual([['rsp', 0xffff_0000n]]);
});

describe('a kernel that decides SWAPGS by the saved CS', () => {
  it('fails at the first and the last instructions, and what is found shows again', () => {
    const { experiment, subject } = visitOf('swapgs-by-cs-nmi', 'flat');
    const { found } = run(experiment, { events: ['nmi'] });
    const places = new Set(
      found.map(({ schedule }) => subject.describe(experiment.placesOf(schedule)[0].rip)),
    );
    expect(places).toContain('vector.128');
    expect(places).toContain('iretq.user');
    for (const { schedule, violations } of found.slice(0, 6)) {
      const again = judge(experiment, experiment.replay(schedule), schedule);
      expect(again.map(({ what }) => what)).toEqual(violations.map(({ what }) => what));
      expect(violations.map(({ property }) => property)).toContain('gs');
    }
  });
});
