/** How long a Linux takes to boot, and for work at its shell: the same kernel and system on each machine. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { RunningProcess } from '../src/peers/linux/run-peer.ts';
import { processorTime, withTemporaryDirectory } from '../src/peers/process.ts';
import type { LinuxMachine } from './linux-machines.ts';
import { median } from './median.ts';

export interface Job {
  readonly name: string;
  readonly what: string;
  /** What is typed at the shell beforehand, its time not counted, and what is timed. */
  readonly before: string;
  readonly command: string;
}

export const jobs: readonly Job[] = [
  {
    name: 'sha256sum',
    what: 'busybox sha256sum of 16 MB',
    before: 'head -c 16777216 /dev/zero >/tmp/zeros',
    command: 'sha256sum /tmp/zeros',
  },
  {
    name: 'shell loop',
    what: '50,000 turns of a loop in busybox sh',
    before: 'i=0',
    command: 'while [ $i -lt 50000 ]; do i=$((i+1)); done',
  },
  {
    name: 'gzip',
    what: 'busybox gzip of 16 MB',
    before: 'true',
    command: 'gzip -c /tmp/zeros | wc -c',
  },
  {
    name: 'processes',
    what: '200 processes, one after the other: fork, execve, exit',
    before: 'i=0',
    command: 'while [ $i -lt 200 ]; do /bin/busybox true; i=$((i+1)); done',
  },
];

/** Seconds of processor time. */
export interface LinuxTimes {
  readonly machine: string;
  /** From power-on to the kernel's last line before init, and to the first prompt of the shell. */
  readonly init: number;
  readonly shell: number;
  readonly jobs: Readonly<Record<string, number>>;
}

const PROMPT = '/ # ';
const COMMAND_LINE = 'console=ttyS0';
const MEMORY = 512;

/** Reads a machine's console. */
class Watch {
  #text = '';
  #wake: (() => void) | undefined;
  #ended = false;

  constructor(running: RunningProcess) {
    running.output.on('data', (data: Buffer) => {
      this.#text += data.toString('latin1');
      this.#wake?.();
    });
    running.output.once('close', () => {
      this.#ended = true;
      this.#wake?.();
    });
  }

  /** Resolves when a text has been printed; what is before and in it is not looked at again. */
  async find(wanted: string, seconds: number): Promise<void> {
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      const at = this.#text.indexOf(wanted);
      if (at >= 0) {
        this.#text = this.#text.slice(at + wanted.length);
        return;
      }
      const left = deadline - performance.now();
      if (this.#ended || left <= 0)
        throw new Error(`no ${JSON.stringify(wanted)} within ${seconds} s: ${this.#text.slice(-300)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

async function once(
  machine: LinuxMachine,
  kernel: string,
  initrd: string,
  seconds: number,
): Promise<LinuxTimes> {
  const running = await machine.start({ kernel, initrd, commandLine: COMMAND_LINE, cpus: 1, memory: MEMORY });
  try {
    const watch = new Watch(running);
    const now = () => processorTime(running.pid) / 1000;
    const tell = (what: string, time: number) => process.stderr.write(`  ${what}: ${time.toFixed(2)} s\n`);
    await watch.find('Run /init', seconds);
    const init = now();
    tell('init', init);
    await watch.find(PROMPT, seconds);
    const shell = now();
    tell('shell', shell);
    const times: Record<string, number> = {};
    for (const { name, before, command } of jobs) {
      // Quotes keep what is typed from being taken for what is printed.
      running.write(`${before}; echo rea""dy\n`);
      await watch.find('ready', seconds);
      await watch.find(PROMPT, seconds);
      const from = now();
      running.write(`${command}; echo ov""er\n`);
      await watch.find('over', seconds);
      times[name] = now() - from;
      tell(name, times[name]);
      await watch.find(PROMPT, seconds);
    }
    return { machine: machine.name, init, shell, jobs: times };
  } finally {
    await running.end();
  }
}

/**
 * @param folder with `vmlinuz` and `initrd.gz` (`npm run linux`)
 * @param repeats boots, of which the median counts, figure by figure
 * @param seconds wall-clock, for each step
 */
export async function measureLinux(
  machine: LinuxMachine,
  folder: string,
  repeats: number,
  seconds = 900,
): Promise<LinuxTimes> {
  return withTemporaryDirectory(async (directory) => {
    const initrd = join(directory, 'initrd');
    const packed = await readFile(join(folder, 'initrd.gz'));
    await writeFile(initrd, gunzipSync(packed));
    const all: LinuxTimes[] = [];
    for (let i = 0; i < repeats; i++) all.push(await once(machine, join(folder, 'vmlinuz'), initrd, seconds));
    const of = (pick: (times: LinuxTimes) => number) => median(all.map(pick));
    return {
      machine: machine.name,
      init: of(({ init }) => init),
      shell: of(({ shell }) => shell),
      jobs: Object.fromEntries(jobs.map(({ name }) => [name, of((times) => times.jobs[name])])),
    };
  });
}
