/**
 * The privileged architecture beside Bochs: the same guests print the same lines on both, but for known differences.
 * QEMU's TCG is no oracle here: it checks no limits and has no RF, and is compared by the kernel images alone.
 */
import { describe, expect, it } from 'vitest';
import { Machine } from '../machine/machine.ts';
import { availablePeers } from './index.ts';
import { cases as debug } from './privileged/debug.fixture.ts';
import { cases as descriptors } from './privileged/descriptors.fixture.ts';
import { cases as gatesAndTasks } from './privileged/gates-and-tasks.fixture.ts';
import { knownDifferences } from './privileged/known-differences.fixture.ts';
import { cases as limits } from './privileged/limits.fixture.ts';
import { cases as paging32 } from './privileged/paging-32.fixture.ts';
import { cases as paging64 } from './privileged/paging-64.fixture.ts';
import { cases as realAddress } from './privileged/real-address.fixture.ts';
import { cases as system64 } from './privileged/system-64.fixture.ts';
import { cases as virtual8086 } from './privileged/virtual-8086.fixture.ts';
import { type Case, casesImage, type GuestBits } from './privileged.fixture.ts';

const peer = availablePeers().find(({ name }) => name === 'bochs');
/** In CI a missing peer is a failure; elsewhere its tests are skipped, visibly. */
const required = process.env.CI !== undefined && process.env.CI !== '';

/** What came of each case and turn, by "name, turn n". */
function outcomes(text: string, cases: readonly Case[]): Map<string, string> {
  const lines = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const match = /^([0-9a-f]+) ([0-9a-f]+) ([0-9a-f ]+) $/.exec(line);
    const it = match ? cases[Number.parseInt(match[1], 16)] : undefined;
    if (match && it) lines.set(`${it.name}, turn ${match[2]}`, match[3]);
  }
  return lines;
}

function ours(image: Uint8Array): string {
  const machine = Machine.create({ memory: 64 });
  machine.boot(image);
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  const stop = machine.run({ maxInstructions: 100_000_000 });
  expect(stop, text.slice(-200)).toMatchObject({ reason: 'exit' });
  return text;
}

const guests: [string, GuestBits, readonly Case[]][] = [
  ['gates and tasks', 32, gatesAndTasks],
  ['virtual-8086 mode', 32, virtual8086],
  ['real-address mode', 32, realAddress],
  ['limits', 32, limits],
  ['32-bit and PAE paging', 32, paging32],
  ['system instructions and events in 64-bit mode', 64, system64],
  ['debug exceptions', 64, debug],
  ['4-level paging', 64, paging64],
  ['descriptors in protected mode', 32, descriptors(32, 0xc)],
  ['descriptors of 64-bit code in IA-32e mode', 64, descriptors(64, 0xa)],
  ['descriptors of 32-bit code in IA-32e mode', 64, descriptors(64, 0xc)],
];

describe.each(guests)('%s', (_name, bits, cases) => {
  it('has no two cases of one name', () => {
    expect(cases.map(({ name }) => name).filter((name, i, all) => all.indexOf(name) !== i)).toEqual([]);
  });

  it.skipIf(!required && peer === undefined)(
    'prints the same lines on Bochs',
    async () => {
      if (!peer) throw new Error('bochs is not installed');
      const image = casesImage(bits, cases);
      const mine = outcomes(ours(image), cases);
      expect(mine.size).toBe(cases.reduce((sum, { turns }) => sum + (turns ?? 1), 0));
      const run = await peer.run(image, { until: (line) => line === 'done', timeout: 170 });
      expect(run.ended, run.log).toBe('last-line');
      const theirs = outcomes(run.serial, cases);
      const differing = [...mine].filter(([name, line]) => {
        const other = theirs.get(name);
        return line !== other && !knownDifferences.some(({ cases: known }) => known.test(name));
      });
      expect(differing.map(([name, line]) => ({ name, ours: line, theirs: theirs.get(name) }))).toEqual([]);
    },
    180_000,
  );
});

it('code cached under one base of CS is not run past the limit under another', () => {
  const it = limits.filter(({ name }) => name === 'code limit after a change of base alone');
  const [line] = outcomes(ours(casesImage(32, it)), it).values();
  // #GP(0) at the limit of slot 0, EBX = 1.
  expect(line).toMatch(/^d 0 100 50 10000 208000 0 0 10 10 [0-9a-f]+ 0 0 1 /);
});
