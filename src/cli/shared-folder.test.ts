/** A shared folder through the 9P server, as a guest reaches it; and what a guest may try to get out of it. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { ERRORS, type ErrorName, FileError } from '../machine/devices/virtio/9p/file-tree.ts';
import { AnswerWriter, RequestReader } from '../machine/devices/virtio/9p/message.ts';
import { NineServer } from '../machine/devices/virtio/9p/server.ts';
import { shareFolder } from './shared-folder.ts';

const base = mkdtempSync(join(tmpdir(), 'espfix-share-'));
afterAll(() => rmSync(base, { recursive: true }));

const SECRET = 'outside the share';
let folder: string;
let count = 0;

/** Request types. */
const [LOPEN, LCREATE, SYMLINK, MKNOD, READLINK, GETATTR, SETATTR] = [12, 14, 16, 18, 22, 24, 26];
const [READDIR, LINK, MKDIR, RENAMEAT, UNLINKAT, VERSION, ATTACH] = [40, 70, 72, 74, 76, 100, 104];
const [WALK, READ, WRITE, CLUNK] = [110, 116, 118, 120];
const ROOT = 0;
const NO_FID = 0xffff_ffff;
const READ_WRITE = 2;

/** A client that has attached to the root with fid 0. */
class Client {
  readonly server: NineServer;
  #next = 1;

  constructor(server: NineServer) {
    this.server = server;
    this.ask(VERSION, (m) => m.u32(8192).text('9P2000.L'));
    this.ask(ATTACH, (m) => m.u32(ROOT).u32(NO_FID).text('').text('').u32(0));
  }

  /** The answer, behind its header. Throws a FileError of the number that the server gives. */
  ask(type: number, body: (message: AnswerWriter) => AnswerWriter): RequestReader {
    const answer = new RequestReader(this.server.answer(body(new AnswerWriter()).finish(type, 1)));
    answer.u32();
    const kind = answer.u8();
    expect(answer.u16()).toBe(1);
    if (kind === 7) {
      const number = answer.u32();
      const name = (Object.keys(ERRORS) as ErrorName[]).find((each) => ERRORS[each] === number);
      throw new FileError(name ?? 'EIO');
    }
    expect(kind).toBe(type + 1);
    return answer;
  }

  walk(...names: string[]): number {
    const fid = this.#next++;
    const answer = this.ask(WALK, (m) => {
      m.u32(ROOT).u32(fid).u16(names.length);
      for (const name of names) m.text(name);
      return m;
    });
    if (answer.u16() < names.length) throw new FileError('ENOENT');
    return fid;
  }

  open(fid: number, flags = 0): number {
    this.ask(LOPEN, (m) => m.u32(fid).u32(flags));
    return fid;
  }

  read(fid: number, offset = 0): string {
    const answer = this.ask(READ, (m) => m.u32(fid).u64(offset).u32(4096));
    return new TextDecoder().decode(answer.bytes(answer.u32()));
  }

  write(fid: number, offset: number, text: string): number {
    const bytes = new TextEncoder().encode(text);
    return this.ask(WRITE, (m) => m.u32(fid).u64(offset).u32(bytes.length).bytes(bytes)).u32();
  }

  names(...path: string[]): string[] {
    const fid = this.open(this.walk(...path));
    const answer = this.ask(READDIR, (m) => m.u32(fid).u64(0).u32(8000));
    const list = new RequestReader(answer.bytes(answer.u32()));
    const names: string[] = [];
    for (;;) {
      try {
        list.bytes(13 + 8 + 1);
      } catch {
        return names.sort();
      }
      names.push(list.text());
    }
  }
}

const client = (writable = false) => new Client(new NineServer(shareFolder(folder, writable)));
const errorOf = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    if (error instanceof FileError) return error.message;
    throw error;
  }
  return 'none';
};

beforeEach(() => {
  const place = join(base, `${count++}`);
  folder = join(place, 'share');
  mkdirSync(join(folder, 'sub'), { recursive: true });
  writeFileSync(join(place, 'secret'), SECRET);
  mkdirSync(join(place, 'elsewhere'));
  writeFileSync(join(place, 'elsewhere', 'file'), SECRET);
  writeFileSync(join(folder, 'hello'), 'hello, guest');
  writeFileSync(join(folder, 'sub', 'deep'), 'deep');
  symlinkSync('../secret', join(folder, 'link-to-secret'));
  symlinkSync('../elsewhere', join(folder, 'link-to-folder'));
  symlinkSync('hello', join(folder, 'link-inside'));
});

