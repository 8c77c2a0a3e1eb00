/** The largest machine there can be. Apart from the machine itself, so that `--help` can tell it without loading one. */

/** Processors. */
export const MAX_CPUS = 64;
/** RAM in MiB: it ends below the devices under 4 GiB, and shares one WebAssembly memory with the processors' state. */
export const MAX_MEMORY_MIB = 3072;
/** RAM in MiB where nobody says how much: for small kernels, and for Linux, which unpacks itself and its initrd. */
export const DEFAULT_MEMORY = 64;
export const LINUX_MEMORY = 512;
