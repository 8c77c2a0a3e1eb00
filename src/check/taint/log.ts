/** The writes of tainted values, in order, for a story to be read backwards from. */
import type { Label } from '../../engine/taint/shadow.ts';
import { type Held, type Location, overlaps } from './location.ts';

/** One instruction, or one delivery. */
export interface LogEntry {
  /** The instruction, counted from the start of tracking. */
  readonly index: number;
  readonly rip: bigint;
  /** `mov`, `delivery of vector 14`. */
  readonly what: string;
  readonly reads: readonly Held[];
  readonly writes: readonly Held[];
}

/** A step of a bit's way: from one place to another, by an instruction. */
export interface HopBit {
  readonly entry: LogEntry;
  /** Undefined where the bit was born there. */
  readonly from: Location | undefined;
  readonly fromBit: number;
  readonly to: Location;
  readonly toBit: number;
}

export class Log {
  readonly #entries: LogEntry[] = [];

  /** Notes an entry, if any of its writes is tainted. */
  add(entry: LogEntry): void {
    if (entry.writes.some(({ shadow }) => shadow !== null)) this.#entries.push(entry);
  }

  /** How the bit of `label` in bit `bit` of `location` came there, latest step first. */
  trace(location: Location, bit: number, label: Label): HopBit[] {
    const hops: HopBit[] = [];
    let at: { location: Location; bit: number } | undefined = { location, bit };
    for (let i = this.#entries.length - 1; i >= 0 && at !== undefined; i--) {
      const entry = this.#entries[i];
      const found: { location: Location; bit: number } | undefined = place(
        entry.writes,
        at.location,
        at.bit,
        label,
      );
      if (found === undefined) continue;
      const source = origin(entry, label);
      hops.push({
        entry,
        from: source?.location,
        fromBit: source?.bit ?? 0,
        to: found.location,
        toBit: found.bit,
      });
      at = source;
    }
    return hops;
  }
}

/** The write of `label` to bit `bit` of `location` among `writes`. */
function place(
  writes: readonly Held[],
  location: Location,
  bit: number,
  label: Label,
): { location: Location; bit: number } | undefined {
  for (const write of writes) {
    if (write.shadow === null || !overlaps(write.location, location)) continue;
    let at = bit;
    if (location.kind === 'memory' && write.location.kind === 'memory')
      at += 8 * (location.physical - write.location.physical);
    if (write.shadow.at(at) === label) return { location: write.location, bit: at };
  }
  return undefined;
}

/** Where among what it read an entry has `label` from. The flags, which values are seldom made of, come last. */
function origin({ reads }: LogEntry, label: Label): { location: Location; bit: number } | undefined {
  const holding = reads.filter(({ shadow }) => shadow?.has(label));
  const from = holding.find(({ location }) => location.kind !== 'flags') ?? holding[0];
  return from?.shadow ? { location: from.location, bit: from.shadow.labels.indexOf(label) } : undefined;
}
