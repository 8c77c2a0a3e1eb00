/** Colours, where a terminal shows them and NO_COLOR (no-color.org) is not set. */
import pc from 'picocolors';
import type { Io } from './io.ts';

/** The colour functions for standard output; they leave text alone where it goes to a file or a pipe. */
export function colorsFor(io: Io): ReturnType<typeof pc.createColors> {
  const forbidden = io.env.NO_COLOR !== undefined && io.env.NO_COLOR !== '';
  return pc.createColors(io.stdout.isTerminal && !forbidden && io.env.TERM !== 'dumb');
}
