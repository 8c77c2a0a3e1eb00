/** The program on this computer's processor and kernel, and what it is packed into. */
import { spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { hostUnfit, placeExecutable } from '../../silicon/native.node.ts';
import { linuxInitramfs, linuxProgram, SAYS } from './program.ts';

const MOST = 20_000;

/** What it prints until one of the texts comes, or it ends. */
function said(until: readonly string[]): Promise<string> {
  const { path, remove } = placeExecutable(linuxProgram());
  return new Promise((resolve, reject) => {
    let text = '';
    const child = spawn(path, { stdio: ['ignore', 'pipe', 'inherit'], timeout: MOST });
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString('latin1');
      if (until.some((one) => text.includes(one))) child.kill('SIGKILL');
    });
    child.on('error', reject);
    child.on('close', () => {
      remove();
      resolve(text);
    });
  });
}

it.skipIf(hostUnfit())('comes back from each return to a 16-bit stack with ESP as it was', async (test) => {
  const text = await said([SAYS.ready, SAYS.refused]);
  if (text.includes(SAYS.refused)) test.skip('the kernel here has no 16-bit segments');
  expect(text).toBe(`${SAYS.ready}\n`);
});

it('is /init of the initial RAM file system', () => {
  const archive = Buffer.from(linuxInitramfs());
  expect(archive.includes(Buffer.from(linuxProgram()))).toBe(true);
  expect(archive.includes('init\0')).toBe(true);
  expect(archive.includes('dev/console\0')).toBe(true);
});
