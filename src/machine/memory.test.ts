/** RAM, devices in memory and ports as the processors see them. */
import { beforeEach, describe, expect, it } from 'vitest';
import { layOut } from '../engine/layout.ts';
import type { MmioDevice, PortDevice } from './devices/device.ts';
import { DirtyPages, SystemBus } from './memory.ts';

const RAM = 1 << 20;

class Registers implements MmioDevice {
  readonly base = 0xfec0_0000;
  readonly size = 0x1000;
  readonly log: string[] = [];
  read(offset: number, size: 1 | 2 | 4): number {
    this.log.push(`r${size} ${offset}`);
    return -1 - offset;
  }
  write(offset: number, size: 1 | 2 | 4, value: number): void {
    this.log.push(`w${size} ${offset} ${value}`);
  }
}

class Ports implements PortDevice {
  readonly log: string[] = [];
  readonly port: number;
  readonly count: number;
  readonly width: 1 | 2 | 4;
  constructor(port: number, count: number, width: 1 | 2 | 4) {
    this.port = port;
    this.count = count;
    this.width = width;
  }
  portRead(port: number, size: 1 | 2 | 4): number {
    this.log.push(`r${size} ${port.toString(16)}`);
    return port & 0xff;
  }
  portWrite(port: number, size: 1 | 2 | 4, value: number): void {
    this.log.push(`w${size} ${port.toString(16)} ${value.toString(16)}`);
  }
}

let bus: SystemBus;
let ramStart: number;
beforeEach(() => {
  const layout = layOut(1, RAM);
  const memory = new WebAssembly.Memory({ initial: layout.pages, maximum: layout.pages });
  ramStart = layout.ram;
  bus = new SystemBus(memory, layout.ram, RAM, { now: () => 7, spend() {} }, () => 9n);
});

describe('RAM', () => {
  it.each([1, 2, 4, 8] as const)('holds %i bytes, little-endian', (size) => {
    const value = 0x8877_6655_4433_2211n & ((1n << BigInt(size * 8)) - 1n);
    bus.write(0x1003, size, 0x8877_6655_4433_2211n);
    expect(bus.read(0x1003, size)).toBe(value);
    expect([...bus.bytes.subarray(0x1002, 0x100c)]).toEqual(
      [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0].map((b, i) => (i <= size ? b : 0)),
    );
  });

  it('stands at its offset in WebAssembly memory, up to its end', () => {
    expect(bus.ramOffset(0)).toBe(ramStart);
    expect(bus.ramOffset(RAM - 1)).toBe(ramStart + RAM - 1);
    expect(bus.ramOffset(RAM)).toBe(-1);
    expect(bus.ramOffset(0xfee0_0000)).toBe(-1);
    expect(bus.ramOffset(2 ** 40 - 1)).toBe(-1);
  });

  it('what is not there reads as all ones and ignores writes', () => {
    bus.write(RAM, 8, 0n);
    expect([1, 2, 4, 8].map((size) => bus.read(RAM, size as 1))).toEqual([
      0xffn,
      0xffffn,
      0xffff_ffffn,
      0xffff_ffff_ffff_ffffn,
    ]);
  });

  it('notes dirty pages by every way of writing', () => {
    bus.write(0x1ffc, 4, 1n);
    bus.willWrite(0x5123);
    bus.copyIn(0x7ffe, Uint8Array.of(1, 2, 3));
    bus.clear(0x10000, 0x1001);
    expect([...bus.dirty.list()]).toEqual([1, 5, 7, 8, 16, 17]);
  });

  it('tells the engine of writes to pages with code, by page', () => {
    const written: [number, number][] = [];
    bus.code = { hasCode: (at) => at >> 12 === 2, written: (at, size) => written.push([at, size]) };
    bus.write(0x1ff8, 8, 0n);
    bus.write(0x2004, 2, 0n);
    bus.copyIn(0x1ffe, new Uint8Array(0x1004));
    expect(written).toEqual([
      [0x2004, 2],
      [0x2000, 0x1000],
    ]);
  });

  it('loaders cannot write beyond it', () => {
    expect(() => bus.copyIn(RAM - 1, new Uint8Array(2))).toThrow(RangeError);
    expect(() => bus.copyIn(-1, new Uint8Array(2))).toThrow(RangeError);
    expect(() => bus.clear(RAM, 1)).toThrow(RangeError);
  });
});

