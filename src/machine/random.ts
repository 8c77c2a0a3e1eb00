/**
 * The machine's pseudo-random numbers: xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number
 * generators", 2018), seeded through SplitMix32. A run's schedule and its RDRAND are functions of the seed.
 */
import type { Saved } from './devices/device.ts';

const rotateLeft = (x: number, by: number) => (x << by) | (x >>> (32 - by));

export class Random implements Saved<Uint32Array> {
  readonly #state = new Uint32Array(4);

  /** @param seed any number; its low 53 bits count. @param stream tells sequences of one seed apart. */
  constructor(seed: number, stream: number) {
    let x =
      (seed ^ Math.imul(stream + 1, 0x9e37_79b9) ^ Math.imul(Math.floor(seed / 2 ** 32), 0x85eb_ca6b)) >>> 0;
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e37_79b9) >>> 0;
      let z = x;
      z = Math.imul(z ^ (z >>> 16), 0x21f0_aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
      this.#state[i] = z ^ (z >>> 15);
    }
  }

  /** 32 bits, unsigned. */
  next(): number {
    const s = this.#state;
    const result = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotateLeft(s[3], 11);
    return result;
  }

  /** 64 bits, unsigned. */
  next64(): bigint {
    const high = this.next();
    return (BigInt(high) << 32n) | BigInt(this.next());
  }

  /** A whole number in [0, bound), `bound` up to 2^32. */
  below(bound: number): number {
    return Math.floor((this.next() / 2 ** 32) * bound);
  }

  save(): Uint32Array {
    return this.#state.slice();
  }

  restore(state: Uint32Array): void {
    this.#state.set(state);
  }
}
