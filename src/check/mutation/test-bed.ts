/**
 * The sound `linux` kernel, opened once, on which one mutant after the other is tried.
 *
 * A mutant has two ways to be caught. It runs the image's cases, from power-on, and the image's own report must be the sound
 * kernel's. Then each of the sound kernel's visits is explored with the mutant's bytes in place from its first user
 * instruction on: every event at every boundary, taint, and a second world with the same mutant.
 *
 * Visits, and events in them, in whose runs the sound kernel neither executes nor reads what the mutant changes are left out:
 * they are the same with the mutant.
 */
import { RSP } from '../../isa/state.ts';
import { buildImage } from '../../kernel/image.ts';
import { linux } from '../../kernel/variants/linux.ts';
import { Machine } from '../../machine/machine.ts';
import { builtinSubject } from '../builtin.ts';
import { OpenSubject, openSubject } from '../check-subject.ts';
import { describeEvent, type EventKind } from '../event.ts';
import type { Visit } from '../explore/visit.ts';
import type { PropertyName } from '../finding.ts';
import { Disagreement } from '../properties/kernel-bits.ts';
import { mutantsOf } from './all-mutants.ts';
import { cases, casesOf } from './cases.ts';
import { type Coverage, type CoverageData, coverageOf, readCoverage, type Watched } from './coverage.ts';
import type { Mutant } from './mutant.ts';

/** With how many events, at least, a visit executes or reads what was changed; `set-up`: none does. */
export type Reached = 'baseline' | 'depth 1' | 'depth 2' | 'depth 3' | 'set-up';

/** What became of a mutant. */
export type Verdict =
  | {
      readonly caught: true;
      /** The image's own report of its cases, or the property that does not hold. */
      readonly by: 'report' | PropertyName;
      readonly what: string;
      /** Events in the schedule that shows it. */
      readonly depth: number;
      /** The schedule's events, in words. */
      readonly events: readonly string[];
    }
  | {
      readonly caught: false;
      readonly reached: Reached;
      /** Experiments that did not tell it from the sound kernel. */
      readonly experiments: number;
    };

/** Code whose business is events in the handlers of events; the rest gets schedules of one event. */
const aboutNesting =
  /^(IST of |percpu\.|paranoid_entry|paranoid_entry_from_user|paranoid_exit|return_without_iret|leave_machine_check_stack|handle_machine_check|end_machine_check|handle_event|return_to_user_end)\b/;
/** Code that depends on where ministacks are. */
const usesMinistack = /^(return_to_ldt|on_ministack|iretq\.espfix|handle_double_fault)\b/;
/** Visits, the shortest first, in which a mutant is tried that these visits come to only with events. */
const MOST_BY_EVENTS = 14;
/** Instructions without a new line of the report after which the kernel counts as hung. */
const PATIENCE = 24_000_000;
const SLICE = 1_000_000;
/** Deliveries after which it does: many times those of the sound kernel. */
const MOST_DELIVERIES = 20_000;
/** Instructions of a visit that does not come back. */
const LONGEST = 20_000;

interface World {
  readonly open: OpenSubject;
  readonly machine: Machine;
  readonly mutants: ReadonlyMap<string, Mutant>;
}

function openWorld(subject: ReturnType<typeof builtinSubject>): World {
  const machine = Machine.create({ cpus: subject.cpus, memory: subject.memory });
  const { recording } = openSubject(subject, undefined, machine);
  const read = (address: number, size: number) => machine.readPhysical(address, size);
  // Set-up is done in any visit.
  machine.restore(recording.visits[0].begin);
  const mutants = new Map(mutantsOf(subject.kernel, read).map((mutant) => [mutant.key, mutant]));
  return { open: new OpenSubject(subject, machine, recording), machine, mutants };
}

/** Forgets what the processor has cached of the page tables. */
function flush(machine: Machine): void {
  for (const cpu of machine.cpus) cpu.tlb.invalidateContext(-1, true);
}

/** A machine that runs the cases of an image, and what the sound kernel reports of them. */
interface Reporting {
  readonly machine: Machine;
  readonly image: Uint8Array;
  readonly sound: string;
}

export class TestBed {
  readonly #subject = builtinSubject('linux', { only: cases(), casesOf });
  readonly #world = openWorld(this.#subject);
  readonly #other: World;
  readonly #coverage: readonly Coverage[];
  readonly #alone: Reporting;
  /** Two processors, for set-up code; made when it is wanted. */
  #pairs: readonly ReturnType<typeof twoProcessors>[] | undefined;

