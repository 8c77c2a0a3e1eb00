/**
 * What processors read and write while they are run: which dwords of memory they share, and the accesses of one run to
 * those.
 *
 * Two instructions of different processors that touch no common dword of which one is written may change places without
 * anybody noticing. So only accesses to shared dwords order processors among each other (SDM vol. 3A 8.2: memory is all
 * that processors have in common, but for messages between local APICs, which count as one more dword here).
 */

/** What an access to a device or a port counts as: all of these are one shared dword that is written. */
const DEVICES = 0x3fff_ffff;
/** Two bits a processor must fit in 30. */
const MOST_CPUS = 15;
const WRITES = 0x2aaa_aaaa;
/** Accesses of a loop that waits. */
const RECENT = 4;

/** Which processors read and write each dword, over all runs that were seen. */
export class Sharing {
  readonly #users = new Map<number, number>();
  /** A dword turned out to be shared of which earlier accesses were not kept: what was explored must be explored anew. */
  grew = false;

  /** Throws RangeError for more processors than can be told apart. */
  constructor(cpus: number) {
    if (cpus > MOST_CPUS) throw new RangeError(`${cpus} processors: at most ${MOST_CPUS} can be interleaved`);
  }

  /** Notes an access. @returns whether the dword is shared, so that the access matters */
  note(cpu: number, dword: number, write: boolean): boolean {
    const before = this.#users.get(dword) ?? (dword === DEVICES ? WRITES | 1 : 0);
    const after = before | ((write ? 3 : 1) << (2 * cpu));
    if (after !== before) {
      this.#users.set(dword, after);
      if (isShared(after) && !isShared(before)) this.grew = true;
    }
    return isShared(after);
  }

  /** Dwords that several processors touch and one of them writes. */
  get shared(): number {
    let count = 0;
    for (const users of this.#users.values()) if (isShared(users)) count++;
    return count;
  }
}

function isShared(users: number): boolean {
  if ((users & WRITES) === 0) return false;
  const first = 31 - Math.clz32(users);
  return (users & ~(3 << (first & ~1))) !== 0;
}

/** Accesses of one run to shared dwords, in order. */
export class AccessLog {
  #at = new Int32Array(64);
  #what = new Int32Array(64);
  length = 0;

  /** @param at instructions of the run before the one that makes the access */
  add(at: number, dword: number, write: boolean): void {
    if (this.length === this.#at.length) {
      this.#at = grown(this.#at);
      this.#what = grown(this.#what);
    }
    this.#at[this.length] = at;
    this.#what[this.length++] = (dword << 1) | (write ? 1 : 0);
  }

  /** Instructions before access number `index`. */
  at(index: number): number {
    return this.#at[index];
  }

  /** Whether the latest access is like one of the few before it: perhaps a processor waits here. */
  get repeats(): boolean {
    const last = this.length - 1;
    for (let i = last - 1; i >= 0 && i >= last - RECENT; i--)
      if (this.#what[i] === this.#what[last]) return true;
    return false;
  }

  /** Whether one of the accesses with numbers [from, to) may not change places with what `future` holds. */
  conflicts(from: number, to: number, future: Accesses): boolean {
    for (let i = from; i < to; i++) if (future.conflicts(this.#what[i])) return true;
    return false;
  }

  /** Adds the accesses from boundary `from` on. */
  addTo(accesses: Accesses, from: number): void {
    for (let i = this.length - 1; i >= 0 && this.#at[i] >= from; i--) accesses.add(this.#what[i]);
  }

  /** As tuples of boundary, address and direction, for tests. */
  list(): [at: number, address: number, write: boolean][] {
    return Array.from({ length: this.length }, (_, i) => [
      this.#at[i],
      (this.#what[i] >>> 1) * 4,
      (this.#what[i] & 1) !== 0,
    ]);
  }
}

function grown(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * array.length);
  larger.set(array);
  return larger;
}

/** A set of accesses without order. */
export class Accesses {
  /** By dword: whether one of them writes. */
  readonly #written = new Map<number, boolean>();

  /** @param what dword * 2 + 1 for a write */
  add(what: number): void {
    const dword = what >>> 1;
    if ((what & 1) !== 0) this.#written.set(dword, true);
    else if (!this.#written.has(dword)) this.#written.set(dword, false);
  }

  conflicts(what: number): boolean {
    const written = this.#written.get(what >>> 1);
    return written !== undefined && (written || (what & 1) !== 0);
  }
}

/** Calls `each` with every dword of an access. @param ramBytes what lies beyond is a device */
export function dwordsOf(
  physical: number,
  size: number,
  ramBytes: number,
  each: (dword: number) => void,
): void {
  if (physical >= ramBytes) {
    each(DEVICES);
    return;
  }
  const last = (physical + size - 1) >>> 2;
  for (let dword = physical >>> 2; dword <= last; dword++) each(dword);
}

/** The dword that stands for devices and ports. */
export const devices: number = DEVICES;
