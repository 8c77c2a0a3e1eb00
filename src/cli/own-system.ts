/** A Linux on our machine, whose console is talked to as that of a peer is. */
import { readFileSync } from 'node:fs';
import { Machine, type Stop } from '../machine/machine.ts';
import type { Snapshot } from '../machine/snapshot.ts';
import type { LinuxSystem } from '../peers/linux/run-peer.ts';
import type { System } from '../peers/linux/selftests/console.ts';
import { READY } from '../peers/linux/selftests/transcript.ts';
import { openDisk } from './disk-file.ts';

/** Its name among the machines. */
export const OWN = 'espfix';
const SLICE = 1_000_000;

function told(stop: Stop): string {
  if (stop.reason === 'unimplemented')
    return `unimplemented at 0x${stop.rip.toString(16)}: ${Buffer.from(stop.bytes).toString('hex')}`;
  if (stop.reason === 'triple-fault') return `triple fault at 0x${stop.rip.toString(16)}`;
  return stop.reason;
}

/** What a bzImage says of itself (Linux Documentation/x86/boot.rst, kernel_version), without who built it where. */
export function kernelVersion(image: Uint8Array): string {
  const view = new DataView(image.buffer, image.byteOffset);
  const at = view.getUint16(0x20e, true) + 0x200;
  const text = Buffer.from(image.subarray(at, image.indexOf(0, at))).toString('latin1');
  return `Linux ${text.split(' ')[0]}`;
}

/**
 * Our machine. Once it is ready a snapshot is taken, to which it goes back.
 *
 * @param show is told of all that it prints
 */
export async function ownSystem(
  { kernel, initrd, commandLine, cpus, memory, disk }: LinuxSystem,
  show: (piece: string) => void,
): Promise<System> {
  const file = disk === undefined ? undefined : openDisk(disk, false, (line) => show(`${line}\n`));
  const machine = Machine.create({ cpus, memory, entropy: true, ...(file ? { disk: file } : {}) });
  let printed: number[] = [];
  let ready: Snapshot | undefined;
  let isRestored = false;
  machine.serial.onOutput = (byte) => printed.push(byte);
  machine.boot(readFileSync(kernel), { commandLine, initrd: readFileSync(initrd) });
  return {
    name: OWN,
    async until(done, seconds) {
      const end = performance.now() + seconds * 1000;
      if (isRestored) {
        isRestored = false;
        done(`${READY}\n`);
        return undefined;
      }
      for (;;) {
        const stop = machine.run({ maxInstructions: SLICE });
        const piece = Buffer.from(printed).toString('latin1');
        show(piece);
        printed = [];
        if (piece !== '' && done(piece)) {
          // What reads the console is to wait for it before the first name comes.
          if (!ready) {
            machine.run({ maxInstructions: 20 * SLICE });
            ready = machine.snapshot();
          }
          return undefined;
        }
        if (stop.reason !== 'limit') return told(stop);
        if (performance.now() > end) return `no end in ${seconds} s`;
      }
    },
    write: (text) => machine.serial.write(Buffer.from(text)),
    async restart() {
      if (!ready) throw new Error('not ready');
      machine.restore(ready);
      isRestored = true;
      printed = [];
    },
    async close() {
      file?.close();
    },
  };
}
