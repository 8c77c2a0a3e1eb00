/** The built-in kernels as subjects: everything about them is known. */
import { buildImage, type CaseInfo, type KernelImage, type Slot } from '../kernel/image.ts';
import { percpu, percpuPage, vector } from '../kernel/layout.ts';
import type { GalleryName, ImageName } from '../kernel/variants/gallery/index.ts';
import type { Tasks } from '../kernel/variants/variant.ts';
import { symbolAt } from './check-variant.ts';
import type { EventKind, FaultDetail } from './event.ts';
import { eventKinds } from './event.ts';
import type { AddressRange, Subject } from './subject.ts';
import { declassificationOf } from './taint/index.ts';

export interface BuiltinOptions {
  /** Default 1. */
  readonly cpus?: number;
  /** Moves the kernel's stacks and ministacks; default 1. */
  readonly seed?: number;
  /** Default: each path with each combination of segments, one stack pointer. */
  readonly only?: (c: CaseInfo) => boolean;
  /** Where CPU 0's ministack lies in its page; default: where the variant puts it. */
  readonly slot?: Slot;
  /** Adds the cases that this gallery kernel brings along. */
  readonly casesOf?: GalleryName | readonly GalleryName[];
  /** What tasks do before their cases; default: what the variant says. */
  readonly tasks?: Tasks;
}

const standIn = vector.machineCheckStandIn;
/** Vectors of the kernel's interrupts: the local APIC's timer and IPIs. */
const INTERRUPTS = [vector.timer, vector.ipi];
/** What IRET may raise. */
const IRET_FAULTS: readonly FaultDetail[] = [
  { vector: 13, error: 0 },
  { vector: 12, error: 0 },
  { vector: 11, error: 0x24 },
];
const WATCH = 200_000_000;
const KEPT = ['rcx', 'rdx', 'rsi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'];

/** The next seed that puts every stack elsewhere, and the ministacks where the variant moves them. */
function otherSeed(variant: ImageName, cpus: number, seed: number): number {
  const bases = (from: number) =>
    buildImage(variant, { cpus, seed: from, only: () => false }).stacks.map(({ range }) => range.start);
  const mine = bases(seed);
  for (let next = seed + 1; ; next++) if (bases(next).every((start, i) => start !== mine[i])) return next;
}

/** One stack pointer a combination: paths do not depend on its value. */
export function oneOfEach(): (c: CaseInfo) => boolean {
  const seen = new Set<string>();
  return ({ path, cs, ss, name }) => {
    const key = `${path} ${cs} ${ss} ${name}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  };
}

/** Which of its places a machine check takes is all that their number decides. */
function countersOf({ facts, symbols }: KernelImage, cpus: number): AddressRange[] {
  const area = symbols.get('percpu');
  if (facts === undefined || area === undefined) return [];
  return Array.from({ length: cpus }, (_, cpu) => {
    const start = area + BigInt(cpu * percpuPage.size + percpu.machineChecks);
    return { start, end: start + 8n };
  });
}

/** The subject of a variant, and its image. */
export function builtinSubject(
  variant: ImageName,
  options: BuiltinOptions = {},
): Subject & { readonly kernel: KernelImage } {
  const { cpus = 1, seed = 1, only = oneOfEach(), ...rest } = options;
  const kept: boolean[] = [];
  const kernel = buildImage(variant, {
    cpus,
    seed,
    only(c) {
      const keep = only(c);
      kept.push(keep);
      return keep;
    },
    ...rest,
  });
  const { facts } = kernel;
  /** The same cases of another build: a stack pointer in one may be where that build has its stacks. */
  const again = () => {
    let next = 0;
    return () => kept[next++];
  };
  return {
    kernel,
    name: variant,
    image: kernel.elf,
    cpus,
    memory: 64,
    describe: (address) => symbolAt(address, kernel.symbols),
    symbol: (name) => kernel.symbols.get(name),
    events: eventKinds,
    vectors: INTERRUPTS,
    faultable: (facts?.mayFault ?? []).flatMap((label) => {
      const address = kernel.symbols.get(label);
      return address === undefined ? [] : [{ address, faults: IRET_FAULTS }];
    }),
    // The image's report of its cases over the serial line, what comes before a task has a signal handler,
    // and the double fault that a case asks for.
    leaveOut: [
      'call.report',
      'call.finish',
      'call.waitTurn',
      'call.setSignal',
      'call.setRecovery',
      'double_fault_asked_for',
    ].flatMap((name) => kernel.symbols.get(name) ?? []),
    stacks: kernel.stacks,
    ministacks: (facts?.cpus ?? []).flatMap(({ ministack }, cpu) =>
      ministack ? [{ cpu, ...ministack }] : [],
    ),
    mayDiffer: kernel.counters,
    counters: countersOf(kernel, cpus),
    foreign: false,
    twin: () => builtinSubject(variant, { ...options, only: again(), seed: otherSeed(variant, cpus, seed) }),
    declassify: declassificationOf(kernel),
    work: new Map(
      Object.entries(facts?.work ?? {}).flatMap(([vector, label]) => {
        const address = kernel.symbols.get(label);
        return address === undefined ? [] : [[Number(vector), address]];
      }),
    ),
    // INT 0x92 stands in for the machine check that its task asks for; NMIs it sends itself.
    awaits: new Map<string, EventKind>([
      [`INT 0x${standIn.toString(16)}`, 'mc'],
      ['NMI', 'nmi'],
    ]),
    // A system call has results. Whatever else comes, a signal handler gets these as they were, too.
    keeps: (entry) => (entry.startsWith('SYS') ? [] : KEPT),
    gaveUp: ['oops'].flatMap((name) => kernel.symbols.get(name) ?? []),
    watch: WATCH,
  };
}
