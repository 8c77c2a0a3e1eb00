/** What is seen of a run from an event to the return to user mode: deliveries, returns, and how it ended. */
import type { Cpu, EventSource } from '../../arch/cpu.ts';
import { stackAddress } from '../../arch/stack.ts';
import type { Machine } from '../../machine/machine.ts';
import { armed, disarm } from '../event.ts';

/** An interrupt or exception that was delivered. */
export interface Delivery {
  readonly vector: number;
  readonly source: EventSource;
  readonly errorCode: number | undefined;
  /** CPL and RIP of what it interrupted, and the linear address of its stack's top. */
  readonly cpl: number;
  readonly rip: bigint;
  readonly rsp: bigint;
  readonly cr2: bigint;
  /** The frame's lowest linear address, where RSP points at the handler's first instruction. */
  frame: bigint;
  /** Its bytes, the error code among them. */
  bytes: bigint;
  /** A later frame was written over this one while it was to be returned from. */
  overwritten: boolean;
  /** An IRET took it. */
  returned: boolean;
}

/** How a run ended. */
export type RunEnding =
  | 'user'
  | 'triple-fault'
  /** It waits for something that does not come. */
  | 'stuck'
  /** It goes on and on. */
  | 'hang'
  | 'storm'
  | 'exit'
  | 'reset'
  | 'unimplemented';

/** More deliveries than this in one run are a storm. */
export const STORM = 256;
const PAGE_FAULT = 14;
const DEBUG = 1;

/** Bytes of what the processor pushes, less the error code: five words in IA-32e mode; five or three dwords outside it. */
function frameBytes(cpu: Cpu, from: number): bigint {
  if (cpu.longMode) return 40n;
  return from === cpu.cpl ? 12n : 20n;
}

/** What an observation holds. */
export interface Seen {
  readonly deliveries: readonly Delivery[];
  readonly throughUserGs: readonly bigint[];
  readonly reused: bigint | undefined;
}

export const NOTHING_SEEN: Seen = { deliveries: [], throughUserGs: [], reused: undefined };

/** Listens to one processor of a machine; `reset` begins a new run. */
export class Observation {
  readonly #machine: Machine;
  readonly #cpu: Cpu;
  readonly #off: (() => void)[];
  deliveries: Delivery[] = [];
  /** An IRET took a frame that another had been written over: where. */
  reused: bigint | undefined;
  /** Linear addresses near this one belong to nobody: what touches them went through user mode's GS base. */
  poison: bigint | undefined;
  /** Kernel accesses through user mode's GS base, by the RIP of the instruction. */
  throughUserGs: bigint[] = [];
  /** The vector of an event that was delivered and whose work was not begun. */
  unserved: number | undefined;
  /** Where the kernel gave up, if that was watched. */
  gaveUp: bigint | undefined;
  /** User mode has been reached. */
  atUser = false;
  /** The handler of the event that struck last has returned. */
  cameBack = false;
  /** The delivery of that event will be the one of this number. */
  #struck = 0;
  #awaitsReturn = false;
  /** What {@link save} gave, until more is seen. */
  #saved: Seen | undefined;

