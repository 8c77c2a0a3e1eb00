/**
 * A booted system as a file, so that it need not be booted again: the length of a JSON text (4 bytes, little-endian), the text, which
 * says what was booted, and a snapshot file.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Machine } from '../machine/machine.ts';
import { type Snapshot, SnapshotError } from '../machine/snapshot.ts';
import { encodeSnapshot } from '../machine/snapshot-file.ts';
import { fileError, UserError } from './failure.ts';

const FORMAT = 'espfix-booted';

/** What was booted, by name: digests and options. */
export type BootKey = Readonly<Record<string, string>>;

/** Writes the file; it is whole, or not there. Throws a UserError that names it. */
export function saveBooted(file: string, key: BootKey, snapshot: Snapshot): void {
  const head = new TextEncoder().encode(JSON.stringify({ format: FORMAT, key }));
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, head.length, true);
  try {
    writeFileSync(`${file}.part`, Buffer.concat([size, head, encodeSnapshot(snapshot)]));
    renameSync(`${file}.part`, file);
  } catch (error) {
    throw fileError(file, error);
  }
}

/**
 * Reads the file. @returns undefined where there is none. Throws a UserError where it is no such file or of something else.
 */
export async function loadBooted(file: string, key: BootKey): Promise<Snapshot | undefined> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw fileError(file, error);
  }
  const head = headOf(bytes);
  if (!head) throw new UserError(`${file}: expected a booted system, as --snapshot writes them`);
  for (const [name, value] of Object.entries(key))
    if (head.key[name] !== value)
      throw new UserError(`${file}: booted with another ${name}: remove it, or name another file`);
  try {
    return Machine.readSnapshot(bytes.subarray(head.end));
  } catch (error) {
    if (error instanceof SnapshotError) throw fileError(file, error);
    throw error;
  }
}

function headOf(bytes: Uint8Array): { key: BootKey; end: number } | undefined {
  if (bytes.length < 4) return undefined;
  const end = 4 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (end > bytes.length) return undefined;
  try {
    const head: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(4, end)));
    if (typeof head !== 'object' || head === null || !('format' in head) || head.format !== FORMAT)
      return undefined;
    return 'key' in head ? { key: head.key as BootKey, end } : undefined;
  } catch {
    return undefined;
  }
}