describe('what a guest sees', () => {
  it('files, folders and links', () => {
    const guest = client();
    expect(guest.names()).toEqual([
      '.',
      '..',
      'hello',
      'link-inside',
      'link-to-folder',
      'link-to-secret',
      'sub',
    ]);
    expect(guest.read(guest.open(guest.walk('hello')))).toBe('hello, guest');
    expect(guest.read(guest.open(guest.walk('sub', 'deep')), 2)).toBe('ep');
    const target = guest.ask(READLINK, (m) => m.u32(guest.walk('link-inside')));
    expect(target.text()).toBe('hello');
  });

  it('attributes: type and mode, root as the owner, the size', () => {
    const answer = client().ask(GETATTR, (m) => m.u32(ROOT).u64(0x7ffn));
    answer.bytes(8 + 13);
    expect([answer.u32() & 0o170000, answer.u32(), answer.u32()]).toEqual([0o040000, 0, 0]);
  });

  it('a folder of many files comes in parts', () => {
    for (let i = 0; i < 500; i++) writeFileSync(join(folder, 'sub', `file-${i}`), '');
    const guest = client();
    const fid = guest.open(guest.walk('sub'));
    const names = new Set<string>();
    for (let offset = 0n; ; ) {
      const answer = guest.ask(READDIR, (m) => m.u32(fid).u64(offset).u32(1000));
      const length = answer.u32();
      if (length === 0) break;
      const list = new RequestReader(answer.bytes(length));
      for (let at = 0; at < length; ) {
        list.bytes(13);
        offset = list.u64();
        list.u8();
        const name = list.text();
        names.add(name);
        at += 13 + 8 + 1 + 2 + name.length;
      }
    }
    expect(names.size).toBe(503);
  });
});

describe('what a guest changes', () => {
  it('is refused unless it may', () => {
    const guest = client();
    const tries = [
      () => guest.open(guest.walk('hello'), READ_WRITE),
      () => guest.ask(MKDIR, (m) => m.u32(ROOT).text('new').u32(0o755).u32(0)),
      () => guest.ask(UNLINKAT, (m) => m.u32(ROOT).text('hello').u32(0)),
      () => guest.ask(RENAMEAT, (m) => m.u32(ROOT).text('hello').u32(ROOT).text('x')),
      () => guest.ask(SYMLINK, (m) => m.u32(ROOT).text('x').text('y').u32(0)),
      () => guest.ask(LCREATE, (m) => m.u32(guest.walk()).text('x').u32(2).u32(0o644).u32(0)),
      () => guest.ask(SETATTR, (m) => setSize(m.u32(guest.walk('hello')), 0)),
    ];
    expect(tries.map(errorOf)).toEqual(tries.map(() => 'EROFS'));
    expect(readFileSync(join(folder, 'hello'), 'utf8')).toBe('hello, guest');
  });

  it('is there on the host', () => {
    const guest = client(true);
    guest.ask(MKDIR, (m) => m.u32(ROOT).text('new').u32(0o755).u32(0));
    const fid = guest.walk('new');
    guest.ask(LCREATE, (m) => m.u32(fid).text('file').u32(READ_WRITE).u32(0o640).u32(0));
    expect(guest.write(fid, 0, 'abcdef')).toBe(6);
    guest.ask(SETATTR, (m) => setSize(m.u32(fid), 3));
    expect(readFileSync(join(folder, 'new', 'file'), 'utf8')).toBe('abc');
    // What is open stays so under another name.
    guest.ask(RENAMEAT, (m) => m.u32(ROOT).text('new').u32(ROOT).text('newer'));
    expect(guest.write(fid, 3, 'DEF')).toBe(3);
    expect(guest.read(guest.open(guest.walk('newer', 'file')))).toBe('abcDEF');
    guest.ask(UNLINKAT, (m) => m.u32(guest.walk('newer')).text('file').u32(0));
    guest.ask(UNLINKAT, (m) => m.u32(ROOT).text('newer').u32(0x200));
    expect(existsSync(join(folder, 'newer'))).toBe(false);
  });

  it('a file that is open is one still when it has lost its name', () => {
    const guest = client(true);
    const fid = guest.open(guest.walk('hello'), READ_WRITE);
    guest.ask(UNLINKAT, (m) => m.u32(ROOT).text('hello').u32(0));
    guest.ask(SETATTR, (m) => setSize(m.u32(fid), 5));
    expect(guest.read(fid)).toBe('hello');
    const attributes = guest.ask(GETATTR, (m) => m.u32(fid).u64(0x7ffn));
    attributes.bytes(8 + 13 + 4 + 4 + 4);
    expect([attributes.u64(), attributes.u64(), attributes.u64()]).toEqual([0n, 0n, 5n]);
    expect(existsSync(join(folder, 'hello'))).toBe(false);
  });

  it('survives a snapshot', () => {
    const tree = shareFolder(folder, true);
    const before = new Client(new NineServer(tree));
    const fid = before.open(before.walk('hello'), READ_WRITE);
    const server = new NineServer(tree);
    const state = before.server.save();
    before.ask(CLUNK, (m) => m.u32(fid));
    before.server.restore(state);
    expect(before.read(fid)).toBe('hello, guest');
    server.restore(state);
    expect(server.save()).toEqual(state);
  });
});

