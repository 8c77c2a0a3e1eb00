/** `espfix silicon`: this processor's answers beside the machine's. */
import { UserError } from './failure.ts';
import type { Io } from './io.ts';

export async function silicon(_io: Io): Promise<number> {
  throw new UserError('silicon: not built yet');
}
