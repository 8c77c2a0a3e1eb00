/** Errors that are the user's to mend, and the one line that tells of them. */
import { PlanError } from '../check/plan-error.ts';
import { BAD_INPUT, INTERNAL, OUTPUT_GONE } from './exit-status.ts';
import { OutputGone } from './io.ts';

/** Bad usage or bad input: its message is one line that names the file or option, and what was expected. */
export class UserError extends Error {}

const SYSTEM_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EISDIR: 'is a directory, expected a file',
  ENOTDIR: 'a part of the path is not a directory',
  EROFS: 'read-only file system',
  ENOSPC: 'no space left on the device',
  EMFILE: 'too many open files',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'name too long',
  ENXIO: 'no such device',
  EIO: 'input/output error',
  EPIPE: 'its reader went away',
  EFBIG: 'file too large',
  EDQUOT: 'disk quota exceeded',
  ERR_FS_FILE_TOO_LARGE: 'larger than 2 GiB',
  ERR_INVALID_ARG_VALUE: 'not a file name',
};

/** Whether the error is the user's to mend: then its message is the line that tells of it. */
export const isUsers = (error: unknown): error is UserError | PlanError =>
  error instanceof UserError || error instanceof PlanError;

/** The error as one about `file`: system errors in words, others by their message. */
export function fileError(file: string, error: unknown): UserError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  const reason =
    (code && SYSTEM_ERRORS[code]) ?? code ?? (error instanceof Error ? error.message : String(error));
  return new UserError(`${printable(file)}: ${reason}`);
}

/** `text` with control characters escaped, so that it stays on its line. */
function printable(text: string): string {
  return Array.from(text, (c) => {
    const code = c.codePointAt(0) ?? 0;
    return code < 0x20 || code === 0x7f ? `\\x${code.toString(16).padStart(2, '0')}` : c;
  }).join('');
}

/** Exit status and line for whatever a command threw. */
export function describeFailure(error: unknown): { status: number; line: string } {
  if (error instanceof OutputGone) {
    const line = error.code === 'EPIPE' ? '' : fileError('standard output', error).message;
    return { status: OUTPUT_GONE, line };
  }
  if (isUsers(error)) return { status: BAD_INPUT, line: printable(error.message) };
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return { status: INTERNAL, line: `internal error, please report it: ${printable(text)}` };
}
