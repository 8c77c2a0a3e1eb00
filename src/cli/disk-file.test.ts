/** Disk images: what is refused, where writes go, and a file that changes under the guest. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { openDisk } from './disk-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'espfix-disk-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'disk');

let lines: string[];
const open = (writable = false) => openDisk(file, writable, (line) => lines.push(line));

beforeEach(() => {
  lines = [];
  writeFileSync(file, new Uint8Array(4096).fill(0x55));
});

describe('refused in one line', () => {
  it.each<[string, () => void, RegExp]>([
    ['a file that is not there', () => rmSync(file), /disk: no such file or directory$/],
    ['a folder', () => openFolder(), /: (expected a regular file|is a directory, expected a file)$/],
    ['an empty file', () => truncateSync(file, 0), /disk: 0 bytes, expected a multiple of 512/],
    ['part of a sector', () => truncateSync(file, 1000), /disk: 1000 bytes, expected a multiple of 512/],
    [
      'a pipe',
      () => {
        rmSync(file);
        execFileSync('mkfifo', [file]);
      },
      /disk: expected a regular file$/,
    ],
  ])('%s', (_name, prepare, message) => {
    try {
      expect(() => {
        prepare();
        open();
      }).toThrow(message);
    } finally {
      rmSync(file, { force: true });
    }
  });
});

const openFolder = () => openDisk(folder, false, () => {});

it('is read and written where it is asked to', () => {
  const disk = open(true);
  const bytes = new Uint8Array(512);
  expect([disk.size, disk.read(512, bytes), bytes[0]]).toEqual([4096, true, 0x55]);
  expect([disk.write(1024, new Uint8Array(512).fill(1)), disk.flush()]).toEqual([true, true]);
  disk.close();
  const after = readFileSync(file);
  expect([after.length, after[1023], after[1024], after[1535], after[1536]]).toEqual([
    4096, 0x55, 1, 1, 0x55,
  ]);
});

it('that shrinks gives errors, one line for all of them, and does not grow again', () => {
  const disk = open(true);
  truncateSync(file, 1024);
  const bytes = new Uint8Array(512);
  expect([
    disk.read(2048, bytes),
    disk.read(3072, bytes),
    disk.write(3072, bytes),
    disk.read(0, bytes),
  ]).toEqual([false, false, false, true]);
  expect(lines).toEqual([`${file}: cannot be read: the file has become shorter`]);
  disk.close();
  expect(readFileSync(file)).toHaveLength(1024);
});
