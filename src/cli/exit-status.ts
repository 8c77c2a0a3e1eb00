/**
 * Exit statuses of `espfix`. A guest that ends its run through the debug-exit port gives an odd one, so the
 * machine's own reasons to end are even.
 */
export const CLEAN = 0;
export const FINDINGS = 1;
export const BAD_INPUT = 2;
export const INCONCLUSIVE = 3;
export const TRIPLE_FAULT = 4;
export const UNIMPLEMENTED = 6;
export const INSTRUCTION_LIMIT = 8;
export const DEADLOCK = 10;
export const RESET = 12;
export const INTERNAL = 70;
export const OUTPUT_GONE = 74;
export const TIMEOUT = 124;
export const INTERRUPTED = 130;

/** What `espfix help exit-status` prints. */
export const EXIT_STATUS_HELP = `Exit status

  espfix check, espfix silicon
     0  everything is as documented; no finding; no difference
     1  a variant is not as documented, a named variant has findings, or a difference was found
     3  nothing was found, but not all was tried: a bound was hit (explorations and interleavings)

  espfix replay
     0  the finding does not show
     1  the finding shows again

  espfix run: the guest's own status is odd, the machine's are even
     0  the guest turned the machine off
   odd  the guest wrote V to port 0xf4: (V << 1) | 1, modulo 256
     4  triple fault
     6  an instruction that the machine does not implement
     8  the instruction limit (--max-instructions) was reached
    10  deadlock: every processor waits for an interrupt that cannot come
    12  the guest asked for a reset
   124  the time limit (--timeout) was reached

  every command
     2  bad usage or bad input: one line on standard error names it
    70  a defect of espfix itself (with ESPFIX_STACK=1 in the environment, where in it)
    74  standard output cannot be written; quietly, where its reader went away
   130  interrupted by Ctrl-C
`;
