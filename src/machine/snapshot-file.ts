/**
 * Snapshots as files.
 *
 * All numbers little-endian. Offset 0: magic `ESPFIXSN`; 8: version (4 bytes); 12: checksum (checksum.ts) of all that follows (4);
 * 16: length of the header (4); 20: the header, JSON in UTF-8: the configuration, the layout's fingerprint, the number
 * of pages, devices and schedule, and AMX state where a processor has any: those files have the higher version. Then the
 * processors' state areas, their TLB areas, and each page that is not all zeros: its number (4 bytes, ascending) and 4,096 bytes.
 */
import { DEFAULT_MODEL } from '../arch/processor.ts';
import {
  INITIAL_TILES,
  isValidConfig,
  type TileState,
  tileState,
  XCR0_TILEDATA,
} from '../arch/tile-state.ts';
import { TLB_BYTES } from '../arch/tlb.ts';
import { offsetOf, STATE_SIZE } from '../isa/state.ts';
import { checksum } from './checksum.ts';
import type { Plain } from './devices/device.ts';
import { PAGE_SIZE } from './memory.ts';
import { PageTree } from './page-tree.ts';
import { type Configuration, LAYOUT_FINGERPRINT, Snapshot, SnapshotError } from './snapshot.ts';

const MAGIC = 'ESPFIXSN';
export const SNAPSHOT_VERSION = 2;
export const SNAPSHOT_VERSION_WITH_TILES = 3;
const HEADER = 20;
/** Parts that older files lack: they are as in a new machine. */
const NEWER_PARTS = ['numericError'] as const;
/** No time or count is beyond this, so that sums of them are exact. */
const LARGEST = 2 ** 50;

/** What a machine of a configuration would save, for its shape; and whether a configuration is possible. */
export interface SnapshotSchema {
  /** Throws an Error whose message is one line if there is no such machine. */
  check(configuration: Configuration): void;
  parts(configuration: Configuration): Readonly<Record<string, Plain>>;
}

/** Whether a file begins as snapshot files do. */
export function isSnapshot(bytes: Uint8Array): boolean {
  return MAGIC.split('').every((letter, i) => bytes[i] === letter.charCodeAt(0));
}

/** The bytes of a snapshot file. */
export function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  const pages: [number, Uint8Array][] = [];
  snapshot.pages.forEach((page, content) => {
    if (content.some((byte) => byte !== 0)) pages.push([page, content]);
  });
  const withTiles = snapshot.tiles.some((tiles) => tiles !== INITIAL_TILES);
  const header = new TextEncoder().encode(
    JSON.stringify({
      layout: LAYOUT_FINGERPRINT,
      ...snapshot.configuration,
      pages: pages.length,
      parts: Object.fromEntries(Object.entries(snapshot.parts).map(([name, part]) => [name, toJson(part)])),
      ...(withTiles ? { tiles: snapshot.tiles.map((tiles) => toJson({ ...tiles })) } : {}),
    }),
  );
  const fixed = HEADER + header.length;
  const size =
    fixed + snapshot.states.length + snapshot.tlbs.length * TLB_BYTES + pages.length * (4 + PAGE_SIZE);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, withTiles ? SNAPSHOT_VERSION_WITH_TILES : SNAPSHOT_VERSION, true);
  view.setUint32(16, header.length, true);
  bytes.set(header, HEADER);
  let at = fixed;
  const states = withoutEngine(snapshot.states.slice());
  for (const part of [states, ...snapshot.tlbs]) {
    bytes.set(part, at);
    at += part.length;
  }
  for (const [page, content] of pages) {
    view.setUint32(at, page, true);
    bytes.set(content, at + 4);
    at += 4 + PAGE_SIZE;
  }
  view.setUint32(12, checksum(bytes.subarray(16)), true);
  return bytes;
}

