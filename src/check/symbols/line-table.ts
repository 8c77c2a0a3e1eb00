/** Source lines by address, of all units of a file. */
import type { LineSequence } from './line-program.ts';
import { lastAtOrBelow } from './name-table.ts';

export interface SourceLine {
  /** As the compiler was told: absolute, or relative to where it ran. */
  readonly file: string;
  readonly line: number;
}

export class LineTable {
  readonly #sequences: readonly LineSequence[];
  /** The highest end of all sequences up to each. */
  readonly #ends: readonly bigint[];

  constructor(sequences: readonly LineSequence[]) {
    this.#sequences = [...sequences].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    const ends: bigint[] = [];
    let highest = 0n;
    for (const { end } of this.#sequences) {
      if (end > highest) highest = end;
      ends.push(highest);
    }
    this.#ends = ends;
  }

  /** The line of the instruction at an address; undefined where none is known. */
  at(address: bigint): SourceLine | undefined {
    const sequences = this.#sequences;
    const last = lastAtOrBelow(sequences.length, (i) => sequences[i].start, address);
    for (let i = last; i >= 0 && this.#ends[i] > address; i--) {
      const { start, end, offsets, files, lines, names } = sequences[i];
      if (address >= end) continue;
      const row = lastOffset(offsets, Number(address - start));
      return lines[row] === 0 ? undefined : { file: names[files[row]] ?? '?', line: lines[row] };
    }
    return undefined;
  }
}

/** Index of the last offset at or below one that is not below the first. */
function lastOffset(offsets: Float64Array, offset: number): number {
  let [low, high] = [0, offsets.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (offsets[middle] <= offset) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
