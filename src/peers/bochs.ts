/**
 * Bochs as a peer. It boots a GRUB CD, shows its screen to nobody (the VNC display, which waits for no viewer)
 * and writes COM1 to a file. It has no debug-exit port, so a run ends with the guest's last line.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeGrubIso } from './grub-iso.ts';
import { LineReader, type Peer, type PeerEnd, type PeerOptions, type PeerRun } from './peer.ts';
import { ended, firstLineOf, processorTime, Tail, tether, withTemporaryDirectory } from './process.ts';

const PROGRAM = 'bochs';
const BIOS = '/usr/share/bochs/BIOS-bochs-latest';
const VGA_BIOS = ['/usr/share/vgabios/vgabios.bin', '/usr/share/bochs/VGABIOS-lgpl-latest'];

/** Milliseconds between two looks at the COM1 file. */
const POLL = 10;

/** Few emulated instructions a second make the BIOS's delay loops and time-outs short; nothing else depends on it. */
const INSTRUCTIONS_PER_SECOND = 4_000_000;

export interface BochsChoices {
  /** A bootable CD's image. */
  readonly iso: string;
  readonly log: string;
  /** As bochsrc has it, such as `mode=file, dev=/tmp/com1`. */
  readonly com1: string;
  readonly cpus: number;
  /** MiB. */
  readonly memory: number;
  /** One of `bochs --help cpu`. */
  readonly model?: string;
  /** Emulated instructions in a second of the guest. */
  readonly instructionsPerSecond?: number;
}

/** A bochsrc: a PC that boots a CD, whose screen nobody sees. */
export function bochsConfiguration(choices: BochsChoices): string {
  const { iso, log, com1, cpus, memory } = choices;
  const model = choices.model ?? 'corei7_sandy_bridge_2600k';
  const ips = choices.instructionsPerSecond ?? INSTRUCTIONS_PER_SECOND;
  return [
    'display_library: rfb, options="timeout=0"',
    'config_interface: textconfig',
    `cpu: model=${model}, count=${cpus}, ips=${ips}, reset_on_triple_fault=0`,
    `memory: guest=${memory}, host=${memory}`,
    `romimage: file=${BIOS}`,
    `vgaromimage: file=${VGA_BIOS.find(existsSync)}`,
    'ata0: enabled=1',
    `ata0-master: type=cdrom, path=${iso}, status=inserted`,
    'boot: cdrom',
    `com1: enabled=1, ${com1}`,
    `log: ${log}`,
    'panic: action=fatal',
    'error: action=report',
    'info: action=ignore',
    'debug: action=ignore',
    'sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy',
    '',
  ].join('\n');
}

/** Starts Bochs with a bochsrc. The files are in `directory`. */
export async function startBochs(directory: string, configuration: string): Promise<ChildProcess> {
  const rc = join(directory, 'bochsrc');
  await writeFile(rc, configuration);
  // A Bochs built with its debugger stops at the first instruction until it is told to continue; it wants a file.
  const commands = join(directory, 'commands');
  await writeFile(commands, 'c\n');
  const input = await open(commands, 'r');
  const child = spawn(PROGRAM, ['-q', '-f', rc], { stdio: [input.fd, 'ignore', 'pipe'] });
  tether(child);
  // The process has a descriptor of its own.
  await input.close();
  return child;
}

async function run(image: Uint8Array, options: PeerOptions = {}): Promise<PeerRun> {
  return withTemporaryDirectory(async (directory) => {
    const iso = await writeGrubIso(directory, image, options.commandLine ?? '');
    const com1 = join(directory, 'com1');
    await writeFile(com1, '');
    const configuration = bochsConfiguration({
      iso,
      log: join(directory, 'log'),
      com1: `mode=file, dev=${com1}`,
      cpus: options.cpus ?? 1,
      memory: options.memory ?? 64,
    });
    const child = await startBochs(directory, configuration);
    const log = new Tail();
    child.stderr?.on('data', (data: Buffer) => log.push(data));

    const reader = new LineReader(options, () => processorTime(child.pid ?? 0));
    let end: PeerEnd | undefined;
    let left = false;
    const gone = ended(child).finally(() => {
      left = true;
    });
    const deadline = performance.now() + (options.timeout ?? 60) * 1000;
    const file = await open(com1, 'r');
    const buffer = new Uint8Array(65536);
    try {
      while (end === undefined) {
        const over = left;
        const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
        if (bytesRead > 0) {
          if (reader.push(Buffer.from(buffer.subarray(0, bytesRead)).toString('latin1'))) end = 'last-line';
        } else if (over) end = 'exit';
        else if (performance.now() > deadline) end = 'timeout';
        else await sleep(POLL);
      }
    } finally {
      await file.close();
      child.kill('SIGKILL');
    }
    const status = await gone;
    const tail = await readFile(join(directory, 'log'), 'latin1').catch(() => log.text);
    return {
      ended: end,
      status: end === 'exit' ? status : undefined,
      serial: reader.text,
      log: tail.slice(-4000),
    };
  });
}

/** Bochs as a peer, or undefined where it, its BIOS or grub-mkrescue is not installed. */
export function bochs(): Peer | undefined {
  const version = firstLineOf(PROGRAM, ['--help'], /Bochs x86 Emulator (\S+)/);
  if (version === undefined || !existsSync(BIOS) || !VGA_BIOS.some(existsSync)) return undefined;
  if (firstLineOf('grub-mkrescue', ['--version'], /(\d\S+)/) === undefined) return undefined;
  if (firstLineOf('xorriso', ['--version'], /xorriso version\s*:\s*(\S+)/) === undefined) return undefined;
  return { name: 'bochs', version: `Bochs ${version}`, run };
}
