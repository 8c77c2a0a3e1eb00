/** What a schema finds wrong with data from a file, as half a line: the field, what was expected and what is there. */
import type { BaseIssue } from 'valibot';

/** The schema's own messages say what it expects. @param whole what to call the data itself */
export function describeIssue(issue: BaseIssue<unknown>, whole: string): string {
  const path = (issue.path ?? []).map(({ key }) =>
    typeof key === 'number' ? `[${key}]` : `.${String(key)}`,
  );
  const field = path.join('').replace(/^\./, '') || whole;
  if (issue.expected === 'never') return `${field}: no such field`;
  const { input } = issue;
  if (input === undefined && path.length > 0) return `${field}: missing`;
  return `${field}: expected ${issue.message}, found ${foundText(input, issue.received)}`;
}

/** A value as a message says that it was found: what is no plain value is named by its type. */
export function foundText(value: unknown, type: string = typeof value): string {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value)
    ? JSON.stringify(value)
    : type;
}
