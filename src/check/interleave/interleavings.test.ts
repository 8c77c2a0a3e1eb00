/** Kernels whose locks are taken out or never given back, limits, and what must hold of ministacks. */
import { describe, expect, it } from 'vitest';
import { inspectPage } from '../../arch/paging.ts';
import type { ImageName } from '../../kernel/variants/gallery/names.ts';
import type { Machine } from '../../machine/machine.ts';
import { Sharing } from './accesses.ts';
import { builtinWindow, type WindowName } from './builtin.ts';
import { exploreInterleavings, type Interleaved, replayInterleaving } from './interleavings.ts';
import { judgeMinistacks } from './ministacks.ts';
import { type SearchOptions, search } from './search.ts';

const NOP = 0x90;

type Builtin = ReturnType<typeof builtinWindow>;

/** The kernel with NOPs from one label to another. */
function without(subject: Builtin, from: string, to: string): Interleaved {
  const { machine, start } = subject.window;
  const [begin, end] = [from, to].map((label) => subject.image.symbols.get(label) ?? 0n);
  expect(end - begin).toBeGreaterThan(0n);
  machine.restore(start);
  machine.writeMemory(begin, new Uint8Array(Number(end - begin)).fill(NOP));
  return { ...subject, window: { ...subject.window, start: machine.snapshot() } };
}

const SET_UP = 'set-up-at-modify-ldt';

describe('a kernel that sets up under a lock', () => {
  it('without taking it: broken with one preemption, and each schedule shows it again', () => {
    const subject = without(builtinWindow(SET_UP, 'set-up'), 'espfix_init.lock', 'espfix_init.locked');
    const { verdict, findings, bounds } = exploreInterleavings(subject, { preemptions: 2 });
    expect(verdict).toBe('findings');
    expect(bounds.map(({ preemptions, complete }) => [preemptions, complete])).toEqual([
      [0, true],
      [1, true],
    ]);
    expect(findings.map(({ preemptions }) => preemptions)).toEqual(findings.map(() => 1));
    expect(findings.map(({ what }) => what)).toContain('pages of a set-up that was overwritten are lost');
    for (const { what, turns } of findings)
      expect(replayInterleaving(subject, turns).map((violation) => violation.what)).toContain(what);
  });

  it('never giving it back: the other waits for ever', () => {
    const subject = without(builtinWindow(SET_UP, 'set-up'), 'espfix_init.unlock', 'espfix_init.done');
    // By the time that CPU 0 has finished, the bool is set: only who comes before that takes the lock.
    expect(exploreInterleavings(subject, { preemptions: 0 }).verdict).toBe('clean');
    const { findings } = exploreInterleavings(subject, { preemptions: 1 });
    expect(findings).toMatchObject([
      { property: 'progress', what: 'a processor waits for ever', preemptions: 1 },
    ]);
    expect(findings[0].details[0]).toMatch(/^CPU [01] at espfix_init\./);
    const [violation] = replayInterleaving(subject, findings[0].turns);
    expect(violation).toMatchObject({ what: 'a processor waits for ever' });
  });
});

describe('bounds', () => {
  const subject = builtinWindow('linux', 'threads');

  it('a limit leaves it open whether there is more', () => {
    expect(exploreInterleavings(subject, { most: 3 })).toMatchObject({
      verdict: 'inconclusive',
      findings: [],
    });
    expect(exploreInterleavings(subject, { stop: () => true }).verdict).toBe('inconclusive');
    expect(exploreInterleavings(subject).verdict).toBe('clean');
  });

  it.each([-1, 0.5, Number.NaN])('%d preemptions are refused', (preemptions) => {
    expect(() => exploreInterleavings(subject, { preemptions })).toThrow(`preemptions: ${preemptions}`);
  });
});

/** States at the ends of schedules, and the exceptions that ended some. */
function ends(subject: Interleaved, preemptions: number, preempt: SearchOptions['preempt']): Set<string> {
  const found = new Set<string>();
  const { complete } = search(
    subject.window,
    { preemptions, preempt: preempt ?? 'where-it-matters', sharing: new Sharing(3) },
    {
      begin: () => found.clear(),
      trouble: (trouble) => {
        found.add(
          trouble.kind === 'exception' ? `${trouble.exception.cpu} ${trouble.exception.rip}` : trouble.kind,
        );
        return true;
      },
      end: (state) => {
        found.add(`${state}`);
      },
    },
  );
  expect(complete).toBe(true);
  return found;
}

describe('schedules that are left out lead to no other end', () => {
  it.each<[ImageName, WindowName, number, 'at-shared' | 'everywhere', number]>([
    ['tables-published-early', 'set-up', 1, 'at-shared', 3],
    ['ministack-shared', 'returns', 1, 'everywhere', 4],
    ['ministack-shared', 'returns', 2, 'at-shared', 4],
    ['linux', 'returns', 1, 'everywhere', 1],
  ])('%s, %s, %i preemptions, tried %s', (name, window, preemptions, preempt, least) => {
    const subject = builtinWindow(name, window);
    const reduced = ends(subject, preemptions, 'where-it-matters');
    expect(reduced).toEqual(ends(subject, preemptions, preempt));
    expect(reduced.size).toBeGreaterThanOrEqual(least);
  });
});

