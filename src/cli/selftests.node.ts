/**
 * `npm run selftests`: the kernel's own x86 self-tests on this processor and in a Linux on our machine, test by test.
 *
 *     npm run selftests -- FOLDER [--on espfix,qemu,bochs] [--kernel FILE] [--tests TEXT,TEXT...] [--cpus N] [--timeout SECONDS]
 *         [--guest-seconds SECONDS] [--console] [--output FILE] [--page]
 *
 * FOLDER is one that `npm run linux` has filled; source and programs are kept in it. `--tests` takes those whose names contain
 * one of the texts, `--timeout` is for each test, in seconds of this computer, `--guest-seconds` in those of the guest,
 * `--console` shows the consoles, `--output` keeps all outputs as JSON, `--page` writes docs/selftests.md. Ends with
 * status 1 if our machine fails or skips a test that this processor passes, and does not want for something that the test
 * wants. Needs gcc with -m32 and make.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus as processors, release } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type InitramfsEntry, initramfs } from '../machine/boot/initramfs.ts';
import { bochs } from '../peers/bochs.ts';
import { type LinuxSystem, startBochsLinux, startQemu } from '../peers/linux/run-peer.ts';
import { runSelftests, type System } from '../peers/linux/selftests/console.ts';
import { selftestPage } from '../peers/linux/selftests/page.ts';
import { buildSelftests } from '../peers/linux/selftests/source.ts';
import { streamSystem } from '../peers/linux/selftests/stream-system.ts';
import { isWorse, judge, type Row, selftestTable } from '../peers/linux/selftests/table.ts';
import { linesOf, type Outcome } from '../peers/linux/selftests/transcript.ts';
import { qemu } from '../peers/qemu.ts';
import { kernelVersion, OWN, ownSystem } from './own-system.ts';
import { packageVersion } from './version.ts';

const INIT = fileURLToPath(new URL('../../fixtures/linux/selftests-init', import.meta.url));
/** Debian's kernels have no vsyscall page unless told; self-built ones and this computer's mostly have. */
const COMMAND_LINE = 'console=ttyS0 loglevel=4 vsyscall=xonly';
const MEMORY = 512;
/** Runs on the processor, which show what changes from run to run. */
const NATIVE_RUNS = 3;
const NATIVE_SECONDS = 60;
const BOOT_SECONDS = 1200;
const PAGE = 'docs/selftests.md';

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

/** How a system is started, and what it runs on. */
interface Kind {
  readonly start: (system: LinuxSystem) => Promise<System>;
  readonly version: () => string | undefined;
}

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  [OWN, { start: (system) => ownSystem(system, show), version: () => `espfix ${version}` }],
  [
    'qemu',
    {
      start: (system) => streamSystem('qemu', () => startQemu(system), show),
      version: () => qemu()?.version,
    },
  ],
  [
    'bochs',
    {
      start: (system) => streamSystem('bochs', () => startBochsLinux(system), show),
      version: () => bochs()?.version,
    },
  ],
]);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string' },
    tests: { type: 'string' },
    on: { type: 'string', default: 'espfix' },
    console: { type: 'boolean', default: false },
    cpus: { type: 'string', default: '2' },
    timeout: { type: 'string', default: '600' },
    'guest-seconds': { type: 'string', default: '60' },
    page: { type: 'boolean', default: false },
    output: { type: 'string' },
  },
});
const folder = resolve(positionals[0] ?? '.');
const kernel = resolve(values.kernel ?? join(folder, 'vmlinuz'));
const cpus = Number(values.cpus);
const version = await packageVersion();
const limits = {
  boot: BOOT_SECONDS,
  program: Number(values.timeout),
  guest: Number(values['guest-seconds']),
};

function show(piece: string): void {
  if (values.console) process.stderr.write(piece);
}

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
  const guests = new Map<string, string>();
  for (const guest of values.on.split(',')) {
    const kind = KINDS.get(guest);
    if (!kind) throw new Error(`--on ${guest}: expected ${[...KINDS.keys()].join(' or ')}`);
    const version = kind.version();
    if (version === undefined) throw new Error(`--on ${guest}: not installed`);
    guests.set(guest, version);
    const system = await kind.start({ kernel, initrd, commandLine: COMMAND_LINE, cpus, memory: MEMORY });
    await runSelftests(system, names, limits, (name, outcome) => {
      const row = rows.find((each) => each.name === name);
      row?.guests.set(system.name, outcome);
      keep(rows);
      process.stderr.write(`${system.name}: ${name} ${outcome.status ?? outcome.lost}\n`);
    });
    await system.close();
  }
  const judged = rows.map(judge);
  console.log(selftestTable(judged, [...guests.keys()]));
  if (values.page) {
    const native = `${processors()[0]?.model}, Linux ${release()}`;
    const page = { native, guests, kernel: kernelVersion(readFileSync(kernel)) };
    writeFileSync(PAGE, selftestPage(judged, page));
    console.log(PAGE);
  }
  if (judged.some((row) => isWorse(row, OWN))) process.exitCode = 1;
}

if (positionals.length !== 1 || !existsSync(kernel) || !existsSync(join(folder, 'root/bin/busybox'))) {
  process.stderr.write('usage: npm run selftests -- FOLDER [OPTIONS]: FOLDER as `npm run linux` fills it\n');
  process.exitCode = 2;
} else await main();
