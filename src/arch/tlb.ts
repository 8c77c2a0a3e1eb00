/**
 * The translation lookaside buffer of one processor: translations stay in it, stale or not, until they are
 * invalidated or replaced. SDM vol. 3A 4.10.
 *
 * It stands in the machine's memory, so that snapshots hold it. Each page size has a set-associative bank of
 * its own (a 4-MByte page takes two 2-MByte entries), replaced in turn within a set: which translations are
 * cached is a function of the run alone. Not-present and reserved-bit results are never cached.
 *
 * An entry is four dwords:
 * 0. bits 31:0 of the linear page number (in units of the bank's page size);
 * 1. bits 3:0 of it above those, PCID (15:4), and the flags below;
 * 2. physical address >> 12 of the page;
 * 3. not used.
 */
import type { EngineControl } from './cpu.ts';

/** Flags in an entry's second dword. */
const TLB_VALID = 1 << 16;
/** The page is global: found whatever the PCID (SDM vol. 3A 4.10.2.4). */
export const TLB_GLOBAL = 1 << 17;
/** User-mode accesses are allowed by every paging-structure entry. */
export const TLB_USER = 1 << 18;
/** Writes are allowed by every paging-structure entry. */
export const TLB_WRITABLE = 1 << 19;
/** Some paging-structure entry forbids instruction fetches. */
export const TLB_NO_EXECUTE = 1 << 20;
/** The dirty flag of the page was set when it was cached. */
export const TLB_DIRTY = 1 << 21;
/** Half of a 4-MByte page: invalidated with its other half. */
export const TLB_HALF = 1 << 22;

const TAG_MASK = 0xffff;
const WAYS = 4;
const ENTRY_WORDS = 4;

interface Bank {
  /** Bytes of a page. */
  readonly page: number;
  readonly sets: number;
  /** Word offset of the first entry, and of the first set's replacement counter, from the area's start. */
  readonly entries: number;
  readonly turns: number;
}

function bank(page: number, sets: number, at: number): Bank {
  return { page, sets, entries: at, turns: at + sets * WAYS * ENTRY_WORDS };
}
const wordsOf = (b: Bank) => b.sets * (WAYS * ENTRY_WORDS + 1);

/** Word 0 of the area counts valid entries for pages above 4 KiB, so that look-ups may skip their banks. */
const LARGE_COUNT = 0;
const BANK_4K = bank(0x1000, 256, 4);
const BANK_2M = bank(0x20_0000, 16, BANK_4K.entries + wordsOf(BANK_4K));
const BANK_1G = bank(0x4000_0000, 1, BANK_2M.entries + wordsOf(BANK_2M));
const BANKS = [BANK_4K, BANK_2M, BANK_1G] as const;
const WORDS = BANK_1G.entries + wordsOf(BANK_1G);

/** Bytes from the TLB's address that it uses; a snapshot need hold no more of the arch area. */
export const TLB_BYTES = WORDS * 4;

/** Sizes of pages that the TLB holds, in bytes. */
export type PageBytes = 0x1000 | 0x20_0000 | 0x4000_0000;

const HIGH = 2 ** 32;

/** Changed entries that are remembered. */
const JOURNAL = 64;

export class Tlb {
  /** The machine's whole memory in dwords. */
  readonly memory: Uint32Array;
  readonly #words: Uint32Array;
  readonly #engine: () => EngineControl;
  /** Entries changed since {@link settle}, as often as they were; of no use beyond JOURNAL of them. */
  readonly #journal = new Uint16Array(JOURNAL);
  #changes = JOURNAL + 1;

  /**
   * @param address of `TLB_BYTES` zero bytes in `memory`, a multiple of 4.
   * @param engine whose fast translations are a subset of these, and are told of every one that goes.
   */
  constructor(memory: WebAssembly.Memory, address: number, engine: () => EngineControl) {
    this.memory = new Uint32Array(memory.buffer);
    this.#words = new Uint32Array(memory.buffer, address, WORDS);
    this.#engine = engine;
  }

  /** Whether an entry has changed since {@link settle}. */
  get changed(): boolean {
    return this.#changes > 0;
  }

  /** Changes are counted from here. */
  settle(): void {
    this.#changes = 0;
  }

  /**
   * Goes back to what the TLB was at {@link settle}: the engine is told of the entries that go.
   * @param saved a copy of its area then
   * @returns whether it could; if not, nothing has changed: there were too many changes
   */
  undo(saved: Uint32Array): boolean {
    const changes = this.#changes;
    if (changes > JOURNAL) return false;
    for (let i = 0; i < changes; i++) this.#put(this.#journal[i], saved);
    this.#words[LARGE_COUNT] = saved[LARGE_COUNT];
    this.#changes = 0;
    return true;
  }

