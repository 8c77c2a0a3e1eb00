/**
 * Runs known by their footprint: which runs have one, that states which fulfil it do go the same way, and that an exploration that uses
 * them says what one says that runs everything.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { readFlags, STATUS_FLAGS, writeFlags } from '../../isa/flags.ts';
import { RAX, RCX, RSP } from '../../isa/state.ts';
import { FlowCache } from './flow-cache.ts';
import { type KnownRun, KnownRuns } from './known-runs.ts';
import { run, visitOf } from './visit.fixture.ts';

const NMI = { kind: 'nmi', at: 0 } as const;
type At = ReturnType<typeof visitOf>;

/** What a run after an event depends on that strikes where the processor stands; undefined if it has no footprint. */
function learn(
  { experiment }: At,
  event: Parameters<At['experiment']['learnRun']>[1],
): { back: boolean; known: KnownRun | undefined } {
  const from = experiment.snapshot();
  const again = () => experiment.strike(from, event);
  again();
  const start = experiment.at;
  const back = experiment.runBack(from, event.kind, again) === 'back';
  const known = back
    ? experiment.learnRun(from, event, undefined, experiment.at - start, new FlowCache())
    : undefined;
  experiment.restore(from);
  return { back, known };
}

describe('a handler', () => {
  let at: At;
  let handler: bigint;
  beforeAll(() => {
    at = visitOf('linux');
    const { experiment } = at;
    const inKernel = experiment.baseline.boundaries[experiment.baseline.entry.at + 8];
    experiment.strike(inKernel.snapshot, NMI);
    experiment.step();
    handler = experiment.cpu.rip;
  });

  /** Code in the place of the NMI's handler; it comes back to where the NMI struck, with RAX = RCX. */
  it.each([
    { text: 'iretq', bytes: '48cf', footprint: true },
    { text: 'push rax; push rcx; pop rcx; pop rax', bytes: '50515958', footprint: true },
    { text: 'registers are exchanged that happen to be equal', bytes: '50515859', footprint: false },
    { text: 'push r8; mov r8, rax; mov rax, r8; pop r8', bytes: '41504989c04c89c04158', footprint: true },
    { text: 'add rax, 1; sub rax, 1', bytes: '4883c0014883e801', footprint: false },
    { text: 'mov eax, eax, of what has 32 bits', bytes: '89c0', footprint: false },
    { text: 'push rax; mov al, 1; pop rax', bytes: '50b00158', footprint: false },
    { text: 'push rax; mov rax, 5; pop rax', bytes: '5048c7c00500000058', footprint: true },
    { text: 'an address is made of RAX', bytes: '51488d480159', footprint: false },
    { text: 'push rax; push rdx; rdtsc; pop rdx; pop rax', bytes: '50520f315a58', footprint: false },
    { text: 'cmp [rip of the frame], 0; je', bytes: '48833c24007400', footprint: true, comparisons: 1 },
    { text: 'cmp [rip of the frame], 0; js', bytes: '48833c24007800', footprint: false },
    { text: 'cmp rcx, 7; jb; ja', bytes: '4883f90772007700', footprint: true, comparisons: 2 },
    { text: 'cmp rcx, rax; je', bytes: '4839c17400', footprint: false },
    { text: 'cmp rcx, 7; sete [rsp-8]', bytes: '4883f9070f944424f8', footprint: false },
    { text: 'jz, by the flags of what was interrupted', bytes: '7400', footprint: false },
    { text: 'test byte [cs of the frame], 3; jz', bytes: 'f6442408037400', footprint: true, comparisons: 0 },
    { text: 'or dword [rflags of the frame], RF', bytes: '814c241000000100', footprint: true },
    { text: 'the frame has another CF for a while', bytes: '83742410018374241001', footprint: false },
    { text: 'the frame has another RIP for a while', bytes: '48ff042448ff0c24', footprint: false },
    { text: 'push rax; push [rsp]; pop rax; pop rax', bytes: '50ff34245858', footprint: false },
  ])('$text', ({ bytes, footprint, comparisons }) => {
    const { experiment } = at;
    const inKernel = experiment.baseline.boundaries[experiment.baseline.entry.at + 8];
    experiment.restore(inKernel.snapshot);
    experiment.cpu.gpr[RAX] = 5n;
    experiment.cpu.gpr[RCX] = 5n;
    experiment.machine.writeMemory(handler, Buffer.from(`${bytes}48cf`, 'hex'));
    const { back, known } = learn(at, NMI);
    expect(back).toBe(true);
    expect(known !== undefined).toBe(footprint);
    if (comparisons !== undefined) expect(known?.comparisons.length).toBe(comparisons);
  });
});

/** Kinds of events that are learnt. */
const EVENTS = ['nmi', 'mc', 'db-code', 'db-data', 'db-step'] as const;
const PAGE = 4096;

