/** `espfix check --interleavings`: schedules of several processors, window by window, in worker threads. */
import { availableParallelism } from 'node:os';
import { Tinypool } from 'tinypool';
import { type WindowName, windowNames } from '../check/interleave/builtin.ts';
import type { InterleavingReport } from '../check/interleave/interleavings.ts';
import { interleavingText } from '../check/interleave/text.ts';
import type { ImageName } from '../kernel/variants/gallery/names.ts';
import { variantInfo, variantNames } from '../kernel/variants/index.ts';
import { CLEAN, FINDINGS, INCONCLUSIVE, INTERRUPTED } from './exit-status.ts';
import { UserError } from './failure.ts';
import { expectWritable, writeOutput } from './files.ts';
import type { InterleaveTask } from './interleave-work.ts';
import type { Io } from './io.ts';
import { startProgress } from './progress.ts';
import { imageNameOf } from './subject-spec.ts';
import { packageVersion } from './version.ts';

export interface InterleaveOptions {
  readonly variant?: readonly string[];
  readonly window?: readonly string[];
  readonly preemptions?: number;
  readonly cpus?: number;
  readonly jobs?: number;
  readonly format: string;
  readonly output?: string;
}

const DEFAULT_CPUS = 2;
const DEFAULT_PREEMPTIONS = 2;

/** Explores and prints; returns the exit status. */
export async function interleave(options: InterleaveOptions, io: Io): Promise<number> {
  const { format, output, cpus = DEFAULT_CPUS, preemptions = DEFAULT_PREEMPTIONS } = options;
  if (format !== 'text' && format !== 'json')
    throw new UserError(`--format ${format}: expected text or json with --interleavings`);
  if (cpus < 2) throw new UserError('--cpus: expected 2 or more with --interleavings');
  if (output !== undefined) await expectWritable(output);
  const stop = new SharedArrayBuffer(4);
  const tasks = variantsOf(options).flatMap((variant) =>
    windowsOf(options).map((window): InterleaveTask => ({ variant, window, cpus, preemptions, stop })),
  );
  const progress = await startProgress(
    io,
    `interleaving ${[...new Set(tasks.map(({ variant }) => variant))].join(', ')}`,
  );
  let interrupted = false;
  const forget = io.onInterrupt(() => {
    // At the second wish nothing more is waited for.
    if (interrupted) process.exit(INTERRUPTED);
    interrupted = true;
    Atomics.store(new Int32Array(stop), 0, 1);
  });
  const runner = import.meta.url.endsWith('.ts') ? inThisThread() : inWorkers(options.jobs, tasks.length);
  let reports: InterleavingReport[];
  try {
    let done = 0;
    reports = await Promise.all(
      tasks.map(async (task) => {
        const report = await runner.run(task);
        progress.update(`interleaving: ${++done} of ${tasks.length} windows`);
        return report;
      }),
    );
  } finally {
    forget();
    progress.end();
    await runner.end();
  }
  const text =
    format === 'text'
      ? reports.map(interleavingText).join('\n')
      : `${JSON.stringify({ version: await packageVersion(), interleavings: reports }, hexadecimal, 2)}\n`;
  if (output === undefined) io.stdout.write(text);
  else await writeOutput(output, new TextEncoder().encode(text));
  if (interrupted) return INTERRUPTED;
  if (reports.some(({ verdict }) => verdict === 'findings')) return FINDINGS;
  return reports.every(({ verdict }) => verdict === 'clean') ? CLEAN : INCONCLUSIVE;
}

const hexadecimal = (_key: string, value: unknown) =>
  typeof value === 'bigint' ? `0x${value.toString(16).padStart(16, '0')}` : value;

function variantsOf({ variant }: InterleaveOptions): ImageName[] {
  if (!variant) throw new UserError('--interleavings: expected --variant: whose are to be explored');
  return [...new Set(variant.map(imageNameOf))].map((name) => {
    const known = variantNames.find((one) => one === name);
    if (known && variantInfo(known).bits !== 64)
      throw new UserError(`--variant ${name}: expected a 64-bit kernel with --interleavings`);
    return name;
  });
}

function windowsOf({ window }: InterleaveOptions): readonly WindowName[] {
  if (!window) return windowNames;
  return [...new Set(window)].map((name) => {
    const found = windowNames.find((one) => one === name);
    if (!found) throw new UserError(`--window ${name}: unknown, expected one of ${windowNames.join(', ')}`);
    return found;
  });
}

interface Runner {
  run(task: InterleaveTask): Promise<InterleavingReport>;
  end(): Promise<void>;
}

function inWorkers(jobs: number | undefined, tasks: number): Runner {
  const threads = Math.min(tasks, jobs ?? availableParallelism());
  const pool = new Tinypool({
    filename: new URL('./interleave-work.js', import.meta.url).href,
    minThreads: threads,
    maxThreads: threads,
  });
  return { run: (task) => pool.run(task), end: () => pool.destroy() };
}

/** For the sources themselves, which a worker thread cannot load without help. */
function inThisThread(): Runner {
  let last: Promise<unknown> = Promise.resolve();
  return {
    run(task) {
      const next = last.then(async () => {
        // A wish to end is heard between two windows.
        await new Promise((resolve) => setImmediate(resolve));
        return (await import('./interleave-work.ts')).default(task);
      });
      last = next.catch(() => {});
      return next;
    },
    end: async () => {},
  };
}
