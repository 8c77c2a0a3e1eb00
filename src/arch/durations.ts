/**
 * Ticks (nanoseconds) of what kernels wait with: with one tick for each instruction they would go round their loops tens of times
 * more often than on silicon. The manuals give none for instructions: measured on silicon (Emerald Rapids, 2.1 GHz).
 */

/** 17 to 24 ns. */
export const PAUSE_TICKS = 20;
/** 20 to 25 ns. */
export const RDTSC_TICKS = 20;
/** 27 to 34 ns. */
export const RDTSCP_TICKS = 30;
/** A cycle of input or output for 8 bits on the ISA bus, six periods of 8.33 MHz: a kernel's delay by OUT to port 80H. */
export const ISA_CYCLE_TICKS = 720;
