/** Linux on one processor. */
import { expect, it } from 'vitest';
import { kernelSymbols } from '../../check/linux/boot.ts';
import { Machine } from '../../machine/machine.ts';
import { BOOT_TIMEOUT, eachKernel, expectShell, folders, vmlinuz } from './boot.fixture.ts';

eachKernel('%s', (folder) => {
  it(
    'boots to a shell, whatever else its command line says; its symbols are found wherever it has moved itself',
    () => {
      const commandLine = 'console=ttyS0 mem=lots =x foo.bar=1 \x7f\t ,,, nonsense="unbalanced';
      const { machine, text } = expectShell(folder, { cpus: 1, commandLine, seed: 1 });
      if (text >> 32n !== 0n) expect(kernelSymbols(machine, undefined).address('_text')).toBe(text);
    },
    BOOT_TIMEOUT,
  );
});

it.skipIf(folders.length === 0)(
  'a kernel with damaged content says so and halts',
  () => {
    const image = Uint8Array.from(vmlinuz(folders[0] ?? ''));
    // The beginning of the compressed kernel (setup_sects, payload_offset), which no decompressor takes; not all of them see what
    // is amiss in the middle, as the kernel's own for gzip compares no checksum.
    const view = new DataView(image.buffer);
    const payload = (view.getUint8(0x1f1) + 1) * 512 + view.getUint32(0x248, true);
    image.fill(0x5a, payload, payload + 64);
    const machine = Machine.create({ memory: 512 });
    let output = '';
    machine.serial.onOutput = (byte) => {
      output += String.fromCharCode(byte);
    };
    machine.boot(image, { commandLine: 'earlyprintk=ttyS0' });
    const stop = machine.run({ maxInstructions: 5e9 });
    expect(output).toMatch(/-- System halted/);
    // It says so where it finds no other place for itself.
    expect(output).not.toMatch(/KASLR disabled/);
    expect(stop.reason).toBe('deadlock');
  },
  BOOT_TIMEOUT,
);