/** Tsetattr's fields, of which only the size is valid. */
function setSize(message: AnswerWriter, size: number): AnswerWriter {
  message.u32(8).u32(0).u32(0).u32(0).u64(size);
  for (let i = 0; i < 4; i++) message.u64(0);
  return message;
}

describe('ways out', () => {
  it.each<[string, (guest: Client) => unknown, string]>([
    ['a name with slashes', (guest) => guest.walk('../secret'), 'EINVAL'],
    ['an absolute name', (guest) => guest.walk('/etc/passwd'), 'EINVAL'],
    ['a name with a zero', (guest) => guest.walk('a\0b'), 'EINVAL'],
    ['an empty name', (guest) => guest.walk(''), 'EINVAL'],
    ['a link to a file', (guest) => guest.open(guest.walk('link-to-secret')), 'ELOOP'],
    ['a link to a folder', (guest) => guest.walk('link-to-folder', 'file'), 'ENOENT'],
    ['making something behind a link', (guest) => makeFolder(guest, 'link-to-folder'), 'ENOTDIR'],
    ['truncating behind a link', (guest) => truncate(guest, 'link-to-secret'), 'ELOOP'],
    ['making `..`', (guest) => makeFolder(guest, undefined, '..'), 'EINVAL'],
    ['making what is elsewhere', (guest) => makeFolder(guest, undefined, '../new'), 'EINVAL'],
    [
      'renaming to elsewhere',
      (guest) => guest.ask(RENAMEAT, (m) => m.u32(ROOT).text('hello').u32(ROOT).text('../taken')),
      'EINVAL',
    ],
    [
      'removing elsewhere',
      (guest) => guest.ask(UNLINKAT, (m) => m.u32(ROOT).text('../secret').u32(0)),
      'EINVAL',
    ],
    [
      'a device node',
      (guest) => guest.ask(MKNOD, (m) => m.u32(ROOT).text('null').u32(0o020666).u32(1).u32(3).u32(0)),
      'EOPNOTSUPP',
    ],
    ['a hard link', (guest) => guest.ask(LINK, (m) => m.u32(ROOT).u32(ROOT).text('x')), 'EOPNOTSUPP'],
  ])('%s', (_name, attempt, error) => {
    expect(errorOf(() => attempt(client(true)))).toBe(error);
    expect(readFileSync(join(folder, '..', 'secret'), 'utf8')).toBe(SECRET);
    expect(existsSync(join(folder, '..', 'elsewhere', 'made'))).toBe(false);
  });

  it('`..` from the root is the root, and a folder’s is above it', () => {
    const guest = client();
    const attributes = (fid: number) => {
      const answer = guest.ask(GETATTR, (m) => m.u32(fid).u64(0x7ffn));
      return [...answer.bytes(8 + 13)];
    };
    expect(attributes(guest.walk('..', '..'))).toEqual(attributes(ROOT));
    expect(attributes(guest.walk('sub', '..', '..', '..'))).toEqual(attributes(ROOT));
  });

  it('a link made by the guest itself is not followed either', () => {
    const guest = client(true);
    guest.ask(SYMLINK, (m) => m.u32(ROOT).text('mine').text('/etc/passwd').u32(0));
    expect(lstatSync(join(folder, 'mine')).isSymbolicLink()).toBe(true);
    expect(errorOf(() => guest.open(guest.walk('mine')))).toBe('ELOOP');
    // Nor where a folder that the guest has entered has become one.
    const fid = guest.walk('sub');
    guest.ask(RENAMEAT, (m) => m.u32(ROOT).text('sub').u32(ROOT).text('was-sub'));
    guest.ask(SYMLINK, (m) => m.u32(ROOT).text('sub').text('../elsewhere').u32(0));
    const made = guest.ask(MKDIR, (m) => m.u32(fid).text('made').u32(0o755).u32(0));
    expect(made.bytes(13)).toHaveLength(13);
    expect(existsSync(join(folder, '..', 'elsewhere', 'made'))).toBe(false);
    expect(existsSync(join(folder, 'was-sub', 'made'))).toBe(true);
  });

  it('pipes and devices are seen but not opened', () => {
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    const guest = client(true);
    expect(guest.names()).toContain('pipe');
    expect(errorOf(() => guest.open(guest.walk('pipe')))).toBe('EPERM');
    expect(errorOf(() => guest.open(guest.walk('pipe'), READ_WRITE))).toBe('EPERM');
  });

  it('a state that a file gives leads nowhere else', () => {
    const server = new NineServer(shareFolder(folder, true));
    const state = [
      8192,
      [
        [1, ['..', 'secret'], true, true],
        [2, ['../secret'], true, true],
        [3, ['link-to-secret'], true, false],
        [4, 'x', true, true],
      ],
    ];
    server.restore(new TextEncoder().encode(JSON.stringify(state)));
    for (const fid of [1, 2, 3, 4]) {
      const answer = server.answer(new AnswerWriter().u32(fid).u64(0).u32(100).finish(READ, 1));
      expect(answer[4]).toBe(7);
    }
    server.restore(new TextEncoder().encode('not JSON'));
    expect(server.save()).toHaveLength(0);
  });
});