/** Reads a snapshot file. Throws SnapshotError with one line that says what is wrong. */
export function decodeSnapshot(file: Uint8Array, schema: SnapshotSchema): Snapshot {
  // Slices of a Uint8Array are copies; those of Node's Buffer, which is one, are not.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.length < HEADER)
    throw new SnapshotError(`truncated: ${bytes.length} bytes, expected at least ${HEADER}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = String.fromCharCode(...bytes.subarray(0, 8));
  if (magic !== MAGIC) throw new SnapshotError(`magic: expected ${MAGIC}: this is not a snapshot`);
  const version = view.getUint32(8, true);
  const withTiles = version === SNAPSHOT_VERSION_WITH_TILES;
  if (version !== SNAPSHOT_VERSION && !withTiles)
    throw new SnapshotError(
      `version: ${version}, expected ${SNAPSHOT_VERSION} or ${SNAPSHOT_VERSION_WITH_TILES}`,
    );
  if (view.getUint32(12, true) !== checksum(bytes.subarray(16)))
    throw new SnapshotError('checksum: does not match the contents (damaged or truncated)');
  const headerLength = view.getUint32(16, true);
  if (headerLength > bytes.length - HEADER)
    throw new SnapshotError(`header length: ${headerLength}, expected at most ${bytes.length - HEADER}`);
  const header = parseHeader(bytes.subarray(HEADER, HEADER + headerLength));
  if (header.layout !== LAYOUT_FINGERPRINT)
    throw new SnapshotError('layout: written by another version of espfix, whose processor state differs');
  const configuration: Configuration = {
    cpus: whole(header, 'cpus'),
    ramBytes: whole(header, 'ramBytes'),
    quantum: whole(header, 'quantum'),
    seed: whole(header, 'seed'),
    epoch: whole(header, 'epoch'),
    // Older files have none: they are of machines that had all features.
    cpu: typeof header.cpu === 'string' ? header.cpu : DEFAULT_MODEL,
    devices: typeof header.devices === 'string' ? header.devices : '',
  };
  try {
    schema.check(configuration);
  } catch (error) {
    throw new SnapshotError(`configuration: ${error instanceof Error ? error.message : String(error)}`);
  }
  const pageCount = whole(header, 'pages');

  let at = HEADER + headerLength;
  const statesLength = configuration.cpus * STATE_SIZE;
  const expected = at + statesLength + configuration.cpus * TLB_BYTES + pageCount * (4 + PAGE_SIZE);
  if (bytes.length !== expected)
    throw new SnapshotError(`length: ${bytes.length} bytes, expected ${expected}`);

  const shape = schema.parts(configuration);
  const parts = rebuild(shape, withNewerParts(header.parts, shape), 'parts') as Record<string, Plain>;
  const states = bytes.slice(at, at + statesLength);
  checkStates(states, configuration.cpus);
  withoutEngine(states);
  at += statesLength;
  const tlbs: Uint8Array[] = [];
  for (let i = 0; i < configuration.cpus; i++, at += TLB_BYTES) tlbs.push(bytes.slice(at, at + TLB_BYTES));
  const pages: [number, Uint8Array][] = [];
  const limit = configuration.ramBytes / PAGE_SIZE;
  let previous = -1;
  // One copy for all: a slice for each page would take as long as all the rest.
  const copy = bytes.slice(at);
  const start = at;
  for (let i = 0; i < pageCount; i++, at += 4 + PAGE_SIZE) {
    const page = view.getUint32(at, true);
    if (page <= previous || page >= limit)
      throw new SnapshotError(`page ${i}: number ${page}, expected ${previous + 1} to ${limit - 1}`);
    previous = page;
    pages.push([page, copy.subarray(at + 4 - start, at + 4 - start + PAGE_SIZE)]);
  }
  const tiles = withTiles
    ? tilesOf(header.tiles, configuration.cpus)
    : new Array<TileState>(configuration.cpus).fill(INITIAL_TILES);
  return new Snapshot(configuration, PageTree.empty(limit).with(pages), states, tlbs, parts, tiles);
}

/** AMX state of each processor. */
function tilesOf(json: unknown, cpus: number): TileState[] {
  if (!Array.isArray(json) || json.length !== cpus)
    throw new SnapshotError(`tiles: expected those of ${cpus} processors`);
  return json.map((one, i) => {
    const { config, data, xfd, xfdErr } = rebuild(
      { ...INITIAL_TILES },
      one,
      `tiles.${i}`,
    ) as unknown as TileState;
    if (!isValidConfig(config)) throw new SnapshotError(`tiles.${i}.config: expected a configuration of AMX`);
    if ((xfd | xfdErr) & ~XCR0_TILEDATA)
      throw new SnapshotError(`tiles.${i}.xfd: expected no bit of IA32_XFD but that of tiles`);
    return tileState(config, data, xfd, xfdErr);
  });
}

function withNewerParts(parts: unknown, shape: Readonly<Record<string, Plain>>): unknown {
  if (typeof parts !== 'object' || parts === null) return parts;
  return { ...Object.fromEntries(NEWER_PARTS.map((name) => [name, toJson(shape[name])])), ...parts };
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new SnapshotError('header: not JSON in UTF-8');
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw new SnapshotError('header: expected an object');
  return header as Record<string, unknown>;
}

function whole(header: Record<string, unknown>, name: string): number {
  const value = header[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new SnapshotError(`${name}: expected a whole number of 0 or more`);
  return value;
}

/** Clears the engine's own fields: they mean nothing between two runs, and addresses from a file are not to be followed. */
function withoutEngine(states: Uint8Array): Uint8Array {
  for (let at = 0; at < states.length; at += STATE_SIZE)
    states.fill(0, at + offsetOf('remaining'), at + STATE_SIZE);
  return states;
}

/** What the schedule and the instruction cycle rely on. */
function checkStates(states: Uint8Array, cpus: number): void {
  const view = new DataView(states.buffer, states.byteOffset);
  for (let cpu = 0; cpu < cpus; cpu++) {
    const at = cpu * STATE_SIZE;
    const fail = (field: string, expected: string) => {
      throw new SnapshotError(`processor ${cpu}: ${field}: expected ${expected}`);
    };
    if (view.getBigUint64(at + offsetOf('instructions'), true) > BigInt(LARGEST))
      fail('instructions', 'at most 2^50');
    if (view.getUint8(at + offsetOf('activity')) > 3) fail('activity', '0 to 3');
    if (view.getUint8(at + offsetOf('cpl')) > 3) fail('cpl', '0 to 3');
    if (view.getUint8(at + offsetOf('shadow')) > 2) fail('shadow', '0 to 2');
  }
}

type Json = number | boolean | string | readonly Json[] | { readonly [name: string]: Json };

/** Numbers and booleans as they are; bigints and bytes as hexadecimal; arrays as arrays. */
function toJson(value: Plain): Json {
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  if (typeof value === 'bigint') return value.toString(16);
  if (value instanceof Uint8Array)
    return Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (value instanceof Uint32Array || Array.isArray(value)) return Array.from(value as Iterable<number>);
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, toJson(field as Plain)]));
}

/** The value that `json` stands for, which must be of the shape of `like`. An array that is empty there has any length. */
function rebuild(like: Plain, json: unknown, path: string): Plain {
  const fail = (expected: string): never => {
    throw new SnapshotError(`${path}: expected ${expected}`);
  };
  if (typeof like === 'number') return isWhole(json) ? json : fail('a whole number');
  if (typeof like === 'boolean') return typeof json === 'boolean' ? json : fail('true or false');
  if (typeof like === 'bigint')
    return typeof json === 'string' && /^[0-9a-f]{1,16}$/.test(json)
      ? BigInt(`0x${json}`)
      : fail('64 bits in hexadecimal');
  if (like instanceof Uint8Array) {
    if (typeof json !== 'string' || json.length % 2 !== 0 || !/^[0-9a-f]*$/.test(json))
      return fail('bytes in hexadecimal');
    if (like.length > 0 && json.length !== like.length * 2) return fail(`${like.length} bytes`);
    return Uint8Array.from({ length: json.length / 2 }, (_, i) =>
      Number.parseInt(json.slice(i * 2, i * 2 + 2), 16),
    );
  }
  if (like instanceof Uint32Array || Array.isArray(like)) {
    if (!Array.isArray(json) || !json.every(isWhole)) return fail('whole numbers');
    if (like.length > 0 && json.length !== like.length) return fail(`${like.length} numbers`);
    return like instanceof Uint32Array ? Uint32Array.from(json) : json;
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return fail('an object');
  const result: Record<string, Plain> = {};
  for (const [name, field] of Object.entries(like))
    result[name] = rebuild(field as Plain, (json as Record<string, unknown>)[name], `${path}.${name}`);
  return result;
}

/** Times, counts and registers: whole, and -1 for "none". */
function isWhole(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= -1 && value <= LARGEST;
}
