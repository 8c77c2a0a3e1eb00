/** Recordings in files: what is read is what was recorded, as far as the machine that runs from there. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { builtinSubject } from '../check/builtin.ts';
import { OpenSubject, openSubject } from '../check/check-subject.ts';
import { Machine } from '../machine/machine.ts';
import { encodeSnapshot } from '../machine/snapshot-file.ts';
import { isThere, loadRecording, saveRecording } from './recording-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'espfix-recording-'));
afterAll(() => rmSync(folder, { recursive: true }));

const subject = {
  ...builtinSubject('linux', { cpus: 2, only: ({ path, ss }) => path === 'int80' && ss === 'ss16-ldt' }),
  watch: 400_000,
};
const open = openSubject(subject);
const file = join(folder, 'recording');
const saved = saveRecording(file, open.recording);

it('come back as they were', () => {
  const { visits, ...rest } = open.recording;
  const again = loadRecording(saved);
  if (!again) throw new Error('the recording is gone');
  const { visits: visitsAgain, ...restAgain } = again;
  expect(visits.length).toBeGreaterThan(4);
  expect(restAgain).toEqual(rest);
  const summary = ({ begin: _, trigger, ...visit }: (typeof visits)[number]) => ({
    ...visit,
    ...(trigger && { trigger }),
  });
  expect(visitsAgain.map(summary)).toEqual(visits.map(summary));
  for (const [i, { begin }] of visits.entries())
    expect(encodeSnapshot(visitsAgain[i].begin)).toEqual(encodeSnapshot(begin));
});

it('explore to the same on another machine', () => {
  const again = loadRecording(saved);
  if (!again) throw new Error('the recording is gone');
  const machine = Machine.create({ cpus: subject.cpus, memory: subject.memory });
  const other = new OpenSubject({ ...subject, stacks: open.stacks }, machine, again);
  const options = { depth: 1, events: ['nmi', 'db-step'], without: ['kernel-bits'] } as const;
  const last = open.recording.visits.length - 1;
  // Backwards: what a state shares with others must not matter.
  for (const id of [last, 0]) expect(other.exploreVisit(id, options)).toEqual(open.exploreVisit(id, options));
});

it('are not taken for another', () => {
  expect(isThere(saved)).toBe(true);
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(file, bytes);
  expect(isThere(saved)).toBe(false);
  expect(loadRecording(saved)).toBeUndefined();
  rmSync(file);
  expect(loadRecording(saved)).toBeUndefined();
  expect(() => saveRecording(join(folder, 'nowhere', 'file'), open.recording)).toThrow(/no such file/);
});
