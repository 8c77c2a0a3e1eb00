/** An image that cannot be booted. The message is one line: the field, what it is, and what was expected. */
export class ImageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ImageError';
  }
}

/** A number as messages show it. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
