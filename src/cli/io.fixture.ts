/** Standard streams that a test fills and reads. */
import type { Io, Output } from './io.ts';

export interface CapturedIo extends Io {
  readonly out: () => string;
  readonly err: () => string;
  /** What the terminal was set to, in turn. */
  readonly raw: readonly boolean[];
  /** Asks the command to end, as Ctrl-C does. */
  readonly interrupt: () => void;
  /** Types where standard input has been left open. */
  readonly type: (text: string) => void;
}

/** @param input what stands on standard input; undefined leaves it open */
export function capturedIo(input: string | undefined, terminal = false): CapturedIo {
  const written: { out: Uint8Array[]; err: Uint8Array[] } = { out: [], err: [] };
  const sink = (pieces: Uint8Array[]): Output => ({
    isTerminal: terminal,
    columns: terminal ? 80 : undefined,
    rows: terminal ? 24 : undefined,
    write: (data) => pieces.push(typeof data === 'string' ? new TextEncoder().encode(data) : data),
    flushed: async () => {},
  });
  const raw: boolean[] = [];
  let typist: ((data: Uint8Array) => void) | undefined;
  const interrupts = new Set<() => void>();
  return {
    stdout: sink(written.out),
    stderr: sink(written.err),
    stdin: {
      isTerminal: terminal,
      setRaw: (on) => raw.push(on),
      listen(callback) {
        if (input === undefined) {
          typist = callback;
          return () => {};
        }
        if (input !== '') callback(new TextEncoder().encode(input));
        callback(undefined);
        return () => {};
      },
    },
    env: {},
    onInterrupt(callback) {
      interrupts.add(callback);
      return () => interrupts.delete(callback);
    },
    onResize: () => () => {},
    raw,
    out: () => Buffer.concat(written.out).toString('utf8'),
    err: () => Buffer.concat(written.err).toString('utf8'),
    type: (text) => typist?.(new TextEncoder().encode(text)),
    interrupt: () => {
      for (const callback of interrupts) callback();
    },
  };
}
