/** Linux on one processor. */
import { expect, it } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { BOOT_TIMEOUT, eachKernel, expectShell, folders, vmlinuz } from './boot.fixture.ts';

eachKernel('%s', (folder) => {
  it(
    'boots to a shell, whatever else its command line says',
    () => expectShell(folder, 1, 'console=ttyS0 mem=lots =x foo.bar=1 \x7f\t ,,, nonsense="unbalanced'),
    BOOT_TIMEOUT,
  );
});

it.skipIf(folders.length === 0)(
  'a kernel with damaged content says so and halts',
  () => {
    const image = Uint8Array.from(vmlinuz(folders[0] ?? ''));
    // Somewhere in the compressed kernel.
    image.fill(0x5a, image.length >> 1, (image.length >> 1) + 64);
    const machine = Machine.create({ memory: 512 });
    let output = '';
    machine.serial.onOutput = (byte) => {
      output += String.fromCharCode(byte);
    };
    machine.boot(image, { commandLine: 'earlyprintk=ttyS0' });
    const stop = machine.run({ maxInstructions: 5e9 });
    expect(output).toMatch(/-- System halted/);
    expect(stop.reason).toBe('deadlock');
  },
  BOOT_TIMEOUT,
);
