/** Bounds of a kernel image. Apart from the image's writer, so that `--help` can tell them without loading it. */

/** Processors that an image can start: kernel stacks lie in 256 regions of 64 KiB, 8 of them a processor. */
export const MAX_IMAGE_CPUS = 32;
/** Seeds, which move stacks, are from 0 to this. */
export const MAX_IMAGE_SEED = 0x7fff_ffff;