  constructor(machine: Machine, index: number) {
    this.#machine = machine;
    this.#cpu = machine.cpus[index];
    this.#off = [
      machine.on('deliver', (cpu, vector, errorCode, source) => {
        if (cpu === index) this.#deliver(vector, errorCode, source);
        return false;
      }),
      machine.on('delivered', (cpu) => {
        if (cpu === index) this.#delivered();
      }),
      machine.on('interrupt-return', (cpu, pointer) => {
        if (cpu === index) this.#returned(pointer);
      }),
      machine.on('privilege-change', (cpu, _from, to) => {
        if (cpu !== index || to !== 3) return;
        this.atUser = true;
        machine.stop();
      }),
    ];
  }

  reset(): void {
    this.#saved = undefined;
    if (this.deliveries.length > 0) this.deliveries = [];
    if (this.throughUserGs.length > 0) this.throughUserGs = [];
    this.reused = undefined;
    this.unserved = undefined;
    this.gaveUp = undefined;
    this.atUser = false;
    this.#struck = 0;
    this.#awaitsReturn = false;
  }

  /** What has been seen so far, to go back to with {@link restore}. */
  save(): Seen {
    this.#saved ??= {
      deliveries: this.deliveries.map((d) => ({ ...d })),
      throughUserGs: this.throughUserGs.slice(),
      reused: this.reused,
    };
    return this.#saved;
  }

  restore(saved: Seen): void {
    this.deliveries = saved.deliveries.map((d) => ({ ...d }));
    this.throughUserGs = saved.throughUserGs.slice();
    this.reused = saved.reused;
    this.#saved = saved;
    this.unserved = undefined;
    this.gaveUp = undefined;
    this.atUser = false;
    this.#struck = this.deliveries.length;
    this.#awaitsReturn = false;
  }

  /** The run is to stop where the handler of the event that struck after the last `reset` or `restore` returns. */
  awaitReturn(): void {
    this.cameBack = false;
    this.#awaitsReturn = true;
  }

  /** The run is not to stop there any more. */
  awaitNothing(): void {
    this.#awaitsReturn = false;
  }

  /** Ends the listening. */
  close(): void {
    for (const off of this.#off) off();
  }

  #deliver(vector: number, errorCode: number | undefined, source: EventSource): void {
    this.#saved = undefined;
    const cpu = this.#cpu;
    const { cpl, rip, cr2 } = cpu;
    if (vector === DEBUG && armed(cpu)) disarm(cpu);
    if (vector === PAGE_FAULT && cpl !== 3 && this.poison !== undefined) {
      const distance = BigInt.asIntN(64, cr2 - this.poison);
      if (distance > -0x10_0000n && distance < 0x10_0000n) this.throughUserGs.push(rip);
    }
    this.deliveries.push({
      vector,
      source,
      errorCode,
      cpl,
      rip,
      rsp: stackAddress(cpu),
      cr2,
      frame: 0n,
      bytes: 0n,
      overwritten: false,
      returned: false,
    });
    if (this.deliveries.length >= STORM) this.#machine.stop();
  }

  #delivered(): void {
    this.#saved = undefined;
    const { deliveries } = this;
    const last = deliveries[deliveries.length - 1];
    if (!last) return;
    const cpu = this.#cpu;
    last.frame = stackAddress(cpu);
    last.bytes = frameBytes(cpu, last.cpl) + (last.errorCode === undefined ? 0n : cpu.longMode ? 8n : 4n);
    for (let i = 0; i < deliveries.length - 1; i++) {
      const other = deliveries[i];
      if (other.returned || other.frame === 0n) continue;
      if (other.frame < last.frame + last.bytes && last.frame < other.frame + other.bytes)
        other.overwritten = true;
    }
  }

  #returned(pointer: bigint): void {
    this.#saved = undefined;
    const { deliveries } = this;
    let last = -1;
    for (let i = deliveries.length - 1; i >= 0; i--) {
      const delivery = deliveries[i];
      if (delivery.returned) continue;
      if (last < 0) last = i;
      const error = delivery.errorCode === undefined ? 0n : this.#cpu.longMode ? 8n : 4n;
      const rip = delivery.frame + error;
      if (rip !== pointer) continue;
      if (delivery.overwritten) this.reused ??= pointer;
      delivery.returned = true;
      this.#back(i);
      return;
    }
    // A kernel may have moved the frame to another stack.
    this.#back(last);
  }

  /** The handler of delivery `i` has returned. */
  #back(i: number): void {
    if (i !== this.#struck || !this.#awaitsReturn) return;
    this.#awaitsReturn = false;
    this.cameBack = true;
    this.#machine.stop();
  }
}
