/**
 * `npm run linux -- FOLDER [PACKAGE] [--arch i386]` puts a Debian kernel (`vmlinuz`, by default of linux-image-cloud-amd64) and
 * a busybox system for it (`initrd.gz`) into a folder, for `espfix run` and QEMU. `npm run linux -- FOLDER --source`
 * builds the kernel from Debian's source instead, with fixtures/linux/kernel.config, and adds its `System.map`.
 *
 * Needs apt-get and dpkg of Debian 12; with `--source` also gcc, make, bc, flex, bison, libelf-dev and xz-utils, and 2 GB.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { type InitramfsEntry, initramfs } from '../../machine/boot/initramfs.ts';
import { type Architecture, kernelPackage, unpack } from './apt.ts';
import { buildKernel } from './kernel-build.ts';
import { unpackSource } from './source.ts';

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

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

/** The system: busybox, and those modules that are unpacked below `root`. */
function system(root: string): Uint8Array {
  const entries: InitramfsEntry[] = ['bin', 'dev', 'proc', 'sys', 'mnt', 'tmp', 'modules'].map((name) => ({
    kind: 'folder',
    name,
  }));
  entries.push(
    { kind: 'character-device', name: 'dev/console', major: 5, minor: 1 },
    { kind: 'file', name: 'bin/busybox', bytes: readFileSync(join(root, 'bin/busybox')), executable: true },
    { kind: 'file', name: 'init', bytes: readFileSync(INIT), executable: true },
  );
  const installed = join(root, 'lib/modules');
  const modules = existsSync(installed) ? filesBelow(installed) : [];
  const order: string[] = [];
  for (const name of MODULES) {
    const file = modules.find((path) => basename(path) === `${name}.ko`);
    if (!file) continue;
    entries.push({ kind: 'file', name: `modules/${name}.ko`, bytes: readFileSync(file) });
    order.push(`${name}.ko\n`);
  }
  entries.push({ kind: 'file', name: 'modules/order', bytes: new TextEncoder().encode(order.join('')) });
  return initramfs(entries);
}

/** Debian's own kernel, from a package. */
function fromPackage(folder: string, kernel: string, architecture: Architecture): void {
  unpack(folder, [kernelPackage(folder, kernel, architecture), 'busybox-static'], architecture);
  const boot = join(folder, 'root/boot');
  const image = readdirSync(boot).find((name) => name.startsWith('vmlinuz'));
  if (!image) throw new Error(`no kernel in ${kernel}`);
  cpSync(join(boot, image), join(folder, 'vmlinuz'));
}

/** A kernel from source. */
function fromSource(folder: string): void {
  unpack(folder, ['busybox-static'], undefined);
  const source = unpackSource(folder);
  process.stderr.write(`building ${source}: ten minutes or so of two processors\n`);
  const { image, map } = buildKernel(source);
  cpSync(image, join(folder, 'vmlinuz'));
  cpSync(map, join(folder, 'System.map'));
}

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { source: { type: 'boolean', default: false }, arch: { type: 'string' } },
  });
  const [name, kernel = 'linux-image-cloud-amd64'] = positionals;
  const architecture = values.arch === 'i386' ? values.arch : undefined;
  const isSound = values.source
    ? positionals.length === 1 && values.arch === undefined
    : positionals.length <= 2 && values.arch === architecture;
  if (name === undefined || !isSound || existsSync(join(name, 'vmlinuz'))) {
    process.stderr.write(
      'usage: npm run linux -- FOLDER [PACKAGE] [--arch i386] | FOLDER --source: a folder without a `vmlinuz` in it\n',
    );
    process.exitCode = 2;
    return;
  }
  const folder = resolve(name);
  mkdirSync(folder, { recursive: true });
  if (values.source) fromSource(folder);
  else fromPackage(folder, kernel, architecture);
  writeFileSync(join(folder, 'initrd.gz'), gzipSync(system(join(folder, 'root'))));
}

main();
