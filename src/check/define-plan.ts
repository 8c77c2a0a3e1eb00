/** For plan files in TypeScript. */
import type { Plan } from './plan.ts';

export type { AssertedRun, Assertion } from './properties/assertion.ts';
export type { Plan };

/**
 * A plan, typed: `export default definePlan({ depth: 2 })`. It is checked when the file is loaded, like one in JSON.
 */
export const definePlan = (plan: Plan): Plan => plan;