  /**
   * @param known the coverage as another test bed gave it
   * @param some numbers of the only visits to explore; default: all
   */
  constructor(known?: CoverageData, some?: readonly number[]) {
    const { twin } = this.#subject;
    this.#other = openWorld((twin as () => ReturnType<typeof builtinSubject>)());
    this.#alone = reporting(this.#subject.image, 1);
    const { machine, open } = this.#world;
    this.#coverage = known
      ? readCoverage(known)
      : coverageOf(machine, open, this.#watched(), (visit) => this.#begin(machine, visit, undefined), some);
  }

  get mutants(): readonly Mutant[] {
    return [...this.#world.mutants.values()];
  }

  get visits(): readonly Visit[] {
    return this.#world.open.recording.visits;
  }

  get coverage(): CoverageData {
    return this.#coverage.map(({ visit, deep, by }) => ({
      visit,
      deep,
      by: [...by].map(([kind, places]) => [kind, [...places]] as const),
    }));
  }

  /** Mutants of what the processor reads by itself are watched by their addresses. */
  #watched(): Watched {
    const granules = new Set<number>();
    for (const { group, address } of this.mutants) if (group !== 'code') granules.add(address >> 3);
    return granules;
  }

  /** Tries the mutant of that key. Throws RangeError if there is none. */
  try(key: string): Verdict {
    const mutant = this.#world.mutants.get(key);
    if (!mutant) throw new RangeError(`no mutant "${key}"`);
    const failed = (what: string): Verdict => ({ caught: true, by: 'report', what, depth: 0, events: [] });
    const report = runCases(this.#alone, mutant);
    if ('failed' in report) return failed(report.failed);
    const verdict = this.#exploreSafely(mutant);
    if (verdict.caught || mutant.group !== 'code') return verdict;
    if (verdict.reached !== 'set-up' && !usesMinistack.test(key)) return verdict;
    // What is done once for each processor shows where there are two, with the last ministack of a page and the first, other
    // ones than alone; and both where the tables of ministacks begin and further up.
    this.#pairs ??= [0n, 1n].map(twoProcessors);
    for (const { reporting, mutants } of this.#pairs) {
      const twin = mutants.get(key);
      const both = twin && runCases(reporting, twin);
      if (both && 'failed' in both) return failed(`with two processors, ${both.failed}`);
    }
    return verdict;
  }

  #exploreSafely(mutant: Mutant): Verdict {
    try {
      return this.#explore(mutant, this.#other.mutants.get(mutant.key));
    } catch (error) {
      if (!(error instanceof Disagreement)) throw error;
      // The worlds' visits are known of the sound kernel: the mutant may go different ways in them.
      return this.#explore(mutant, undefined);
    }
  }

  /** @param twin the mutant of the other world, to be compared with */
  #explore(mutant: Mutant, twin: Mutant | undefined): Verdict {
    let experiments = 0;
    let reached: Reached = 'set-up';
    let byEvents = 0;
    const nests = mutant.group === 'idt' || aboutNesting.test(mutant.key);
    for (const coverage of this.#coverage) {
      const kinds = [...coverage.by].filter(([, places]) => touches(places, mutant)).map(([kind]) => kind);
      if (kinds.length === 0) continue;
      const always = kinds.includes('baseline');
      const { deep } = coverage;
      const depth = deep?.depth ?? 1;
      if (deep && !nests) continue;
      if (!always && !deep && byEvents++ >= MOST_BY_EVENTS) continue;
      if (always) reached = 'baseline';
      else if (reached === 'set-up') reached = `depth ${depth}` as Reached;
      const { id } = this.visits[coverage.visit];
      const other = twin && this.#comparable(id) ? this.#patched(this.#other, twin, id) : undefined;
      const patched = this.#patched(this.#world, mutant, id, other);
      if (patched === undefined)
        return { caught: true, by: 'progress', what: 'a visit does not come back', depth: 0, events: [] };
      const { findings, report } = patched.exploreVisit(id, {
        depth,
        first: true,
        ...(deep
          ? {
              events: deep.events.filter((kind) => kind !== 'irq' || mutant.group === 'idt'),
              range: deep.range,
            }
          : !always && { events: kinds as EventKind[] }),
        ...((!always || deep) && { without: ['kernel-bits'] }),
      });
      const [finding] = findings;
      if (finding)
        return {
          caught: true,
          by: finding.property,
          what: finding.what,
          depth: finding.schedule.length,
          events: finding.schedule.map(describeEvent),
        };
      if (report.skipped !== undefined)
        return { caught: true, by: 'progress', what: 'a visit does not come back', depth: 0, events: [] };
      experiments += report.experiments;
    }
    // Rights to a page show in any visit, whether it touches the page or not.
    if (mutant.group === 'pages') {
      const { id } = this.visits[this.#coverage[0]?.visit ?? 0];
      const [finding] = this.#patched(this.#world, mutant, id)?.exploreVisit(id, { depth: 0 }).findings ?? [];
      if (finding) return { caught: true, by: finding.property, what: finding.what, depth: 0, events: [] };
    }
    return { caught: false, reached, experiments };
  }

  /** User mode begins the visit alike in both worlds; in a few it has a stack pointer like the kernel's. */
  #comparable(id: number): boolean {
    const [a, b] = [this.#world, this.#other].map(({ machine, open }) => {
      const { begin, cpu } = open.recording.visits[id];
      machine.restore(begin);
      return machine.cpus[cpu].gpr[RSP];
    });
    return a === b;
  }

  /** The open subject with a mutant's bytes in place when visit `id` begins; undefined if that does not come back. */
  #patched(
    { open, machine }: World,
    mutant: Mutant,
    id: number,
    twin?: OpenSubject,
  ): OpenSubject | undefined {
    const { recording, subject } = open;
    const visits = recording.visits.slice();
    visits[id] = this.#begin(machine, visits[id], mutant);
    if (!returns(machine, visits[id])) return undefined;
    const { twin: _, ...alone } = subject;
    return new OpenSubject({ ...alone, stacks: open.stacks }, machine, { ...recording, visits }, twin);
  }

  #begin(machine: Machine, visit: Visit, mutant: Mutant | undefined): Visit {
    machine.restore(visit.begin);
    if (mutant) machine.writePhysical(mutant.address, mutant.bytes);
    flush(machine);
    return { ...visit, begin: machine.snapshot() };
  }
}

