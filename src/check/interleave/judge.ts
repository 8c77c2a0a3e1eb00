/**
 * What is judged of a schedule of processors: that it ends, without an exception in the kernel; that user space sees what
 * some order of the processors one after another gives it; and what must hold of ministacks.
 */
import { PageTree } from '../../machine/page-tree.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import type { Violation } from '../finding.ts';
import { hex } from '../properties/property.ts';
import type { AddressRange } from '../subject.ts';
import { userPages } from '../user-pages.ts';
import { differences, type UserState, userState } from '../user-state.ts';
import { describeVector } from '../vectors.ts';
import { judgeMinistacks, type MinistackPlan, type PagePool } from './ministacks.ts';
import type { Audience, Trouble } from './search.ts';
import type { Turns, Window } from './window.ts';

/** A window of a kernel of which enough is known to judge it. */
export interface Interleaved {
  /** The kernel's name. */
  readonly name: string;
  readonly window: Window;
  /** `symbol+0x12` of a linear address, or the address. */
  describe(address: bigint): string;
  /** Memory that user space sees and that is not compared: counters. */
  readonly mayDiffer: readonly AddressRange[];
  /** Where ministacks must be at the window's end; empty for kernels without. */
  readonly ministacks: readonly MinistackPlan[];
  readonly pool: PagePool | undefined;
}

/** What user space sees at the end of a schedule. */
interface Outcome {
  readonly states: readonly UserState[];
  /** Bytes of user pages that differ from the window's beginning, by page number. */
  readonly pages: ReadonlyMap<number, Uint8Array>;
}

/** How a violation was found. */
export interface Found {
  readonly violation: Violation;
  turns: Turns;
  preemptions: number;
  /** Schedules that lead to it. */
  count: number;
}

const PAGE = 4096;
const USER = 3;

/** Collects violations, one a cause with its shortest schedule. */
export class Judge implements Audience {
  readonly #subject: Interleaved;
  readonly #userPages: ReadonlyMap<number, { readonly linear: bigint }>;
  /** What the orders one after another give, and the exceptions of user mode that come in them. */
  readonly #outcomes: Outcome[] = [];
  readonly #exceptions = new Set<string>();
  /** By state at the end: what is wrong with it. */
  #judged = new Map<number, readonly Violation[]>();
  #found = new Map<string, Found>();

  constructor(subject: Interleaved) {
    this.#subject = subject;
    const { machine, start, cpus } = subject.window;
    machine.restore(start);
    this.#userPages = userPages(machine, cpus[0]);
  }

  begin(): void {
    this.#judged = new Map();
    this.#found = new Map();
  }

  /** What was found since the search began, fewest preemptions and instructions first. */
  get found(): readonly Found[] {
    return [...this.#found.values()].sort(shorter);
  }

  /** Different things that user space sees if processors do their parts one after another. */
  get orders(): number {
    return this.#outcomes.length;
  }

  trouble(trouble: Trouble, turns: Turns, preemptions: number): boolean {
    const violation = this.#troubleOf(trouble, preemptions);
    if (violation) this.#add(violation, turns, preemptions);
    return violation !== undefined;
  }

  end(state: number, snapshot: Snapshot, turns: Turns, preemptions: number): void {
    let violations = this.#judged.get(state);
    if (!violations) {
      violations = this.#judge(snapshot, preemptions);
      this.#judged.set(state, violations);
    }
    for (const violation of violations) this.#add(violation, turns, preemptions);
  }

  #add(violation: Violation, turns: Turns, preemptions: number): void {
    const key = `${violation.property}: ${violation.what}`;
    const known = this.#found.get(key);
    if (!known) {
      this.#found.set(key, { violation, turns, preemptions, count: 1 });
      return;
    }
    known.count++;
    if (shorter({ turns, preemptions }, known) < 0)
      this.#found.set(key, { violation, turns, preemptions, count: known.count });
  }