it('states that fulfil a footprint come back, whatever else they are', () => {
  const at = visitOf('linux');
  const { experiment } = at;
  const { machine, cpu, baseline } = experiment;
  const boundaries = baseline.boundaries.filter((each) => each.cpl === 0);
  const footprints = EVENTS.map((kind) =>
    boundaries.flatMap(({ snapshot }) => {
      experiment.restore(snapshot);
      const { context } = experiment.recall();
      const { known } = learn(at, { kind, at: 0 });
      return known ? [{ context, known }] : [];
    }),
  );
  for (const [i, kind] of EVENTS.entries()) expect(footprints[i].length, kind).toBeGreaterThan(10);
  const counts = { tried: 0, fulfilled: 0, elsewhere: 0 };
  fc.assert(
    fc.property(
      fc.nat({ max: EVENTS.length - 1 }),
      fc.nat({ max: boundaries.length - 1 }),
      fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 16, maxLength: 16 }),
      fc.bigInt({ min: 0n, max: STATUS_FLAGS }),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: PAGE - 1 }), fc.integer({ min: 1, max: 255 })), {
        maxLength: 4,
      }),
      (event, boundary, registers, flags, changes) => {
        experiment.restore(boundaries[boundary].snapshot);
        for (const [i, value] of registers.entries()) if (i !== RSP) cpu.gpr[i] = value;
        writeFlags(cpu, (readFlags(cpu) & ~STATUS_FLAGS) | (flags & STATUS_FLAGS));
        const { context } = experiment.recall();
        const alike = footprints[event].filter((each) => each.context === context);
        counts.tried++;
        // Bytes of the pages that it depends on.
        const [one] = alike;
        const pages = one ? [...one.known.conditions.pages.keys()] : [];
        for (const [page, offset, flip] of pages.length > 0 ? changes : []) {
          const address = pages[page % pages.length] * PAGE + offset;
          const [byte] = machine.readPhysical(address, 1);
          machine.writePhysical(address, Uint8Array.of(byte ^ flip));
        }
        const found = alike.find(({ known }) => experiment.recall().repeats(known));
        if (!found) return;
        counts.fulfilled++;
        // Translations are to come from the tables as they are.
        cpu.tlb.invalidateContext(-1, true);
        const from = experiment.snapshot();
        const last = { kind: EVENTS[event], at: 0 };
        const again = () => experiment.strike(from, last);
        again();
        expect(experiment.runBack(from, last.kind, again)).toBe('back');
      },
    ),
    { numRuns: 600 },
  );
  expect(counts.fulfilled).toBeGreaterThan(counts.tried / 4);
});

describe('an exploration that knows says what one says that runs everything', () => {
  it.each([
    ['linux', 'ss16-ldt'],
    ['swapgs-by-cs-nmi', 'flat'],
    ['nmi-without-ist', 'flat'],
  ] as const)('%s, %s', (name, ss) => {
    const { experiment, subject } = visitOf(name, ss);
    const options = {
      depth: 2,
      events: subject.events,
      vectors: subject.vectors,
      range: [20, 28] as const,
    };
    const knowing = run(experiment, options);
    const running = run(experiment, { ...options, most: Number.POSITIVE_INFINITY });
    expect(running.counts.known).toBe(0);
    expect(knowing.counts.known).toBeGreaterThan(knowing.counts.experiments / 4);
    // One that found enough stops, having settled more or less.
    if (running.complete) expect({ ...knowing.counts, known: 0 }).toEqual(running.counts);
    expect(knowing.coverage).toEqual(running.coverage);
    expect(knowing.found).toEqual(running.found);
  });
});

describe('what is known', () => {
  const some = {} as KnownRun;

  it('is learnt of a run that was met some times', () => {
    const runs = new KnownRuns();
    const met = [1, 2, 3, 4].map(() => runs.met('nmi', 7));
    expect(met).toEqual([false, false, false, true]);
    runs.learn('nmi', 7, some);
    expect(runs.find(7)?.get('nmi')?.runs).toEqual([some]);
    expect(runs.find(7)?.get('mc')).toBeUndefined();
    expect(runs.find(8)).toBeUndefined();
  });

  it('is not asked for again where there was nothing to learn', () => {
    const runs = new KnownRuns();
    for (let i = 0; i < 4; i++) runs.met('nmi', 7);
    runs.learn('nmi', 7, undefined);
    expect(Array.from({ length: 20 }, () => runs.met('nmi', 7))).not.toContain(true);
  });

  it('outlasts contexts of which nothing is known', () => {
    const runs = new KnownRuns();
    for (const context of [1, 1, 1, 1, 2, 2, 2]) runs.met('nmi', context);
    runs.learn('nmi', 1, some);
    for (let context = 3; context < 200_003; context++) runs.met('nmi', context);
    expect(runs.find(1)?.get('nmi')?.runs).toEqual([some]);
    expect(runs.met('nmi', 2)).toBe(false);
  });
});
