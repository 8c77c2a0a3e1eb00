/**
 * A snapshot: all of a machine at one moment, sharing unchanged pages with its relatives; and the keeper that takes
 * and restores them at the cost of what has changed.
 */
import type { Cpu } from '../arch/cpu.ts';
import type { TileState } from '../arch/tile-state.ts';
import { TLB_BYTES } from '../arch/tlb.ts';
import type { Layout } from '../engine/layout.ts';
import { fields, offsetOf, STATE_SIZE } from '../isa/state.ts';
import { crc32 } from './crc32.ts';
import type { Plain } from './devices/device.ts';
import { PAGE_SIZE, type SystemBus } from './memory.ts';
import { PageTree } from './page-tree.ts';

/** A snapshot that cannot be used: a damaged file, or one of another machine. One line. */
export class SnapshotError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SnapshotError';
  }
}

/** What must be equal for a snapshot to fit a machine. */
export interface Configuration {
  readonly cpus: number;
  readonly ramBytes: number;
  readonly quantum: number;
  readonly seed: number;
  readonly epoch: number;
  /** Model of the processors, as `processorOf` takes it. */
  readonly cpu: string;
  /** Devices on the PCI bus by name, separated by commas. */
  readonly devices: string;
}

/** Opaque to users: hand it to `Machine.restore`, or write it with `encodeSnapshot`. Immutable. */
export class Snapshot {
  readonly configuration: Configuration;
  readonly pages: PageTree;
  /** State areas of all processors, one after another. */
  readonly states: Uint8Array;
  /** TLB area of each processor. */
  readonly tlbs: readonly Uint8Array[];
  /** Devices, schedule and random numbers, by name. */
  readonly parts: Readonly<Record<string, Plain>>;
  /** AMX state of each processor. */
  readonly tiles: readonly TileState[];

  constructor(
    configuration: Configuration,
    pages: PageTree,
    states: Uint8Array,
    tlbs: readonly Uint8Array[],
    parts: Readonly<Record<string, Plain>>,
    tiles: readonly TileState[],
  ) {
    this.configuration = configuration;
    this.pages = pages;
    this.states = states;
    this.tlbs = tlbs;
    this.parts = parts;
    this.tiles = tiles;
  }
}

/** Identifies the layout of the processors' areas: a snapshot file of another layout cannot be read. */
export const LAYOUT_FINGERPRINT: number = crc32(
  new TextEncoder().encode(
    Object.values(fields)
      .map((field) => `${field.name}:${field.type}:${field.offset}:${field.count}`)
      .concat(`${STATE_SIZE}`, `${TLB_BYTES}`)
      .join(),
  ),
);

/**
 * Knows how the machine's memory differs from the latest snapshot taken or restored: by the pages written since, and
 * the processors that have run since.
 */
export class SnapshotKeeper {
  readonly #bus: SystemBus;
  readonly #cpus: readonly Cpu[];
  readonly #states: Uint8Array;
  readonly #stateDwords: Uint32Array;
  /** Where each processor's jump cache and the code table are: the engine's, whatever a snapshot says. */
  readonly #jumpCaches: readonly number[];
  readonly #codeTable: number;
  readonly #tlbs: readonly Uint8Array[];
  readonly #touched: Uint8Array;
  #pages: PageTree;
  #savedTlbs: readonly Uint8Array[];

  constructor(memory: WebAssembly.Memory, layout: Layout, bus: SystemBus, cpus: readonly Cpu[]) {
    this.#bus = bus;
    this.#cpus = cpus;
    this.#jumpCaches = cpus.map((_, i) => layout.jumpCache(i));
    this.#codeTable = layout.codeTable;
    this.#states = new Uint8Array(memory.buffer, layout.state(0), cpus.length * STATE_SIZE);
    this.#stateDwords = dwordsOf(this.#states);
    this.#tlbs = cpus.map((_, i) => new Uint8Array(memory.buffer, layout.arch(i), TLB_BYTES));
    this.#touched = new Uint8Array(cpus.length).fill(1);
    this.#pages = PageTree.empty(layout.ramBytes / PAGE_SIZE);
    this.#savedTlbs = this.#tlbs.map(() => new Uint8Array(0));
  }

  /** Processor `index` is about to run: it may get translations for writing. */
  touch(index: number): void {
    this.#touched[index] = 1;
  }

