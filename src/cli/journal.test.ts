/** Journals: what is written comes back, whatever a killed process left, and nothing else is taken for one. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { decodeData, encodeData } from './data-codec.ts';
import { UserError } from './failure.ts';
import { Journal } from './journal.ts';

const folder = mkdtempSync(join(tmpdir(), 'espfix-journal-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
const KEY = { image: 'abc', depth: '2' };

function written(...results: [string, unknown][]): string {
  const file = join(folder, `${files++}.journal`);
  const journal = Journal.create(file, KEY);
  for (const [task, result] of results) journal.add(task, result);
  journal.close();
  return file;
}

function resumed(file: string, key: Record<string, string> = KEY): Map<string, unknown> {
  const journal = Journal.resume(file, key);
  journal.close();
  return journal.results;
}

const RESULTS: [string, unknown][] = [
  ['0/1', { findings: [{ rip: 0xffff_ffff_8000_0000n }], text: 'ä\n' }],
  ['0/2', { findings: [] }],
];

describe('a journal', () => {
  it('gives back what was kept, and takes more', () => {
    const file = written(...RESULTS);
    expect([...resumed(file)]).toEqual(RESULTS);
    const journal = Journal.resume(file, KEY);
    journal.add('0/3', 3);
    journal.close();
    expect([...resumed(file)]).toEqual([...RESULTS, ['0/3', 3]]);
  });

  it('cut anywhere gives back the whole lines, and goes on after them', () => {
    const whole = readFileSync(written(...RESULTS));
    const lines = whole.toString('utf8').split('\n');
    const head = Buffer.byteLength(`${lines[0]}\n`);
    const first = head + Buffer.byteLength(`${lines[1]}\n`);
    for (let size = head; size <= whole.length; size++) {
      const file = join(folder, 'cut.journal');
      writeFileSync(file, whole);
      truncateSync(file, size);
      const kept = size === whole.length ? 2 : size >= first ? 1 : 0;
      const journal = Journal.resume(file, KEY);
      expect([...journal.results]).toEqual(RESULTS.slice(0, kept));
      journal.add('new', 1);
      journal.close();
      expect([...resumed(file).keys()]).toEqual([...RESULTS.slice(0, kept).map(([task]) => task), 'new']);
    }
  });

  it.each<[string, (file: string) => void, Record<string, string>, RegExp]>([
    ['of another image', () => {}, { ...KEY, image: 'def' }, /another check: its image is abc, not def$/],
    ['of other options', () => {}, { ...KEY, depth: '1' }, /another check: its depth is 2, not 1$/],
    ['with an option less', () => {}, { image: 'abc' }, /its depth is 2, not given$/],
    ['damaged in the middle', (f) => appendFileSync(f, '{"task":\n{}\n'), KEY, /line 4 is damaged/],
    ['without a result', (f) => appendFileSync(f, '{}\n'), KEY, /line 4 is damaged, expected a result/],
    ['that is none', (f) => writeFileSync(f, '{}\n'), KEY, /expected a journal/],
    ['that is empty', (f) => writeFileSync(f, ''), KEY, /expected a journal/],
    [
      'of another format',
      (f) => writeFileSync(f, '{"format":"espfix-journal","version":2}\n'),
      KEY,
      /format 2, expected 1/,
    ],
    ['that is not there', (f) => rmSync(f), KEY, /no such file/],
  ])('%s is refused in one line', (_name, spoil, key, line) => {
    const file = written(...RESULTS);
    spoil(file);
    expect(() => resumed(file, key)).toThrow(UserError);
    expect(() => resumed(file, key)).toThrow(line);
  });

  it('does not replace a file', () => {
    const file = written();
    expect(() => Journal.create(file, KEY)).toThrow(/the file exists; --resume/);
  });
});

it('data comes back as it was', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.bigInt(), (data, n) => {
      expect(decodeData(encodeData({ data, n }))).toEqual({ data: JSON.parse(JSON.stringify(data)), n });
    }),
  );
});
