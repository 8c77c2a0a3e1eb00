/** Bounds of a kernel image. Apart from the image's writer, so that `--help` can tell them without loading it. */

/** Processors that an image can start: each 64 KiB region of kernel stacks is named by bits 31:16, 8 a processor. */
export const MAX_IMAGE_CPUS = 32;
