/**
 * `npm run linux -- FOLDER [PACKAGE]`: puts a Debian kernel (`vmlinuz`, by default of linux-image-cloud-amd64) and a busybox
 * system for it (`initrd.gz`) into a folder, for `espfix run` and QEMU. Needs apt-get and dpkg of Debian 12.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type InitramfsEntry, initramfs } from './initramfs.ts';

const INIT = fileURLToPath(new URL('../../../fixtures/linux/init', import.meta.url));
/** Modules for the machine's devices, each behind what it needs. What a kernel has built in or lacks is left out. */
const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_modern_dev',
  'virtio_pci_legacy_dev',
  'virtio_pci',
  'virtio_blk',
  'virtio_console',
  'rng-core',
  'virtio-rng',
  'netfs',
  'fscache',
  '9pnet',
  '9pnet_virtio',
  '9p',
  'crc16',
  'mbcache',
  'jbd2',
  'crc32c_generic',
  'libcrc32c',
  'ext4',
];

/** Downloads packages and unpacks them. */
function unpack(folder: string, packages: readonly string[]): void {
  execFileSync('apt-get', ['download', '-qq', ...packages], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.deb')))
    execFileSync('dpkg', ['-x', file, 'root'], { cwd: folder });
}

/** The package of the kernel that a metapackage stands for; a kernel's own package is itself. */
function kernelPackage(name: string): string {
  const depends = execFileSync('apt-cache', ['depends', name], { encoding: 'utf8' });
  return /Depends: (linux-image-\d\S*)/.exec(depends)?.[1] ?? name;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

function build(folder: string, kernel: string): void {
  mkdirSync(folder, { recursive: true });
  unpack(folder, [kernelPackage(kernel), 'busybox-static']);
  const root = join(folder, 'root');
  const image = readdirSync(join(root, 'boot')).find((name) => name.startsWith('vmlinuz'));
  if (!image) throw new Error(`no kernel in ${kernel}`);
  writeFileSync(join(folder, 'vmlinuz'), readFileSync(join(root, 'boot', image)));

  const entries: InitramfsEntry[] = ['bin', 'dev', 'proc', 'sys', 'mnt', 'tmp', 'modules'].map((name) => ({
    kind: 'folder',
    name,
  }));
  entries.push(
    { kind: 'character-device', name: 'dev/console', major: 5, minor: 1 },
    { kind: 'file', name: 'bin/busybox', bytes: readFileSync(join(root, 'bin/busybox')), executable: true },
    { kind: 'file', name: 'init', bytes: readFileSync(INIT), executable: true },
  );
  const modules = filesBelow(join(root, 'lib/modules'));
  const order: string[] = [];
  for (const name of MODULES) {
    const file = modules.find((path) => basename(path) === `${name}.ko`);
    if (!file) continue;
    entries.push({ kind: 'file', name: `modules/${name}.ko`, bytes: readFileSync(file) });
    order.push(`${name}.ko\n`);
  }
  entries.push({ kind: 'file', name: 'modules/order', bytes: new TextEncoder().encode(order.join('')) });
  writeFileSync(join(folder, 'initrd.gz'), gzipSync(initramfs(entries)));
}

const [folder, kernel = 'linux-image-cloud-amd64'] = process.argv.slice(2);
if (folder === undefined || existsSync(join(folder, 'root'))) {
  process.stderr.write('usage: npm run linux -- FOLDER [PACKAGE]: a folder without a `root` in it\n');
  process.exitCode = 2;
} else build(resolve(folder), kernel);
