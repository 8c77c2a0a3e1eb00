/**
 * A 9P2000.L server over a tree of files. Plan 9 manual section 5 (9P2000); the diod project's protocol.md (the .L
 * dialect), which is what Linux's v9fs speaks.
 *
 * A client names files by numbers of its own (fids), each of which stands for a path. Open files are opened anew after a
 * snapshot has been restored. To the client everything belongs to root.
 */
import {
  type Changes,
  type FileEntry,
  FileError,
  type FileKind,
  type FileStatus,
  type FileTree,
  isName,
  type OpenFile,
  type Path,
} from './file-tree.ts';
import { AnswerWriter, RequestReader } from './message.ts';

/** Requests; each answer's type is one more. */
const T = {
  lerror: 6,
  statfs: 8,
  lopen: 12,
  lcreate: 14,
  symlink: 16,
  rename: 20,
  readlink: 22,
  getattr: 24,
  setattr: 26,
  xattrwalk: 30,
  readdir: 40,
  fsync: 50,
  lock: 52,
  getlock: 54,
  mkdir: 72,
  renameat: 74,
  unlinkat: 76,
  version: 100,
  attach: 104,
  flush: 108,
  walk: 110,
  read: 116,
  write: 118,
  clunk: 120,
  remove: 122,
} as const;

const VERSION = '9P2000.L';
export const LARGEST_MESSAGE = 512 * 1024;
const SMALLEST_MESSAGE = 4096;
/** Bytes of a message that are not data, at most. */
const OVERHEAD = 24;
const MOST_FIDS = 65_536;
const MOST_NAMES = 16;

/** Open flags of Linux. */
const ACCESS = 3;
const TRUNCATE = 0o1000;

const QID_FOLDER = 0x80;
const QID_LINK = 0x02;
/** File types of Linux, for modes; their upper four bits are those of directory entries. */
const TYPES: Readonly<Record<FileKind, number>> = {
  file: 0o100000,
  folder: 0o040000,
  link: 0o120000,
  other: 0o140000,
};

/** Attributes that are told: all but birth time, generation and data version. */
const TOLD = 0x7ffn;
const SET_MODE = 1;
const SET_OWNER = 2;
const SET_GROUP = 4;
const SET_SIZE = 8;
const SET_ACCESSED = 0x10;
const SET_MODIFIED = 0x20;
const SET_ACCESSED_TO = 0x80;
const SET_MODIFIED_TO = 0x100;
const REMOVE_FOLDER = 0x200;
const LOCKED = 0;
const UNLOCKED = 2;
const SECOND = 1_000_000_000n;
const BLOCK = 4096;

interface Fid {
  path: Path;
  /** It has been opened, for writing too. */
  opened: boolean;
  writing: boolean;
  /** What is open, where it is a file; absent after a restore until it is needed. */
  file?: OpenFile;
  /** The entries of an open folder, as they were when it was first read. */
  entries?: readonly FileEntry[];
}

export class NineServer {
  readonly #tree: FileTree;
  readonly #fids = new Map<number, Fid>();
  #messageSize = SMALLEST_MESSAGE;

  constructor(tree: FileTree) {
    this.#tree = tree;
  }

  /** Answers a request. */
  answer(request: Uint8Array): Uint8Array {
    const reader = new RequestReader(request);
    let tag = 0xffff;
    try {
      reader.u32();
      const type = reader.u8();
      tag = reader.u16();
      return this.#answer(type, reader).finish(type + 1, tag);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      return new AnswerWriter().u32(error.number).finish(T.lerror + 1, tag);
    }
  }

