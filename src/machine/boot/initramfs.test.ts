/** The archive, read back by what the format says. */
import { expect, it } from 'vitest';
import { initramfs } from './initramfs.ts';

interface Member {
  name: string;
  mode: number;
  data: string;
  device: [number, number];
}

function members(archive: Uint8Array): Member[] {
  const text = (from: number, to: number) => new TextDecoder().decode(archive.subarray(from, to));
  const found: Member[] = [];
  for (let at = 0; at < archive.length; ) {
    expect([at % 4, text(at, at + 6)]).toEqual([0, '070701']);
    const field = (n: number) => Number.parseInt(text(at + 6 + n * 8, at + 14 + n * 8), 16);
    const nameEnd = at + 110 + field(11);
    const dataAt = (nameEnd + 3) & ~3;
    const dataEnd = dataAt + field(6);
    found.push({
      name: text(at + 110, nameEnd - 1),
      mode: field(1),
      data: text(dataAt, dataEnd),
      device: [field(9), field(10)],
    });
    at = (dataEnd + 3) & ~3;
  }
  return found;
}

it('has each entry with its type and content, and a trailer', () => {
  const archive = initramfs([
    { kind: 'folder', name: 'dev' },
    { kind: 'character-device', name: 'dev/console', major: 5, minor: 1 },
    { kind: 'file', name: 'init', bytes: new TextEncoder().encode('#!/bin/sh\n'), executable: true },
    { kind: 'file', name: 'data', bytes: new TextEncoder().encode('1') },
    { kind: 'link', name: 'sh', target: 'busybox' },
  ]);
  expect(members(archive)).toEqual([
    { name: 'dev', mode: 0o040755, data: '', device: [0, 0] },
    { name: 'dev/console', mode: 0o020600, data: '', device: [5, 1] },
    { name: 'init', mode: 0o100755, data: '#!/bin/sh\n', device: [0, 0] },
    { name: 'data', mode: 0o100644, data: '1', device: [0, 0] },
    { name: 'sh', mode: 0o120777, data: 'busybox', device: [0, 0] },
    { name: 'TRAILER!!!', mode: 0, data: '', device: [0, 0] },
  ]);
});
