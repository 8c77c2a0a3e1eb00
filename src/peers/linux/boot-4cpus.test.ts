/** Linux on four processors. */
import { it } from 'vitest';
import { BOOT_TIMEOUT, eachKernel, expectShell } from './boot.fixture.ts';

eachKernel('%s', (folder) => {
  it('boots to a shell', () => expectShell(folder, { cpus: 4, commandLine: 'console=ttyS0' }), BOOT_TIMEOUT);
});