  /** The client is gone. */
  reset(): void {
    for (const fid of this.#fids.values()) fid.file?.close();
    this.#fids.clear();
    this.#messageSize = SMALLEST_MESSAGE;
  }

  /** The state in bytes; none before a client has come. */
  save(): Uint8Array {
    if (this.#fids.size === 0 && this.#messageSize === SMALLEST_MESSAGE) return new Uint8Array(0);
    const fids = [...this.#fids].map(([number, { path, opened, writing }]) => [
      number,
      path,
      opened,
      writing,
    ]);
    return new TextEncoder().encode(JSON.stringify([this.#messageSize, fids]));
  }

  /** @param state what `save` gave, or what a file says that it did: what makes no sense in it is left out. */
  restore(state: Uint8Array): void {
    this.reset();
    let parsed: unknown;
    try {
      parsed = JSON.parse(new TextDecoder().decode(state));
    } catch {
      return;
    }
    if (!Array.isArray(parsed) || !Array.isArray(parsed[1])) return;
    const [size, fids] = parsed as [unknown, unknown[]];
    if (typeof size === 'number' && size >= SMALLEST_MESSAGE && size <= LARGEST_MESSAGE)
      this.#messageSize = Math.floor(size);
    for (const entry of fids) {
      if (!Array.isArray(entry)) continue;
      const [number, path, opened, writing] = entry as unknown[];
      if (typeof number !== 'number' || !Array.isArray(path)) continue;
      if (!path.every((name): name is string => typeof name === 'string' && isName(name))) continue;
      this.#fids.set(number, { path, opened: opened === true, writing: writing === true });
    }
  }

  #answer(type: number, request: RequestReader): AnswerWriter {
    const answer = new AnswerWriter();
    switch (type) {
      case T.version:
        return this.#version(request, answer);
      case T.attach: {
        const number = request.u32();
        this.#add(number, []);
        return this.#qid(answer, this.#tree.status([]));
      }
      // Requests are answered before the next is looked at: there is nothing to flush.
      case T.flush:
        return answer;
      case T.walk:
        return this.#walk(request, answer);
      case T.clunk:
        this.#clunk(request.u32());
        return answer;
      case T.getattr:
        return this.#getAttributes(this.#fid(request.u32()), answer);
      case T.setattr:
        this.#setAttributes(request);
        return answer;
      case T.lopen:
        return this.#open(request, answer);
      case T.lcreate:
        return this.#create(request, answer);
      case T.read:
        return this.#read(request, answer);
      case T.write:
        return this.#write(request, answer);
      case T.readdir:
        return this.#readFolder(request, answer);
      case T.fsync:
        this.#file(this.#fid(request.u32()))?.synchronize();
        return answer;
      case T.readlink:
        return answer.text(this.#tree.readLink(this.#fid(request.u32()).path));
      case T.statfs:
        return this.#statistics(request, answer);
      case T.mkdir: {
        const path = this.#child(request);
        this.#tree.makeFolder(path, request.u32() & 0o777);
        return this.#qid(answer, this.#tree.status(path));
      }
      case T.symlink: {
        const path = this.#child(request);
        this.#tree.makeLink(path, request.text());
        return this.#qid(answer, this.#tree.status(path));
      }
      case T.unlinkat: {
        const path = this.#child(request);
        this.#tree.remove(path, (request.u32() & REMOVE_FOLDER) !== 0);
        return answer;
      }
      case T.remove: {
        const number = request.u32();
        const { path } = this.#fid(number);
        this.#clunk(number);
        this.#tree.remove(path, this.#tree.status(path).kind === 'folder');
        return answer;
      }
      case T.rename: {
        const from = this.#fid(request.u32()).path;
        this.#rename(from, this.#child(request));
        return answer;
      }
      case T.renameat: {
        const from = this.#child(request);
        this.#rename(from, this.#child(request));
        return answer;
      }
      // There is one client, so nobody else holds locks.
      case T.lock:
        return answer.u8(LOCKED);
      case T.getlock: {
        request.u32();
        request.u8();
        const [start, length, process] = [request.u64(), request.u64(), request.u32()];
        return answer.u8(UNLOCKED).u64(start).u64(length).u32(process).text(request.text());
      }
      default:
        throw new FileError('EOPNOTSUPP');
    }
  }

  #version(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const size = request.u32();
    const version = request.text();
    this.reset();
    if (size < SMALLEST_MESSAGE) throw new FileError('EINVAL');
    this.#messageSize = Math.min(size, LARGEST_MESSAGE);
    return answer.u32(this.#messageSize).text(version === VERSION ? VERSION : 'unknown');
  }

  #fid(number: number): Fid {
    const fid = this.#fids.get(number);
    if (!fid) throw new FileError('EBADF');
    return fid;
  }

  #add(number: number, path: Path): void {
    if (this.#fids.has(number)) throw new FileError('EBADF');
    if (this.#fids.size >= MOST_FIDS) throw new FileError('EMFILE');
    this.#fids.set(number, { path, opened: false, writing: false });
  }

  #clunk(number: number): void {
    this.#fid(number).file?.close();
    this.#fids.delete(number);
  }

  /** The path of a name in a folder that a fid stands for. */
  #child(request: RequestReader): Path {
    const { path } = this.#fid(request.u32());
    return [...path, checked(request.text())];
  }

  #walk(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const from = this.#fid(request.u32());
    const number = request.u32();
    const count = request.u16();
    if (from.opened || count > MOST_NAMES) throw new FileError('EINVAL');
    const names = Array.from({ length: count }, () => request.text());
    const statuses: FileStatus[] = [];
    let { path } = from;
    for (const name of names) {
      try {
        const next = name === '..' ? path.slice(0, -1) : [...path, checked(name)];
        statuses.push(this.#tree.status(next));
        path = next;
      } catch (error) {
        // As far as it went is an answer, but not if that is nowhere.
        if (!(error instanceof FileError) || statuses.length === 0) throw error;
        break;
      }
    }
    if (statuses.length === count) {
      if (number === this.#numberOf(from)) from.path = path;
      else this.#add(number, path);
    }
    answer.u16(statuses.length);
    for (const status of statuses) this.#qid(answer, status);
    return answer;
  }

  #numberOf(fid: Fid): number | undefined {
    for (const [number, one] of this.#fids) if (one === fid) return number;
    return undefined;
  }

  #open(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const fid = this.#fid(request.u32());
    const flags = request.u32();
    if (fid.opened) throw new FileError('EINVAL');
    const status = this.#tree.status(fid.path);
    const writing = (flags & ACCESS) !== 0;
    if (status.kind === 'folder') {
      if (writing) throw new FileError('EISDIR');
    } else {
      if (status.kind === 'link') throw new FileError('ELOOP');
      fid.file = this.#tree.open(fid.path, writing);
      if (flags & TRUNCATE && writing) this.#tree.change(fid.path, { size: 0 });
    }
    fid.opened = true;
    fid.writing = writing;
    return this.#qid(answer, status).u32(0);
  }

  #create(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const fid = this.#fid(request.u32());
    const path = [...fid.path, checked(request.text())];
    const flags = request.u32();
    const mode = request.u32() & 0o777;
    if (fid.opened) throw new FileError('EINVAL');
    fid.file = this.#tree.create(path, mode);
    fid.path = path;
    fid.opened = true;
    fid.writing = (flags & ACCESS) !== 0;
    return this.#qid(answer, this.#tree.status(path)).u32(0);
  }

  /** The open file of a fid, if it is one. */
  #file(fid: Fid): OpenFile | undefined {
    if (!fid.opened) throw new FileError('EBADF');
    if (!fid.file && this.#tree.status(fid.path).kind === 'file')
      fid.file = this.#tree.open(fid.path, fid.writing);
    return fid.file;
  }

  #read(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const fid = this.#fid(request.u32());
    const offset = fileOffset(request.u64());
    const bytes = new Uint8Array(Math.min(request.u32(), this.#messageSize - OVERHEAD));
    const file = this.#file(fid);
    if (!file) throw new FileError('EISDIR');
    const count = file.read(offset, bytes);
    return answer.u32(count).bytes(bytes.subarray(0, count));
  }

  #write(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const fid = this.#fid(request.u32());
    const offset = fileOffset(request.u64());
    const bytes = request.bytes(request.u32());
    const file = this.#file(fid);
    if (!file || !fid.writing) throw new FileError('EBADF');
    return answer.u32(file.write(offset, bytes));
  }

  #readFolder(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const fid = this.#fid(request.u32());
    const offset = request.u64();
    const most = Math.min(request.u32(), this.#messageSize - OVERHEAD);
    if (!fid.opened) throw new FileError('EBADF');
    if (offset === 0n || !fid.entries) fid.entries = this.#entries(fid.path);
    const list = new AnswerWriter();
    for (let i = Number(offset); i < fid.entries.length; i++) {
      const { name, kind, identity } = fid.entries[i];
      const FIXED = 13 + 8 + 1 + 2;
      if (list.length + FIXED + new TextEncoder().encode(name).length > most) break;
      this.#qid(list, { kind, identity });
      list
        .u64(i + 1)
        .u8(TYPES[kind] >> 12)
        .text(name);
    }
    const HEADER = 7;
    return answer.u32(list.length).bytes(list.finish(0, 0).subarray(HEADER));
  }

  #entries(path: Path): FileEntry[] {
    const self = (name: string, at: Path): FileEntry => ({
      name,
      kind: 'folder',
      identity: this.#tree.status(at).identity,
    });
    return [self('.', path), self('..', path.slice(0, -1)), ...this.#tree.list(path)];
  }

  #getAttributes(fid: Fid, answer: AnswerWriter): AnswerWriter {
    const status = fid.file?.status() ?? this.#tree.status(fid.path);
    answer.u64(TOLD);
    this.#qid(answer, status);
    answer
      .u32(TYPES[status.kind] | status.mode)
      .u32(0)
      .u32(0);
    answer
      .u64(status.links)
      .u64(0)
      .u64(status.size)
      .u64(BLOCK)
      .u64(Math.ceil(status.size / 512));
    for (const time of [status.accessed, status.modified, status.changed, 0n])
      answer.u64(time / SECOND).u64(time % SECOND);
    return answer.u64(0).u64(0);
  }