function makeFolder(guest: Client, within: string | undefined, name = 'made'): unknown {
  const fid = within === undefined ? ROOT : guest.walk(within);
  return guest.ask(MKDIR, (m) => m.u32(fid).text(name).u32(0o755).u32(0));
}

function truncate(guest: Client, name: string): unknown {
  return guest.ask(SETATTR, (m) => setSize(m.u32(guest.walk(name)), 0));
}

it('whatever is asked, there is an answer of its own length, and nothing outside is touched', () => {
  const guest = client(true);
  const types = [
    12, 14, 16, 18, 20, 22, 24, 26, 30, 40, 50, 52, 54, 72, 74, 76, 108, 110, 116, 118, 120, 122,
  ];
  const word = fc.oneof(fc.constantFrom(0, 1, 2, 0xff, 0xffff_ffff), fc.nat());
  const piece = fc.oneof(
    word.map((value) => new AnswerWriter().u32(value)),
    fc
      .constantFrom('..', '../secret', 'hello', 'sub', '', 'new')
      .map((text) => new AnswerWriter().text(text)),
  );
  fc.assert(
    fc.property(fc.constantFrom(...types), fc.array(piece, { maxLength: 8 }), (type, pieces) => {
      const message = new AnswerWriter();
      for (const each of pieces) message.bytes(each.finish(0, 0).subarray(7));
      const answer = guest.server.answer(message.finish(type, 5));
      const view = new DataView(answer.buffer, answer.byteOffset);
      expect(view.getUint32(0, true)).toBe(answer.length);
      expect([type + 1, 7]).toContain(answer[4]);
    }),
    { numRuns: 500 },
  );
  expect(readFileSync(join(folder, '..', 'secret'), 'utf8')).toBe(SECRET);
});

it('something that is no folder cannot be shared', () => {
  expect(() => shareFolder(join(folder, 'hello'), false)).toThrow(/hello: expected a folder/);
  expect(() => shareFolder(join(folder, 'absent'), false)).toThrow(/absent: no such file/);
});
