/**
 * `npm run userspace`: a Debian with coreutils, bash, Python and gcc in a Linux on our machine, whose answers are compared line by
 * line with those of the same Debian on this computer's processor.
 *
 *     npm run userspace -- FOLDER [--on espfix,qemu] [--cpus 1,4] [--tests TEXT,TEXT...] [--timeout SECONDS]
 *         [--guest-seconds SECONDS] [--memory MIB] [--console] [--output FILE] [--page]
 *
 * FOLDER is one that `npm run linux` has filled with a kernel of Debian's; the Debian is made in it by debootstrap when it is not there
 * yet (`FOLDER/debian`), with its disk's image (`FOLDER/debian.img`). `--cpus` are the numbers of processors to run it on, one after the
 * other, `--tests` takes those whose names contain one of the texts, `--timeout` is for each test, in seconds of this computer,
 * `--guest-seconds` in those of the guest, `--console` shows the consoles, `--output` keeps all outputs as JSON, `--page` writes
 * docs/userspace.md. Ends with status 1 if anything differs on our machine. Needs root, debootstrap and mke2fs.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus as processors, release } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { busyboxSystem, hasModule } from '../peers/linux/busybox-system.ts';
import { type LinuxSystem, startQemu } from '../peers/linux/run-peer.ts';
import { type Limits, runSelftests, type System } from '../peers/linux/selftests/console.ts';
import { streamSystem } from '../peers/linux/selftests/stream-system.ts';
import type { Outcome } from '../peers/linux/selftests/transcript.ts';
import { runNatively, testNames } from '../peers/linux/userspace/battery.ts';
import { installBattery, makeRoot, packDisk, rootProblem } from '../peers/linux/userspace/debian-root.ts';
import { userspacePage } from '../peers/linux/userspace/page.ts';
import { batteryTable, isSame, type Row } from '../peers/linux/userspace/table.ts';
import { processorTime } from '../peers/process.ts';
import { qemu } from '../peers/qemu.ts';
import { UserError } from './failure.ts';
import { kernelVersion, OWN, ownSystem } from './own-system.ts';
import { packageVersion } from './version.ts';

const COMMAND_LINE = 'console=ttyS0 loglevel=4 panic=-1 root=/dev/vda init=/battery/init';
/** The disk's driver, a module in Debian's kernels. */
const DRIVER = 'virtio_blk';
/** Runs on the processor, which show what changes from run to run. */
const NATIVE_RUNS = 2;
const BOOT_SECONDS = 1200;
const MOST_CPUS = 8;
const PAGE = 'docs/userspace.md';
const USAGE = 'usage: npm run userspace -- FOLDER [OPTIONS]: FOLDER as `npm run linux` fills it';

/** A machine that has been started. */
interface Started {
  readonly system: System;
  /** Milliseconds of processor time that its process has used. */
  readonly time: () => number;
}

/** How a machine is started, and what it is. */
interface Kind {
  readonly start: (system: LinuxSystem, show: (piece: string) => void) => Promise<Started>;
  readonly version: () => Promise<string | undefined>;
}

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  [
    OWN,
    {
      async start(system, show) {
        const before = processorTime(process.pid);
        return { system: await ownSystem(system, show), time: () => processorTime(process.pid) - before };
      },
      version: async () => `espfix ${await packageVersion()}`,
    },
  ],
  [
    'qemu',
    {
      async start(system, show) {
        let pid = 0;
        const start = async () => {
          const running = await startQemu(system);
          pid = running.pid;
          return running;
        };
        return { system: await streamSystem('qemu', start, show), time: () => processorTime(pid) };
      },
      version: async () => qemu()?.version,
    },
  ],
]);

/** A row to which machines are yet to come. */
interface OpenRow extends Row {
  readonly guests: Map<string, { readonly outcome: Outcome; readonly seconds: number }>;
}

/** What a test does natively. */
function openRow(root: string, name: string, seconds: number): OpenRow {
  const runs = Array.from({ length: NATIVE_RUNS }, () => runNatively(root, name, seconds));
  process.stderr.write(`native: ${name} ${runs[0]?.outcome.status}\n`);
  return {
    name,
    native: runs.map(({ outcome }) => outcome),
    nativeSeconds: runs.reduce((sum, run) => sum + run.seconds, 0) / NATIVE_RUNS,
    guests: new Map(),
  };
}

/**
 * Runs all tests on one machine; resolves with the seconds of processor time that it has taken to come up.
 *
 * @param tell called after each test
 */
