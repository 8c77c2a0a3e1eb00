/** Models: what their texts may be, and what is in each. */
import { describe, expect, it } from 'vitest';
import { featureNames, featureTable } from './features.ts';
import { defaultProcessor, modelTitles, processorOf } from './processor.ts';

const models = [...modelTitles.keys()];
const has = (text: string, ...names: string[]) => {
  const features: ReadonlySet<string> = processorOf(text).features;
  return names.map((name) => features.has(name));
};

describe('models', () => {
  it.each(models)('%s: its features need no others, its name names it, and its brand fits', (name) => {
    const { features, brand, ...processor } = processorOf(name);
    for (const one of features)
      for (const needed of featureTable[one].needs) expect(features).toContain(needed);
    expect(processor.name).toBe(name);
    expect(brand.length).toBeLessThan(48);
  });

  it('have each all of the one before', () => {
    const lines = [
      ['x86-64-v1', 'x86-64-v2', 'x86-64-v3', 'haswell'],
      ['core2', 'nehalem', 'westmere'],
      ['nehalem', 'sandybridge', 'ivybridge', 'haswell', 'broadwell', 'skylake', 'default'],
    ];
    for (const line of lines)
      for (const [i, name] of line.slice(1).entries())
        for (const one of processorOf(line[i]).features)
          expect([name, ...has(name, one)]).toEqual([name, true]);
  });

  it('have what the product was the first to have', () => {
    expect(has('core2', 'ssse3', 'sse4.1')).toEqual([true, false]);
    expect(has('nehalem', 'sse4.2', 'aes')).toEqual([true, false]);
    expect(has('westmere', 'aes', 'avx')).toEqual([true, false]);
    expect(has('sandybridge', 'avx', 'f16c')).toEqual([true, false]);
    expect(has('ivybridge', 'smep', 'avx2')).toEqual([true, false]);
    expect(has('haswell', 'avx2', 'smap')).toEqual([true, false]);
    expect(has('broadwell', 'smap', 'clflushopt')).toEqual([true, false]);
    expect(has('skylake', 'clflushopt', 'sha')).toEqual([true, false]);
  });

  it('by default have all, and a signature of which no erratum is known', () => {
    expect([...defaultProcessor.features]).toEqual(featureNames);
    expect(defaultProcessor.signature).toBe(0x106b1);
  });
});

describe('switches', () => {
  it.each([
    ['haswell,-avx2,+sha', 'haswell,-avx2,+sha'],
    ['Haswell,sha=on,avx2=off', 'haswell,-avx2,+sha'],
    ['haswell,sha_ni,-avx2', 'haswell,-avx2,+sha'],
    ['haswell,+avx2', 'haswell'],
    ['nehalem,+sse4_1,-pni,+sse4-2', 'nehalem'],
    // What needs it goes with it.
    ['haswell,-avx', 'haswell,-fma,-avx,-f16c,-avx2'],
    // What it needs comes with it.
    ['nehalem,+f16c', 'nehalem,+xsave,+avx,+f16c'],
    ['haswell,-avx,+avx2', 'haswell,-fma,-f16c'],
  ])('%s is %s', (text, name) => {
    const processor = processorOf(text);
    expect(processor.name).toBe(name);
    expect(processorOf(name)).toEqual(processor);
  });

  it.each([
    ['', /^no model "": expected one of default, x86-64-v1/],
    ['pentium', /^no model "pentium"/],
    ['toString', /^no model/],
    ['haswell,', /^no feature ""/],
    ['haswell,+avx512f', /^no feature "avx512f"/],
    ['haswell,-', /^no feature "-"/],
    ['haswell,sha=maybe', /^no feature "sha=maybe"/],
    ['haswell,+sha=on', /^no feature/],
    ['haswell,-sse2', /^feature "sse2": every x86-64 processor has it$/],
  ])('%s is refused', (text, message) => {
    expect(() => processorOf(text)).toThrow(RangeError);
    expect(() => processorOf(text)).toThrow(message);
  });
});