  #setAttributes(request: RequestReader): void {
    const { path, file, writing } = this.#fid(request.u32());
    const valid = request.u32();
    const mode = request.u32() & 0o777;
    const [owner, group] = [request.u32(), request.u32()];
    const size = request.u64();
    const accessed = request.u64() * SECOND + request.u64();
    const modified = request.u64() * SECOND + request.u64();
    // All belongs to root, and may be given to nobody else.
    if ((valid & SET_OWNER && owner !== 0) || (valid & SET_GROUP && group !== 0))
      throw new FileError('EPERM');
    const changes: Changes = {
      ...(valid & SET_MODE ? { mode } : {}),
      ...(valid & SET_SIZE && !(file && writing) ? { size: fileOffset(size) } : {}),
      ...(valid & SET_ACCESSED ? { accessed: valid & SET_ACCESSED_TO ? accessed : 'now' } : {}),
      ...(valid & SET_MODIFIED ? { modified: valid & SET_MODIFIED_TO ? modified : 'now' } : {}),
    };
    // What is open may have lost its name.
    if (valid & SET_SIZE && file && writing) file.resize(fileOffset(size));
    if (Object.keys(changes).length > 0) this.#tree.change(path, changes);
  }

  /** Nothing is told of the room on the host. */
  #statistics(request: RequestReader, answer: AnswerWriter): AnswerWriter {
    const V9FS_MAGIC = 0x0102_1997;
    const NAME_LENGTH = 255;
    this.#fid(request.u32());
    answer.u32(V9FS_MAGIC).u32(BLOCK);
    for (let i = 0; i < 6; i++) answer.u64(0);
    return answer.u32(NAME_LENGTH);
  }

  #rename(from: Path, to: Path): void {
    if (from.length === 0) throw new FileError('EBUSY');
    this.#tree.rename(from, to);
    for (const fid of this.#fids.values())
      if (from.every((name, i) => fid.path[i] === name)) fid.path = [...to, ...fid.path.slice(from.length)];
  }

  /** What tells a file from others: its type, version and number. */
  #qid(answer: AnswerWriter, { kind, identity }: { kind: FileKind; identity: bigint }): AnswerWriter {
    const type = kind === 'folder' ? QID_FOLDER : kind === 'link' ? QID_LINK : 0;
    return answer.u8(type).u32(0).u64(identity);
  }
}

function checked(name: string): string {
  if (!isName(name)) throw new FileError('EINVAL');
  return name;
}

function fileOffset(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FileError('EFBIG');
  return Number(value);
}
