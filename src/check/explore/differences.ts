/** Where two copies of bytes differ, by WebAssembly: for pages and processors' states several times as fast as a loop. */
import { makeScanner } from '../../engine/wasm/memory-scan.ts';

/** The longest that are compared, in bytes. */
const LONGEST = 4096;

const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
const first = new Uint8Array(memory.buffer, 0, LONGEST);
const second = new Uint8Array(memory.buffer, LONGEST, LONGEST);
const dwords = new Uint32Array(memory.buffer);
const scan = makeScanner(memory);

/**
 * Whether dwords `start` to before `end` of two arrays of up to 4 KiB are equal, but for those that `allowed` lets differ.
 * @param allowed of the number of a dword; not to compare anything itself
 */
export function equalBut(
  a: Uint8Array,
  b: Uint8Array,
  start: number,
  end: number,
  allowed: (dword: number) => boolean,
): boolean {
  first.set(a);
  second.set(b);
  const last = end * 4;
  for (let at = (start * 4) & ~7; ; at += 8) {
    at = scan(0, LONGEST, at, last);
    if (at >= last) return true;
    for (let i = at / 4; i < at / 4 + 2; i++)
      if (i >= start && i < end && differ(i) && !allowed(i)) return false;
  }
}

function differ(dword: number): boolean {
  return dwords[dword] !== dwords[dword + LONGEST / 4];
}
