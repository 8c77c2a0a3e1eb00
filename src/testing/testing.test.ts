/** The helpers for tests of kernels, used as kernels' tests use them. */
import { describe, expect, it } from 'vitest';
import { buildImage } from '../kernel/image.ts';
import {
  builtinSubject,
  type EspfixMatchers,
  eventKinds,
  imageSubject,
  matchers,
  type Plan,
  survival,
} from './index.ts';

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: the declaration that is merged with has it so
  interface Assertion<T = any> extends EspfixMatchers<T> {}
}

expect.extend(matchers);

/** The first visits only. */
const plan: Plan = { watch: 1_040_000, visits: { most: 4 }, properties: { 'kernel-bits': false } };
const sound = builtinSubject('linux');
const broken = builtinSubject('nmi-without-ist');

describe('toSurvive', () => {
  it('holds of a sound kernel, and not of one with a fault', () => {
    expect(sound).toSurvive(['nmi', 'mc'], { plan });
    expect(broken).not.toSurvive(['nmi'], { plan });
  });

  it('fails with the report', () => {
    expect(() => expect(broken).toSurvive(['nmi'], { plan })).toThrow(/NMI at syscall_entry: swapgs/);
    expect(() => expect(sound).not.toSurvive(['nmi'], { plan })).toThrow(/expected a finding/);
  });

  it('fails where the check was not complete', () => {
    expect(() => expect(sound).toSurvive(['nmi'], { plan, most: 3 })).toThrow(/inconclusive/);
  });

  it.each([
    [() => expect('linux').toSurvive(), /expected a subject/],
    [() => expect(sound).toSurvive(['smi'] as never), /event "smi": expected one of nmi/],
  ])('refuses what it does not know: %#', (use, line) => {
    expect(use).toThrow(line);
  });
});

describe('survival', () => {
  it('tells what was found', () => {
    const { survives, report, text } = survival(broken, ['nmi'], { plan, without: ['stack'] });
    expect(survives).toBe(false);
    expect(report.findings.length).toBeGreaterThan(0);
    expect(report.findings.map(({ property }) => property)).not.toContain('stack');
    expect(text).toContain(report.findings[0].what);
  });

  it('explores the visits that the plan selects', () => {
    const through = { ...plan, visits: { only: [{ through: 'syscall_entry' }] } };
    const entries = survival(sound, [], { plan: through, depth: 0 }).report.visits.map(
      ({ visit }) => visit.entry,
    );
    expect(new Set(entries)).toEqual(new Set(['SYSCALL']));
    expect(() => survival(sound, [], { plan: { visits: { only: [{ through: 'nowhere' }] } } })).toThrow(
      /visits.only\[0\].through: linux has no symbol "nowhere"/,
    );
  });
});

describe('an image', () => {
  it('survives when a plan says that user mode sees events counted', () => {
    const { elf, counters } = buildImage('linux', { cpus: 1, seed: 1 });
    const subject = imageSubject(elf, { name: 'linux.elf', watch: 100_000 });
    const watch = 40_000;
    expect(eventKinds).toEqual(expect.arrayContaining([...subject.events]));
    expect(subject).not.toSurvive(['nmi'], { plan: { watch } });
    const memory = counters.map(({ start, end }) => ({ start, size: Number(end - start) }));
    expect(subject).toSurvive(['nmi'], { plan: { watch, mayDiffer: { memory } } });
  });
});
