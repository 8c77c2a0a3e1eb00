/** A tree of files for a 9P server: what it needs of whoever has the files. Nothing in it leads out of the tree. */

/** Names from the root down; empty for the root. No name is empty, `.` or `..`, or has a slash or a zero in it. */
export type Path = readonly string[];

export type FileKind = 'file' | 'folder' | 'link' | 'other';

export interface FileStatus {
  readonly kind: FileKind;
  /** Permission bits, 9 bits. */
  readonly mode: number;
  readonly size: number;
  readonly links: number;
  /** Tells files apart, as long as they are there. */
  readonly identity: bigint;
  /** Nanoseconds since 1970. */
  readonly accessed: bigint;
  readonly modified: bigint;
  readonly changed: bigint;
}

export interface FileEntry {
  readonly name: string;
  readonly kind: FileKind;
  readonly identity: bigint;
}

/** A regular file that has been opened. */
export interface OpenFile {
  /** Reads up to `bytes.length`; returns how many, 0 at the end. */
  read(offset: number, bytes: Uint8Array): number;
  write(offset: number, bytes: Uint8Array): number;
  /** As it is, even where it has no name any more. */
  status(): FileStatus;
  resize(size: number): void;
  synchronize(): void;
  close(): void;
}

export interface Changes {
  readonly mode?: number;
  readonly size?: number;
  /** Nanoseconds since 1970; `now` for the tree's own time. */
  readonly accessed?: bigint | 'now';
  readonly modified?: bigint | 'now';
}

/**
 * All throw FileError. Links are never followed: neither the last name of a path nor one on the way, which must all be
 * folders. What is neither file, folder nor link can be seen and removed, not opened or made.
 */
export interface FileTree {
  status(path: Path): FileStatus;
  list(path: Path): readonly FileEntry[];
  readLink(path: Path): string;
  open(path: Path, writing: boolean): OpenFile;
  /** Makes a file that is not there yet. */
  create(path: Path, mode: number): OpenFile;
  makeFolder(path: Path, mode: number): void;
  makeLink(path: Path, target: string): void;
  remove(path: Path, folder: boolean): void;
  rename(from: Path, to: Path): void;
  change(path: Path, changes: Changes): void;
}

/** Error numbers as Linux has them. */
export const ERRORS = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ENAMETOOLONG: 36,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  EDQUOT: 122,
} as const;

export type ErrorName = keyof typeof ERRORS;

/** What the guest is told instead of an answer. */
export class FileError extends Error {
  readonly number: number;

  constructor(name: ErrorName) {
    super(name);
    this.number = ERRORS[name];
  }
}

/** Whether a name may be part of a path. */
export function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name);
}
