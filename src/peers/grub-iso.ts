/** A bootable CD with GRUB that loads one Multiboot 1 image: what a machine with only a BIOS needs. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from './process.ts';

/** Where Debian and its kin keep GRUB's BIOS modules (package grub-pc-bin). */
const MODULES = '/usr/lib/grub/i386-pc';

/**
 * Writes the ISO image into `directory` and returns its path. Needs grub-mkrescue and xorriso.
 * @param commandLine goes to the kernel after its file name; GRUB splits it at spaces and joins it again.
 */
export async function writeGrubIso(
  directory: string,
  image: Uint8Array,
  commandLine: string,
): Promise<string> {
  const root = join(directory, 'root');
  await mkdir(join(root, 'boot', 'grub'), { recursive: true });
  await writeFile(join(root, 'boot', 'kernel.elf'), image);
  await writeFile(
    join(root, 'boot', 'grub', 'grub.cfg'),
    [
      'set timeout=0',
      'terminal_output console',
      `multiboot /boot/kernel.elf ${commandLine}`,
      'boot',
      '',
    ].join('\n'),
  );
  const iso = join(directory, 'boot.iso');
  await runTool('grub-mkrescue', [
    '-d',
    MODULES,
    '--install-modules=normal multiboot biosdisk iso9660',
    '--locales=',
    '--fonts=',
    '--themes=',
    '-o',
    iso,
    root,
  ]);
  return iso;
}
