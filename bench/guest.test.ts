/** The loops retire as many instructions a turn as the speeds are computed from. */
import { expect, it } from 'vitest';
import { Machine } from '../src/machine/machine.ts';
import { buildGuest, FIRST_BATCH, loops } from './guest.ts';

it.each(loops)('$name: $instructions instructions a turn', (loop) => {
  const machine = Machine.create({ memory: 8 });
  machine.boot(buildGuest(loop));
  const lines: number[] = [];
  machine.serial.onOutput = (byte) => {
    if (byte === 0x0a) machine.stop();
  };
  while (lines.length < 3) {
    const stop = machine.run({ maxInstructions: 1_000_000 });
    expect(stop.reason).toBe('hook');
    lines.push(machine.instructions);
  }
  const [first, second, third] = lines;
  const turns = Number(FIRST_BATCH);
  // What surrounds a batch is the same for each: it cancels in the difference of two.
  expect(third - second - (second - first)).toBe(2 * turns * loop.instructions);
});
