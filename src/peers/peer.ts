/**
 * Other machines that boot the very images ours boots: an emulator in a process of its own, headless, with its
 * COM1 read as text. A peer is an oracle for the kernel images and a yardstick for speed, never a part of the machine.
 */

export interface PeerOptions {
  /** Processors; 1 unless told. */
  readonly cpus?: number;
  /** Memory in MiB; 64 unless told. */
  readonly memory?: number;
  /** The kernel command line. */
  readonly commandLine?: string;
  /**
   * Told of each complete line of COM1 and the processor time, in milliseconds, that the peer had used when it was
   * seen (wall-clock time where the system does not tell). The run is over, and the peer is ended, once it answers true.
   */
  readonly until?: (line: string, at: number) => boolean;
  /** Wall-clock seconds after which the peer is ended; 60 unless told. */
  readonly timeout?: number;
}

/** How a peer's run ended. */
export type PeerEnd =
  /** The guest ended it through the debug-exit port (`status`), or the peer left on its own. */
  | 'exit'
  /** `until` was satisfied. */
  | 'last-line'
  | 'timeout';

export interface PeerRun {
  readonly ended: PeerEnd;
  /** The process's exit status, where it ended on its own. */
  readonly status: number | undefined;
  /** Everything the guest wrote to COM1, as Latin-1. */
  readonly serial: string;
  /** What the peer itself had to say on standard error and in its log: its last lines. */
  readonly log: string;
}

export interface Peer {
  readonly name: 'qemu' | 'bochs';
  /** As the program names itself, such as `QEMU 7.2.22`. */
  readonly version: string;
  /** Boots a Multiboot 1 image. Rejects only if the peer cannot be started. */
  run(image: Uint8Array, options?: PeerOptions): Promise<PeerRun>;
}

/** Cuts a stream of text into lines, and tells when `until` is satisfied. */
export class LineReader {
  #text = '';
  #line = '';
  readonly #options: PeerOptions;
  readonly #now: () => number;

  /** @param now the time to tell `until`, in milliseconds */
  constructor(options: PeerOptions, now: () => number = () => performance.now()) {
    this.#options = options;
    this.#now = now;
  }

  /** Everything so far. */
  get text(): string {
    return this.#text;
  }

  /** Takes the next piece; true once the last line has come. */
  push(piece: string): boolean {
    const at = this.#now();
    this.#text += piece;
    const lines = (this.#line + piece).split('\n');
    this.#line = lines.pop() ?? '';
    let last = false;
    for (const raw of lines) {
      const line = raw.replace(/\r$/, '');
      if (!last && this.#options.until?.(line, at)) last = true;
    }
    return last;
  }
}
