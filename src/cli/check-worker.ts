/** The part of `espfix check` that runs in worker threads: one variant. */
import type { MessagePort } from 'node:worker_threads';
import { checkVariant } from '../check/check-variant.ts';
import { interrupt, type SummarizedVariant } from '../check/summary.ts';
import type { VariantName } from '../kernel/variants/index.ts';

export interface CheckTask {
  readonly variant: VariantName;
  readonly cpus: number;
  /** Is sent the cases done and their total. */
  readonly progress: MessagePort;
}

/** Milliseconds between two messages of progress. */
const INTERVAL = 100;

export default function work({ variant, cpus, progress }: CheckTask): SummarizedVariant {
  let last = 0;
  const checked = checkVariant(variant, {
    cpus,
    onProgress(done, total) {
      const now = performance.now();
      if (now - last < INTERVAL) return;
      last = now;
      progress.postMessage({ done, total });
    },
  });
  return { ...checked, interrupted: interrupt(variant) };
}
