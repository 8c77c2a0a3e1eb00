/**
 * A console. Virtual I/O Device (VIRTIO) Version 1.1, section 5.3, with one port and a size.
 *
 * What arrives waits until the guest has buffers for it, as with the serial port.
 */
import { scatter } from './queue.ts';
import type { VirtioModel, VirtioPort } from './transport.ts';

const RECEIVE = 0;
const TRANSMIT = 1;
const QUEUE_SIZE = 64;
const F_SIZE = 1 << 0;

type ConsoleState = {
  /** What has arrived; bytes before `taken` have been given to the guest. Never changed in place. */
  readonly waiting: Uint8Array;
  readonly taken: number;
  readonly columns: number;
  readonly rows: number;
};

export class VirtioConsole implements VirtioModel<ConsoleState> {
  readonly type = 3;
  readonly classCode = 0x07_8000;
  readonly features = F_SIZE;
  readonly queues = [QUEUE_SIZE, QUEUE_SIZE];
  /** Called with what the guest sends. */
  onOutput: (bytes: Uint8Array) => void = () => {};
  readonly #port: VirtioPort;
  #state: ConsoleState = { waiting: new Uint8Array(0), taken: 0, columns: 80, rows: 24 };

  constructor(port: VirtioPort) {
    this.#port = port;
  }

  /** A driver is there. */
  get ready(): boolean {
    return this.#port.queue(RECEIVE) !== undefined;
  }

  /** Bytes that have arrived and that the guest has not taken. */
  get waiting(): number {
    return this.#state.waiting.length - this.#state.taken;
  }

  /** Bytes arrive for the guest. */
  receive(bytes: Uint8Array): void {
    const { waiting, taken } = this.#state;
    const all = new Uint8Array(this.waiting + bytes.length);
    all.set(waiting.subarray(taken));
    all.set(bytes, this.waiting);
    this.#state = { ...this.#state, waiting: all, taken: 0 };
    this.#port.kick(RECEIVE);
  }

  /** The console has another size, in characters. */
  resize(columns: number, rows: number): void {
    if (columns === this.#state.columns && rows === this.#state.rows) return;
    this.#state = { ...this.#state, columns, rows };
    this.#port.configurationChanged();
  }

  configuration(): Uint8Array {
    const view = new DataView(new ArrayBuffer(12));
    view.setUint16(0, this.#state.columns, true);
    view.setUint16(2, this.#state.rows, true);
    view.setUint32(4, 1, true);
    return new Uint8Array(view.buffer);
  }

  notified(index: number): void {
    if (index === RECEIVE) this.#deliver();
    else this.#transmit();
  }

  reset(): void {}

  save(): ConsoleState {
    return this.#state;
  }

  restore(state: ConsoleState): void {
    this.#state = state;
  }

  #deliver(): void {
    const queue = this.#port.queue(RECEIVE);
    while (queue && this.waiting > 0) {
      const chain = queue.take();
      if (!chain) return;
      const { waiting, taken } = this.#state;
      const count = scatter(this.#port.memory, chain.writable, waiting.subarray(taken));
      this.#state = { ...this.#state, taken: taken + count };
      queue.give(chain, count);
      this.#port.used(RECEIVE);
    }
  }

  #transmit(): void {
    const queue = this.#port.queue(TRANSMIT);
    for (let chain = queue?.take(); queue && chain; chain = queue.take()) {
      for (const { address, length } of chain.readable)
        this.onOutput(this.#port.memory.bytes.slice(address, address + length));
      queue.give(chain, 0);
      this.#port.used(TRANSMIT);
    }
  }
}
