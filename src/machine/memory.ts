/**
 * Physical memory and ports as the processors see them: RAM inside the machine's WebAssembly memory, devices
 * beside it, and a note of each page of RAM that has changed.
 *
 * SDM vol. 3A 8.2 and 11 leave the memory map to the platform; this one is a PC's: RAM from 0 up (the legacy
 * video hole at A0000H-BFFFFH is RAM as well), the I/O APIC at FEC00000H, the local APIC at FEE00000H. Where
 * nothing answers, reads give all ones and writes are lost.
 */
import type { Bus, CodeWatcher } from '../arch/bus.ts';
import type { MmioDevice, PortDevice } from './devices/device.ts';

export const PAGE_SIZE = 4096;
const PAGE_SHIFT = 12;

const NO_CODE: CodeWatcher = { hasCode: () => false, written() {} };

/** Sees each port access of the guest, before a write takes effect and after a read has its value. */
export type PortObserver = (port: number, size: 1 | 2 | 4, value: number) => void;

/** The pages of RAM written since the set was last emptied. */
export class DirtyPages {
  readonly #marks: Uint8Array;
  readonly #list: Uint32Array;
  #count = 0;

  /** @param pages number of 4-KiB pages of RAM. */
  constructor(pages: number) {
    this.#marks = new Uint8Array(pages);
    this.#list = new Uint32Array(pages);
  }

  get count(): number {
    return this.#count;
  }

  has(page: number): boolean {
    return this.#marks[page] !== 0;
  }

