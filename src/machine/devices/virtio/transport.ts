/**
 * Virtio over PCI: the registers by which a driver finds, configures and notifies any virtio device. Virtual I/O Device
 * (VIRTIO) Version 1.1, sections 2.1 to 2.3 (status, features, notifications), 4.1 (over PCI bus).
 *
 * Devices do their work at once, when they are notified: nothing of it depends on time.
 */
import type { Plain, Saved } from '../device.ts';
import {
  type Capability,
  dword,
  PciDevice,
  type PciDeviceState,
  type PciWires,
  type Registers,
} from '../pci/device.ts';
import { type GuestMemory, QueueError, type QueueState, Virtqueue } from './queue.ts';

/** What a device is, apart from how it is reached. */
export interface VirtioModel<State extends Plain = Plain> extends Saved<State> {
  /** Device type (section 5). */
  readonly type: number;
  /** Of PCI, 24 bits. */
  readonly classCode: number;
  /** Device-specific feature bits, below 24. */
  readonly features: number;
  /** Queues, and the most entries of each. */
  readonly queues: readonly number[];
  /** Device-specific configuration, as it stands. */
  configuration(): Uint8Array;
  /** The driver has made buffers available in a queue, or has just become ready (queue 0 and on, in turn). */
  notified(queue: number): void;
  /** Forgets all that a driver has told. */
  reset(): void;
}

/** What a model may do with its queues. */
export interface VirtioPort {
  readonly memory: GuestMemory;
  /** A queue; undefined until a driver is ready to use it. */
  queue(index: number): Virtqueue | undefined;
  /** Has `notified` called for a queue, if a driver is ready: for what comes from outside. */
  kick(index: number): void;
  /** Buffers of a queue have been returned: the driver wants to know. */
  used(index: number): void;
  /** The device-specific configuration has changed. */
  configurationChanged(): void;
}

const VENDOR = 0x1af4;
const FIRST_MODERN_ID = 0x1040;

/** Places in the device's memory. */
const COMMON = 0x0000;
const COMMON_SIZE = 0x38;
const ISR = 0x1000;
const DEVICE = 0x2000;
const DEVICE_SIZE = 0x1000;
const NOTIFY = 0x3000;
const NOTIFY_MULTIPLIER = 4;

const VENDOR_CAPABILITY = 0x09;
const CAPABILITY_COMMON = 1;
const CAPABILITY_NOTIFY = 2;
const CAPABILITY_ISR = 3;
const CAPABILITY_DEVICE = 4;
const CAPABILITY_ACCESS = 5;

const DRIVER_OK = 4;
const FEATURES_OK = 8;
const NEEDS_RESET = 0x40;

const F_INDIRECT = 1 << 28;
const F_VERSION_1 = 1 << 0;
const NO_VECTOR = 0xffff;

const ISR_QUEUE = 1;
const ISR_CONFIGURATION = 2;

interface RegistersState {
  readonly [name: string]: number;
  readonly deviceFeatureSelect: number;
  readonly driverFeatureSelect: number;
  readonly driverFeatures0: number;
  readonly driverFeatures1: number;
  readonly configurationVector: number;
  readonly status: number;
  readonly generation: number;
  readonly queueSelect: number;
  readonly isr: number;
}

const RESET: RegistersState = {
  deviceFeatureSelect: 0,
  driverFeatureSelect: 0,
  driverFeatures0: 0,
  driverFeatures1: 0,
  configurationVector: NO_VECTOR,
  status: 0,
  generation: 0,
  queueSelect: 0,
  isr: 0,
};

export interface VirtioState {
  readonly [name: string]: Plain;
  readonly pci: PciDeviceState;
  readonly registers: RegistersState;
  readonly queues: { readonly [index: string]: QueueState };
  readonly model: Plain;
}

export class VirtioPci implements Registers, Saved<VirtioState> {
  readonly pci: PciDevice;
  readonly model: VirtioModel;
  readonly #queues: readonly Virtqueue[];
  #state = RESET;

