/** Experiments driven from outside do what they say, and say so where they cannot. */
import { afterEach, describe, expect, it } from 'vitest';
import { linuxVisit, measureQemuExperiments, qemuExperimentsUnfit } from './qemu-experiments.ts';

const required = process.env.CI !== undefined && process.env.CI !== '';
const unfit = qemuExperimentsUnfit();

describe.skipIf(!required && unfit !== undefined)('on QEMU', () => {
  const visit = linuxVisit();

  it('an NMI at boundaries all over a visit leaves no trace in the registers', async () => {
    expect(visit.steps).toBeGreaterThan(50);
    const result = await measureQemuExperiments({ ...visit, count: 8 });
    expect(result).toMatchObject({ count: 8, unchanged: 8 });
    expect(result.stepped).toBeGreaterThan(visit.steps / 3);
    const { restore, step, inject, run, read } = result.where;
    expect(restore + step + inject + run + read).toBeCloseTo(1000 / result.perSecond, 0);
  });

  it('an image that does not get to the visit is told of', async () => {
    const never = measureQemuExperiments({ ...visit, image: new Uint8Array(100), count: 1 });
    await expect(never).rejects.toThrow(/^[^\n]+$/);
    const elsewhere = measureQemuExperiments({ ...visit, start: 0x7000_0000n, count: 1, timeout: 1 });
    await expect(elsewhere).rejects.toThrow(/^experiments on QEMU: not done within 1 s$/);
  });
});

describe('without QEMU', () => {
  const { PATH } = process.env;
  afterEach(() => {
    process.env.PATH = PATH;
  });

  it('there is one line', async () => {
    process.env.PATH = '/nonexistent';
    expect(qemuExperimentsUnfit()).toBe('qemu-system-x86_64 is not installed');
    const nothing = { image: new Uint8Array(0), start: 0n, end: 0n, nmiEntry: 0n, steps: 1, count: 1 };
    await expect(measureQemuExperiments(nothing)).rejects.toThrow(
      /^experiments on QEMU: qemu-system-x86_64 is not installed$/,
    );
  });
});
