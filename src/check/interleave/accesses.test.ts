/** Accesses are told completely and at the right boundary, and what is kept of them answers as it should. */
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { PageTree } from '../../machine/page-tree.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { hashStates } from '../explore/state-hash.ts';
import { Accesses, AccessLog, devices, Sharing } from './accesses.ts';
import { builtinWindow } from './builtin.ts';
import { Runner } from './runner.ts';

describe('sharing', () => {
  it.each<[string, [cpu: number, write: boolean][], boolean]>([
    ['read by one', [[0, false]], false],
    ['written by one', [[0, true]], false],
    [
      'read and written by one',
      [
        [1, false],
        [1, true],
      ],
      false,
    ],
    [
      'read by two',
      [
        [0, false],
        [1, false],
      ],
      false,
    ],
    [
      'written by one and read by another',
      [
        [0, true],
        [1, false],
      ],
      true,
    ],
    [
      'read by one and written by another',
      [
        [2, false],
        [0, true],
      ],
      true,
    ],
    [
      'written by two',
      [
        [13, true],
        [14, true],
      ],
      true,
    ],
  ])('memory %s', (_, accesses, shared) => {
    const sharing = new Sharing(15);
    const answers = accesses.map(([cpu, write]) => sharing.note(cpu, 5, write));
    expect(answers.at(-1)).toBe(shared);
    expect([sharing.shared, sharing.grew]).toEqual([shared ? 1 : 0, shared]);
  });

  it('devices are always shared', () => {
    const sharing = new Sharing(2);
    expect(sharing.note(1, devices, false)).toBe(true);
    expect(sharing.grew).toBe(false);
  });

  it('there may be 15 processors', () => {
    expect(() => new Sharing(16)).toThrow('at most 15');
  });
});

describe('conflicts', () => {
  it('are between accesses to the same dword of which one writes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(5), fc.boolean()), { maxLength: 70 }),
        fc.tuple(fc.nat(5), fc.boolean()),
        fc.nat(70),
        (accesses, [dword, write], from) => {
          const log = new AccessLog();
          for (const [at, [d, w]] of accesses.entries()) log.add(at, d, w);
          const future = new Accesses();
          log.addTo(future, from);
          const one = new AccessLog();
          one.add(0, dword, write);
          expect(one.conflicts(0, 1, future)).toBe(
            accesses.slice(from).some(([d, w]) => d === dword && (w || write)),
          );
        },
      ),
    );
  });
});

/** Takes every access for one that matters. */
class Everything extends Sharing {
  override note(): boolean {
    return true;
  }
}

describe('a processor that sets ministacks up and returns', () => {
  const { window } = builtinWindow('set-up-at-modify-ldt', 'set-up');
  const { machine, start } = window;
  const runner = new Runner(window, new Everything(2));
  afterAll(() => runner.close());
  const [cpu] = machine.cpus;
  /** The one in which all tables are filled, and one that returns to a 16-bit stack. */
  const LENGTH = 3170;

  it('tells each access at the boundary before its instruction, however far it is run at once', () => {
    const [alone, atOnce] = [new AccessLog(), new AccessLog()];
    machine.restore(start);
    runner.begin(0, alone);
    while (runner.at < LENGTH) {
      const [at, before] = [runner.at, alone.length];
      runner.run(1);
      expect(runner.at).toBe(at + 1);
      for (let i = before; i < alone.length; i++) expect(alone.at(i)).toBe(at);
    }
    machine.restore(start);
    runner.begin(0, atOnce);
    while (runner.at < LENGTH) runner.run(LENGTH - runner.at);
    expect(atOnce.list()).toEqual(alone.list());
    expect(alone.length).toBeGreaterThan(1000);
  });

  it('tells every write', () => {
    machine.restore(start);
    let before = start;
    let changes = 0;
    for (let i = 0; i < LENGTH; i++) {
      const log = new AccessLog();
      runner.begin(0, log);
      runner.run(1);
      const told = new Set(log.list().flatMap(([, address, write]) => (write ? [address] : [])));
      const after = machine.snapshot();
      PageTree.difference(before.pages, after.pages, (page, now) => {
        const was = before.pages.get(page);
        for (let at = 0; at < 4096; at++)
          if ((now?.[at] ?? 0) !== (was?.[at] ?? 0)) {
            changes++;
            expect(told).toContain((page * 4096 + at) & ~3);
          }
      });
      before = after;
    }
    expect(changes).toBeGreaterThan(1000);
  });

  it('does not depend on memory of which it does not tell that it is read', () => {
    const whole = new AccessLog();
    machine.restore(start);
    runner.begin(0, whole);
    while (runner.at < LENGTH) runner.run(LENGTH - runner.at);
    const addresses = [...new Set(whole.list().map(([, address]) => address))].filter(
      (address) => address < machine.configuration.ramBytes,
    );

    /** The state's number after one instruction from `from`, with other bits in a dword meanwhile. */
    const stepped = (from: Snapshot, address: number, log?: AccessLog) => {
      machine.restore(from);
      const bytes = machine.readPhysical(address, 4);
      if (!log)
        machine.writePhysical(
          address,
          bytes.map((byte) => ~byte),
        );
      runner.begin(0, log);
      runner.run(1);
      if (!log) machine.writePhysical(address, bytes);
      const snapshot = machine.snapshot();
      const changed: { page: number; content: Uint8Array }[] = [];
      for (const page of changedPages(from, snapshot))
        changed.push({ page, content: snapshot.pages.get(page) ?? new Uint8Array(4096) });
      return hashStates(machine, [cpu], [snapshot.tlbs[0]], changed, new Map(), () => ({ start: 0, end: 0 }));
    };
    let told = 0;
    machine.restore(start);
    let at = start;
    // Every instruction that is not like one before it: the tables are filled in loops.
    const seen = new Set<bigint>();
    for (let i = 0; i < LENGTH; i++) {
      if (!seen.has(cpu.rip)) {
        seen.add(cpu.rip);
        at = machine.snapshot();
        const log = new AccessLog();
        const expected = stepped(at, 0, log);
        const accessed = new Set(log.list().map(([, address]) => address));
        for (let n = 0; n < 4; n++) {
          const address = addresses[(i * 7919 + n * 104_729) % addresses.length];
          if (!accessed.has(address)) expect(stepped(at, address)).toBe(expected);
        }
        for (const [, address, write] of log.list()) if (!write && stepped(at, address) !== expected) told++;
        machine.restore(at);
      }
      runner.begin(0, undefined);
      runner.run(1);
    }
    // And what it tells of does matter, or the rest would say nothing.
    expect(told).toBeGreaterThan(100);
  });
});

/** Pages whose bytes are not the same. */
function changedPages(from: Snapshot, to: Snapshot): number[] {
  const pages: number[] = [];
  PageTree.difference(from.pages, to.pages, (page, now) => {
    const was = from.pages.get(page);
    for (let i = 0; i < 4096; i++)
      if ((now?.[i] ?? 0) !== (was?.[i] ?? 0)) {
        pages.push(page);
        return;
      }
  });
  return pages;
}
