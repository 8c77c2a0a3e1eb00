/** Costs that only our own machine has: restoring a snapshot, and the start of the command. */
import { spawnSync } from 'node:child_process';
import { Machine } from '../src/machine/machine.ts';
import { buildGuest, findLoop } from './guest.ts';
import { median } from './median.ts';
import { projectFile } from './project.ts';

const COMMAND = projectFile('dist/cli/main.js');

export interface RestoreCost {
  /** Instructions run between two restores. */
  readonly instructions: number;
  /** Microseconds of running them, and of the restore. */
  readonly run: number;
  readonly restore: number;
}

/** Restores a snapshot after short runs of the interrupt loop, which writes one page of stack. */
export function restoreCost(instructions = 200, times = 2000): RestoreCost {
  const machine = Machine.create({ memory: 64 });
  machine.boot(buildGuest(findLoop('interrupt')));
  machine.run({ maxInstructions: 2_000_000 });
  const snapshot = machine.snapshot();
  const runs: number[] = [];
  const restores: number[] = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    machine.run({ maxInstructions: instructions });
    const ran = performance.now();
    machine.restore(snapshot);
    runs.push(ran - start);
    restores.push(performance.now() - ran);
  }
  return { instructions, run: median(runs) * 1000, restore: median(restores) * 1000 };
}

/** Milliseconds of `espfix --help` and of Node doing nothing. */
export function helpTime(times = 9): { help: number; node: number } {
  const time = (args: readonly string[]) =>
    median(
      Array.from({ length: times }, () => {
        const start = performance.now();
        spawnSync(process.execPath, args, { stdio: 'ignore' });
        return performance.now() - start;
      }),
    );
  return { help: time([COMMAND.pathname, '--help']), node: time(['-e', '0']) };
}
