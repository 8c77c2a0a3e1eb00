/** The built-in variants get the verdicts that they are documented to get, at the cost that they have. */
import { describe, expect, it } from 'vitest';
import { variants } from '../kernel/variants/index.ts';
import { checkVariant, readReport, symbolAt } from './check-variant.ts';

describe.each(variants)('$name', ({ name, verdict, bits }) => {
  const progress: number[][] = [];
  const checked = checkVariant(name, { cpus: 2, onProgress: (...step) => progress.push(step) });
  const good = checked.cases.filter(
    (c) => /^cs(64|32-gdt|32-ldt|16-ldt)$/.test(c.cs) && /^(ss16-ldt|ss32-ldt|flat)$/.test(c.ss),
  );
  const needsEspfix = (c: (typeof good)[number]) => c.ss === 'ss16-ldt' && /^cs(16|32)/.test(c.cs);

  it(`is ${verdict}`, () => {
    expect(checked.verdict).toBe(verdict);
    expect(checked.documented).toBe(verdict);
  });

  it('runs every case, on both processors, and says so as it goes', () => {
    expect(checked.missing).toBe(0);
    expect(checked.ended).toBe('completed');
    expect(new Set(checked.cases.map((c) => c.cpu))).toEqual(new Set([0, 1]));
    expect(progress.at(-1)).toEqual([checked.cases.length, checked.cases.length]);
    expect(progress.map(([done]) => done)).toEqual(progress.map((_, i) => i + 1));
  });

  it('finds user space its own value wherever IRET loads all of ESP', () => {
    const plain = good.filter((c) => !needsEspfix(c) && !c.result.startsWith('oops'));
    expect(plain.length).toBeGreaterThan(100);
    if (verdict !== 'unsafe') expect(plain.filter((c) => !c.ok)).toEqual([]);
  });

  if (verdict === 'leaks')
    it('leaks the kernel stack pointer where IRET loads SP only, and nowhere else', () => {
      expect(new Set(good.filter(needsEspfix).map((c) => c.found))).toEqual(new Set(['kernel']));
      expect(checked.cost).toEqual({ ordinaryReturn: 0, return16: 0, pageTablePages: 0, ministackPages: 0 });
    });

  if (verdict === 'safe')
    it('finds its own value everywhere', () => {
      expect(checked.cases.filter((c) => !c.ok)).toEqual([]);
    });

  if (name === 'linux')
    it('adds two instructions to an ordinary return', () => {
      expect(checked.cost).toEqual({ ordinaryReturn: 2, return16: 22, pageTablePages: 3, ministackPages: 1 });
    });

  if (name === 'prototype')
    it('adds six instructions to every return, as its author said', () => {
      expect(checked.cost).toEqual({ ordinaryReturn: 6, return16: 25, pageTablePages: 3, ministackPages: 1 });
    });

  if (name === 'linux' || name === 'prototype')
    it('has all 65,536 aliases, writable only in the prototype', () => {
      expect(checked.aliases).toEqual(
        [0, 1].map((cpu) => ({ cpu, mapped: 65536, writable: name === 'prototype' ? 65536 : 0, of: 65536 })),
      );
      expect(checked.capacity?.cpus).toBe(2 ** 17);
    });

  if (bits === 64)
    it('answers the first question: 64-bit CS with 16-bit SS needs no espfix', () => {
      const cases = checked.cases.filter((c) => c.name === 'q1-cs64-ss16' && !c.result.startsWith('oops'));
      if (name !== 'espfix32') expect(cases.length).toBeGreaterThan(0);
      expect(cases.filter((c) => c.found !== 'own')).toEqual([]);
    });

  it('answers the second question: 16-bit CS with 32-bit SS needs no espfix', () => {
    const cases = checked.cases.filter((c) => c.name === 'q2-cs16-ss32' && !c.result.startsWith('oops'));
    if (name !== 'espfix32') expect(cases.length).toBeGreaterThan(0);
    expect(cases.filter((c) => c.found !== 'own')).toEqual([]);
  });
});

describe('readReport', () => {
  const header = 'espfix none cpus=1 seed=1 protocol=1';
  const pages = 'pages tables=3 ministacks=1';
  const oops = `oops vector=8 error=00000000 rip=${'0'.repeat(16)} rsp=${'0'.repeat(16)} cr2=`;

  it('keeps what came before a line that the kernel died in, and tells that line', () => {
    const { report, malformed } = readReport(
      `${header}\n${pages}\n${oops}${oops}\nend ok=0 failed=0\n`,
      'none',
    );
    expect(report).toMatchObject({ pages: { tables: 3 }, oopses: [], end: undefined });
    expect(malformed).toContain(oops);
  });

  it.each(['', 'SeaBIOS\n', `${header.replace('protocol=1', 'protocol=2')}\n`])(
    'makes nothing of %j',
    (text) => {
      expect(readReport(text, 'none').report).toBeUndefined();
    },
  );

  it('refuses the report of another variant', () => {
    expect(() => readReport(`${header}\n`, 'linux')).toThrow(/calls itself none/);
  });
});

describe('symbolAt', () => {
  const symbols = new Map([
    ['start', 0x100n],
    ['middle', 0x200n],
  ]);
  it.each([
    [0x50n, '0x50'],
    [0x100n, 'start'],
    [0x1ffn, 'start+0xff'],
    [0x200n, 'middle'],
    [0x210n, 'middle+0x10'],
  ])('%s', (address, text) => {
    expect(symbolAt(address, symbols)).toBe(text);
  });
});
