/**
 * Ticks (nanoseconds) of instructions with which kernels wait, where one tick would make them go round their loops tens of
 * times more often than on silicon. The manuals give none: measured on silicon (Emerald Rapids, 2.1 GHz).
 */

/** 17 to 24 ns. */
export const PAUSE_TICKS = 20;
/** 20 to 25 ns. */
export const RDTSC_TICKS = 20;
/** 27 to 34 ns. */
export const RDTSCP_TICKS = 30;
