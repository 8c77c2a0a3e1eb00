/**
 * What the self-test system (fixtures/linux/selftests-init) prints on its console, and what a program's end means by the
 * rules of Linux Documentation/dev-tools/kselftest.rst: status 0 is a pass, 4 a skip.
 */

/** How a program ended. */
export interface Outcome {
  /** Exit status as a shell has it: 128 and the signal's number for one that a signal ended. */
  readonly status: number | undefined;
  /** Standard output and standard error. */
  readonly lines: readonly string[];
  /** Where the system did not live to tell a status: what became of it. */
  readonly lost?: string;
  /** Where it was not run: what it wants of a processor, and this one does not have. */
  readonly wants?: string;
}

export type Verdict = 'pass' | 'fail' | 'skip';

export const READY = 'tests: ready';
const FLAGS = /^tests: flags (.*)$/;
const BEGIN = /^tests: begin (\S+)$/;
const END = /^tests: end (\S+) (\d+)$/;
/** A message of the kernel with its time. */
const KERNEL_MESSAGE = /^\[ *\d+\.\d{6}\] /;
export const STATUS_SKIP = 4;

export function verdictOf(outcome: Outcome): Verdict {
  if (outcome.status === 0) return 'pass';
  return outcome.status === STATUS_SKIP ? 'skip' : 'fail';
}

/** Lines of a program's output, without the empty ones at its end. */
export function linesOf(text: string): string[] {
  return text.replaceAll('\r', '').trimEnd().split('\n');
}

/** Reads a console piece by piece. */
export class Transcript {
  /** The system takes names. */
  ready = false;
  /** What the system's processor has, by Linux's names for it, as far as Linux uses it. */
  flags: ReadonlySet<string> = new Set();
  #rest = '';
  #name: string | undefined;
  #lines: string[] = [];

  /** Takes the next piece; returns the program that it ends, if it does. */
  push(piece: string): { readonly name: string; readonly outcome: Outcome } | undefined {
    const lines = (this.#rest + piece).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const raw of lines) {
      const line = raw.replaceAll('\r', '');
      if (line.startsWith(READY)) this.ready = true;
      const flags = FLAGS.exec(line)?.[1];
      if (flags !== undefined) this.flags = new Set(flags.split(' '));
      const begun = BEGIN.exec(line)?.[1];
      if (begun !== undefined) {
        this.#name = begun;
        this.#lines = [];
        continue;
      }
      const ended = END.exec(line);
      if (ended?.[1] !== undefined && ended[1] === this.#name)
        return { name: ended[1], outcome: { status: Number(ended[2]), lines: this.#take() } };
      if (!KERNEL_MESSAGE.test(line)) this.#lines.push(line);
    }
    return undefined;
  }

  /** What a program had printed whose end is not to come. */
  abandon(lost: string): Outcome {
    this.#rest = '';
    return { status: undefined, lines: this.#take(), lost };
  }

  #take(): string[] {
    const lines = linesOf(this.#lines.join('\n'));
    this.#name = undefined;
    this.#lines = [];
    return lines;
  }
}
