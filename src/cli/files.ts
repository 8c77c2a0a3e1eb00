/** Reading and writing of files that the user named. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { access, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileError, UserError } from './failure.ts';

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

const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? error.code : undefined);

/**
 * Sees that a file could be written, before work that would be lost if it could not; writes nothing. Throws a UserError that names it.
 */
export async function expectWritable(file: string): Promise<void> {
  try {
    const found = await stat(file).catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT' || file === '' || file.endsWith('/')) throw error;
      return undefined;
    });
    if (found?.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    await access(found ? file : dirname(file), constants.W_OK);
  } catch (error) {
    throw fileError(file, error);
  }
}

/** Makes a folder to write to, if it is not there. Throws a UserError that names it. */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') throw new UserError(`${folder}: is a file, expected a folder`);
    throw fileError(folder, error);
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
