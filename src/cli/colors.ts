/** Colours, where a terminal shows them and NO_COLOR (no-color.org) is not set. */
import pc from 'picocolors';
import type { Io, Output } from './io.ts';

/** Whether what is written to `output`, one of the streams of `io`, may have colours. */
export function mayColor(io: Io, output: Output): boolean {
  const forbidden = io.env.NO_COLOR !== undefined && io.env.NO_COLOR !== '';
  return output.isTerminal && !forbidden && io.env.TERM !== 'dumb';
}

/** The colour functions for standard output; they leave text alone where it goes to a file or a pipe. */
export function colorsFor(io: Io): ReturnType<typeof pc.createColors> {
  return pc.createColors(mayColor(io, io.stdout));
}
