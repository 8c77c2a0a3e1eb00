/**
 * `npm run selftests`: the kernel's own x86 self-tests on this processor and in a Linux on our machine, test by test.
 *
 *     npm run selftests -- FOLDER [--on espfix,qemu] [--kernel FILE] [--tests TEXT,TEXT...] [--cpus N] [--timeout SECONDS]
 *         [--console] [--output FILE]
 *
 * FOLDER is one that `npm run linux` has filled; source and programs are kept in it. `--tests` takes those whose names contain
 * one of the texts, `--timeout` is for each test, in seconds of this computer, `--console` shows the consoles, `--output` keeps
 * all outputs as JSON. Ends with
 * status 1 if our machine fails or skips a test that this processor passes. Needs gcc with -m32 and make.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Machine, type Stop } from '../machine/machine.ts';
import type { Snapshot } from '../machine/snapshot.ts';
import { type InitramfsEntry, initramfs } from '../peers/linux/initramfs.ts';
import { runSelftests, type System } from '../peers/linux/selftests/console.ts';
import { buildSelftests } from '../peers/linux/selftests/source.ts';
import { isWorse, judge, type Row, selftestTable } from '../peers/linux/selftests/table.ts';
import { linesOf, type Outcome, READY } from '../peers/linux/selftests/transcript.ts';
import { ended, tether } from '../peers/process.ts';

const INIT = fileURLToPath(new URL('../../fixtures/linux/selftests-init', import.meta.url));
/** Debian's kernels have no vsyscall page unless told; self-built ones and this computer's mostly have. */
const COMMAND_LINE = 'console=ttyS0 loglevel=4 vsyscall=xonly';
const MEMORY = 512;
/** Runs on the processor, which show what changes from run to run. */
const NATIVE_RUNS = 3;
const NATIVE_SECONDS = 60;
const BOOT_SECONDS = 1200;
const GUEST_SECONDS = 30;
const SLICE = 1_000_000;
const OWN = 'espfix';

function image(folder: string, programs: string, names: readonly string[]): Uint8Array {
  const entries: InitramfsEntry[] = ['bin', 'dev', 'proc', 'sys', 'tmp', 'tests'].map((name) => ({
    kind: 'folder',
    name,
  }));
  const program = (name: string, path: string) =>
    entries.push({ kind: 'file', name, bytes: readFileSync(path), executable: true });
  entries.push({ kind: 'character-device', name: 'dev/console', major: 5, minor: 1 });
  program('bin/busybox', join(folder, 'root/bin/busybox'));
  program('init', INIT);
  for (const name of names) program(`tests/${name}`, join(programs, name));
  return initramfs(entries);
}

function runNatively(path: string): Outcome {
  const script = 'exec timeout -s KILL "$1" "$0" </dev/null 2>&1';
  const { status, stdout } = spawnSync('bash', ['-c', script, path, String(NATIVE_SECONDS)], {
    encoding: 'utf8',
  });
  return { status: status ?? 137, lines: linesOf(stdout) };
}

function told(stop: Stop): string {
  if (stop.reason === 'unimplemented')
    return `unimplemented at 0x${stop.rip.toString(16)}: ${Buffer.from(stop.bytes).toString('hex')}`;
  if (stop.reason === 'triple-fault') return `triple fault at 0x${stop.rip.toString(16)}`;
  return stop.reason;
}

/** Our machine. Once it is ready a snapshot is taken, to which it goes back. */
function ownSystem(kernel: string, initrd: string, cpus: number): System {
  const machine = Machine.create({ cpus, memory: MEMORY, entropy: true });
  let printed: number[] = [];
  let ready: Snapshot | undefined;
  let isRestored = false;
  machine.serial.onOutput = (byte) => printed.push(byte);
  machine.boot(readFileSync(kernel), { commandLine: COMMAND_LINE, initrd: readFileSync(initrd) });
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
        if (values.console) process.stderr.write(piece);
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
    close: () => {},
  };
}

