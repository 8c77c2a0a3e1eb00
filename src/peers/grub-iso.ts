/** A bootable CD with GRUB: what a machine with only a BIOS needs. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from './process.ts';

/** Where Debian and its kin keep GRUB's BIOS modules (package grub-pc-bin). */
const MODULES = '/usr/lib/grub/i386-pc';

/**
 * Writes an ISO image that loads one Multiboot 1 image into `directory` and returns its path. Needs grub-mkrescue and xorriso.
 * @param commandLine goes to the kernel after its file name; GRUB splits it at spaces and joins it again.
 */
export function writeGrubIso(directory: string, image: Uint8Array, commandLine: string): Promise<string> {
  return writeIso(
    directory,
    { 'kernel.elf': image },
    ['multiboot'],
    [`multiboot /boot/kernel.elf ${commandLine}`],
  );
}

/** The same for a Linux kernel and its initial RAM disk. */
export function writeLinuxIso(
  directory: string,
  kernel: Uint8Array,
  initrd: Uint8Array,
  commandLine: string,
): Promise<string> {
  return writeIso(
    directory,
    { vmlinuz: kernel, initrd },
    ['linux'],
    [`linux /boot/vmlinuz ${commandLine}`, 'initrd /boot/initrd'],
  );
}

/** @param files of the folder /boot */
async function writeIso(
  directory: string,
  files: Readonly<Record<string, Uint8Array>>,
  modules: readonly string[],
  commands: readonly string[],
): Promise<string> {
  const root = join(directory, 'root');
  await mkdir(join(root, 'boot', 'grub'), { recursive: true });
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(root, 'boot', name), bytes);
  await writeFile(
    join(root, 'boot', 'grub', 'grub.cfg'),
    ['set timeout=0', 'terminal_output console', ...commands, 'boot', ''].join('\n'),
  );
  const iso = join(directory, 'boot.iso');
  await runTool('grub-mkrescue', [
    '-d',
    MODULES,
    `--install-modules=normal ${modules.join(' ')} biosdisk iso9660`,
    '--locales=',
    '--fonts=',
    '--themes=',
    '-o',
    iso,
    root,
  ]);
  return iso;
}
