/** A plan that cannot be used. The message is one line: file, field, what was expected. */
export class PlanError extends Error {}
