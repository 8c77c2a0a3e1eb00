/** Keeps a guest's time from running ahead of the host's. */

/** Guest time, in ns, that may pass before it is looked at again. */
const AHEAD = 10_000_000;
const NANOSECONDS = 1_000_000;

/**
 * Guest time that lags behind is not caught up with: a busy guest is slower than the host's clock, and what it waits for
 * takes as long as it says.
 */
export class Pace {
  readonly #host: () => number;
  /** Guest time in ns less host time. */
  #offset: number;

  /** @param guest guest time now, in ns. @param host the host's clock in ms. */
  constructor(guest: number, host: () => number = () => performance.now()) {
    this.#host = host;
    this.#offset = guest - host() * NANOSECONDS;
  }

  /** The guest time, in ns, at which to look again. */
  get limit(): number {
    return this.#now() + AHEAD;
  }

  /** How long, in ms, to wait until the host has come to a guest time; 0 where it has. */
  wait(guest: number): number {
    const ahead = guest - this.#now();
    if (ahead < 0) this.#offset += ahead;
    return Math.max(0, ahead / NANOSECONDS);
  }

  #now(): number {
    return this.#host() * NANOSECONDS + this.#offset;
  }
}