async function runOn(
  { system, time }: Started,
  column: string,
  rows: readonly OpenRow[],
  limits: Limits,
  tell: () => void,
): Promise<number> {
  let last = 0;
  const lap = () => {
    const before = last;
    last = time();
    return Math.max(0, last - before) / 1000;
  };
  let boot: number | undefined;
  // The first name is written to a system that has come up.
  const write = (text: string) => {
    boot ??= lap();
    system.write(text);
  };
  const names = rows.map(({ name }) => name);
  await runSelftests({ ...system, write }, names, limits, (name, outcome) => {
    rows.find((row) => row.name === name)?.guests.set(column, { outcome, seconds: lap() });
    process.stderr.write(`${column}: ${name} ${outcome.status ?? outcome.lost}\n`);
    tell();
  });
  await system.close();
  return boot ?? 0;
}

function options() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        on: { type: 'string', default: OWN },
        cpus: { type: 'string', default: '1' },
        tests: { type: 'string' },
        timeout: { type: 'string', default: '3600' },
        'guest-seconds': { type: 'string', default: '900' },
        memory: { type: 'string', default: '1024' },
        console: { type: 'boolean', default: false },
        output: { type: 'string' },
        page: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new UserError(error instanceof Error ? error.message : String(error));
  }
}

function whole(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most)
    throw new UserError(`--${option} ${text}: expected a whole number from ${least} to ${most}`);
  return value;
}

async function main(): Promise<void> {
  const { values, positionals } = options();
  const [name] = positionals;
  if (name === undefined || positionals.length !== 1) throw new UserError(USAGE);
  const counts = values.cpus.split(',').map((text) => whole('cpus', text, 1, MOST_CPUS));
  const memory = whole('memory', values.memory, 256, 2048);
  const limits = {
    boot: BOOT_SECONDS,
    program: whole('timeout', values.timeout, 1, 86400),
    guest: whole('guest-seconds', values['guest-seconds'], 1, 86400),
  };
  const versions = new Map<string, string>();
  for (const on of values.on.split(',')) {
    const kind = KINDS.get(on);
    if (!kind) throw new UserError(`--on ${on}: expected ${[...KINDS.keys()].join(' or ')}`);
    const version = await kind.version();
    if (version === undefined) throw new UserError(`--on ${on}: not installed`);
    versions.set(on, version);
  }
  const folder = resolve(name);
  const kernel = join(folder, 'vmlinuz');
  if (!existsSync(kernel) || !existsSync(join(folder, 'root/bin/busybox')))
    throw new UserError(`${name}: no kernel in it; ${USAGE}`);
  if (!hasModule(join(folder, 'root'), DRIVER))
    throw new UserError(`${name}: its kernel has no ${DRIVER}; expected one of Debian's`);
  const problem = rootProblem();
  if (problem !== undefined) throw new UserError(problem);

  const root = join(folder, 'debian');
  if (!existsSync(root)) process.stderr.write(`making a Debian in ${root}: some minutes\n`);
  makeRoot(root);
  installBattery(root);
  const wanted = values.tests?.split(',');
  const names = testNames(root).filter((test) => !wanted || wanted.some((text) => test.includes(text)));
  if (names.length === 0) throw new UserError(`--tests ${values.tests}: no such test`);
  const disk = join(folder, 'debian.img');
  packDisk(root, disk);
  const initrd = join(folder, 'debian-initrd.gz');
  writeFileSync(initrd, gzipSync(busyboxSystem(join(folder, 'root'))));

  const rows = names.map((test) => openRow(root, test, limits.guest));
  const show = (piece: string) => {
    if (values.console) process.stderr.write(piece);
  };
  const keep = () => {
    if (values.output === undefined) return;
    const plain = rows.map((row) => ({ ...row, guests: Object.fromEntries(row.guests) }));
    writeFileSync(values.output, JSON.stringify(plain, undefined, 1));
  };
  const boots = new Map<string, number>();
  for (const on of versions.keys())
    for (const cpus of counts) {
      const column = `${on}, ${cpus}`;
      const system = { kernel, initrd, commandLine: COMMAND_LINE, cpus, memory, disk };
      const started = await KINDS.get(on)?.start(system, show);
      if (started) boots.set(column, await runOn(started, column, rows, limits, keep));
    }
  const columns = [...boots.keys()];
  console.log(batteryTable(rows, columns));
  if (values.page) {
    const native = `${processors()[0]?.model}, Linux ${release()}`;
    const guestKernel = kernelVersion(readFileSync(kernel));
    writeFileSync(PAGE, userspacePage(rows, columns, { native, versions, kernel: guestKernel, boots }));
    console.log(PAGE);
  }
  if (columns.some((column) => column.startsWith(OWN) && !isSame(rows, column))) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  process.stderr.write(`${process.env.ESPFIX_STACK === '1' ? error.stack : error.message}\n`);
  process.exitCode = 2;
}
