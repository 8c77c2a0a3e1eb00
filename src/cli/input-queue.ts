/** Standard input on its way to a guest, no faster than the guest reads it. */
import type { Io } from './io.ts';

/** Input bytes that may wait for the guest before no more is taken. */
const INPUT_AHEAD = 1 << 16;

/** Where input goes. */
export interface InputTarget {
  write(bytes: Uint8Array): void;
  /** Bytes that the guest has not read yet. */
  readonly waiting: number;
}

export class InputQueue {
  open = true;
  readonly #target: InputTarget;
  readonly #pieces: Uint8Array[] = [];
  readonly #stop: () => void;
  #wake: (() => void) | undefined;

  /** @param filter what of the input the guest gets. */
  constructor(io: Io, target: InputTarget, filter: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes) {
    this.#target = target;
    this.#stop = io.stdin.listen((data) => {
      if (!data) this.open = false;
      else {
        const bytes = filter(data);
        if (bytes.length > 0) this.#pieces.push(bytes);
      }
      this.#feed();
      this.wake();
    });
  }

  /** Resolves when something arrives, at the end of input, on `wake`, or after so many milliseconds. */
  async arrival(milliseconds: number): Promise<void> {
    if (this.#pieces.length > 0) {
      this.#feed(true);
      return;
    }
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (milliseconds < 2 ** 31) {
        const timer = setTimeout(resolve, Math.max(0, milliseconds));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      }
    });
    this.#wake = undefined;
  }

  wake(): void {
    this.#wake?.();
  }

  close(): void {
    this.#stop();
  }

  #feed(always = false): void {
    while (this.#pieces.length > 0 && (always || this.#target.waiting < INPUT_AHEAD)) {
      const piece = this.#pieces.shift();
      if (piece) this.#target.write(piece);
    }
  }
}
