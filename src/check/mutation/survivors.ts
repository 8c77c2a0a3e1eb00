/**
 * Why survivors are harmless. A survivor that nothing here explains is a defect of the checker, or of the list of cases, or of
 * the kernel, and fails the run.
 */
import type { Mutant } from './mutant.ts';
import type { Verdict } from './test-bed.ts';

export type Survivor = Extract<Verdict, { caught: false }>;

/** Single mutants, by key. */
export const explained: Readonly<Record<string, string>> = {};

/** What makes whole kinds of mutants harmless. */
const rules: readonly ((mutant: Mutant, verdict: Survivor) => string | undefined)[] = [];

/** The explanation of a survivor; undefined if there is none. */
export function explain(mutant: Mutant, verdict: Survivor): string | undefined {
  if (Object.hasOwn(explained, mutant.key)) return explained[mutant.key];
  for (const rule of rules) {
    const why = rule(mutant, verdict);
    if (why !== undefined) return why;
  }
  return undefined;
}
