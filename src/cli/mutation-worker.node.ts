/** The part of `npm run mutation` that runs in worker threads. */
import type { CoverageData } from '../check/mutation/coverage.ts';
import { TestBed, type Verdict } from '../check/mutation/test-bed.ts';

export interface MutationTask {
  readonly keys: readonly string[];
  readonly coverage: CoverageData;
}

let bed: TestBed | undefined;

export default function tryMutants({ keys, coverage }: MutationTask): (readonly [string, Verdict])[] {
  bed ??= new TestBed(coverage);
  const opened = bed;
  return keys.map((key) => [key, opened.try(key)] as const);
}