  /** Becomes what another copy of its area says: the engine is told of the entries that go. */
  become(saved: Uint32Array): void {
    const words = this.#words;
    for (const b of BANKS) {
      if (b !== BANK_4K && words[LARGE_COUNT] === 0 && saved[LARGE_COUNT] === 0) break;
      for (let entry = b.entries; entry < b.turns; entry += ENTRY_WORDS) {
        const same =
          words[entry + 1] === saved[entry + 1] &&
          words[entry] === saved[entry] &&
          words[entry + 2] === saved[entry + 2];
        if (!same) this.#put(entry, saved);
      }
    }
    words.set(saved);
    this.#changes = 0;
  }

  /** Makes an entry, and the counter of its set, what they are in a copy. */
  #put(entry: number, saved: Uint32Array): void {
    const words = this.#words;
    this.#drop(entry);
    for (let at = entry; at < entry + ENTRY_WORDS; at++) words[at] = saved[at];
    const b = entry < BANK_2M.entries ? BANK_4K : entry < BANK_1G.entries ? BANK_2M : BANK_1G;
    const turn = b.turns + Math.floor((entry - b.entries) / (WAYS * ENTRY_WORDS));
    words[turn] = saved[turn];
  }

  #note(entry: number): void {
    if (this.#changes < JOURNAL) this.#journal[this.#changes] = entry;
    this.#changes++;
  }

  /**
   * Finds the translation of `linear` (bits 47:0 as a number) under `pcid`: the handle of its entry, or -1.
   * Handles hold until the TLB next changes.
   */
  find(linear: number, pcid: number): number {
    const words = this.#words;
    const found = this.#findIn(BANK_4K, linear, pcid);
    if (found >= 0 || words[LARGE_COUNT] === 0) return found;
    const large = this.#findIn(BANK_2M, linear, pcid);
    return large >= 0 ? large : this.#findIn(BANK_1G, linear, pcid);
  }

  /** Calls `visit` for each translation: linear address (bits 47:0) and physical address of its page, its PCID and flags. */
  forEach(visit: (linear: number, physical: number, pcid: number, flags: number) => void): void {
    const words = this.#words;
    for (const b of BANKS)
      for (let entry = b.entries; entry < b.turns; entry += ENTRY_WORDS) {
        const tag = words[entry + 1];
        if ((tag & TLB_VALID) === 0) continue;
        const number = words[entry] + (tag & 0xf) * HIGH;
        visit(number * b.page, words[entry + 2] * 0x1000, (tag & TAG_MASK) >>> 4, tag & ~TAG_MASK);
      }
  }

  /** The flags of a found entry. */
  flags(entry: number): number {
    return this.#words[entry + 1];
  }

  /** The physical address of `linear` by a found entry. */
  physical(entry: number, linear: number): number {
    const mask = entry < BANK_2M.entries ? 0xfff : entry < BANK_1G.entries ? 0x1f_ffff : 0x3fff_ffff;
    return this.#words[entry + 2] * 0x1000 + (linear & mask);
  }

  /**
   * Caches a translation in place of any that stands for `linear` under `pcid`.
   * @param page the page's size; the two halves of a 4-MByte page are cached on their own, with TLB_HALF.
   * @param frame physical address of the page.
   * @param flags TLB_USER, TLB_WRITABLE, TLB_NO_EXECUTE, TLB_DIRTY, TLB_GLOBAL, TLB_HALF.
   */
  insert(linear: number, pcid: number, page: PageBytes, frame: number, flags: number): void {
    const words = this.#words;
    const into = page === 0x1000 ? BANK_4K : page === 0x20_0000 ? BANK_2M : BANK_1G;
    const number = Math.floor(linear / page);
    const low = number >>> 0;
    const high = (Math.floor(number / HIGH) | (pcid << 4) | flags | TLB_VALID) >>> 0;
    const physical = frame / 0x1000;

    for (let old = this.find(linear, pcid); old >= 0; old = this.find(linear, pcid)) {
      const same = words[old] === low && words[old + 2] === physical && old >= into.entries;
      if (same && (words[old + 1] | TLB_DIRTY) === (high | TLB_DIRTY)) {
        if (words[old + 1] !== high) this.#note(old);
        words[old + 1] = high;
        return;
      }
      this.#drop(old);
    }

    const set = number & (into.sets - 1);
    const first = into.entries + set * WAYS * ENTRY_WORDS;
    let entry = -1;
    for (let way = 0; way < WAYS; way++) {
      const candidate = first + way * ENTRY_WORDS;
      if ((words[candidate + 1] & TLB_VALID) === 0) {
        entry = candidate;
        break;
      }
    }
    if (entry < 0) {
      const turn = words[into.turns + set];
      words[into.turns + set] = (turn + 1) % WAYS;
      entry = first + turn * ENTRY_WORDS;
      this.#drop(entry);
    }
    this.#note(entry);
    words[entry] = low;
    words[entry + 1] = high;
    words[entry + 2] = physical;
    if (page !== 0x1000) words[LARGE_COUNT]++;
  }

  /**
   * Drops translations of the page of `linear` (bits 47:0) under `pcid`, of whatever size; global ones too where
   * `globals`.
   */
  invalidatePage(linear: number, pcid: number, globals: boolean): void {
    const words = this.#words;
    for (const b of BANKS) {
      if (b !== BANK_4K && words[LARGE_COUNT] === 0) return;
      this.#invalidateIn(b, linear, pcid, globals);
    }
  }

  /** Drops translations of one PCID, or of all where `pcid` is -1; global ones only where `globals`. */
  invalidateContext(pcid: number, globals: boolean): void {
    const words = this.#words;
    this.#changes = JOURNAL + 1;
    for (const b of BANKS) {
      if (b !== BANK_4K && words[LARGE_COUNT] === 0) break;
      for (let entry = b.entries; entry < b.turns; entry += ENTRY_WORDS) {
        const tag = words[entry + 1];
        if ((tag & TLB_VALID) === 0) continue;
        if (tag & TLB_GLOBAL ? !globals : pcid >= 0 && (tag & TAG_MASK) >>> 4 !== pcid) continue;
        words[entry + 1] = 0;
        if (b !== BANK_4K) words[LARGE_COUNT]--;
      }
    }
    // Without the global ones, what stands under other PCIDs remains.
    this.#engine().flushTranslations(pcid < 0 || globals ? undefined : pcid, globals);
  }

  /** Number of valid entries. */
  get size(): number {
    let size = 0;
    for (const b of BANKS)
      for (let entry = b.entries; entry < b.turns; entry += ENTRY_WORDS)
        if (this.#words[entry + 1] & TLB_VALID) size++;
    return size;
  }

  #findIn(b: Bank, linear: number, pcid: number): number {
    const words = this.#words;
    const number = Math.floor(linear / b.page);
    const low = number >>> 0;
    const high = Math.floor(number / HIGH);
    const first = b.entries + (number & (b.sets - 1)) * WAYS * ENTRY_WORDS;
    for (let entry = first; entry < first + WAYS * ENTRY_WORDS; entry += ENTRY_WORDS) {
      if (words[entry] !== low) continue;
      const tag = words[entry + 1];
      if ((tag & TLB_VALID) === 0 || (tag & 0xf) !== high) continue;
      if (tag & TLB_GLOBAL || (tag & TAG_MASK) >>> 4 === pcid) return entry;
    }
    return -1;
  }

  #invalidateIn(b: Bank, linear: number, pcid: number, globals: boolean): void {
    const words = this.#words;
    const number = Math.floor(linear / b.page);
    const first = b.entries + (number & (b.sets - 1)) * WAYS * ENTRY_WORDS;
    for (let entry = first; entry < first + WAYS * ENTRY_WORDS; entry += ENTRY_WORDS) {
      const tag = words[entry + 1];
      if ((tag & TLB_VALID) === 0 || words[entry] !== number >>> 0) continue;
      if ((tag & 0xf) !== Math.floor(number / HIGH)) continue;
      if (tag & TLB_GLOBAL ? !globals : (tag & TAG_MASK) >>> 4 !== pcid) continue;
      this.#drop(entry);
      if (tag & TLB_HALF) this.#dropOtherHalf(number, tag);
    }
  }

  /** The other half of a 4-MByte page has the page number with bit 0 flipped. */
  #dropOtherHalf(number: number, tag: number): void {
    const words = this.#words;
    const other = number ^ 1;
    const first = BANK_2M.entries + (other & (BANK_2M.sets - 1)) * WAYS * ENTRY_WORDS;
    for (let entry = first; entry < first + WAYS * ENTRY_WORDS; entry += ENTRY_WORDS) {
      const its = words[entry + 1];
      if (words[entry] !== other || (its & TLB_HALF) === 0 || (its & TLB_VALID) === 0) continue;
      if ((its & TAG_MASK) === (tag & TAG_MASK)) this.#drop(entry);
    }
  }

  #drop(entry: number): void {
    const words = this.#words;
    const tag = words[entry + 1];
    if ((tag & TLB_VALID) === 0) return;
    this.#note(entry);
    words[entry + 1] = 0;
    const b = entry < BANK_2M.entries ? BANK_4K : entry < BANK_1G.entries ? BANK_2M : BANK_1G;
    const linear = BigInt.asUintN(
      64,
      BigInt.asIntN(48, BigInt((words[entry] + (tag & 0xf) * HIGH) * b.page)),
    );
    const code = (tag & TLB_NO_EXECUTE) === 0;
    if (b === BANK_4K) {
      this.#engine().flushPage(linear, code);
      return;
    }
    words[LARGE_COUNT]--;
    this.#engine().flushLargePage(linear, b.page, code);
  }
}