  /** @param make the device, given its way to its queues. */
  constructor(memory: GuestMemory, wires: PciWires, make: (port: VirtioPort) => VirtioModel) {
    this.model = make({
      memory,
      queue: (index) => (this.#running ? this.#queues[index] : undefined),
      kick: (index) => this.#notify(index),
      used: (index) => this.#used(index),
      configurationChanged: () => this.#configurationChanged(),
    });
    const { type, classCode, queues } = this.model;
    this.#queues = queues.map((size) => new Virtqueue(memory, freshQueue(size)));
    this.pci = new PciDevice(
      {
        vendor: VENDOR,
        device: FIRST_MODERN_ID + type,
        subsystemVendor: VENDOR,
        subsystem: FIRST_MODERN_ID + type,
        revision: 1,
        classCode,
      },
      [
        capability(CAPABILITY_COMMON, COMMON, COMMON_SIZE),
        capability(CAPABILITY_NOTIFY, NOTIFY, queues.length * NOTIFY_MULTIPLIER, dword(NOTIFY_MULTIPLIER)),
        capability(CAPABILITY_ISR, ISR, 1),
        capability(CAPABILITY_DEVICE, DEVICE, DEVICE_SIZE),
        accessCapability(),
      ],
      queues.length + 1,
      this,
      wires,
    );
  }

  read(offset: number, size: 1 | 2 | 4): number {
    if (offset < COMMON + COMMON_SIZE) return part(this.#readCommon(offset & ~3), offset, size);
    if (offset === ISR) {
      const { isr } = this.#state;
      this.#set({ isr: 0 });
      this.pci.assertPin(false);
      return isr;
    }
    if (offset >= DEVICE && offset < DEVICE + DEVICE_SIZE) {
      const bytes = this.model.configuration();
      let value = 0;
      for (let i = 0; i < size; i++) value |= (bytes[offset - DEVICE + i] ?? 0) << (8 * i);
      return value >>> 0;
    }
    return 0;
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (offset < COMMON + COMMON_SIZE) this.#writeCommon(offset, size, value);
    else if (offset >= NOTIFY) this.#notify(Math.floor((offset - NOTIFY) / NOTIFY_MULTIPLIER));
  }

  /** The window on the device's memory in configuration space (4.1.4.8). */
  readCapability(offset: number, size: 1 | 2 | 4): number | undefined {
    const window = this.#window(offset, size);
    return window && window.memory.read(window.at, size) >>> 0;
  }

  writeCapability(offset: number, size: 1 | 2 | 4, value: number): void {
    const window = this.#window(offset, size);
    if (window) window.memory.write(window.at, size, value);
  }

  save(): VirtioState {
    return {
      pci: this.pci.save(),
      registers: this.#state,
      queues: Object.fromEntries(this.#queues.map((queue, i) => [i, queue.state])),
      model: this.model.save(),
    };
  }

  restore(state: VirtioState): void {
    this.pci.restore(state.pci);
    this.#state = state.registers;
    this.#queues.forEach((queue, i) => {
      queue.state = state.queues[i];
    });
    this.model.restore(state.model);
  }

  get #running(): boolean {
    return (this.#state.status & (DRIVER_OK | NEEDS_RESET)) === DRIVER_OK && this.pci.master;
  }

  #set(change: Partial<RegistersState>): void {
    this.#state = { ...this.#state, ...change } as RegistersState;
  }

  #readCommon(offset: number): number {
    const s = this.#state;
    const queue = this.#queues[s.queueSelect]?.state;
    switch (offset) {
      case 0x00:
        return s.deviceFeatureSelect;
      case 0x04:
        return this.#features(s.deviceFeatureSelect);
      case 0x08:
        return s.driverFeatureSelect;
      case 0x0c:
        return s.driverFeatureSelect === 0
          ? s.driverFeatures0
          : s.driverFeatureSelect === 1
            ? s.driverFeatures1
            : 0;
      case 0x10:
        return s.configurationVector | (this.#queues.length << 16);
      case 0x14:
        return s.status | (s.generation << 8) | (s.queueSelect << 16);
      case 0x18:
        return queue ? queue.size | (queue.vector << 16) : NO_VECTOR << 16;
      case 0x1c:
        return queue ? (queue.enabled ? 1 : 0) | (s.queueSelect << 16) : 0;
    }
    if (!queue) return 0;
    const address = [queue.descriptors, queue.driver, queue.device][(offset - 0x20) >> 3];
    return Number(offset & 4 ? address >> 32n : address & 0xffff_ffffn);
  }

