/** The search beside going through every interleaving one by one, on small programs of two processors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HALTED, RAX, RUNNING } from '../../isa/state.ts';
import { Machine } from '../../machine/machine.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { Sharing } from './accesses.ts';
import { type SearchOptions, search, type Trouble } from './search.ts';
import type { Turns, Window } from './window.ts';

const DATA = 0x3000;
const WORDS = 3;
const CODE = [0x1000, 0x2000];

/** An instruction of a test program, on AX and one of a few words. */
type Op =
  | { readonly op: 'load' | 'store' | 'increment' | 'exchange'; readonly word: number }
  | { readonly op: 'add'; readonly value: number }
  /** Skips the next instruction if AX is the value. */
  | { readonly op: 'skip-if'; readonly value: number }
  /** Takes word 2 as a lock, waiting until it is zero; and gives it back. */
  | { readonly op: 'lock' | 'unlock'; readonly word: number };

/** 16-bit code. */
function bytesOf(op: Op): number[] {
  switch (op.op) {
    case 'add':
      return [0x83, 0xc0, op.value];
    case 'skip-if':
      // CMP AX, value; JE over 4 bytes: see below.
      return [0x83, 0xf8, op.value, 0x74, 4];
    default: {
      const at = DATA + 4 * op.word;
      const address = [at & 0xff, at >> 8];
      switch (op.op) {
        case 'load':
          return [0xa1, ...address];
        case 'store':
          return [0xa3, ...address];
        case 'increment':
          return [0xff, 0x06, ...address];
        case 'exchange':
          return [0x87, 0x06, ...address];
        case 'lock':
          // MOV AX, 1; XCHG [word], AX; TEST AX, AX; JNZ back
          return [0xb8, 1, 0, 0x87, 0x06, ...address, 0x85, 0xc0, 0x75, 0xf5];
        case 'unlock':
          return [0xc7, 0x06, ...address, 0, 0];
      }
    }
  }
}

/** What may be skipped has 4 bytes. */
function assemble(ops: readonly Op[]): number[] {
  const code: number[] = [];
  for (const [i, op] of ops.entries()) {
    const bytes = bytesOf(op);
    const skippable = ops[i - 1]?.op === 'skip-if';
    code.push(...bytes);
    if (skippable) for (let n = bytes.length; n < 4; n++) code.push(0x90);
  }
  // So that a skip at the end lands on HLT.
  return [...code, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4];
}

/** Two processors in real mode, each before its program. */
function windowOf(programs: readonly (readonly Op[])[]): Window {
  const machine = Machine.create({ cpus: 2, memory: 1 });
  for (const [cpu, ops] of programs.entries()) {
    machine.writePhysical(CODE[cpu], Uint8Array.from(assemble(ops)));
    machine.setRegister('cs', 0n, cpu);
    machine.setRegister('cs.base', 0n, cpu);
    machine.setRegister('rip', BigInt(CODE[cpu]), cpu);
    machine.setRegister('rax', 0n, cpu);
    machine.cpus[cpu].activity = RUNNING;
  }
  return {
    title: 'test',
    machine,
    start: machine.snapshot(),
    cpus: [0, 1],
    isEnd: (cpu) => cpu.activity === HALTED,
    stacks: [],
    mayFault: [],
  };
}

/** What programs leave: the words, and each processor's AX. */
function resultOf(machine: Machine): string {
  const words = new Uint32Array(machine.readPhysical(DATA, 4 * WORDS).buffer);
  return [...words, ...machine.cpus.map((cpu) => cpu.gpr[RAX] & 0xffffn)].join(' ');
}

interface Results {
  readonly results: ReadonlySet<string>;
  readonly deadlock: boolean;
}

function reduced(
  window: Window,
  preemptions: number,
  compareAfter = 48,
  preempt: SearchOptions['preempt'] = 'where-it-matters',
): Results & { readonly turns: Turns[]; readonly tried: number } {
  const { machine } = window;
  const results = new Set<string>();
  const turns: Turns[] = [];
  let deadlock = false;
  const { complete, counts } = search(
    window,
    { preemptions, sharing: new Sharing(2), compareAfter, preempt },
    {
      begin: () => {
        results.clear();
        turns.length = 0;
      },
      trouble: ({ kind }: Trouble) => {
        deadlock ||= kind === 'deadlock';
        return true;
      },
      end: (_state, _snapshot, schedule) => {
        results.add(resultOf(machine));
        turns.push(schedule);
      },
    },
  );
  expect(complete).toBe(true);
  return { results, deadlock, turns, tried: counts.turns };
}

