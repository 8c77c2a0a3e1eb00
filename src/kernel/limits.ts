/** Bounds of a kernel image. Apart from the image's writer, so that `--help` can tell them without loading it. */

/** Processors that an image can start: sets of them are words of 64 bits. */
export const MAX_IMAGE_CPUS = 64;
/** Seeds, which move stacks, are from 0 to this. */
export const MAX_IMAGE_SEED = 0x7fff_ffff;
