/** QEMU's TCG as a peer: `-kernel` boots the image by Multiboot, COM1 is its standard output. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LineReader, type Peer, type PeerEnd, type PeerOptions, type PeerRun } from './peer.ts';
import { ended, firstLineOf, processorTime, Tail, tether, withTemporaryDirectory } from './process.ts';

const PROGRAM = 'qemu-system-x86_64';

/** The processor model. The isa-debug-exit device at 0xf4 makes QEMU leave with (V << 1) | 1. */
const MODEL = 'max';

async function run(image: Uint8Array, options: PeerOptions = {}): Promise<PeerRun> {
  return withTemporaryDirectory(async (directory) => {
    const kernel = join(directory, 'kernel.elf');
    await writeFile(kernel, image);
    const child = spawn(
      PROGRAM,
      [
        ['-accel', 'tcg', '-cpu', MODEL, '-m', String(options.memory ?? 64)],
        ['-smp', String(options.cpus ?? 1), '-kernel', kernel, '-append', options.commandLine ?? ''],
        ['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-no-reboot'],
        ['-chardev', 'stdio,id=com1,signal=off', '-serial', 'chardev:com1', '-monitor', 'none'],
        ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
      ].flat(),
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    tether(child);
    const gone = ended(child);
    const reader = new LineReader(options, () => processorTime(child.pid ?? 0));
    const log = new Tail();
    let end: PeerEnd = 'exit';
    const stop = (why: PeerEnd) => {
      if (end !== 'exit') return;
      end = why;
      child.kill('SIGKILL');
    };
    child.stderr.on('data', (data: Buffer) => log.push(data));
    child.stdout.on('data', (data: Buffer) => {
      if (reader.push(data.toString('latin1'))) stop('last-line');
    });
    const timer = setTimeout(stop, (options.timeout ?? 60) * 1000, 'timeout');
    const status = await gone.finally(() => clearTimeout(timer));
    return { ended: end, status: end === 'exit' ? status : undefined, serial: reader.text, log: log.text };
  });
}

/** QEMU as a peer, or undefined where it is not installed. */
export function qemu(): Peer | undefined {
  const version = firstLineOf(PROGRAM, ['--version'], /version (\S+)/);
  return version === undefined ? undefined : { name: 'qemu', version: `QEMU ${version} TCG`, run };
}
