/** Source lines by address, of all units of a file. */
import type { LineSequence } from './line-program.ts';
import { lastAtOrBelow } from './name-table.ts';

export interface SourceLine {
  /** As the compiler was told: absolute, or relative to where it ran. */
  readonly file: string;
  readonly line: number;
}

export class LineTable {
  readonly #sequences: readonly (LineSequence & { readonly address: bigint })[];
  /** The highest end of all sequences up to each. */
  readonly #ends: readonly bigint[];

  constructor(sequences: readonly LineSequence[]) {
    this.#sequences = sequences
      .map((sequence) => ({ ...sequence, address: sequence.rows[0].address }))
      .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
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
    for (let i = lastAtOrBelow(this.#sequences, address); i >= 0 && this.#ends[i] > address; i--) {
      const { rows, end } = this.#sequences[i];
      if (address >= end) continue;
      const { file, line } = rows[lastAtOrBelow(rows, address)];
      return line === 0 ? undefined : { file, line };
    }
    return undefined;
  }
}