describe('devices in memory', () => {
  it('see offsets and sizes; quadwords come as two dwords', () => {
    const device = new Registers();
    bus.addMmio(device);
    expect(bus.read(0xfec0_0010, 4)).toBe(0xffff_ffefn);
    expect(bus.read(0xfec0_0010, 8)).toBe(0xffff_ffeb_ffff_ffefn);
    bus.write(0xfec0_0020, 8, 0x1_0000_0002n);
    bus.write(0xfec0_0021, 1, 0x1ffn);
    expect(device.log).toEqual(['r4 16', 'r4 16', 'r4 20', 'w4 32 2', 'w4 36 1', 'w1 33 255']);
  });

  it('answer only to accesses that lie within them', () => {
    const device = new Registers();
    bus.addMmio(device);
    expect(bus.read(0xfebf_fffe, 4)).toBe(0xffff_ffffn);
    expect(bus.read(0xfec0_1000, 4)).toBe(0xffff_ffffn);
    expect(device.log).toEqual([]);
  });
});

describe('ports', () => {
  it('nothing there reads as all ones', () => {
    expect([bus.portRead(0x1234, 1), bus.portRead(0x1234, 2), bus.portRead(0x1234, 4)]).toEqual([
      0xff, 0xffff, 0xffff_ffff,
    ]);
  });

  it('a wide access to narrow devices is several of a byte', () => {
    const a = new Ports(0x60, 2, 1);
    const b = new Ports(0x62, 1, 1);
    bus.addPorts(a);
    bus.addPorts(b);
    expect(bus.portRead(0x60, 4)).toBe(0xff62_6160);
    bus.portWrite(0x61, 2, 0xabcd);
    expect(a.log).toEqual(['r1 60', 'r1 61', 'w1 61 cd']);
    expect(b.log).toEqual(['r1 62', 'w1 62 ab']);
  });

  it('a wide device takes a wide access whole, unless it goes beyond it', () => {
    const device = new Ports(0xf4, 4, 4);
    bus.addPorts(device);
    bus.portWrite(0xf4, 4, 0x12345678);
    bus.portWrite(0xf6, 4, 0x12345678);
    expect(device.log).toEqual(['w4 f4 12345678', 'w1 f6 78', 'w1 f7 56']);
  });

  it('port numbers wrap', () => {
    const device = new Ports(0, 1, 1);
    bus.addPorts(device);
    bus.portWrite(0xffff, 2, 0xaabb);
    expect(device.log).toEqual(['w1 0 aa']);
  });

  it('two devices cannot have one port', () => {
    bus.addPorts(new Ports(0x60, 4, 1));
    expect(() => bus.addPorts(new Ports(0x63, 1, 1))).toThrow('0x63');
  });

  it('observers see accesses as the guest makes them', () => {
    const seen: string[] = [];
    bus.onPortRead = (port, size, value) => seen.push(`r${size} ${port} ${value}`);
    bus.onPortWrite = (port, size, value) => seen.push(`w${size} ${port} ${value}`);
    bus.portRead(5, 2);
    bus.portWrite(6, 4, 1);
    expect(seen).toEqual(['r2 5 65535', 'w4 6 1']);
  });
});

it('dirty pages are listed once, in order, until cleared', () => {
  const dirty = new DirtyPages(10);
  for (const page of [3, 1, 3, 9, 1]) dirty.add(page);
  expect([...dirty.list()]).toEqual([3, 1, 9]);
  expect([dirty.has(1), dirty.has(2), dirty.count]).toEqual([true, false, 3]);
  dirty.clear();
  expect([dirty.has(1), dirty.count]).toEqual([false, 0]);
  dirty.add(1);
  expect([...dirty.list()]).toEqual([1]);
});
