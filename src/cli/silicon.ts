/** `espfix silicon`: this processor's answers beside the machine's. */
import { siliconCommand } from '../silicon/command.ts';
import type { Io } from './io.ts';

/** Exit status 0 if all answers are the same, 1 if any differs, 2 if this host cannot run the program. */
export function silicon(io: Io): Promise<number> {
  return siliconCommand(io);
}
