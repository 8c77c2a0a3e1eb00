/** The runners themselves: a tiny guest boots on each peer, is read and is ended. */
import { describe, expect, it } from 'vitest';
import { helloImage } from './flat-image.fixture.ts';
import { availablePeers } from './index.ts';
import { LineReader } from './peer.ts';

const peers = availablePeers();
/** In CI a missing peer is a failure; elsewhere its tests are skipped, visibly. */
const required = process.env.CI !== undefined && process.env.CI !== '';

describe.each(['qemu', 'bochs'] as const)('%s', (name) => {
  const peer = peers.find((p) => p.name === name);

  it.skipIf(!required && peer === undefined)('is installed', () => {
    expect(peer, `${name} is not installed`).toBeDefined();
  });

  it.skipIf(peer === undefined)('prints what the guest prints and ends at its last line', async () => {
    const lines: string[] = [];
    const run = await peer?.run(helloImage('one\r\nlast\r\nnever', 3), {
      cpus: 2,
      until: (line) => {
        lines.push(line);
        return line === 'last';
      },
    });
    expect(lines.slice(0, 2)).toEqual(['one', 'last']);
    expect(run).toMatchObject({ ended: 'last-line', status: undefined });
    expect(run?.serial).toMatch(/^one\r\nlast\r\n/);
  });

  it.skipIf(peer === undefined)('ends a guest that never does', async () => {
    const run = await peer?.run(helloImage('', 0), { until: () => false, timeout: 1 });
    // QEMU has a debug-exit port, so this guest does end there, with (0 << 1) | 1.
    expect(run?.ended).toBe(name === 'qemu' ? 'exit' : 'timeout');
    expect(run?.status).toBe(name === 'qemu' ? 1 : undefined);
  });
});

describe('LineReader', () => {
  it('joins pieces into lines and sees the last one', () => {
    const seen: string[] = [];
    const reader = new LineReader({
      until: (line) => {
        seen.push(line);
        return line === 'end';
      },
    });
    expect(['a', 'b\r', '\nc\n\n', 'en', 'd', '\nrest'].map((piece) => reader.push(piece))).toEqual([
      false,
      false,
      false,
      false,
      false,
      true,
    ]);
    expect(seen).toEqual(['ab', 'c', '', 'end']);
    expect(reader.text).toBe('ab\r\nc\n\nend\nrest');
  });
});
