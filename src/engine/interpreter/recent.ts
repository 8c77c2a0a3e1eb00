/** A cache that keeps what was used last. */

/**
 * Values by their keys, at the most so many. They are in two halves: when the newer one is full, what has not been used since the last time
 * that it was is forgotten.
 */
export class Recent<K, V> {
  readonly #half: number;
  #newer = new Map<K, V>();
  #older = new Map<K, V>();

  /** @param most 2 or more */
  constructor(most: number) {
    this.#half = Math.floor(most / 2);
  }

  /** How many values there are. */
  get size(): number {
    return this.#newer.size + this.#older.size;
  }

  /** The value of `key`, which `make` makes where there is none. */
  get(key: K, make: () => V): V {
    const newer = this.#newer.get(key);
    if (newer !== undefined) return newer;
    const value = this.#older.get(key) ?? make();
    this.#older.delete(key);
    if (this.#newer.size >= this.#half) {
      this.#older = this.#newer;
      this.#newer = new Map();
    }
    this.#newer.set(key, value);
    return value;
  }
}
