/** Contexts: what decoded code and found places depend on, as a number in the state. A generation stands above these bits. */
export const CONTEXT_CODE_32 = 1;
export const CONTEXT_CODE_64 = 2;
export const CONTEXT_STACK_32 = 4;
export const CONTEXT_USER = 8;
/** CS has a limit below 4 GiB outside 64-bit mode. */
export const CONTEXT_LIMITED = 16;
/** Real-address or virtual-8086 mode, where instructions that only VEX encodes do not exist. */
export const CONTEXT_REAL = 32;
/** CR0.EM is set; CR0.TS is; CR4.OSFXSR is not: instructions on vectors raise #UD, #NM, and #UD. */
export const CONTEXT_EM = 64;
export const CONTEXT_TS = 128;
export const CONTEXT_NO_FXSR = 256;
/** CR4.OSXSAVE or a bit of XCR0 that AVX needs is not set: #UD. */
export const CONTEXT_NO_AVX = 512;
/** Outside 64-bit mode: offsets in ES, SS and DS are linear addresses, none of which their limits or types forbid. */
export const CONTEXT_FLAT = 1024;
export const CONTEXT_BITS = 11;
/** The bits that the decoding of an instruction depends on. */
export const DECODE_BITS =
  CONTEXT_CODE_32 |
  CONTEXT_CODE_64 |
  CONTEXT_STACK_32 |
  CONTEXT_REAL |
  CONTEXT_EM |
  CONTEXT_TS |
  CONTEXT_NO_FXSR |
  CONTEXT_NO_AVX |
  CONTEXT_FLAT;
