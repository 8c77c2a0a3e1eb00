/** Linux on QEMU's TCG and on Bochs, with COM1 as a stream to talk to. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { bochsConfiguration, startBochs } from '../bochs.ts';
import { writeLinuxIso } from '../grub-iso.ts';
import { ended, tether } from '../process.ts';
import type { Running } from './selftests/stream-system.ts';

export interface LinuxSystem {
  /** Paths. */
  readonly kernel: string;
  readonly initrd: string;
  readonly commandLine: string;
  readonly cpus: number;
  /** MiB. */
  readonly memory: number;
  /** A disk's image, which is only read; Bochs has none. */
  readonly disk?: string;
}

/** A Linux in a process of its own. */
export interface RunningProcess extends Running {
  readonly pid: number;
}

/** Starts a program that has COM1 on its standard input and output. */
export function startProgram(command: string, args: readonly string[]): RunningProcess {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  tether(child);
  const gone = ended(child);
  return {
    pid: child.pid ?? 0,
    output: child.stdout,
    write: (text) => void child.stdin.write(text),
    async end() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** Starts a Linux on QEMU's TCG with all that it can emulate of a processor. */
export async function startQemu(system: LinuxSystem): Promise<RunningProcess> {
  const { kernel, initrd, commandLine, cpus, memory, disk } = system;
  const args = [
    ['-accel', 'tcg', '-cpu', 'max', '-m', String(memory), '-smp', String(cpus)],
    ['-kernel', kernel, '-initrd', initrd, '-append', commandLine],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-no-reboot', '-serial', 'stdio'],
    disk === undefined ? [] : ['-drive', `file=${disk},format=raw,if=virtio,snapshot=on`],
  ].flat();
  return startProgram('qemu-system-x86_64', args);
}

/** The newest of Bochs 2.7's models for which Debian's build has everything. */
const BOCHS_MODEL = 'corei7_skylake_x';
const BOCHS_INSTRUCTIONS_PER_SECOND = 50_000_000;

/** Starts a Linux on Bochs, from a CD. */
export async function startBochsLinux(system: LinuxSystem): Promise<RunningProcess> {
  const directory = await mkdtemp(join(tmpdir(), 'espfix-'));
  const iso = await writeLinuxIso(
    directory,
    await readFile(system.kernel),
    gzipSync(await readFile(system.initrd)),
    system.commandLine,
  );
  // Bochs connects its COM1 to us.
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port for COM1');
  const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const configuration = bochsConfiguration({
    iso,
    log: join(directory, 'log'),
    com1: `mode=socket-client, dev=127.0.0.1:${address.port}`,
    cpus: system.cpus,
    memory: system.memory,
    model: BOCHS_MODEL,
    instructionsPerSecond: BOCHS_INSTRUCTIONS_PER_SECOND,
  });
  const child = await startBochs(directory, configuration);
  const gone = ended(child);
  const failed = gone.then(async () => {
    const log = await readFile(join(directory, 'log'), 'latin1').catch(() => '');
    throw new Error(`Bochs has ended: ${log.slice(-2000)}`);
  });
  const socket = await Promise.race([connected, failed]).finally(() => server.close());
  // From here on the end of Bochs is the end of the stream.
  failed.catch(() => {});
  socket.on('error', () => {});
  return {
    pid: child.pid ?? 0,
    output: socket,
    write: (text) => void socket.write(text),
    async end() {
      child.kill('SIGKILL');
      await gone;
      await rm(directory, { recursive: true, force: true });
    },
  };
}
