/** A mutant of a kernel: a few bytes of its memory that are other than the sound kernel's. */

/** What the bytes are part of. */
export const groups = ['code', 'idt', 'gdt', 'tss', 'percpu', 'pages'] as const;
export type MutantGroup = (typeof groups)[number];

export interface Mutant {
  /** Unique, and the same in every build of the kernel: `paranoid_entry+0x1e: delete`. */
  readonly key: string;
  readonly group: MutantGroup;
  /** What is there, and what the mutant has instead. */
  readonly text: string;
  /** Physical address and new bytes. */
  readonly address: number;
  readonly bytes: Uint8Array;
  /** It is made once the kernel is in user mode: set-up writes these bytes. */
  readonly late: boolean;
  /** Two instructions are exchanged neither of which uses what the other changes. */
  readonly independent?: boolean;
}

/** Physical RAM of a sound kernel, to be read. */
export type ReadPhysical = (address: number, size: number) => Uint8Array;

/** Two mutants are the same if they put the same bytes in the same place. */
export function withoutDoubles(mutants: readonly Mutant[]): Mutant[] {
  const seen = new Set<string>();
  return mutants.filter(({ address, bytes }) => {
    const key = `${address}:${bytes.join()}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
