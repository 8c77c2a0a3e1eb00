/** Reading and writing of files that the user named. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { fileError } from './failure.ts';

/** The file's bytes; throws a UserError that names it. */
export async function readInput(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (error) {
    throw fileError(file, error);
  }
}

/** Writes the file; throws a UserError that names it. */
export async function writeOutput(file: string, data: Uint8Array): Promise<void> {
  try {
    await writeFile(file, data);
  } catch (error) {
    throw fileError(file, error);
  }
}

/** A text file written piece by piece, in order, through a buffer. */
export class TextFile {
  readonly #file: string;
  readonly #descriptor: number;
  #buffer = '';

  /** Creates or empties the file; throws a UserError that names it. */
  constructor(file: string) {
    this.#file = file;
    try {
      this.#descriptor = openSync(file, 'w');
    } catch (error) {
      throw fileError(file, error);
    }
  }

  write(text: string): void {
    this.#buffer += text;
    if (this.#buffer.length > 1 << 16) this.#flush();
  }

  close(): void {
    try {
      this.#flush();
    } finally {
      closeSync(this.#descriptor);
    }
  }

  #flush(): void {
    const bytes = new TextEncoder().encode(this.#buffer);
    this.#buffer = '';
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#descriptor, bytes, at);
    } catch (error) {
      throw fileError(this.#file, error);
    }
  }
}
