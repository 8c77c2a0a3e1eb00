/** A self-test system's console, whatever machine it is on, and the turns that its tests take on it. */
import { type Outcome, STATUS_SKIP, Transcript } from './transcript.ts';

/** A running system. */
export interface System {
  /** Name of the machine. */
  readonly name: string;
  /**
   * Runs until `done` answers true to a piece of what is printed; resolves with undefined, or with what became of the system
   * if that does not come within so many seconds.
   */
  until(done: (piece: string) => boolean, seconds: number): Promise<string | undefined>;
  write(text: string): void;
  /** Boots afresh, or goes back to the moment at which the system was ready. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface Limits {
  /** Wall-clock seconds for the boot. */
  readonly boot: number;
  /** Wall-clock seconds for a program. */
  readonly program: number;
  /** Guest seconds for a program. */
  readonly guest: number;
}

/** What tests want of a processor, by Linux's names, where they fail instead of saying so. */
const WANTS: ReadonlyMap<string, string> = new Map([['amx_64', 'amx_tile']]);

/** As much of a console is told where a system does not come up, in characters. */
const TAIL = 2000;

/** Runs the programs one after another; a system that is lost is started again for the next. Throws where it does not come up. */
export async function runSelftests(
  system: System,
  names: readonly string[],
  limits: Limits,
  tell: (name: string, outcome: Outcome) => void,
): Promise<void> {
  let transcript = new Transcript();
  let lost: string | undefined;
  const boot = async () => {
    transcript = new Transcript();
    let tail = '';
    const failed = await system.until((piece) => {
      transcript.push(piece);
      tail = (tail + piece).slice(-TAIL);
      return transcript.ready;
    }, limits.boot);
    if (failed !== undefined) throw new Error(`${system.name}: not ready: ${failed}\n${tail}`);
  };
  await boot();
  const { flags } = transcript;
  for (const name of names) {
    const wants = WANTS.get(name);
    if (wants !== undefined && !flags.has(wants)) {
      tell(name, { status: STATUS_SKIP, lines: [], wants });
      continue;
    }
    if (lost !== undefined) {
      await system.restart();
      await boot();
    }
    let outcome: Outcome | undefined;
    system.write(`${name} ${limits.guest}\n`);
    lost = await system.until((piece) => {
      const ended = transcript.push(piece);
      if (ended?.name === name) outcome = ended.outcome;
      return outcome !== undefined;
    }, limits.program);
    tell(name, outcome ?? transcript.abandon(lost ?? 'nothing'));
  }
}
