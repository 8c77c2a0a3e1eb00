/** Recognises an image by its content and plans its loading: a Linux bzImage, Multiboot 1, Multiboot 2, then PVH. */
import { parseElf } from './elf.ts';
import { isElf } from './elf-header.ts';
import { ImageError } from './image-error.ts';
import { isLinux, loadLinux } from './linux.ts';
import { findMultibootHeader, loadMultiboot } from './multiboot.ts';
import { findMultiboot2Header, loadMultiboot2 } from './multiboot2.ts';
import type { BootOptions, Load } from './plan.ts';
import { findPvhEntry, loadPvh } from './pvh.ts';

export { ImageError } from './image-error.ts';
export type { BootOptions } from './plan.ts';

/** Throws ImageError, with one line that names the field and what was expected. */
export function loadImage(image: Uint8Array, ramBytes: number, options: BootOptions): Load {
  if (isLinux(image)) return loadLinux(image, ramBytes, options);
  const header = findMultibootHeader(image);
  if (header) return loadMultiboot(image, header, ramBytes, options);
  const second = findMultiboot2Header(image);
  if (second) return loadMultiboot2(image, second, ramBytes, options);
  if (!isElf(image))
    throw new ImageError('format: expected a Linux bzImage, an ELF executable or a Multiboot image');
  const elf = parseElf(image);
  const entry = findPvhEntry(elf);
  if (entry === undefined)
    throw new ImageError(
      'boot protocol: expected a Multiboot 1 header in the first 8192 bytes, one of Multiboot 2 in 32768, or a PVH entry note',
    );
  return loadPvh(image, elf, entry, ramBytes, options);
}
