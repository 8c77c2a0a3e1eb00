/**
 * The symbol table that a Linux kernel has of itself in memory (CONFIG_KALLSYMS), found by its form: no symbol tells where it is.
 * Linux scripts/kallsyms.c (write_src) and kernel/kallsyms.c, 5.0 to 6.x.
 *
 * - `token_table`: 256 texts that end with 0; `token_index`: 16 bits each, where they begin. A character that occurs in names is
 *   a token of its own number, so the digits stand in a row.
 * - `num_syms`: 32 bits; `names`: of each symbol a length in bytes (of 7 and, with bit 7 set, 7 bits more) and tokens, which make a
 *   type letter and the name; `markers`: 32 bits, where each 256th begins.
 * - `offsets`: 32 bits each, and `relative_base`: 64 bits, before `num_syms` or after `token_index`. With per-CPU symbols as
 *   absolute ones, these have offsets from 0, and the others are counted down from -1.
 *
 * Each begins at a multiple of 8 bytes.
 */
import { type MapNames, mapNames } from './system-map.ts';

const TOKENS = 256;
const DIGITS = Array.from({ length: 10 }, (_, i) => [0x30 + i, 0]).flat();
const EVERY = 256;
const MOST_SYMBOLS = 1 << 20;
/** Names are within so many bytes before the token table. */
const REACH = 1 << 25;
const FIRST_KERNEL_ADDRESS = 0xffff_8000_0000_0000n;

const align8 = (n: number) => (n + 7) & ~7;

/**
 * The symbols in an image of a kernel's memory, with the addresses at which it runs; undefined where there are none.
 * @param bytes read-only data of the kernel, in the order of its addresses and from a multiple of 8
 */
export function readKallsyms(bytes: Uint8Array): MapNames | undefined {
  for (let from = 0; ; ) {
    const digits = find(bytes, DIGITS, from);
    if (digits < 0) return undefined;
    const found = readAround(bytes, digits);
    if (found) return found;
    from = digits + 1;
  }
}

function find(bytes: Uint8Array, what: readonly number[], from: number): number {
  for (let i = bytes.indexOf(what[0], from); i >= 0; i = bytes.indexOf(what[0], i + 1))
    if (what.every((byte, k) => bytes[i + k] === byte)) return i;
  return -1;
}

interface Tokens {
  readonly texts: readonly string[];
  /** Where the table begins, and where the index ends. */
  readonly start: number;
  readonly end: number;
}

function readAround(bytes: Uint8Array, digits: number): MapNames | undefined {
  const tokens = readTokens(bytes, digits);
  if (!tokens) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = (tokens.start & ~7) - 8; at >= Math.max(0, tokens.start - REACH); at -= 8) {
    const count = view.getUint32(at, true);
    if (count === 0 || count > MOST_SYMBOLS || view.getUint32(at + 4, true) !== 0) continue;
    const names = readNames(view, at + 8, count, tokens);
    if (!names) continue;
    const addresses =
      readAddresses(view, align8(tokens.end), count) ??
      readAddresses(view, align8(at - 8 - align8(4 * count)), count);
    if (addresses)
      return mapNames(
        names.map((text, i) => ({ address: addresses[i], type: text[0], name: text.slice(1) })),
      );
  }
  return undefined;
}

/** The table that has the digits there. */
function readTokens(bytes: Uint8Array, digits: number): Tokens | undefined {
  let start = digits;
  for (let ends = 0; start > 0; start--) if (bytes[start - 1] === 0 && ends++ === DIGITS[0]) break;
  const texts: string[] = [];
  const starts: number[] = [];
  let at = start;
  for (let i = 0; i < TOKENS; i++) {
    const end = bytes.indexOf(0, at);
    if (end < 0) return undefined;
    starts.push(at - start);
    texts.push(String.fromCharCode(...bytes.subarray(at, Math.min(end, at + 512))));
    at = end + 1;
  }
  const index = align8(at);
  const end = index + 2 * TOKENS;
  if (start % 8 !== 0 || end > bytes.length) return undefined;
  for (const [i, offset] of starts.entries())
    if ((bytes[index + 2 * i] | (bytes[index + 2 * i + 1] << 8)) !== offset) return undefined;
  return { texts, start, end };
}

/** `count` names with their type letters, if that is what is there, and markers after them. */
function readNames(
  view: DataView,
  start: number,
  count: number,
  { texts, start: limit }: Tokens,
): string[] | undefined {
  const names: string[] = [];
  const markers: number[] = [];
  let at = start;
  for (let i = 0; i < count; i++) {
    if (i % EVERY === 0) markers.push(at - start);
    if (at + 2 > limit) return undefined;
    let length = view.getUint8(at++);
    if (length & 0x80) length = (length & 0x7f) | (view.getUint8(at++) << 7);
    if (length === 0 || at + length > limit) return undefined;
    let name = '';
    for (let k = 0; k < length; k++) name += texts[view.getUint8(at + k)];
    if (!/^[A-Za-z?]./.test(name)) return undefined;
    names.push(name);
    at += length;
  }
  const after = align8(at);
  if (after + 4 * markers.length > limit) return undefined;
  return markers.every((marker, i) => view.getUint32(after + 4 * i, true) === marker) ? names : undefined;
}

/** `count` offsets and their base as addresses, if that is what is there. */
function readAddresses(view: DataView, start: number, count: number): bigint[] | undefined {
  const at = align8(start + 4 * count);
  if (start < 0 || at + 8 > view.byteLength) return undefined;
  const base = view.getBigUint64(at, true);
  if (base < FIRST_KERNEL_ADDRESS) return undefined;
  const offsets = Array.from({ length: count }, (_, i) => view.getInt32(start + 4 * i, true));
  const absolutes = offsets.some((offset) => offset < 0);
  const addresses = offsets.map((offset) =>
    absolutes ? (offset < 0 ? base - 1n - BigInt(offset) : BigInt(offset)) : base + BigInt(offset),
  );
  return addresses.every((address, i) => i === 0 || addresses[i - 1] <= address) ? addresses : undefined;
}
