/**
 * Changes of a kernel's code in memory, as they are written: `SYMBOL+OFFSET=OLD:NEW`, bytes in hexadecimal digits. What is there
 * must be OLD; `SYMBOL+OFFSET=NEW` takes what there is.
 */
import type { Machine } from '../../machine/machine.ts';
import { PatchError } from './patch-error.ts';

export interface Patch {
  /** As it was written. */
  readonly text: string;
  /** A symbol, or an address: `0x...`. */
  readonly symbol: string;
  readonly offset: bigint;
  /** What has to be there. */
  readonly old: Uint8Array | undefined;
  readonly bytes: Uint8Array;
}

const FORM = /^([^\s+=]+)(?:\+(0x[\da-f]+|\d+))?=(?:([\da-f]+):)?([\da-f]+)$/i;
const MOST = 4096;

/** Reads a patch. Throws PatchError, whose message names it and what was expected. */
export function parsePatch(text: string): Patch {
  const fail = (expected: string) => new PatchError(`${text}: expected ${expected}`);
  const match = FORM.exec(text);
  if (!match)
    throw fail('SYMBOL+OFFSET=OLD:NEW with bytes in hexadecimal digits, as in entry+0x10=7505:9090');
  const [, symbol, offset = '0', old, bytes] = match as unknown as [
    string,
    string,
    string?,
    string?,
    string?,
  ];
  for (const digits of [old, bytes])
    if (digits !== undefined && digits.length % 2 !== 0) throw fail('two hexadecimal digits a byte');
  if (old !== undefined && old.length !== bytes?.length) throw fail('as many new bytes as old ones');
  const patch = {
    text,
    symbol,
    offset: BigInt(offset),
    old: old === undefined ? undefined : bytesOf(old),
    bytes: bytesOf(bytes ?? ''),
  };
  if (patch.bytes.length > MOST) throw fail(`at most ${MOST} bytes`);
  return patch;
}

/**
 * Changes a kernel where it stands in memory.
 * @returns what was done, a line each. Throws PatchError, having changed nothing, for a symbol that there is not and for bytes
 * that are not the expected ones
 */
export function applyPatches(
  machine: Machine,
  cpu: number,
  patches: readonly Patch[],
  symbol: (name: string) => bigint | undefined,
): string[] {
  const found = patches.map((patch) => {
    const { text, symbol: name, offset, old, bytes } = patch;
    const base = /^0x[\da-f]+$/i.test(name) ? BigInt(name) : symbol(name);
    if (base === undefined) throw new PatchError(`${text}: the kernel has no symbol "${name}"`);
    const address = BigInt.asUintN(64, base + offset);
    let there: Uint8Array;
    try {
      there = machine.readMemory(address, bytes.length, cpu);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new PatchError(`${text}: 0x${address.toString(16)} is not in memory`);
    }
    if (old && !old.every((byte, i) => byte === there[i]))
      throw new PatchError(`${text}: the bytes there are ${hex(there)}, expected ${hex(old)}`);
    return { patch, address, there };
  });
  return found.map(({ patch: { symbol: name, offset, bytes }, address, there }) => {
    machine.writeMemory(address, bytes, cpu);
    return `patched in memory: ${name}+0x${offset.toString(16)} from ${hex(there)} to ${hex(bytes)}`;
  });
}

function bytesOf(digits: string): Uint8Array {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