describe('ministacks', () => {
  const subject = builtinWindow(SET_UP, 'set-up');
  const { machine, start } = subject.window;
  machine.restore(start);
  for (const cpu of [0, 1]) while (!subject.window.isEnd(machine.cpus[cpu])) machine.runAlone(cpu, 1);
  const done = machine.snapshot();
  const [first, second] = subject.ministacks;
  /** Page tables map themselves nowhere, but all of RAM is mapped at the physical map. */
  const entries = (m: Machine) => {
    const view = (at: number) => new DataView(m.readPhysical(at, 8).buffer).getBigUint64(0, true);
    const frame = (entry: bigint) => Number(entry & 0x000f_ffff_ffff_f000n);
    const index = (shift: bigint) => Number((first.address >> shift) & 0x1ffn) * 8;
    const pgd = Number(m.cpus[0].cr3 & 0x000f_ffff_ffff_f000n) + index(39n);
    const pud = frame(view(pgd)) + index(30n);
    const pmd = frame(view(pud)) + index(21n);
    const pte = frame(view(pmd)) + index(12n);
    return { pgd, pud, pmd, pte, view };
  };
  const put = (at: number, value: bigint) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    machine.writePhysical(at, bytes);
  };
  const judged = (plans = subject.ministacks) =>
    judgeMinistacks(machine, plans, subject.pool).map(({ what, details }) => [what, details]);

  it('are all right after set-up', () => {
    machine.restore(done);
    expect(judged()).toEqual([]);
  });

  it('are not there before', () => {
    machine.restore(start);
    expect(judged()).toEqual([
      [
        'a processor is back in user mode without a ministack',
        ['CPU 0: aliases at 0x0, written at 0x0', 'CPU 1: aliases at 0x0, written at 0x0'],
      ],
    ]);
  });

  it.each<['pgd' | 'pud' | 'pmd' | 'pte', number]>([
    ['pgd', 0],
    ['pud', 3 * 0x4000],
    ['pmd', 511 * 128],
    // One of 32 entries of the table that all 2,048 directory entries name.
    ['pte', 31 * 2048],
  ])('an entry of a %s that is absent leaves %i aliases', (level, left) => {
    machine.restore(done);
    put(entries(machine)[level], 0n);
    const [[what, details]] = judged();
    expect(what).toBe('a ministack is not mapped at all of its aliases');
    expect((details as string[])[0]).toBe(`CPU 0: at ${left} of 65536`);
  });

  it('must not lead elsewhere by one alias', () => {
    machine.restore(done);
    const { pte, view } = entries(machine);
    put(pte, view(pte) + 0x1000n);
    expect(judged().map(([what]) => what)).toContain('the aliases of a ministack lead to different pages');
  });

  it('must be the pages that are written', () => {
    machine.restore(done);
    const at = inspectPage(machine.cpus[0], first.writePointer)?.physical ?? 0;
    const { view } = entries(machine);
    put(at, view(at) + 0x1000n);
    expect(judged().map(([what]) => what)).toEqual(['frames are written to one page and taken from another']);
    put(at, 0x1234_0000_0000n);
    expect(judged().map(([what]) => what)).toEqual(['the kernel cannot write a ministack']);
  });

  it('must not overlap', () => {
    machine.restore(done);
    // The second in the first's bytes, as far as size tells.
    expect(
      judged([
        { ...first, size: 2048 },
        { ...second, size: 2048 },
      ])[0][0],
    ).toBe('two processors have one ministack');
  });

  it('leave no page behind', () => {
    machine.restore(done);
    const at = inspectPage(machine.cpus[0], subject.pool?.next ?? 0n)?.physical ?? 0;
    const { view } = entries(machine);
    put(at, view(at) + 0x2000n);
    expect(judged()).toEqual([
      ['pages of a set-up that was overwritten are lost', ['6 were taken, 4 are in the tables']],
    ]);
  });

  it('are what TLBs say', () => {
    machine.restore(done);
    // Each has returned by one alias, whose translation it holds.
    const { pmd, view } = entries(machine);
    const table = Number(view(pmd) & 0x000f_ffff_ffff_f000n);
    for (let i = 0; i < 512; i++)
      if (view(table + 8 * i) !== 0n) put(table + 8 * i, view(table + 8 * i) + 0x1000n);
    const stale = judged().find(([what]) => what === 'a processor has stale translations of its ministack');
    expect(stale?.[1]).toEqual([
      "CPU 0: 1 of its TLB's entries differ from the page tables",
      "CPU 1: 1 of its TLB's entries differ from the page tables",
    ]);
  });
});