  #troubleOf(trouble: Trouble, preemptions: number): Violation | undefined {
    const { describe, window } = this.#subject;
    if (trouble.kind === 'deadlock')
      return {
        property: 'progress',
        what: trouble.cpus.length > 1 ? 'processors wait for each other' : 'a processor waits for ever',
        details: trouble.cpus.map((cpu) => `CPU ${cpu} at ${describe(window.machine.cpus[cpu].rip)}`),
      };
    if (trouble.kind !== 'exception')
      return {
        property: 'progress',
        what: `a processor does not come back to user mode: ${trouble.kind}`,
        details: [`CPU ${trouble.cpu} at ${describe(window.machine.cpus[trouble.cpu].rip)}`],
      };
    const { cpu, vector, rip, cpl, cr2 } = trouble.exception;
    const name = describeVector(vector, 'exception');
    const details = [`CPU ${cpu} at ${describe(rip)}${vector === 14 ? `, CR2 ${hex(cr2, 16)}` : ''}`];
    if (cpl !== USER) return { property: 'progress', what: `${name} in kernel mode`, details, rip };
    const key = `${cpu} ${vector} ${rip}`;
    if (preemptions === 0) this.#exceptions.add(key);
    if (this.#exceptions.has(key)) return undefined;
    return {
      property: 'transparent',
      what: `${name} in user mode, which comes in no order of the processors`,
      details,
      rip,
    };
  }

  #judge(snapshot: Snapshot, preemptions: number): Violation[] {
    const { window, ministacks, pool } = this.#subject;
    const violations = judgeMinistacks(window.machine, ministacks, pool);
    const outcome = this.#outcome(snapshot);
    const same = this.#outcomes.some((each) => equal(each, outcome));
    if (!same && preemptions === 0) this.#outcomes.push(outcome);
    else if (!same)
      violations.push({
        property: 'transparent',
        what: 'user space sees what no order of the processors gives',
        details: this.#differences(outcome),
      });
    return violations;
  }

  #outcome(snapshot: Snapshot): Outcome {
    const { machine, cpus, start } = this.#subject.window;
    const pages = new Map<number, Uint8Array>();
    PageTree.difference(start.pages, snapshot.pages, (page, content) => {
      const user = this.#userPages.get(page);
      if (!user) return;
      const bytes = content?.slice() ?? new Uint8Array(PAGE);
      for (const { start: from, end } of this.#subject.mayDiffer) {
        const first = Number(from - user.linear);
        const last = Number(end - user.linear);
        if (last > 0 && first < PAGE) bytes.fill(0, Math.max(first, 0), Math.min(last, PAGE));
      }
      pages.set(page, bytes);
    });
    return {
      states: cpus.map((cpu) => userState(machine.cpus[cpu], machine.interruptRequests(cpu).inService)),
      pages,
    };
  }

  /** From the order that is nearest, a line each. */
  #differences(found: Outcome): string[] {
    const { cpus } = this.#subject.window;
    const lists = this.#outcomes.map((expected) => {
      const lines = expected.states.flatMap((state, i) =>
        differences(state, found.states[i]).map(
          (d) => `CPU ${cpus[i]}: ${d.name} is ${hex(d.found)} instead of ${hex(d.expected)}`,
        ),
      );
      for (const page of new Set([...expected.pages.keys(), ...found.pages.keys()])) {
        const linear = this.#userPages.get(page)?.linear ?? 0n;
        const [a, b] = [expected.pages.get(page), found.pages.get(page)];
        for (let i = 0; i < PAGE; i++)
          if (a?.[i] !== b?.[i])
            lines.push(
              `user memory at ${hex(linear + BigInt(i))}: ${hex(b?.[i] ?? 0, 2)} instead of ${hex(a?.[i] ?? 0, 2)}`,
            );
      }
      return lines;
    });
    return lists.sort((a, b) => a.length - b.length)[0]?.slice(0, 8) ?? [];
  }
}

function equal(a: Outcome, b: Outcome): boolean {
  if (a.pages.size !== b.pages.size) return false;
  for (const [page, bytes] of a.pages) {
    const other = b.pages.get(page);
    if (!other || bytes.some((byte, i) => byte !== other[i])) return false;
  }
  return a.states.every((state, i) => state.every((word, n) => word === b.states[i][n]));
}

const length = (turns: Turns) => turns.reduce((sum, { instructions }) => sum + instructions, 0);

function shorter(
  a: { readonly preemptions: number; readonly turns: Turns },
  b: { readonly preemptions: number; readonly turns: Turns },
): number {
  return (
    a.preemptions - b.preemptions || a.turns.length - b.turns.length || length(a.turns) - length(b.turns)
  );
}
