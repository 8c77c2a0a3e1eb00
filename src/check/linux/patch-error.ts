/** A change of a kernel that cannot be made. The message is one line: the change, and what was expected. */
export class PatchError extends Error {}