function reporting(image: Uint8Array, cpus: number): Reporting {
  const machine = Machine.create({ cpus, memory: 64 });
  const report = runCases({ machine, image, sound: '' }, undefined);
  if ('failed' in report) throw new Error(`the sound kernel fails its cases: ${report.failed}`);
  return { machine, image, sound: report.text };
}

/** @param half bit 38 of the ministacks' addresses; bits 37:32 are zero: the first entries of their tables, or of the upper half */
function twoProcessors(half: bigint) {
  let seed = 1;
  while (((linux.ministack(0, { cpus: 2, seed, slot: 0 }) >> 32n) & 0x7fn) !== half << 6n) seed++;
  const kernel = buildImage('linux', { cpus: 2, seed, only: cases(), slot: 'last' });
  const result = reporting(kernel.elf, 2);
  const { machine } = result;
  machine.boot(kernel.elf);
  const mutants = mutantsOf(kernel, (address, size) => machine.readPhysical(address, size));
  return { reporting: result, mutants: new Map(mutants.map((mutant) => [mutant.key, mutant])) };
}

/** Runs an image's cases from power-on. @returns what the image says, or what is wrong with that */
function runCases(
  { machine, image, sound }: Reporting,
  mutant: Mutant | undefined,
): { readonly text: string } | { readonly failed: string } {
  machine.boot(image);
  let text = '';
  let failed: string | undefined;
  let lines = 0;
  let line = '';
  let deliveries = 0;
  machine.serial.onOutput = (byte) => {
    line += String.fromCharCode(byte);
    if (byte !== 10) return;
    lines++;
    if (line.startsWith('oops')) failed ??= 'an oops';
    else if (line.startsWith('case') && !line.includes(' ok=yes '))
      failed ??= 'a case is not as it should be';
    text += line;
    line = '';
  };
  const off = [
    machine.on('deliver', () => {
      deliveries++;
      if (deliveries > MOST_DELIVERIES) machine.stop();
      return false;
    }),
  ];
  try {
    if (mutant && !mutant.late) machine.writePhysical(mutant.address, mutant.bytes);
    if (mutant?.late) {
      const user = machine.on('privilege-change', () => machine.stop());
      machine.run({ maxInstructions: PATIENCE });
      user();
      machine.writePhysical(mutant.address, mutant.bytes);
      flush(machine);
    }
    for (let quiet = 0, seen = 0; quiet < PATIENCE; quiet += SLICE) {
      const stop = machine.run({ maxInstructions: SLICE, until: () => failed !== undefined });
      if (failed !== undefined) return { failed };
      if (stop.reason === 'exit')
        return mutant && text !== sound ? { failed: 'the report differs' } : { text };
      if (stop.reason === 'hook') return { failed: 'a storm of exceptions' };
      if (stop.reason !== 'limit' && stop.reason !== 'until')
        return { failed: stop.reason.replace('-', ' ') };
      if (lines > seen) {
        seen = lines;
        quiet = -SLICE;
      }
    }
    return { failed: 'a hang' };
  } finally {
    for (const each of off) each();
  }
}

/** Whether the visit comes back to user mode soon. */
function returns(machine: Machine, { cpu, begin, trigger }: Visit): boolean {
  // What enters the visit from outside is the experiment's to bring.
  if (trigger) return true;
  machine.restore(begin);
  let entered = false;
  const off = machine.on('privilege-change', (_cpu, _from, to) => {
    if (to !== 3) entered = true;
    else machine.stop();
  });
  const stop = machine.runAlone(cpu, LONGEST);
  off();
  return entered && stop.reason === 'hook';
}

function touches(places: ReadonlySet<number>, { group, address, bytes }: Mutant): boolean {
  if (group !== 'code') return places.has(-(address >> 3));
  for (let i = 0; i < bytes.length; i++) if (places.has(address + i)) return true;
  return false;
}
