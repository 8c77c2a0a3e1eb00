/** Progress on standard error: a spinner where a person watches, a plain line now and then elsewhere. */
import { mayColor } from './colors.ts';
import type { Io } from './io.ts';

export interface Progress {
  update(text: string): void;
  /** A line that stays. */
  note(text: string): void;
  end(): void;
}

/** Milliseconds between two plain lines. */
const PLAIN_INTERVAL = 5000;

/** Shows `text` on standard error, and what `update` says after it, until `end`. */
export async function startProgress(io: Io, text: string): Promise<Progress> {
  // A terminal that does not tell its width cannot be drawn on.
  if (io.stderr.isTerminal && io.stderr.columns) {
    const { default: ora } = await import('ora');
    const color = mayColor(io, io.stderr) ? 'cyan' : false;
    const spinner = ora({ text, color, stream: process.stderr, discardStdin: false }).start();
    return {
      update(next) {
        spinner.text = next;
      },
      note(line) {
        spinner.clear();
        io.stderr.write(`${line}\n`);
        spinner.render();
      },
      end() {
        spinner.stop();
      },
    };
  }
  let last = performance.now();
  io.stderr.write(`${text}\n`);
  return {
    update(next) {
      const now = performance.now();
      if (now - last < PLAIN_INTERVAL) return;
      last = now;
      io.stderr.write(`${next}\n`);
    },
    note(line) {
      io.stderr.write(`${line}\n`);
    },
    end() {},
  };
}