  #features(select: number): number {
    if (select === 0) return (this.model.features | F_INDIRECT) >>> 0;
    return select === 1 ? F_VERSION_1 : 0;
  }

  /** Drivers access each field by its own width (4.1.3.1). */
  #writeCommon(offset: number, _size: number, value: number): void {
    const s = this.#state;
    const queue = this.#queues[s.queueSelect];
    const change = (state: Partial<QueueState>) => {
      if (queue) queue.state = { ...queue.state, ...state } as QueueState;
    };
    switch (offset) {
      case 0x00:
        this.#set({ deviceFeatureSelect: value });
        return;
      case 0x08:
        this.#set({ driverFeatureSelect: value });
        return;
      case 0x0c:
        if (s.driverFeatureSelect === 0) this.#set({ driverFeatures0: value });
        else if (s.driverFeatureSelect === 1) this.#set({ driverFeatures1: value });
        return;
      case 0x10:
        this.#set({ configurationVector: this.#vector(value) });
        return;
      case 0x14:
        this.#writeStatus(value & 0xff);
        return;
      case 0x16:
        this.#set({ queueSelect: value & 0xffff });
        return;
      case 0x18: {
        const most = this.model.queues[s.queueSelect];
        const fits = value > 0 && value <= most && (value & (value - 1)) === 0;
        if (fits) change({ size: value });
        return;
      }
      case 0x1a:
        change({ vector: this.#vector(value) });
        return;
      case 0x1c:
        if (value === 1) change({ enabled: true });
        return;
    }
    if (offset < 0x20 || !queue) return;
    const names = ['descriptors', 'driver', 'device'] as const;
    const name = names[(offset - 0x20) >> 3];
    const shift = offset & 4 ? 32n : 0n;
    const mask = 0xffff_ffffn << shift;
    change({ [name]: (queue.state[name] & ~mask) | (BigInt(value >>> 0) << shift) });
  }

  /** A vector that there is, else none: so a driver sees that it cannot have it (4.1.5.1.2). */
  #vector(value: number): number {
    return value <= this.#queues.length ? value : NO_VECTOR;
  }

  #writeStatus(value: number): void {
    const before = this.#state.status;
    if (value === 0) {
      this.#state = { ...RESET, generation: this.#state.generation };
      this.#queues.forEach((queue, i) => {
        queue.state = freshQueue(this.model.queues[i]);
      });
      this.pci.assertPin(false);
      this.model.reset();
      return;
    }
    let status = value | (before & NEEDS_RESET);
    // Features that were not offered, or a driver of before version 1, are not accepted.
    const { driverFeatures0, driverFeatures1 } = this.#state;
    const accepted = (driverFeatures0 & ~this.#features(0)) === 0 && driverFeatures1 === F_VERSION_1;
    if (status & ~before & FEATURES_OK && !accepted) status &= ~FEATURES_OK;
    this.#set({ status });
    if (status & ~before & DRIVER_OK) for (let i = 0; i < this.#queues.length; i++) this.#notify(i);
  }

  #notify(queue: number): void {
    if (!this.#running || !this.#queues[queue]?.state.enabled) return;
    try {
      this.model.notified(queue);
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      this.#set({ status: this.#state.status | NEEDS_RESET });
      this.#configurationChanged();
    }
  }

  #used(index: number): void {
    const queue = this.#queues[index];
    if (queue.wantsInterrupt) this.#interrupt(queue.state.vector, ISR_QUEUE);
  }

  #configurationChanged(): void {
    this.#set({ generation: (this.#state.generation + 1) & 0xff });
    if (this.#state.status & DRIVER_OK) this.#interrupt(this.#state.configurationVector, ISR_CONFIGURATION);
  }

  #interrupt(vector: number, cause: number): void {
    if (this.pci.messages) {
      this.pci.send(vector);
      return;
    }
    this.#set({ isr: this.#state.isr | cause });
    this.pci.assertPin(true);
  }

  /** What an access to configuration space reaches by the window, if it is one to its data. */
  #window(offset: number, size: 1 | 2 | 4): { memory: PciDevice['memory']; at: number } | undefined {
    const at = this.pci.capabilities[4];
    if (at === undefined || offset !== at + 16) return undefined;
    const place = this.pci.readConfiguration(at + 8, 4);
    const length = this.pci.readConfiguration(at + 12, 4);
    if (length !== size || place % size !== 0 || place + size > 0x4000) return undefined;
    return { memory: this.pci.memory, at: place };
  }
}

function freshQueue(size: number): QueueState {
  return {
    size,
    enabled: false,
    vector: NO_VECTOR,
    descriptors: 0n,
    driver: 0n,
    device: 0n,
    taken: 0,
    returned: 0,
  };
}

/** A vendor capability that says where in the device's memory something is (4.1.4). */
function capability(type: number, offset: number, length: number, rest: readonly number[] = []): Capability {
  const BAR = 0;
  return {
    id: VENDOR_CAPABILITY,
    bytes: [16 + rest.length, type, BAR, 0, 0, 0, ...dword(offset), ...dword(length), ...rest],
  };
}

/** The window: its place and length are the driver's to write. */
function accessCapability(): Capability {
  const ALL = [0xff, 0xff, 0xff, 0xff];
  return {
    ...capability(CAPABILITY_ACCESS, 0, 0, dword(0)),
    writable: [0, 0, 0xff, 0, 0, 0, ...ALL, ...ALL, 0, 0, 0, 0],
  };
}

function part(value: number, offset: number, size: 1 | 2 | 4): number {
  const shifted = value >>> (8 * (offset & 3));
  return size === 4 ? shifted >>> 0 : shifted & (size === 2 ? 0xffff : 0xff);
}
