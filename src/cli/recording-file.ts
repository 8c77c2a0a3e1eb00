/**
 * A recording as a file: the visits of a subject with the machine as each began, so that other threads and later runs need
 * not boot and watch it.
 *
 * Compressed by gzip: the length of a JSON text (4 bytes, little-endian) and the text, which holds all but the states; then each visit's
 * state, its length and a snapshot file (`machine/snapshot-file.ts`) of the pages that differ from the visit's before.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Recording } from '../check/explore/visit.ts';
import { Machine } from '../machine/machine.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { PageTree } from '../machine/page-tree.ts';
import { Snapshot } from '../machine/snapshot.ts';
import { encodeSnapshot } from '../machine/snapshot-file.ts';
import { decodeData, encodeData } from './data-codec.ts';
import { fileError } from './failure.ts';
import { sha256 } from './subject-spec.ts';

/** A recording's file and the SHA-256 of its bytes. */
export interface SavedRecording {
  readonly file: string;
  readonly digest: string;
}

/** Pages that became all zeros, which a snapshot file leaves out. */
type Zeroed = readonly number[];

/** Writes a recording; it is on the disk, whole, when this returns. Throws a UserError that names the file. */
export function saveRecording(file: string, recording: Recording): SavedRecording {
  const bytes = encodeRecording(recording);
  const part = `${file}.part`;
  try {
    const descriptor = openSync(part, 'w');
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(part, file);
  } catch (error) {
    throw fileError(file, error);
  }
  return { file, digest: sha256(bytes) };
}

/** Whether the file is there and is that one. */
export const isThere = (saved: SavedRecording): boolean => readBytes(saved) !== undefined;

function readBytes({ file, digest }: SavedRecording): Uint8Array | undefined {
  try {
    const bytes = readFileSync(file);
    return sha256(bytes) === digest ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** Reads a recording. @returns undefined if the file is not there or is another */
export function loadRecording(saved: SavedRecording): Recording | undefined {
  const bytes = readBytes(saved);
  return bytes && decodeRecording(bytes);
}

function encodeRecording({ visits, ...rest }: Recording): Uint8Array {
  const states: Uint8Array[] = [];
  const zeroed: Zeroed[] = [];
  let before: PageTree | undefined;
  for (const { begin } of visits) {
    const { configuration, pages, states: processors, tlbs, parts, tiles } = begin;
    const empty = PageTree.empty(configuration.ramBytes / PAGE_SIZE);
    const changed: [number, Uint8Array][] = [];
    const gone: number[] = [];
    PageTree.difference(before ?? empty, pages, (page, content) => {
      if (content?.some((byte) => byte !== 0)) changed.push([page, content]);
      else gone.push(page);
    });
    before = pages;
    zeroed.push(gone);
    states.push(
      encodeSnapshot(new Snapshot(configuration, empty.with(changed), processors, tlbs, parts, tiles)),
    );
  }
  const summaries = visits.map(({ begin, ...visit }) => visit);
  const head = new TextEncoder().encode(encodeData({ ...rest, visits: summaries, zeroed }));
  return gzipSync(concatenated([head, ...states]), { level: 1 });
}

/** Throws SnapshotError where a state is of another version of espfix. */
function decodeRecording(bytes: Uint8Array): Recording {
  const [head, ...states] = separated(gunzipSync(bytes));
  const { visits, zeroed, ...rest } = decodeData(new TextDecoder().decode(head)) as Recording & {
    readonly zeroed: readonly Zeroed[];
  };
  const { stop } = rest;
  let before: PageTree | undefined;
  return {
    ...rest,
    // JSON has bytes as an object of numbers.
    stop:
      stop.reason === 'unimplemented' ? { ...stop, bytes: Uint8Array.from(Object.values(stop.bytes)) } : stop,
    visits: visits.map((visit, i) => {
      const {
        configuration,
        pages,
        states: processors,
        tlbs,
        parts,
        tiles,
      } = Machine.readSnapshot(states[i]);
      const changed: [number, Uint8Array | undefined][] = zeroed[i].map((page) => [page, undefined]);
      pages.forEach((page, content) => void changed.push([page, content]));
      before = (before ?? PageTree.empty(configuration.ramBytes / PAGE_SIZE)).with(changed);
      return { ...visit, begin: new Snapshot(configuration, before, processors, tlbs, parts, tiles) };
    }),
  };
}

/** Parts, each after its length. */
function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + 4 + length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  return bytes;
}

function separated(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    parts.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return parts;
}
