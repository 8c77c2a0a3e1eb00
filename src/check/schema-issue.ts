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
  // What is no plain value is named by its type.
  const plain = input === null || ['string', 'number', 'boolean'].includes(typeof input);
  return `${field}: expected ${issue.message}, found ${plain ? JSON.stringify(input) : issue.received}`;
}
