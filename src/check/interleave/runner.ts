/** Runs one processor of a window at a time, and notes what the others might notice. */
import { offsetOf } from '../../isa/state.ts';
import { type AccessLog, devices, dwordsOf, type Sharing } from './accesses.ts';
import type { Exception, Window } from './window.ts';

/** Why a processor stopped. */
export type Halt =
  /** Its part is done. */
  | 'end'
  /** It entered or left the kernel, has made some more accesses to shared memory, or perhaps waits. */
  | 'pause'
  /** It waits for something that does not come from itself. */
  | 'idle'
  /** It was interrupted by an exception, which is delivered. */
  | 'exception'
  /** All instructions that were granted have been executed. */
  | 'limit'
  | 'triple-fault'
  | 'exit'
  | 'reset'
  | 'power-off'
  | 'unimplemented';

/** Accesses to shared memory between two pauses. */
const PAUSE_AFTER = 48;
const COUNT = offsetOf('instructions') / 4;
const USER = 3;

/** While one is attached, its machine is slow. */
export class Runner {
  readonly window: Window;
  readonly sharing: Sharing;
  /** The exception that stopped a processor with `exception`. */
  exception: Exception | undefined;
  readonly #off: (() => void)[];
  #log: AccessLog | undefined;
  #cpu = 0;
  /** Low dword of the instruction count at the run's beginning. */
  #base = 0;
  /** An event is being delivered that is not an instruction's own doing: none is in progress. */
  #delivering = false;
  #sincePause = 0;
  readonly #pauseAfter: number;

  /** @param pauseAfter accesses to shared memory between two pauses */
  constructor(window: Window, sharing: Sharing, pauseAfter: number = PAUSE_AFTER) {
    this.window = window;
    this.#pauseAfter = pauseAfter;
    this.sharing = sharing;
    const { machine } = window;
    const { ramBytes } = machine.configuration;
    let write = false;
    const note = (dword: number) => this.#note(dword, write);
    const port = () => {
      write = true;
      note(devices);
    };
    machine.serial.onOutput = () => {};
    this.#off = [
      machine.on('access', (_cpu, physical, size, writes) => {
        write = writes;
        dwordsOf(physical, size, ramBytes, note);
      }),
      machine.on('port-read', port),
      machine.on('port-write', port),
      machine.on('privilege-change', () => machine.stop()),
      machine.on('deliver', (cpu, vector, errorCode, source) => {
        if (source === 'exception') {
          const { rip, cpl, cr2 } = machine.cpus[cpu];
          this.exception ??= { cpu, vector, errorCode, rip, cpl, cr2 };
          machine.stop();
        }
        this.#delivering = source === 'exception' || source === 'external' || source === 'nmi';
        return false;
      }),
      machine.on('delivered', () => {
        this.#delivering = false;
      }),
    ];
  }

  close(): void {
    for (const off of this.#off) off();
  }

  /** What follows is a run of `cpu` from its present state, whose accesses to shared memory go to `log`. */
  begin(cpu: number, log: AccessLog | undefined): void {
    this.#cpu = cpu;
    this.#log = log;
    this.#base = this.window.machine.cpus[cpu].u32[COUNT];
    this.#delivering = false;
  }

  /** Instructions and deliveries of the run so far. */
  get at(): number {
    return (this.window.machine.cpus[this.#cpu].u32[COUNT] - this.#base) | 0;
  }

  /** Goes on with the run, for up to `most` instructions. */
  run(most: number): Halt {
    const { machine } = this.window;
    const cpu = machine.cpus[this.#cpu];
    const before = this.at;
    this.exception = undefined;
    this.#sincePause = 0;
    const { reason } = machine.runAlone(this.#cpu, most);
    this.#delivering = false;
    if (this.exception) return reason === 'triple-fault' ? reason : 'exception';
    switch (reason) {
      case 'hook':
        return cpu.cpl === USER && this.window.isEnd(cpu) ? 'end' : 'pause';
      case 'deadlock':
        if (this.window.isEnd(cpu)) return 'end';
        return this.at === before ? 'idle' : 'pause';
      case 'until':
      case 'limit':
        return 'limit';
      default:
        return reason;
    }
  }

  /** Runs as many instructions, without an ear for anything. @returns whether all of them could be executed */
  advance(instructions: number): boolean {
    const end = this.at + instructions;
    while (this.at < end) {
      const before = this.at;
      this.window.machine.runAlone(this.#cpu, end - before);
      if (this.at === before) return false;
    }
    return true;
  }

  #note(dword: number, write: boolean): void {
    const log = this.#log;
    if (!log || !this.sharing.note(this.#cpu, dword, write)) return;
    log.add(this.at - (this.#delivering ? 0 : 1), dword, write);
    if (++this.#sincePause >= this.#pauseAfter || log.repeats) this.window.machine.stop();
  }
}
