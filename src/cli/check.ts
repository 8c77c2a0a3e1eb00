/** `espfix check`: every variant in a worker thread, then the table or the JSON. */
import { availableParallelism } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import { Tinypool } from 'tinypool';
import { toJson } from '../check/json.ts';
import type { SummarizedVariant } from '../check/summary.ts';
import { type VariantName, variantNames } from '../kernel/variants/index.ts';
import { checkTable } from './check-table.ts';
import { CLEAN, FINDINGS, INTERRUPTED } from './exit-status.ts';
import { UserError } from './failure.ts';
import type { Io } from './io.ts';
import { startProgress } from './progress.ts';

export interface CheckCommandOptions {
  readonly variant?: readonly string[];
  readonly format: 'text' | 'json' | 'junit' | 'sarif' | 'html';
  readonly cpus?: number;
}

const DEFAULT_CPUS = 2;

/** The variant of that name; a UserError names those that there are. */
export function variantOf(name: string): VariantName {
  const found = variantNames.find((variant) => variant === name);
  if (!found) throw new UserError(`--variant ${name}: unknown, expected one of ${variantNames.join(', ')}`);
  return found;
}

/** Checks and prints; returns the exit status. */
export async function check(options: CheckCommandOptions, io: Io): Promise<number> {
  const names = options.variant ? [...new Set(options.variant.map(variantOf))] : variantNames;
  if (options.format !== 'text' && options.format !== 'json')
    throw new UserError(
      `--format ${options.format}: only where a kernel is explored: with an image, --depth or --plan`,
    );
  const variants = await checkAll(names, options.cpus ?? DEFAULT_CPUS, io);
  const sound = (v: SummarizedVariant) =>
    v.verdict === 'safe' && v.interrupted.findings.length === 0 && v.interrupted.withoutEvents.length === 0;
  const ok = options.variant
    ? variants.every(sound)
    : variants.every((v) => v.verdict === v.documented && (v.documented !== 'safe' || sound(v)));
  if (options.format === 'json') io.stdout.write(`${JSON.stringify(toJson(variants, ok), null, 2)}\n`);
  else io.stdout.write(checkTable(variants, io));
  return ok ? CLEAN : FINDINGS;
}

/** Runs one variant somewhere. */
interface Runner {
  run(variant: VariantName, onProgress: (done: number, total: number) => void): Promise<SummarizedVariant>;
  end(): Promise<void>;
}

async function checkAll(names: readonly VariantName[], cpus: number, io: Io): Promise<SummarizedVariant[]> {
  const state = new Map(names.map((name) => [name, 'waiting']));
  const line = () => `checking: ${names.map((name) => `${name} ${state.get(name)}`).join(', ')}`;
  const progress = await startProgress(io, `checking ${names.join(', ')}`);
  const runner = import.meta.url.endsWith('.ts') ? inThisThread(cpus) : inWorkers(cpus, names.length);
  const forget = io.onInterrupt(() => process.exit(INTERRUPTED));
  try {
    return await Promise.all(
      names.map(async (variant) => {
        const result = await runner.run(variant, (done, total) => {
          state.set(variant, `${done}/${total}`);
          progress.update(line());
        });
        state.set(variant, 'done');
        progress.update(line());
        return result;
      }),
    );
  } finally {
    forget();
    progress.end();
    await runner.end();
  }
}

function inWorkers(cpus: number, tasks: number): Runner {
  const pool = new Tinypool({
    filename: new URL('./check-worker.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: Math.min(tasks, availableParallelism()),
  });
  return {
    async run(variant, onProgress) {
      const { port1, port2 } = new MessageChannel();
      port1.on('message', ({ done, total }: { done: number; total: number }) => onProgress(done, total));
      try {
        return await pool.run({ variant, cpus, progress: port2 }, { transferList: [port2] });
      } finally {
        port1.close();
      }
    },
    end: () => pool.destroy(),
  };
}

/** For the sources themselves, which a worker thread cannot load without help. */
function inThisThread(cpus: number): Runner {
  return {
    async run(variant, onProgress) {
      const { checkVariant } = await import('../check/check-variant.ts');
      const { interrupt } = await import('../check/summary.ts');
      return { ...checkVariant(variant, { cpus, onProgress }), interrupted: interrupt(variant) };
    },
    end: async () => {},
  };
}
