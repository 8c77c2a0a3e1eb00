/**
 * An entropy device: random bytes of the run's seed. Virtual I/O Device (VIRTIO) Version 1.1, section 5.4.
 */
import { Random } from '../../random.ts';
import { scatter } from './queue.ts';
import type { VirtioModel, VirtioPort } from './transport.ts';

/** Bytes given in answer to one request. */
const MOST = 4096;

export class VirtioEntropy implements VirtioModel<Uint32Array> {
  readonly type = 4;
  readonly classCode = 0xff_0000;
  readonly features = 0;
  readonly queues = [64];
  readonly #port: VirtioPort;
  readonly #random: Random;

  constructor(port: VirtioPort, seed: number) {
    this.#port = port;
    this.#random = new Random(seed, 2);
  }

  configuration(): Uint8Array {
    return new Uint8Array(0);
  }

  notified(index: number): void {
    const queue = this.#port.queue(index);
    for (let chain = queue?.take(); queue && chain; chain = queue.take()) {
      const length = Math.min(
        MOST,
        chain.writable.reduce((sum, range) => sum + range.length, 0),
      );
      const bytes = new Uint8Array(Math.ceil(length / 8) * 8);
      const view = new DataView(bytes.buffer);
      for (let at = 0; at < length; at += 8) view.setBigUint64(at, this.#random.next64(), true);
      queue.give(chain, scatter(this.#port.memory, chain.writable, bytes.subarray(0, length)));
      this.#port.used(index);
    }
  }

  reset(): void {}

  save(): Uint32Array {
    return this.#random.save();
  }

  restore(state: Uint32Array): void {
    this.#random.restore(state);
  }
}