/**
 * Every interleaving with so many preemptions, instruction by instruction: a switch is free only from a processor that has
 * halted. Equal states with equally many preemptions have equal futures. For programs that do not wait, or without bound.
 */
function everyInterleaving(window: Window, preemptions: number): Results & { readonly states: number } {
  const { machine, start } = window;
  const results = new Set<string>();
  const seen = new Set<string>();
  const able = () => window.cpus.filter((cpu) => machine.cpus[cpu].activity !== HALTED);
  const visit = (from: Snapshot, last: number, used: number) => {
    machine.restore(from);
    const bounded = Number.isFinite(preemptions);
    const state = [
      resultOf(machine),
      ...machine.cpus.map((cpu) => [cpu.rip, cpu.activity, machine.registers(cpu.index).rflags]),
      bounded ? `${last} ${used}` : '',
    ].join(' ');
    if (seen.has(state)) return;
    seen.add(state);
    const cpus = able();
    if (cpus.length === 0) results.add(resultOf(machine));
    for (const cpu of cpus) {
      const cost = last >= 0 && cpu !== last && cpus.includes(last) ? 1 : 0;
      if (used + cost > preemptions) continue;
      machine.restore(from);
      machine.runAlone(cpu, 1);
      visit(machine.snapshot(), cpu, used + cost);
    }
  };
  visit(start, -1, 0);
  return { results, deadlock: results.size === 0, states: seen.size };
}

const word = fc.nat(1);
const onMemory = fc.record({
  op: fc.constantFrom<'load' | 'store' | 'increment' | 'exchange'>('load', 'store', 'increment', 'exchange'),
  word,
});
const add = fc.record({ op: fc.constant<'add'>('add'), value: fc.constantFrom(1, 16) });
const skip = fc.record({ op: fc.constant<'skip-if'>('skip-if'), value: fc.constantFrom(0, 1, 16) });
const some = fc.array(
  fc.oneof({ weight: 5, arbitrary: onMemory }, { weight: 2, arbitrary: add }, { weight: 3, arbitrary: skip }),
  { minLength: 2, maxLength: 5 },
);
/** Begins with what may change places with the other's, so that different schedules come to equal states. */
const straight: fc.Arbitrary<Op[]> = fc
  .tuple(fc.nat(2), some)
  .map(([increments, rest]) => [...Array(increments).fill({ op: 'increment', word: 0 }), ...rest]);
/** How often states are compared. */
const often = fc.constantFrom(1, 2, 48);
/** Some work, and more of it under a lock. */
const locking: fc.Arbitrary<Op[]> = fc
  .tuple(fc.array(onMemory, { maxLength: 2 }), fc.array(fc.oneof(onMemory, add), { maxLength: 4 }))
  .map(([before, within]) => [...before, { op: 'lock', word: 2 }, ...within, { op: 'unlock', word: 2 }]);

describe('the search reaches every end that some interleaving reaches', () => {
  it('in random programs, by the number of preemptions', () => {
    let different = 0;
    let fewer = 0;
    fc.assert(
      fc.property(
        straight,
        straight,
        fc.integer({ min: 0, max: 3 }),
        often,
        (a, b, preemptions, compareAfter) => {
          const window = windowOf([a, b]);
          const all = everyInterleaving(window, preemptions);
          const found = reduced(window, preemptions, compareAfter);
          expect([...found.results].sort()).toEqual([...all.results].sort());
          if (all.results.size > 1) different++;
          if (found.tried < all.states) fewer++;
        },
      ),
      { numRuns: 120 },
    );
    // Programs whose ends depend on the schedule were among them, and not all schedules were tried.
    expect(different).toBeGreaterThan(10);
    expect(fewer).toBeGreaterThan(50);
  });

  it('in random programs in which one waits for the other', () => {
    let different = 0;
    fc.assert(
      fc.property(locking, locking, often, (a, b, compareAfter) => {
        const window = windowOf([a, b]);
        const all = everyInterleaving(window, Number.POSITIVE_INFINITY);
        const found = reduced(window, 8, compareAfter);
        expect([...found.results].sort()).toEqual([...all.results].sort());
        expect(found.deadlock).toBe(false);
        if (all.results.size > 1) different++;
      }),
      { numRuns: 40 },
    );
    expect(different).toBeGreaterThan(2);
  });
});

