/** Linux on four processors. */
import { it } from 'vitest';
import { BOOT_TIMEOUT, expectShell, hasLinux } from './boot.fixture.ts';

it.skipIf(!hasLinux)('boots to a shell', () => expectShell(4, 'console=ttyS0'), BOOT_TIMEOUT);
