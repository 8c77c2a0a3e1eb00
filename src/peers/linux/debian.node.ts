/**
 * `npm run linux -- FOLDER [PACKAGE] [--arch i386]` puts a Debian kernel (`vmlinuz`, by default of linux-image-cloud-amd64) and
 * a busybox system for it (`initrd.gz`) into a folder, for `espfix run` and QEMU. `npm run linux -- FOLDER --source`
 * builds the kernel from Debian's source instead, with fixtures/linux/kernel.config, and adds its `System.map`.
 *
 * Needs apt-get and dpkg of Debian 12; with `--source` also gcc, make, bc, flex, bison, libelf-dev and xz-utils, and 2 GB.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { type Architecture, kernelPackage, unpack } from './apt.ts';
import { busyboxSystem } from './busybox-system.ts';
import { buildKernel } from './kernel-build.ts';
import { unpackSource } from './source.ts';

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
  writeFileSync(join(folder, 'initrd.gz'), gzipSync(busyboxSystem(join(folder, 'root'))));
}

main();
