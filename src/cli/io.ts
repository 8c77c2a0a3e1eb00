/** What a command reads and writes: the process's own streams, or a test's. */

export interface Output {
  /** Whether a person watches. */
  readonly isTerminal: boolean;
  /** Columns of the terminal, where it is one. */
  readonly columns: number | undefined;
  /** Its rows. */
  readonly rows: number | undefined;
  write(data: string | Uint8Array): void;
  /** Resolves once everything written has been taken. Rejects with OutputGone if it cannot be. */
  flushed(): Promise<void>;
}

export interface Input {
  /** Whether a person types. */
  readonly isTerminal: boolean;
  /**
   * Sets whether keys come as they are typed, without echo and with Ctrl-C as any other, where a person types. What it
   * was is put back when the process ends, however it does.
   */
  setRaw(raw: boolean): void;
  /** Calls back with what arrives and, at the end, with undefined. Returns a function that stops listening. */
  listen(callback: (data: Uint8Array | undefined) => void): () => void;
}

export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly stdin: Input;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Calls back at the user's wish to end (Ctrl-C). Returns a function that stops listening. */
  onInterrupt(callback: () => void): () => void;
  /** Calls back when the terminal has another size. Returns a function that stops listening. */
  onResize(callback: () => void): () => void;
}

/** Standard output or standard error cannot be written. */
export class OutputGone extends Error {
  /** The system's name of the reason: EPIPE where the reader went away. */
  readonly code: string;

  constructor(error: NodeJS.ErrnoException) {
    super(error.message);
    this.code = error.code ?? 'unknown';
  }
}

function output(stream: NodeJS.WriteStream): Output {
  let failure: Error | undefined;
  let waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  stream.on('error', (error) => {
    failure = new OutputGone(error);
    for (const { reject } of waiting) reject(failure);
    waiting = [];
  });
  return {
    isTerminal: stream.isTTY === true,
    get columns() {
      return stream.columns;
    },
    get rows() {
      return stream.rows;
    },
    write(data) {
      if (failure) throw failure;
      stream.write(data);
    },
    flushed() {
      if (failure) return Promise.reject(failure);
      return new Promise((resolve, reject) => {
        const mine = { resolve, reject };
        waiting.push(mine);
        stream.write('', (error) => {
          waiting = waiting.filter((one) => one !== mine);
          if (error) reject(new OutputGone(error));
          else resolve();
        });
      });
    },
  };
}

/** The process's own streams. */
export function processIo(): Io {
  const cook = () => {
    if (process.stdin.isTTY) process.stdin.setRawMode(false);
  };
  // Signals that end a process do not tell it that it ends, unless it asks.
  const SIGNALS = { SIGHUP: 129, SIGTERM: 143 } as const;
  const ended = (signal: keyof typeof SIGNALS) => process.exit(SIGNALS[signal]);
  return {
    stdout: output(process.stdout),
    stderr: output(process.stderr),
    stdin: {
      isTerminal: process.stdin.isTTY === true,
      setRaw(raw) {
        if (!process.stdin.isTTY) return;
        process.stdin.setRawMode(raw);
        process.off('exit', cook);
        for (const signal of Object.keys(SIGNALS)) process.off(signal, ended);
        if (!raw) return;
        process.on('exit', cook);
        for (const signal of Object.keys(SIGNALS)) process.on(signal, ended);
      },
      listen(callback) {
        const { stdin } = process;
        const data = (chunk: Buffer) => callback(chunk);
        const end = () => callback(undefined);
        stdin.on('data', data);
        stdin.once('end', end);
        stdin.once('error', end);
        return () => {
          stdin.off('data', data);
          stdin.off('end', end);
          stdin.off('error', end);
          stdin.pause();
        };
      },
    },
    env: process.env,
    onInterrupt(callback) {
      process.on('SIGINT', callback);
      return () => process.off('SIGINT', callback);
    },
    onResize(callback) {
      process.stdout.on('resize', callback);
      return () => process.stdout.off('resize', callback);
    },
  };
}
