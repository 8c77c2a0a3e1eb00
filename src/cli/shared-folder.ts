/**
 * A folder of the host as a tree of files for a guest.
 *
 * A guest cannot leave it: names have no slashes and are not `..`, every folder on the way is looked at before it is
 * entered, links are never followed, and nothing but regular files is opened. Whoever can change the folder while it is
 * shared can of course put anything into it.
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  type Dirent,
  fchmodSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { sep } from 'node:path';
import {
  type Changes,
  ERRORS,
  type ErrorName,
  type FileEntry,
  FileError,
  type FileKind,
  type FileStatus,
  type FileTree,
  isName,
  type OpenFile,
  type Path,
} from '../machine/devices/virtio/9p/file-tree.ts';
import { fileError, UserError } from './failure.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

/** Shares a folder; throws a UserError that names it. Without `writable` every change is refused. */
export function shareFolder(folder: string, writable: boolean): FileTree {
  let root: string;
  try {
    root = realpathSync(folder);
    if (!statSync(root).isDirectory()) throw new UserError(`${folder}: expected a folder`);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw fileError(folder, error);
  }
  return new SharedFolder(root, writable);
}

class SharedFolder implements FileTree {
  readonly #root: string;
  readonly #writable: boolean;

  constructor(root: string, writable: boolean) {
    this.#root = root;
    this.#writable = writable;
  }

  status(path: Path): FileStatus {
    return guarded(() => statusOf(lstatSync(this.#host(path), { bigint: true })));
  }

  list(path: Path): readonly FileEntry[] {
    return guarded(() => {
      const folder = this.#folder(path);
      return readdirSync(folder, { withFileTypes: true })
        .filter(({ name }) => isHostName(name))
        .map((entry) => ({
          name: entry.name,
          kind: kindOf(entry),
          identity: lstatSync(folder + sep + entry.name, { bigint: true }).ino,
        }));
    });
  }

  readLink(path: Path): string {
    return guarded(() => readlinkSync(this.#host(path)));
  }

  open(path: Path, writing: boolean): OpenFile {
    if (writing) this.#mayWrite();
    return guarded(() => openFile(openRegular(this.#host(path), writing)));
  }

  create(path: Path, mode: number): OpenFile {
    this.#mayWrite();
    return guarded(() =>
      openFile(openSync(this.#host(path), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode & 0o777)),
    );
  }

  makeFolder(path: Path, mode: number): void {
    this.#mayWrite();
    guarded(() => mkdirSync(this.#host(path), mode & 0o777));
  }

  makeLink(path: Path, target: string): void {
    this.#mayWrite();
    guarded(() => symlinkSync(target, this.#host(path)));
  }

  remove(path: Path, folder: boolean): void {
    this.#mayWrite();
    guarded(() => (folder ? rmdirSync : unlinkSync)(this.#host(path)));
  }

  rename(from: Path, to: Path): void {
    this.#mayWrite();
    guarded(() => renameSync(this.#host(from), this.#host(to)));
  }

  change(path: Path, { mode, size, accessed, modified }: Changes): void {
    this.#mayWrite();
    guarded(() => {
      const host = this.#host(path);
      const before = lstatSync(host, { bigint: true });
      if (size !== undefined) withOpen(openRegular(host, true), (file) => ftruncateSync(file, size));
      if (mode !== undefined) {
        const flags = before.isDirectory() ? O_RDONLY | O_DIRECTORY | O_NOFOLLOW : undefined;
        const file = flags === undefined ? openRegular(host, false) : openSync(host, flags);
        withOpen(file, () => fchmodSync(file, mode & 0o777));
      }
      if (accessed !== undefined || modified !== undefined)
        lutimesSync(host, seconds(accessed, before.atimeNs), seconds(modified, before.mtimeNs));
    });
  }

  #mayWrite(): void {
    if (!this.#writable) throw new FileError('EROFS');
  }

  /** The host's path of a file; every folder on the way to it is one, and no link. */
  #host(path: Path): string {
    let host = this.#root;
    path.forEach((name, i) => {
      if (!isHostName(name)) throw new FileError('EINVAL');
      if (i > 0 && !lstatSync(host).isDirectory()) throw new FileError('ENOTDIR');
      host += sep + name;
    });
    return host;
  }

  #folder(path: Path): string {
    const host = this.#host(path);
    if (!lstatSync(host).isDirectory()) throw new FileError('ENOTDIR');
    return host;
  }
}

/** A name of the host's: besides what every name is, without its separator, and of UTF-8. */
function isHostName(name: string): boolean {
  return isName(name) && !name.includes(sep) && !name.includes('\ufffd');
}

/** Opens a regular file, and nothing else: opening a device or a pipe can do things or wait. */
function openRegular(host: string, writing: boolean): number {
  const { isFile } = checkKind(lstatSync(host));
  if (!isFile) throw new FileError('EPERM');
  const file = openSync(host, (writing ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK);
  if (fstatSync(file).isFile()) return file;
  closeSync(file);
  throw new FileError('EPERM');
}

function checkKind(status: { isFile(): boolean; isDirectory(): boolean; isSymbolicLink(): boolean }) {
  if (status.isDirectory()) throw new FileError('EISDIR');
  if (status.isSymbolicLink()) throw new FileError('ELOOP');
  return { isFile: status.isFile() };
}

function openFile(file: number): OpenFile {
  return {
    read: (offset, bytes) => guarded(() => readSync(file, bytes, 0, bytes.length, offset)),
    write: (offset, bytes) => guarded(() => writeSync(file, bytes, 0, bytes.length, offset)),
    status: () => guarded(() => statusOf(fstatSync(file, { bigint: true }))),
    resize: (size) => guarded(() => ftruncateSync(file, size)),
    synchronize: () => guarded(() => fsyncSync(file)),
    close: () => closeSync(file),
  };
}

function withOpen(file: number, action: (file: number) => void): void {
  try {
    action(file);
  } finally {
    closeSync(file);
  }
}

function statusOf(status: BigIntStats): FileStatus {
  return {
    kind: kindOf(status),
    mode: Number(status.mode) & 0o777,
    size: Number(status.size),
    links: Number(status.nlink),
    identity: status.ino,
    accessed: status.atimeNs,
    modified: status.mtimeNs,
    changed: status.ctimeNs,
  };
}

function kindOf(entry: Dirent | BigIntStats): FileKind {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'folder';
  return entry.isSymbolicLink() ? 'link' : 'other';
}

function seconds(time: bigint | 'now' | undefined, before: bigint): number {
  if (time === 'now') return Date.now() / 1000;
  return Number(time ?? before) / 1e9;
}

/** Errors of the system as the guest is told of them. */
function guarded<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof FileError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    throw new FileError(Object.hasOwn(ERRORS, code) ? (code as ErrorName) : 'EIO');
  }
}