  add(page: number): void {
    if (this.#marks[page] !== 0) return;
    this.#marks[page] = 1;
    this.#list[this.#count++] = page;
  }

  /** The pages in the order in which they were first written; valid until the set changes. */
  list(): Uint32Array {
    return this.#list.subarray(0, this.#count);
  }

  clear(): void {
    for (let i = 0; i < this.#count; i++) this.#marks[this.#list[i]] = 0;
    this.#count = 0;
  }
}

export class SystemBus implements Bus {
  readonly ramBytes: number;
  /** All of RAM. */
  readonly bytes: Uint8Array;
  /** The same, by dwords. */
  readonly dwords: Uint32Array;
  readonly dirty: DirtyPages;
  code: CodeWatcher = NO_CODE;
  onPortRead: PortObserver | undefined;
  onPortWrite: PortObserver | undefined;
  /** Grows with each access to a device that does not know of itself whether it changes. */
  deviceAccesses = 0;

  /** Offset of RAM in WebAssembly memory. */
  readonly #ram: number;
  readonly #view: DataView;
  readonly #mmio: MmioDevice[] = [];
  readonly #portIndex = new Uint8Array(0x10000);
  readonly #portDevices: (PortDevice | undefined)[] = [undefined];
  readonly #clock: Pick<Bus, 'now' | 'spend'>;
  readonly #random: () => bigint;

  /**
   * @param ram offset of RAM in `memory`; @param ramBytes its size, a multiple of 64 KiB.
   * @param clock of the processors; @param random the run's random sequence.
   */
  constructor(
    memory: WebAssembly.Memory,
    ram: number,
    ramBytes: number,
    clock: Pick<Bus, 'now' | 'spend'>,
    random: () => bigint,
  ) {
    this.#ram = ram;
    this.ramBytes = ramBytes;
    this.bytes = new Uint8Array(memory.buffer, ram, ramBytes);
    this.dwords = new Uint32Array(memory.buffer, ram, ramBytes / 4);
    this.#view = new DataView(memory.buffer, ram, ramBytes);
    this.dirty = new DirtyPages(ramBytes / PAGE_SIZE);
    this.#clock = clock;
    this.#random = random;
  }

  /** Attaches a device in physical memory. It answers only where there is no RAM; later ones come after earlier. */
  addMmio(device: MmioDevice): void {
    this.#mmio.push(device);
  }

  /** Attaches a device at its ports. Throws where another device already answers. */
  addPorts(device: PortDevice): void {
    const index = this.#portDevices.push(device) - 1;
    for (let port = device.port; port < device.port + device.count; port++) {
      if (this.#portIndex[port] !== 0) throw new Error(`two devices at port 0x${port.toString(16)}`);
      this.#portIndex[port] = index;
    }
  }

  ramOffset(address: number): number {
    return address < this.ramBytes ? this.#ram + address : -1;
  }

  read(address: number, size: 1 | 2 | 4 | 8): bigint {
    if (address < this.ramBytes) {
      switch (size) {
        case 8:
          return this.#view.getBigUint64(address, true);
        case 4:
          return BigInt(this.#view.getUint32(address, true));
        case 2:
          return BigInt(this.#view.getUint16(address, true));
        default:
          return BigInt(this.#view.getUint8(address));
      }
    }
    if (size === 8) {
      const low = this.#mmioRead(address, 4);
      return BigInt(low) | (BigInt(this.#mmioRead(address + 4, 4)) << 32n);
    }
    return BigInt(this.#mmioRead(address, size));
  }

  write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void {
    if (address < this.ramBytes) {
      switch (size) {
        case 8:
          this.#view.setBigUint64(address, value, true);
          break;
        case 4:
          this.#view.setUint32(address, Number(value & 0xffff_ffffn), true);
          break;
        case 2:
          this.#view.setUint16(address, Number(value & 0xffffn), true);
          break;
        default:
          this.#view.setUint8(address, Number(value & 0xffn));
      }
      this.dirty.add(address >>> PAGE_SHIFT);
      if (this.code.hasCode(address)) this.code.written(address, size);
      return;
    }
    if (size === 8) {
      this.#mmioWrite(address, 4, Number(value & 0xffff_ffffn));
      this.#mmioWrite(address + 4, 4, Number((value >> 32n) & 0xffff_ffffn));
      return;
    }
    this.#mmioWrite(
      address,
      size,
      Number(value & (size === 4 ? 0xffff_ffffn : size === 2 ? 0xffffn : 0xffn)),
    );
  }

  willWrite(address: number): void {
    if (address < this.ramBytes) this.dirty.add(address >>> PAGE_SHIFT);
  }

  /** Copies bytes into RAM; code decoded from there is dropped. Throws RangeError outside RAM. */
  copyIn(address: number, bytes: Uint8Array): void {
    if (address < 0 || address + bytes.length > this.ramBytes) throw new RangeError('outside RAM');
    this.bytes.set(bytes, address);
    this.#changed(address, bytes.length);
  }

  /** Sets `size` bytes of RAM to zero. Throws RangeError outside RAM. */
  clear(address: number, size: number): void {
    if (address < 0 || address + size > this.ramBytes) throw new RangeError('outside RAM');
    this.bytes.fill(0, address, address + size);
    this.#changed(address, size);
  }

  portRead(port: number, size: 1 | 2 | 4): number {
    this.deviceAccesses++;
    const value = this.#portRead(port, size);
    this.onPortRead?.(port, size, value);
    return value;
  }

  portWrite(port: number, size: 1 | 2 | 4, value: number): void {
    this.onPortWrite?.(port, size, value);
    this.deviceAccesses++;
    const device = this.#portDeviceFor(port, size);
    if (device) {
      device.portWrite(port, size, value);
      return;
    }
    if (size === 1) return;
    for (let i = 0; i < size; i++) {
      const at = (port + i) & 0xffff;
      this.#portDeviceFor(at, 1)?.portWrite(at, 1, (value >>> (8 * i)) & 0xff);
    }
  }

  now(cpuIndex: number): number {
    return this.#clock.now(cpuIndex);
  }

  spend(cpuIndex: number, ticks: number): void {
    this.#clock.spend(cpuIndex, ticks);
  }

  random(): bigint {
    return this.#random();
  }

  #portRead(port: number, size: 1 | 2 | 4): number {
    const device = this.#portDeviceFor(port, size);
    if (device) return device.portRead(port, size) >>> 0;
    if (size === 1) return 0xff;
    let value = 0;
    for (let i = 0; i < size; i++) {
      const at = (port + i) & 0xffff;
      value |= (this.#portDeviceFor(at, 1)?.portRead(at, 1) ?? 0xff) << (8 * i);
    }
    return value >>> 0;
  }

  /** The device that takes all of an access by itself. */
  #portDeviceFor(port: number, size: number): PortDevice | undefined {
    const device = this.#portDevices[this.#portIndex[port]];
    if (!device || size > device.width || port + size > device.port + device.count) return undefined;
    return device;
  }

  #mmioRead(address: number, size: 1 | 2 | 4): number {
    for (const device of this.#mmio) {
      const offset = address - device.base;
      if (offset < 0 || offset + size > device.size) continue;
      if (!device.knowsChanges) this.deviceAccesses++;
      return device.read(offset, size) >>> 0;
    }
    return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
  }

  #mmioWrite(address: number, size: 1 | 2 | 4, value: number): void {
    for (const device of this.#mmio) {
      const offset = address - device.base;
      if (offset < 0 || offset + size > device.size) continue;
      if (!device.knowsChanges) this.deviceAccesses++;
      device.write(offset, size, value);
      return;
    }
  }

  /** Notes that a range of RAM has changed by other hands than the processors'. */
  #changed(address: number, size: number): void {
    const end = address + size;
    while (address < end) {
      const page = Math.floor(address / PAGE_SIZE);
      const next = Math.min(end, (page + 1) * PAGE_SIZE);
      this.dirty.add(page);
      if (this.code.hasCode(address)) this.code.written(address, next - address);
      address = next;
    }
  }
}
