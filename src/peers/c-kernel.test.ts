/** The C kernel does on the peers what it does on our machine: both tasks go on, and print what they must. */
import { describe, expect, it } from 'vitest';
import { buildCKernel, cKernelHere, readCKernelOutput } from '../check/subjects/c-kernel.fixture.ts';
import { availablePeers } from './index.ts';

const LINES = 40;
const here = cKernelHere();

describe.skipIf(!here).each(availablePeers())('$version', (peer) => {
  it('runs the C kernel', async () => {
    let lines = 0;
    const { serial, ended, log } = await peer.run(buildCKernel(), {
      until: () => ++lines >= LINES,
      timeout: 60,
    });
    expect(ended, `${peer.name} did not get so far: ${log}`).toBe('last-line');
    const { a, b } = readCKernelOutput(serial);
    expect(Math.min(a, b)).toBeGreaterThan(5);
  });
});
