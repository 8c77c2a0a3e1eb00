/** How large a check may be. Apart from the check itself, so that `--help` can tell it without loading one. */

/** Processors: more make a check slow and answer nothing new. */
export const MAX_CHECK_CPUS = 8;
/** Events in a schedule: more would not end. */
export const MAX_DEPTH = 8;
