/** Interleavings from the command line: verdicts and statuses, formats, Ctrl-C, and what is refused. */
import { describe, expect, it } from 'vitest';
import { windowNames } from '../check/interleave/builtin.ts';
import { capturedIo } from './io.fixture.ts';
import { espfix } from './program.ts';

async function run(...args: string[]) {
  const io = capturedIo('');
  const status = await espfix(['check', '--interleavings', ...args], io);
  return { status, out: io.out(), err: io.err() };
}

describe('interleavings', () => {
  it('of a sound kernel are clean, window by window, status 0', async () => {
    const { status, out } = await run(
      '--variant',
      'linux',
      '--window',
      'returns',
      'threads',
      '--preemptions',
      '1',
    );
    expect(status).toBe(0);
    expect(out).toMatch(
      /^linux, 2 processors: clean\n {2}all return to a 16-bit stack\n {2}every schedule with up to 1 preemption; 0 dwords shared; /,
    );
    expect(out).toMatch(
      /\n\nlinux, 2 processors: clean\n {2}threads of one process: .*\n.*; 4 dwords shared; /,
    );
  });

  it('of a kernel with a fault show the shortest schedule, status 1', async () => {
    const { status, out } = await run('--variant', 'static-bool-early', '--window', 'set-up');
    expect(status).toBe(1);
    expect(out).toMatch(/^static-bool-early, 2 processors: findings\n/);
    expect(out).toMatch(
      /\n {2}1\. progress: #PF in kernel mode \(1 preemption\)\n {5}CPU \d at .*\n {5}CPU \d runs [\d,]+ instructions, to \S+\n/,
    );
  });

  it('are every window by default, and JSON if asked', async () => {
    const { status, out } = await run(
      '--variant',
      'linux',
      '--preemptions',
      '0',
      '--format',
      'json',
      '--cpus',
      '3',
    );
    expect(status).toBe(0);
    const { version, interleavings } = JSON.parse(out);
    expect(version).toMatch(/^\d+\.\d+\.\d+/);
    expect(interleavings.length).toBe(windowNames.length);
    for (const one of interleavings)
      expect(one).toMatchObject({
        subject: 'linux',
        cpus: 3,
        verdict: 'clean',
        bounds: [{ complete: true }],
      });
  });

  it('that were cut short say so, status 130', async () => {
    const io = capturedIo('');
    const args = ['--variant', 'static-bool', '--window', 'returns', 'set-up', '--preemptions', '2'];
    const ended = espfix(['check', '--interleavings', ...args], io);
    setImmediate(() => io.interrupt());
    expect(await ended).toBe(130);
    expect(io.out()).toMatch(/inconclusive\n.*\n {2}not every schedule/);
  });

  it.each([
    [[], /--interleavings: expected --variant/],
    [['--variant', 'nope'], /--variant nope: unknown/],
    [['--variant', 'none-pae'], /--variant none-pae: expected a 64-bit kernel/],
    [['--variant', 'linux', '--cpus', '1'], /--cpus: expected 2 or more/],
    [['--variant', 'linux', '--window', 'door'], /--window door: unknown, expected one of set-up, /],
    [['--variant', 'linux', '--depth', '1'], /--depth: not with --interleavings/],
    [['--variant', 'linux', '--format', 'html'], /--format html: expected text or json/],
    [['--variant', 'linux', '--preemptions', '9'], /--preemptions.*expected a whole number from 0 to 8/],
    [['image.elf'], /--interleavings: expected --variant, not an image/],
  ])('%j: refused in one line, status 2', async (args, line) => {
    const { status, out, err } = await run(...args);
    expect([status, out]).toEqual([2, '']);
    expect(err).toMatch(line);
    expect(err.trim().split('\n').length).toBe(1);
  });

  it('have options of their own', async () => {
    const io = capturedIo('');
    expect(await espfix(['check', '--variant', 'linux', '--preemptions', '1'], io)).toBe(2);
    expect(io.err()).toMatch(/--preemptions: only with --interleavings/);
  });
});
