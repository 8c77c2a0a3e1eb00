/**
 * What is known of the secrecy of a value's bits: for each bit that may depend on a secret, a label that says which.
 *
 * Shadows are immutable. Wherever one object is the shadow of two values, their tainted bits hold the same: moves
 * share it, everything else makes a new one. So `xor eax, eax` is known to leave nothing of EAX.
 */
import { ones } from '../../isa/integers.ts';

/**
 * Names one bit of one origin (`originOf`, `bitOf`): from {@link FIRST_LABEL} up. 0 is none. {@link UNKNOWN} is no
 * secret's: the bit is not known while an instruction is worked out, but would be the same for any secret.
 */
export type Label = number;
export const UNKNOWN: Label = 1;
export const FIRST_LABEL: Label = 64;

/** The label of bit `bit` (0 to 63) of origin `origin` (1 and up). */
export function labelOf(origin: number, bit: number): Label {
  return origin * 64 + bit;
}
export function originOf(label: Label): number {
  return label >>> 6;
}
export function bitOf(label: Label): number {
  return label & 63;
}

/** One label for a bit that depends on two: a secret's, the first for choice. */
export function join(first: Label, second: Label): Label {
  return first >= FIRST_LABEL ? first : second >= FIRST_LABEL ? second : first | second;
}

/** The shadow of a value with at least one tainted bit; a clean value's is null. */
export class Shadow {
  /** The tainted bits. */
  readonly mask: bigint;
  /** By bit; 0, or nothing, for a clean one. */
  readonly labels: Int32Array;
  #cut: Map<number, Shadow | null> | undefined;
  #any: Label | undefined;

  /** For {@link make} and its like. */
  constructor(mask: bigint, labels: Int32Array) {
    this.mask = mask;
    this.labels = labels;
  }

  /** The label of bit `bit`, 0 if it is clean. */
  at(bit: number): Label {
    return this.labels[bit] | 0;
  }

  /** A label of the value as a whole: that of its lowest secret bit. */
  get any(): Label {
    this.#any ??= this.labels.find((label) => label >= FIRST_LABEL) ?? UNKNOWN;
    return this.#any;
  }

  /** Some bit is tainted with `label`. */
  has(label: Label): boolean {
    return this.labels.includes(label);
  }

  /** The low `width` bits. Asked again, it gives the same object. */
  low(width: number): Shadow | null {
    const mask = this.mask & ones(width);
    if (mask === this.mask) return this;
    this.#cut ??= new Map();
    let cut = this.#cut.get(width);
    if (cut === undefined) {
      cut = mask === 0n ? null : new Shadow(mask, this.labels.slice(0, width));
      this.#cut.set(width, cut);
    }
    return cut;
  }
}

const split = new BigUint64Array(1);
const halves = new Uint32Array(split.buffer);

const ONES_64 = ones(64);

/** Calls `each` with the positions of the 1s of `mask`, upward. */
export function forEachBit(mask: bigint, each: (bit: number) => void): void {
  split[0] = mask;
  const high = halves[1];
  for (let left = halves[0]; left !== 0; left &= left - 1) each(31 - Math.clz32(left & -left));
  for (let left = high; left !== 0; left &= left - 1) each(63 - Math.clz32(left & -left));
  if (mask > ONES_64) forEachBit(mask >> 64n, (bit) => each(64 + bit));
}

/** Positions up to and including the highest 1 of `mask`. */
function lengthOf(mask: bigint): number {
  if (mask > ONES_64) return 64 + lengthOf(mask >> 64n);
  split[0] = mask;
  return halves[1] !== 0 ? 64 - Math.clz32(halves[1]) : 32 - Math.clz32(halves[0]);
}

/** A shadow of the bits of `mask`, each with the label that `labelAt` gives; null for none. */
export function make(mask: bigint, labelAt: (bit: number) => Label): Shadow | null {
  if (mask === 0n) return null;
  const labels = new Int32Array(lengthOf(mask));
  forEachBit(mask, (bit) => {
    labels[bit] = labelAt(bit);
  });
  return new Shadow(mask, labels);
}

/** All bits of `mask` tainted by one label. */
export function uniform(mask: bigint, label: Label): Shadow | null {
  return make(mask, () => label);
}

/** The bits of a new origin's value. */
export function born(origin: number, width: number): Shadow {
  return make(ones(width), (bit) => labelOf(origin, bit)) as Shadow;
}

export function maskOf(shadow: Shadow | null): bigint {
  return shadow === null ? 0n : shadow.mask;
}

/** A label of two values taken together. */
export function anyOf(...shadows: readonly (Shadow | null)[]): Label {
  let found = 0;
  for (const shadow of shadows) if (shadow !== null) found = join(found, shadow.any);
  return found;
}

/** The bits of `mask` of a shadow. */
export function within(shadow: Shadow | null, mask: bigint): Shadow | null {
  if (shadow === null) return null;
  const left = shadow.mask & mask;
  return left === shadow.mask ? shadow : make(left, (bit) => shadow.at(bit));
}

/** Tainted where either is. */
export function union(x: Shadow | null, y: Shadow | null): Shadow | null {
  if (x === null || x === y) return y;
  if (y === null) return x;
  return make(x.mask | y.mask, (bit) => join(x.at(bit), y.at(bit)));
}

/** `low` in place of the bits of `old` from `position` on, `width` of them. */
export function insert(
  old: Shadow | null,
  part: Shadow | null,
  position: number,
  width: number,
): Shadow | null {
  const kept = maskOf(old) & ~(ones(width) << BigInt(position));
  const mask = kept | (maskOf(part) << BigInt(position));
  if (old !== null && mask === kept && kept === old.mask) return old;
  if (part !== null && kept === 0n && position === 0) return part;
  return make(mask, (bit) =>
    bit >= position && bit < position + width ? (part?.at(bit - position) ?? 0) : (old?.at(bit) ?? 0),
  );
}

/** Bits `position` and up of a shadow, `width` of them, moved down to bit 0. */
export function extract(shadow: Shadow | null, position: number, width: number): Shadow | null {
  if (shadow === null) return null;
  if (position === 0) return shadow.low(width);
  return make((shadow.mask >> BigInt(position)) & ones(width), (bit) => shadow.at(bit + position));
}

/** Without the bits that are only {@link UNKNOWN}. */
export function known(shadow: Shadow | null): Shadow | null {
  if (shadow === null || !shadow.has(UNKNOWN)) return shadow;
  let mask = 0n;
  forEachBit(shadow.mask, (bit) => {
    if (shadow.at(bit) !== UNKNOWN) mask |= 1n << BigInt(bit);
  });
  return within(shadow, mask);
}
