/** A kernel, or what is said of it, that cannot be checked. The message is one line that follows the kernel's name. */
export class SubjectError extends Error {}