describe('known programs', () => {
  const load = (n: number): Op => ({ op: 'load', word: n });
  const store = (n: number): Op => ({ op: 'store', word: n });
  const plus: Op = { op: 'add', value: 1 };
  const lock = (n: number): Op => ({ op: 'lock', word: n });
  const unlock = (n: number): Op => ({ op: 'unlock', word: n });

  it.each<[number, string[]]>([
    [0, ['2 0 0 1 2', '2 0 0 2 1']],
    [1, ['1 0 0 1 1', '2 0 0 1 2', '2 0 0 2 1']],
  ])(
    'an update that is not atomic is lost with one preemption, and not with %i fewer',
    (preemptions, ends) => {
      const window = windowOf([
        [load(0), plus, store(0)],
        [load(0), plus, store(0)],
      ]);
      expect([...reduced(window, preemptions).results].sort()).toEqual(ends);
    },
  );

  it('what a preemption makes the other do may make an earlier one matter', () => {
    // CPU 1 touches word 0 only if it comes before CPU 0 has written word 1.
    const window = windowOf([
      [load(2), { op: 'add', value: 16 }, store(0), store(1)],
      [{ op: 'increment', word: 2 }, load(1), { op: 'skip-if', value: 16 }, { op: 'increment', word: 0 }],
    ]);
    const { results } = reduced(window, 1);
    expect(results).toContain('16 16 1 16 0');
    expect(results).toEqual(everyInterleaving(window, 1).results);
  });

  it('processors that share nothing are not preempted', () => {
    const window = windowOf([
      [load(0), plus, store(0)],
      [load(1), plus, store(1)],
    ]);
    const { results, tried } = reduced(window, 3);
    expect(results.size).toBe(1);
    // One turn each, in either order.
    expect(tried).toBe(4);
  });

  it.each<[string, number, boolean]>([
    ['in one order', 0, false],
    ['in one order', 3, false],
    ['in either order', 0, false],
    ['in either order', 1, true],
  ])('two locks taken %s, %i preemptions: deadlock %s', (order, preemptions, deadlock) => {
    const [a, b] = order === 'in one order' ? [0, 1] : [1, 0];
    const window = windowOf([
      [lock(0), lock(1), unlock(1), unlock(0)],
      [lock(a), lock(b), unlock(b), unlock(a)],
    ]);
    expect(reduced(window, preemptions).deadlock).toBe(deadlock);
  });

  it('a lock that is not given back stops the other', () => {
    expect(reduced(windowOf([[lock(0)], [lock(0), unlock(0)]]), 0).deadlock).toBe(true);
  });

  it('a schedule that was found leads to the same end again', () => {
    const window = windowOf([
      [load(0), plus, store(0), load(1), store(2)],
      [load(0), plus, store(0), load(2), store(1)],
    ]);
    const { machine, start } = window;
    const { turns, results } = reduced(window, 2);
    const again = turns.map((schedule) => {
      machine.restore(start);
      for (const { cpu, instructions } of schedule) machine.runAlone(cpu, instructions);
      return resultOf(machine);
    });
    expect(new Set(again)).toEqual(results);
  });

  it('a limit on turns makes it incomplete', () => {
    const window = windowOf([
      [load(0), store(1)],
      [load(1), store(0)],
    ]);
    const none = { trouble: () => true, end: () => {} };
    const sharing = new Sharing(2);
    expect(search(window, { preemptions: 2, sharing, most: 3 }, none).complete).toBe(false);
    expect(search(window, { preemptions: 2, sharing, stop: () => true }, none).complete).toBe(false);
    expect(search(window, { preemptions: 2, sharing }, none).complete).toBe(true);
  });
});