/** QEMU's TCG. */
function qemuSystem(kernel: string, initrd: string, cpus: number): System {
  const start = () => {
    const args = [
      ['-accel', 'tcg', '-cpu', 'max', '-m', String(MEMORY), '-smp', String(cpus)],
      ['-kernel', kernel, '-initrd', initrd, '-append', COMMAND_LINE],
      [
        '-nodefaults',
        '-no-user-config',
        '-display',
        'none',
        '-vga',
        'none',
        '-no-reboot',
        '-serial',
        'stdio',
      ],
    ].flat();
    const child = spawn('qemu-system-x86_64', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    tether(child);
    return child;
  };
  let child = start();
  return {
    name: 'qemu',
    until(done, seconds) {
      const current = child;
      return new Promise((resolve) => {
        const finish = (lost: string | undefined) => {
          clearTimeout(timer);
          current.stdout.off('data', take);
          current.off('close', gone);
          resolve(lost);
        };
        const take = (data: Buffer) => {
          const piece = data.toString('latin1');
          if (values.console) process.stderr.write(piece);
          if (done(piece)) finish(undefined);
        };
        const gone = () => finish('QEMU has ended');
        const timer = setTimeout(finish, seconds * 1000, `no end in ${seconds} s`);
        current.stdout.on('data', take);
        current.once('close', gone);
      });
    },
    write: (text) => void child.stdin.write(text),
    async restart() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await ended(child);
      }
      child = start();
    },
    close: () => void child.kill('SIGKILL'),
  };
}

const SYSTEMS: ReadonlyMap<string, typeof ownSystem> = new Map([
  [OWN, ownSystem],
  ['qemu', qemuSystem],
]);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string' },
    tests: { type: 'string' },
    on: { type: 'string', default: 'espfix' },
    console: { type: 'boolean', default: false },
    cpus: { type: 'string', default: '2' },
    timeout: { type: 'string', default: '300' },
    output: { type: 'string' },
  },
});
const folder = resolve(positionals[0] ?? '.');
const kernel = resolve(values.kernel ?? join(folder, 'vmlinuz'));
const cpus = Number(values.cpus);
const limits = { boot: BOOT_SECONDS, program: Number(values.timeout), guest: GUEST_SECONDS };

/** All outputs so far. */
function keep(rows: readonly Row[]): void {
  if (values.output === undefined) return;
  const plain = rows.map((row) => ({ ...row, guests: Object.fromEntries(row.guests) }));
  writeFileSync(values.output, JSON.stringify(plain, undefined, 1));
}

async function main(): Promise<void> {
  const own = join(folder, 'selftests');
  mkdirSync(own, { recursive: true });
  const { programs, names: all } = buildSelftests(own);
  const wanted = values.tests?.split(',');
  const names = all.filter((name) => !wanted || wanted.some((text) => name.includes(text)));
  const initrd = join(own, 'initrd');
  writeFileSync(initrd, image(folder, programs, names));

  const rows = names.map((name) => ({
    name,
    native: Array.from({ length: NATIVE_RUNS }, () => runNatively(join(programs, name))),
    guests: new Map<string, Outcome>(),
  }));
  const guests = values.on.split(',');
  for (const guest of guests) {
    const start = SYSTEMS.get(guest);
    if (!start) throw new Error(`--on ${guest}: expected ${[...SYSTEMS.keys()].join(' or ')}`);
    const system = start(kernel, initrd, cpus);
    await runSelftests(system, names, limits, (name, outcome) => {
      const row = rows.find((each) => each.name === name);
      row?.guests.set(system.name, outcome);
      keep(rows);
      process.stderr.write(`${system.name}: ${name} ${outcome.status ?? outcome.lost}\n`);
    });
    system.close();
  }
  const judged = rows.map(judge);
  console.log(selftestTable(judged, guests));
  if (judged.some((row) => isWorse(row, OWN))) process.exitCode = 1;
}

if (positionals.length !== 1 || !existsSync(kernel) || !existsSync(join(folder, 'root/bin/busybox'))) {
  process.stderr.write('usage: npm run selftests -- FOLDER [OPTIONS]: FOLDER as `npm run linux` fills it\n');
  process.exitCode = 2;
} else await main();
