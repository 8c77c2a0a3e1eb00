/** A 9P transport: a device whose one queue carries requests and answers. Virtual I/O Device (VIRTIO) Version 1.2, section 5.12. */
import { gather, lengthOf, scatter } from '../queue.ts';
import type { VirtioModel, VirtioPort } from '../transport.ts';
import type { FileTree } from './file-tree.ts';
import { LARGEST_MESSAGE, NineServer } from './server.ts';

const F_MOUNT_TAG = 1 << 0;
const QUEUE_SIZE = 128;
/** By which the guest mounts it. */
const MOUNT_TAG = 'share';

export class VirtioNine implements VirtioModel<Uint8Array> {
  readonly type = 9;
  readonly classCode = 0xff_0000;
  readonly features = F_MOUNT_TAG;
  readonly queues = [QUEUE_SIZE];
  readonly #port: VirtioPort;
  readonly #server: NineServer;

  constructor(port: VirtioPort, tree: FileTree) {
    this.#port = port;
    this.#server = new NineServer(tree);
  }

  configuration(): Uint8Array {
    const tag = new TextEncoder().encode(MOUNT_TAG);
    return Uint8Array.of(tag.length & 0xff, tag.length >> 8, ...tag);
  }

  notified(index: number): void {
    const queue = this.#port.queue(index);
    const { memory } = this.#port;
    for (let chain = queue?.take(); queue && chain; chain = queue.take()) {
      const answer = this.#server.answer(gather(memory, chain.readable, LARGEST_MESSAGE));
      // An answer that does not fit would be read as another.
      const fits = answer.length <= lengthOf(chain.writable);
      queue.give(chain, fits ? scatter(memory, chain.writable, answer) : 0);
      this.#port.used(index);
    }
  }

  reset(): void {
    this.#server.reset();
  }

  save(): Uint8Array {
    return this.#server.save();
  }

  restore(state: Uint8Array): void {
    this.#server.restore(state);
  }
}