  /** The caller must then make the next write of each page known (the engine's `flushWrites`). */
  take(configuration: Configuration, parts: Readonly<Record<string, Plain>>): Snapshot {
    const { dirty, bytes } = this.#bus;
    if (dirty.count > 0) {
      const changes: [number, Uint8Array][] = [];
      for (const page of dirty.list())
        changes.push([page, bytes.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)]);
      this.#pages = this.#pages.with(changes);
      dirty.clear();
    }
    this.#savedTlbs = this.#tlbs.map((tlb, i) =>
      this.#cpus[i].tlb.changed ? tlb.slice() : this.#savedTlbs[i],
    );
    this.#settle();
    const tiles = this.#cpus.map((cpu) => cpu.tiles);
    return new Snapshot(configuration, this.#pages, this.#states.slice(), this.#savedTlbs, parts, tiles);
  }

  /**
   * Puts RAM, processors and TLBs back, and tells the engine of a processor to forget its translations where they may
   * not hold any more. The caller restores the parts.
   * @returns whether a processor may still have a fast translation for writing (the engine's `flushWrites` is due).
   */
  restore(snapshot: Snapshot): boolean {
    const { dirty } = this.#bus;
    for (const page of dirty.list()) this.#restorePage(page, snapshot.pages.get(page));
    PageTree.difference(this.#pages, snapshot.pages, (page, content) => {
      if (!dirty.has(page)) this.#restorePage(page, content);
    });
    dirty.clear();
    this.#pages = snapshot.pages;

    let kept = false;
    const states = dwordsOf(snapshot.states);
    const changed = this.#cpus.map((_, i) =>
      translationsChange(this.#stateDwords, states, (i * STATE_SIZE) / 4),
    );
    this.#states.set(snapshot.states);
    for (let i = 0; i < this.#cpus.length; i++) {
      const cpu = this.#cpus[i];
      cpu.jumpCache = this.#jumpCaches[i];
      cpu.codeTable = this.#codeTable;
      cpu.tiles = snapshot.tiles[i];
      if (changed[i]) cpu.engine.flushTranslations();
      else if (this.#touched[i] !== 0) kept = true;
      const tlb = dwordsOf(snapshot.tlbs[i]);
      if (this.#savedTlbs[i] !== snapshot.tlbs[i] || !cpu.tlb.undo(tlb)) cpu.tlb.become(tlb);
    }
    this.#savedTlbs = snapshot.tlbs;
    this.#settle();
    return kept;
  }

  #settle(): void {
    this.#touched.fill(0);
    for (const { tlb } of this.#cpus) tlb.settle();
  }

  #restorePage(page: number, content: Uint8Array | undefined): void {
    const { bytes, code } = this.#bus;
    const start = page * PAGE_SIZE;
    if (code.hasCode(start)) {
      // Only what really changes may drop decoded code: data often shares a page with it.
      const [from, to] = changedRange(bytes, start, content);
      if (from === to) return;
      copyPage(bytes, start, content);
      code.written(start + from, to - from);
    } else copyPage(bytes, start, content);
  }
}

/** Saved bytes, which may come from a file, as dwords. */
function dwordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, bytes.length >> 2);
}

/** Dwords of the state that fast translations depend on besides the TLB: paging and protection modes, PCID, breakpoints. */
const CONTROLS = [
  ...(['cr0', 'cr3', 'cr4', 'efer'] as const).map((name) => offsetOf(name) / 4),
  ...[0, 1, 2, 3, 7].map((i) => offsetOf('dr', i) / 4),
].flatMap((offset) => [offset, offset + 1]);

/** Whether going to a saved state makes fast translations stale, of the processor whose state begins at dword `start`. */
function translationsChange(present: Uint32Array, saved: Uint32Array, start: number): boolean {
  for (const at of CONTROLS) if (present[start + at] !== saved[start + at]) return true;
  return false;
}

function copyPage(bytes: Uint8Array, start: number, content: Uint8Array | undefined): void {
  if (content) bytes.set(content, start);
  else bytes.fill(0, start, start + PAGE_SIZE);
}

/** First differing offset, and the one after the last; equal where nothing differs. */
function changedRange(bytes: Uint8Array, start: number, content: Uint8Array | undefined): [number, number] {
  let from = 0;
  while (from < PAGE_SIZE && bytes[start + from] === (content ? content[from] : 0)) from++;
  let to = PAGE_SIZE;
  while (to > from && bytes[start + to - 1] === (content ? content[to - 1] : 0)) to--;
  return [from, to];
}
