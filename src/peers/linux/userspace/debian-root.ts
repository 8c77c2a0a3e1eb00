/**
 * A Debian of its own in a folder, by debootstrap(8), and as a disk's image, by mke2fs(8). Needs root, as debootstrap and
 * chroot do; nothing is installed on this computer.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The battery, which has the folder /battery in that Debian. */
const BATTERY = fileURLToPath(new URL('../../../../fixtures/debian', import.meta.url));
const SUITE = 'bookworm';
/** What the battery needs over Debian's essential packages. */
const PACKAGES = [
  'bc',
  'g++',
  'gcc',
  'gcc-multilib',
  'libpython3.11-testsuite',
  'make',
  'openssl',
  'procps',
  'python3',
  'xz-utils',
];
/** Programs that are run here, and the packages that have them. */
const TOOLS = [
  ['debootstrap', 'debootstrap'],
  ['mke2fs', 'e2fsprogs'],
  ['unshare', 'util-linux'],
] as const;
/** Space on the disk for what tests write, in MiB. */
const FREE = 200;

/** What is amiss, in one line, or undefined. */
export function rootProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, for debootstrap and chroot';
  const missing = TOOLS.find(([tool]) => spawnSync(tool, ['--version']).error !== undefined);
  return missing && `${missing[0]}: not found; apt-get install ${missing[1]}`;
}

/** The last line of what a tool has printed that tells why it failed. */
function complaint({ stdout, stderr, error }: SpawnSyncReturns<string>): string {
  if (error) return error.message;
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '');
  return lines.findLast((line) => /^[EW]: /.test(line)) ?? lines.at(-1) ?? 'it has printed nothing';
}

function tool(command: string, ...args: string[]): string {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status !== 0) throw new Error(`${command} has failed: ${complaint(result)}`);
  return result.stdout;
}

/** Makes the Debian at `root` where there is none, whole or not at all. Throws an error of one line where a tool fails. */
export function makeRoot(root: string): void {
  if (existsSync(root)) return;
  const part = `${root}.part`;
  rmSync(part, { recursive: true, force: true });
  tool('debootstrap', '--variant=minbase', `--include=${PACKAGES.join(',')}`, SUITE, part);
  for (const folder of ['var/cache/apt', 'var/lib/apt/lists'])
    rmSync(join(part, folder), { recursive: true, force: true });
  for (const folder of ['work', 'disk']) mkdirSync(join(part, folder));
  renameSync(part, root);
}

/** Puts the battery as it now is into the Debian at `root`. */
export function installBattery(root: string): void {
  const battery = join(root, 'battery');
  rmSync(battery, { recursive: true, force: true });
  cpSync(BATTERY, battery, { recursive: true });
}

/** Writes an image of an ext4 file system with all that is below `root`. */
export function packDisk(root: string, image: string): void {
  const used = Number(tool('du', '-sm', root).split('\t')[0]);
  rmSync(image, { force: true });
  // Space for tables and for blocks that files do not fill.
  const size = Math.ceil(used * 1.2) + FREE;
  tool('mke2fs', '-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', root, image, `${size}M`);
}
