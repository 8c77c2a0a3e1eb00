/** The test system, fixtures/linux/init: a busybox and the modules that a kernel of Debian's needs for the machine's devices. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type InitramfsEntry, initramfs } from '../../machine/boot/initramfs.ts';

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

/** Paths of the modules of the kernel that is unpacked below `root`. */
function moduleFiles(root: string): string[] {
  const installed = join(root, 'lib/modules');
  return existsSync(installed) ? filesBelow(installed) : [];
}

/** Whether the kernel that is unpacked below `root` has a module. */
export function hasModule(root: string, name: string): boolean {
  return moduleFiles(root).some((path) => basename(path) === `${name}.ko`);
}

/** The system of the kernel that is unpacked below `root`, with busybox beside it: an archive. */
export function busyboxSystem(root: string): Uint8Array {
  const entries: InitramfsEntry[] = ['bin', 'dev', 'proc', 'sys', 'mnt', 'tmp', 'modules'].map((name) => ({
    kind: 'folder',
    name,
  }));
  entries.push(
    { kind: 'character-device', name: 'dev/console', major: 5, minor: 1 },
    { kind: 'file', name: 'bin/busybox', bytes: readFileSync(join(root, 'bin/busybox')), executable: true },
    { kind: 'file', name: 'init', bytes: readFileSync(INIT), executable: true },
  );
  const modules = moduleFiles(root);
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
